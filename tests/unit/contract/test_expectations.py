"""Expectations of a file as a whole."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl
import pytest

from silversmith import Contract
from silversmith.errors import DataError

LANDED = datetime(2026, 1, 10, 8, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("rows", "read", "rejected", "code"),
    [
        ((1, None), 1, 0, None),
        ((1, None), 0, 0, "TooFewRows"),
        ((3, None), 3, 1, "TooFewRows"),
        ((None, 2), 2, 0, None),
        ((None, 2), 3, 1, None),
        ((None, 2), 3, 0, "TooManyRows"),
        ((2, 2), 2, 0, None),
        ((0, None), 0, 0, None),
    ],
)
def test_the_number_of_good_rows(rows: Any, read: int, rejected: int, code: str | None) -> None:
    contract = Contract(rows=rows)
    if code is None:
        contract.judge(read, rejected)
        return
    with pytest.raises(DataError, match=f"{read - rejected} good rows") as caught:
        contract.judge(read, rejected)
    assert caught.value.code == code
    assert caught.value.hint


@pytest.mark.parametrize(
    ("max_rejected", "read", "rejected", "code"),
    [
        (None, 1, 1, "AllRowsRejected"),
        (None, 3, 3, "AllRowsRejected"),
        (None, 3, 2, None),
        (None, 0, 0, None),
        (0.9, 3, 3, "AllRowsRejected"),
        (7, 3, 3, "AllRowsRejected"),
        (1, 1, 1, "AllRowsRejected"),
        (1, 3, 2, "TooManyRejected"),
        (1.0, 3, 3, None),
    ],
)
def test_a_file_of_which_no_row_is_good(max_rejected: float | None, read: int, rejected: int, code: str | None) -> None:
    contract = Contract(max_rejected=max_rejected)
    if code is None:
        contract.judge(read, rejected)
        return
    with pytest.raises(DataError, match="rejected") as caught:
        contract.judge(read, rejected)
    assert caught.value.code == code
    assert caught.value.hint


def test_the_commonest_reasons_are_named_by_column_and_rule() -> None:
    reasons = [[f'total: "{number}" is not Int64'] for number in range(1200)]
    reasons += [['total: "x" is not Int64', "positive: the rule is broken by a -1"]] * 3 + [
        ["id: is required, and is null"]
    ] * 2
    reasons += [["line 7: has 5 fields, the header has 4"]]
    reasons += [["day: an earlier row has the same"]]
    with pytest.raises(DataError) as caught:
        Contract().judge(1207, 1207, rejected=pl.LazyFrame({"reasons": reasons}))
    assert str(caught.value.message) == (
        'all 1,207 rows were rejected: total: "0" is not Int64 (1,203 rows); '
        "positive: the rule is broken by a -1 (3 rows); id: is required, and is null (2 rows)"
    )


@pytest.mark.parametrize(
    ("newest", "age", "is_stale"),
    [
        (datetime(2026, 1, 9, 8, 30, tzinfo=UTC), timedelta(days=1), False),
        (datetime(2026, 1, 9, 8, 29, tzinfo=UTC), timedelta(days=1), True),
        (datetime(2026, 1, 9, 8, 30, tzinfo=UTC).replace(tzinfo=None), timedelta(days=1), False),
        (datetime(2026, 2, 9, tzinfo=UTC), timedelta(), False),
        (date(2026, 1, 9), timedelta(hours=9), False),
        (date(2026, 1, 9), timedelta(hours=8), True),
        (date(2026, 1, 10), timedelta(), False),
        (date(9999, 12, 31), timedelta(), False),
        (None, timedelta(days=99), True),
    ],
)
def test_the_newest_value_against_the_moment_of_landing(newest: Any, age: timedelta, is_stale: bool) -> None:
    kind = pl.Datetime("us", "UTC") if isinstance(newest, datetime) and newest.tzinfo else pl.Date
    contract = Contract({"at": kind}, fresh={"at": age})
    if not is_stale:
        contract.judge(1, 0, newest={"at": newest}, landed=LANDED)
        return
    with pytest.raises(DataError, match='"at"') as caught:
        contract.judge(1, 0, newest={"at": newest}, landed=LANDED)
    assert caught.value.code == "Stale"
    assert caught.value.place.column == "at"


def test_no_moment_of_landing_is_no_expectation() -> None:
    Contract({"at": pl.Date}, fresh={"at": timedelta()}).judge(1, 0, newest={"at": date(1970, 1, 1)})
