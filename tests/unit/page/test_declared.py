"""The declaration of a transform, as the page shows it."""

from __future__ import annotations

import polars as pl

from silversmith import Contract, Pipeline
from silversmith.page.history import SPANS, Series
from silversmith.page.transforms import code, columns, expectations, options, rule_reports, written_rules
from tests.unit.page.numbers import Ended, history_of

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


TWO = Pipeline("two")


@TWO.transform(
    "a/*.csv",
    contract=Contract(
        {"id": pl.Int64},
        {
            "id is known": pl.col("id").is_in([1, 2])  # the old ones
            | (pl.col("id") > 100),
            "total is positive": pl.col("id") != 0,
        },
    ),
)
def first(rows: pl.LazyFrame) -> pl.LazyFrame:
    return rows


@TWO.transform("b/*.csv", contract=Contract({"id": pl.Int64}, {f"{1 + 1} rules": pl.col("id") > 7}))
def second(rows: pl.LazyFrame) -> pl.LazyFrame:
    return rows


def test_rules_are_shown_as_they_are_written() -> None:
    assert written_rules(PIPELINE.find("ids")) == {}
    rules = written_rules(TWO.find("first"))
    assert rules["id is known"].startswith('pl.col("id").is_in([1, 2])  # the old ones\n')
    assert rules["total is positive"] == 'pl.col("id") != 0', (
        "the one of its own decorator, not that of another transform"
    )


def test_a_rule_that_cannot_be_found_is_as_polars_writes_it() -> None:
    assert written_rules(TWO.find("second")) == {"2 rules": str(pl.col("id") > 7)}


def test_a_rule_of_a_contract_that_has_a_name_is_that_contract_s() -> None:
    assert written_rules(PIPELINE.find("orders")) == {"total is positive": 'pl.col("total") > 0'}, "two are called so"


def test_the_pass_rates_of_rules() -> None:
    now = 1_767_355_205.0
    history = history_of(
        Ended(now, rows_written=6, rows_rejected=4, rows_read=10, broken={"positive": 4}),
        Ended(now - SPANS["24h"].step, rows_written=90, rows_read=90),
        now=now,
    )
    series = history.of("t")
    positive, never = rule_reports({"positive": "x > 0", "never": "y"}, series, now)
    assert (positive.broken, positive.passed, positive.lowest, len(positive.bars)) == (4, 0.96, 0.6, 1)
    assert (never.broken, never.passed, never.lowest, never.bars) == (0, 1.0, 1.0, [])
    (empty,) = rule_reports({"positive": "x > 0"}, Series(), now)
    assert (empty.passed, empty.lowest) == (None, None)
