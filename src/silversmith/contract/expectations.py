"""What a contract expects of a file as a whole: not too many rejected rows, enough rows, and young ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import polars as pl

from silversmith.errors import DataError, DefinitionError, Place
from silversmith.formats.table import col


@dataclass(frozen=True)
class Found:
    """What is known of a file once it was checked. ``newest``: of each column that must be fresh, the greatest value.

    ``landed`` is when the file was put into bronze, in UTC.
    """

    rows_read: int
    rows_rejected: int
    newest: Mapping[str, Any] = field(default_factory=dict)
    landed: datetime | None = None


@dataclass(frozen=True)
class Expectations:
    """``max_rejected`` is a share (float) or a count (int), ``rows`` the fewest and the most good rows, ``fresh`` how
    much older than the file's landing the newest value of a column may be; None, or nothing, expects nothing."""

    max_rejected: float | None
    rows: tuple[int | None, int | None]
    fresh: Mapping[str, timedelta]

    def newest(self) -> list[pl.Expr]:
        """What must be known of the good rows."""
        return [col(name).max() for name in self.fresh]

    def judge(self, found: Found) -> None:
        """Raise DataError ``TooManyRejected``, ``TooFewRows``, ``TooManyRows`` or ``Stale`` if it is another."""
        self._judge_rejected(found)
        self._judge_rows(found)
        if found.landed is not None:
            for name, age in self.fresh.items():
                _judge_age(name, age, found.newest.get(name), found.landed)

    def _judge_rejected(self, found: Found) -> None:
        limit = self.max_rejected
        if limit is None or not found.rows_rejected:
            return
        allowed = limit * found.rows_read if isinstance(limit, float) else limit
        if found.rows_rejected > allowed:
            told = f"{limit:.1%} of them" if isinstance(limit, float) else f"{limit:,}"
            raise DataError(
                "TooManyRejected",
                f"{found.rows_rejected:,} of {found.rows_read:,} rows were rejected; the contract allows {told}",
                hint="mend the file, or raise max_rejected if so many bad rows are to be expected",
            )

    def _judge_rows(self, found: Found) -> None:
        good = found.rows_read - found.rows_rejected
        fewest, most = self.rows
        said = f"the file has {good:,} good rows" + (f" of {found.rows_read:,}" if found.rows_rejected else "")
        if fewest is not None and good < fewest:
            raise DataError(
                "TooFewRows",
                f"{said}; the contract expects at least {fewest:,}",
                hint="the file may have been cut short while it was written or sent: put it again whole",
            )
        if most is not None and good > most:
            raise DataError(
                "TooManyRows",
                f"{said}; the contract expects at most {most:,}",
                hint="the file may hold more than it should, or some of it twice; else raise the contract's `rows`",
            )


def _judge_age(name: str, age: timedelta, newest: Any, landed: datetime) -> None:
    hint = "the sender may have sent an old file again; else allow more in the contract's `fresh`"
    if newest is None:
        raise DataError(
            "Stale", f'"{name}" has no value in any good row, and so nothing new', hint=hint, place=Place(column=name)
        )
    try:
        late = landed - _end(newest) > age
    except OverflowError:
        late = False  # the year 9999: newer than anything
    if late:
        raise DataError(
            "Stale",
            f'the newest "{name}" is {newest}, more than {_told(age)} before the file landed at '
            f"{landed:%Y-%m-%d %H:%M:%S} UTC",
            hint=hint,
            place=Place(column=name, text=str(newest)),
        )


def _end(newest: date | datetime) -> datetime:
    """The last moment that a value stands for. A day is not over before its end; times without a zone are in UTC."""
    if not isinstance(newest, datetime):
        return datetime.combine(newest, time(), UTC) + timedelta(days=1)
    return newest if newest.tzinfo is not None else newest.replace(tzinfo=UTC)


def _told(age: timedelta) -> str:
    hours = age / timedelta(hours=1)
    return f"{age.days} days" if age.seconds == 0 and age.days > 2 else f"{hours:g} hours"


def row_range(given: Any) -> tuple[int | None, int | None]:
    """The fewest and the most rows.

    Raises:
        DefinitionError: they are no such thing.
    """
    if given is None:
        return None, None
    pair = tuple(given) if isinstance(given, tuple | list) else ()
    fine = len(pair) == 2 and all(
        bound is None or (isinstance(bound, int) and not isinstance(bound, bool) and bound >= 0) for bound in pair
    )
    if not fine or (None not in pair and pair[0] > pair[1]):
        raise DefinitionError(
            f"rows={given!r}: give the fewest and the most good rows of a file, such as (1, 1_000_000), or None for an "
            "end that is open"
        )
    return pair[0], pair[1]


def fresh(given: Mapping[str, Any], schema: Mapping[str, pl.DataType]) -> dict[str, timedelta]:
    """How old the newest value of which columns may be.

    Raises:
        DefinitionError: one of them has no time, or the age is none.
    """
    for name, age in given.items():
        if schema[name].base_type() not in (pl.Date, pl.Datetime):
            raise DefinitionError(f"fresh: {name!r} is {schema[name]}; only pl.Date and pl.Datetime can be fresh")
        if not isinstance(age, timedelta) or age < timedelta():
            raise DefinitionError(f"fresh: {name!r} has {age!r}; give a timedelta, such as timedelta(days=2)")
    return dict(given)
