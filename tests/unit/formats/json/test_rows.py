"""Records as rows."""

from __future__ import annotations

import sys

import polars as pl
import pytest

from silversmith.formats.json.rows import block_of, frame_of


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
