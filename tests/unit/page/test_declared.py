"""The declaration of a transform, as the page shows it."""

from __future__ import annotations

import polars as pl

from silversmith import Contract, Pipeline
from silversmith.page.transforms import code, columns, expectations, options

CONTRACT = Contract(
    {"id": pl.Int64, "total": pl.Int64},
    {"total is positive": pl.col("total") > 0},
    required=["id"],
    unique=["id"],
    defaults={"total": 7},
    rename={"Total": "total"},
    max_rejected=0.05,
)

PIPELINE = Pipeline("shop")


@PIPELINE.transform("orders/*.csv", contract=CONTRACT, max_receive_count=3)
def orders(rows: pl.LazyFrame) -> pl.LazyFrame:
    """What was ordered."""
    return rows


PIPELINE.sql("sql/*.csv", "  select id\n  from rows", name="ids")


def test_code() -> None:
    python, sql = (code(PIPELINE.find(name)) for name in ("orders", "ids"))
    assert python.language == "Python"
    assert python.text.endswith('    """What was ordered."""\n    return rows')
    file, _, line = python.place.rpartition(":")
    assert file == __file__
    assert int(line) > 1
    assert (sql.language, sql.text, sql.place) == ("SQL", "select id\nfrom rows", "")


def test_code_that_cannot_be_found() -> None:
    pipeline, names = Pipeline("other"), {}  # type: ignore[var-annotated]
    exec("def made(rows): return rows", names)
    pipeline.transform("*.csv")(names["made"])
    assert code(pipeline.find("made")).text == ""


def test_columns_and_what_is_demanded() -> None:
    identity, total = columns(CONTRACT)
    assert (identity.name, identity.kind, list(identity.demands)) == ("id", "Int64", ["required", "unique"])
    assert list(total.demands)[:2] == ["default 7", "called Total in files"]
    assert ("rejected rows at the most", "0.05 of all") in expectations(CONTRACT)
    assert ("rejected rows at the most", "all but one") in expectations(Contract({"id": pl.Int64}))


def test_options() -> None:
    declared = dict(options(PIPELINE.find("orders")))
    assert (declared["pattern"], declared["tries"]) == ("orders/*.csv", "3")
    assert declared["fingerprint"] == PIPELINE.find("orders").fingerprint
