"""How many rows broke each rule and each column."""

from __future__ import annotations

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from silversmith import Contract
from silversmith.contract.rejected import broken
from silversmith.formats.table import ROW

CONTRACT = Contract(
    {"id": pl.Int64, "total": pl.Int64},
    {"total": pl.col("total") > 0, "a: b": pl.col("id") < 5, "both": pl.col("id") > pl.col("total")},
    required=["id"],
)

CELL = st.sampled_from(["1", "3", "7", "-2", "x", ""])


@given(st.lists(st.tuples(CELL, CELL), min_size=1, max_size=20))
def test_each_row_counts_once_for_each_rule_and_column_that_it_broke(rows: list[tuple[str, str]]) -> None:
    """A rule that is called as a column is, or that has a colon in its name, is told apart."""
    frame = pl.DataFrame(rows, schema=["id", "total"], orient="row").select(pl.all().replace("", None))
    frame = frame.with_row_index(ROW, 1)
    _, rejected = CONTRACT.split(frame)
    counts = broken(CONTRACT.rules, rejected.lazy()) if rejected is not None else {}

    def number(text: str) -> int | None:
        return int(text) if text.lstrip("-").isdigit() else None

    expected = {"total": 0, "a: b": 0, "both": 0, "column id": 0, "column total": 0}
    for identity, total in rows:
        first, second = number(identity), number(total)
        expected["column id"] += first is None
        expected["column total"] += second is None and total != ""
        expected["total"] += second is not None and second <= 0
        expected["a: b"] += first is not None and first >= 5
        expected["both"] += first is not None and second is not None and first <= second
    for name in [name for name, count in expected.items() if not count]:
        del expected[name]
    assert counts == expected
