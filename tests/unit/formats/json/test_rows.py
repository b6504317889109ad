"""Records as rows: whichever way is the faster, what comes of it is the same."""

from __future__ import annotations

import sys
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from silversmith.formats.json.rows import block_of, frame_of
from silversmith.formats.table import ROW

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
)
#: Records whose columns mostly are of one kind.
RECORDS = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "": st.text("ab*^$", max_size=2),
            "*": st.integers(-(2**63), 2**63 - 1) | st.none(),
            "large": st.integers(0, 2**64 - 1),
            "number": st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**53), 2**53),
            "yes": st.booleans() | st.none(),
            "anything": SCALARS,
        },
    ),
    min_size=1,
    max_size=6,
)


@given(RECORDS)
def test_few_cells_become_what_many_would(records: list[dict[str, Any]]) -> None:
    block = block_of(records, 1, doubtful=False)
    one, other = frame_of(block, {}), frame_of(block, {}, few=0)
    assert one.schema == other.schema
    assert one.equals(other)
    assert list(one.schema)[-1] == ROW


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([2**63, 1], pl.UInt64()),
        ([-(2**63), 2**63 - 1], pl.Int64()),
        ([sys.float_info.max, 2**53], pl.Float64()),
    ],
)
def test_no_number_is_rounded(values: list[float], kind: pl.DataType) -> None:
    frame = frame_of(block_of([{"a": value} for value in values], 1, doubtful=False), {})
    assert frame.schema["a"] == kind
    assert frame["a"].to_list() == values
