"""Uniqueness over more rows than are compared at once finds just what the way in memory finds."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from silversmith import Contract
from silversmith.contract import contract, rejected
from silversmith.errors import DataError
from silversmith.formats.archives.content import Scratch
from silversmith.formats.table import ROW, Table
from tests.unit.test_contract import both_ways, table

CONTRACT = Contract({"a": pl.Int64, "b": pl.String}, {"b is not x": pl.col("b") != "x"}, unique=["a", "b"])


@given(
    st.lists(st.tuples(st.sampled_from(["1", "2", "", "z"]), st.sampled_from(["p", "x", None])), max_size=20),
    st.integers(1, 5),
)
@settings(max_examples=30, deadline=None)
def test_as_in_memory(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]], at_once: int) -> None:
    columns = {name: pl.Series([row[n] for row in rows], dtype=pl.String) for n, name in enumerate("ab")}
    small = table(columns)
    good, rejected = both_ways(CONTRACT, small)
    large = Table(small.rows, "csv", height=small.height)
    folder = tmp_path_factory.mktemp("scratch")
    checked = contract.check(CONTRACT, large, Scratch(folder), at_once)
    plans = pl.collect_all([checked.good, checked.rejected], engine="streaming")
    assert plans[0].equals(good)
    assert plans[1].sort("row").rows() == ([] if rejected is None else rejected.rows())
    assert not list(folder.rglob("*.parquet")), "the digests are not needed any more"


def test_too_many_repetitions_reject_the_file(tmp_path: Path) -> None:
    height = rejected.MOST_REPEATED + 2
    rows = pl.LazyFrame({"a": [1]}).select(pl.col("a").repeat_by(height).explode()).with_row_index(ROW, 1)
    rows = rows.with_columns(pl.col(ROW).cast(pl.UInt64))
    with pytest.raises(DataError, match="the same key") as caught:
        rejected.repeated(rows, [pl.col("a")], tmp_path / "keys", height=height)
    assert caught.value.code == "TooManyRepeated"
    assert caught.value.place.row is not None
