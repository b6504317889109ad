"""The terms of a contract, validated when it is declared: a wrong one is refused, with what to write instead."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, TypeVar

import polars as pl

from silversmith.contract import casting
from silversmith.errors import DataError, DefinitionError, Place
from silversmith.formats.table import ROW, col, shorten

_T = TypeVar("_T", bound=str)

_PYTHON = {int: "pl.Int64", str: "pl.String", float: "pl.Float64", bool: "pl.Boolean", bytes: "pl.Binary"}
_EXAMPLES = "pl.Int64, pl.Float64, pl.String, pl.Boolean, pl.Date, pl.Datetime('us', 'UTC'), pl.Decimal(10, 2) …"


def schema(given: Mapping[str, Any]) -> dict[str, pl.DataType]:
    """Column names and Polars types, each as an instance.

    Raises:
        DefinitionError: a name or a type is none.
    """
    if not isinstance(given, Mapping):
        raise DefinitionError(f"schema must map column names to Polars types; it is {type(given).__name__}")
    kinds = {}
    for name, kind in given.items():
        if not isinstance(name, str) or not name or name == ROW:
            raise DefinitionError(f"schema: {name!r} is no name of a column")
        kinds[name] = _type(name, kind)
    return kinds


def _type(name: str, kind: Any) -> pl.DataType:
    if isinstance(kind, type) and kind in _PYTHON:
        raise DefinitionError(f"schema: {name!r} is Python's {kind.__name__}; write {_PYTHON[kind]}")
    try:
        dtype = kind() if isinstance(kind, type) and issubclass(kind, pl.DataType) else kind
    except TypeError:
        raise DefinitionError(
            f"schema: {name!r} is {kind.__name__} of what? Write for example {_complete(kind)}"
        ) from None
    if not isinstance(dtype, pl.DataType) or dtype in (pl.Object, pl.Null, pl.Unknown):
        raise DefinitionError(f"schema: {name!r} is {kind!r}, which no column can have; write {_EXAMPLES}")
    return dtype


def _complete(kind: type) -> str:
    return {
        "Enum": "pl.Enum(['EWR', 'JFK'])",
        "Struct": "pl.Struct({'a': pl.Int64})",
        "Array": "pl.Array(pl.Int64, 3)",
    }.get(kind.__name__, "pl.List(pl.Int64)")


def rules(given: Mapping[str, Any]) -> dict[str, pl.Expr]:
    """Names and expressions that name their columns and call no Python.

    Raises:
        DefinitionError: one does not.
    """
    if not isinstance(given, Mapping):
        raise DefinitionError(f"rules must map names to Polars expressions; it is {type(given).__name__}")
    for name, rule in given.items():
        if not isinstance(name, str) or not name.strip():
            raise DefinitionError(f"rules: {name!r} is no name; it is what people read when a row is rejected")
        if not isinstance(rule, pl.Expr):
            raise DefinitionError(
                f"rules: {name!r} is {rule!r}, and no Polars expression. Write for example pl.col('distance') > 0"
            )
        if rule.meta.has_multiple_outputs():
            raise DefinitionError(
                f"rules: {name!r} may mean any number of columns; name each: pl.col('a') > 0, pl.col('b') > 0 …"
            )
        expression(rule, name)
    return dict(given)


def expression(rule: pl.Expr, name: str = "") -> str:
    """A rule as text that does not depend on the process: its own JSON form.

    Raises:
        DefinitionError: it calls Python, whose functions have no such form.
    """
    try:
        text = "" if "python_udf" in str(rule) else rule.meta.serialize(format="json")
    except (pl.exceptions.PolarsError, ValueError):
        text = ""
    if not text:
        raise DefinitionError(
            f"rules: {name!r} calls a Python function. A rule must be made of Polars' own expressions, so that it is "
            "fast, and known when it changes; do the rest in the transform"
        )
    return text


def columns(what: str, given: Collection[str], known: Collection[str]) -> tuple[str, ...]:
    """Names of columns of the schema, each once.

    Raises:
        DefinitionError: one is not.
    """
    if isinstance(given, str) or not all(isinstance(name, str) for name in given):
        raise DefinitionError(f"{what} must be a collection of column names, such as {what}=('id',); it is {given!r}")
    for name in given:
        if name not in known:
            raise DefinitionError(f"{what}: the schema has no column {name!r}; it has {', '.join(known) or 'none'}")
    return tuple(dict.fromkeys(given))


def mapping(what: str, given: Any, known: Collection[str]) -> dict[str, Any]:
    """A mapping from columns of the schema; None is an empty one.

    Raises:
        DefinitionError: it does not.
    """
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise DefinitionError(f"{what} must map columns of the schema to something; it is {type(given).__name__}")
    columns(what, list(given), known)
    return dict(given)


def value(what: str, name: str, given: Any, kind: pl.DataType) -> Any:
    """A value as a column of that type holds it.

    Raises:
        DefinitionError: such a column cannot hold it.
    """
    try:
        item = pl.Series([given], dtype=kind, strict=True).item()
    except (pl.exceptions.PolarsError, TypeError, ValueError, OverflowError):
        item = None
    if item is None or (isinstance(given, float) and item != given and not isinstance(item, float)):
        raise DefinitionError(f"{what}: {name!r} has {given!r}, which is no {kind}") from None
    return item


def defaults(given: Mapping[str, Any], kinds: Mapping[str, pl.DataType]) -> dict[str, Any]:
    """The values that stand for a null, by column.

    Raises:
        DefinitionError: a column cannot hold its default.
    """
    return {name: value("defaults", name, default, kinds[name]) for name, default in given.items()}


def renames(given: Mapping[str, str]) -> dict[str, str]:
    """Names in the file and their new names.

    Raises:
        DefinitionError: one is no name, or two become the same.
    """
    if not isinstance(given, Mapping):
        raise DefinitionError(f"rename must map names in the file to new ones; it is {type(given).__name__}")
    for pair in given.items():
        if not all(isinstance(name, str) and name and name != ROW for name in pair):
            raise DefinitionError(f"rename: {pair[0]!r}: {pair[1]!r} are no two names of columns")
    targets = list(given.values())
    for old, new in given.items():
        if targets.count(new) > 1 or new in given:
            others = [other for other in given if other != old and new in (other, given[other])]
            raise DefinitionError(
                f"rename: {old!r} becomes {new!r}, which {others[0] if others else old!r} has to do with"
            )
    return dict(given)


def choice(what: str, given: _T, allowed: tuple[str, ...]) -> _T:
    """One of the allowed words.

    Raises:
        DefinitionError: it is not.
    """
    if given not in allowed:
        raise DefinitionError(f"{what} must be one of {', '.join(map(repr, allowed))}; it is {given!r}")
    return given


def share(given: float | None) -> float | None:
    """A share up to 1.0, or a count.

    Raises:
        DefinitionError: it is neither.
    """
    if given is None:
        return None
    is_number = isinstance(given, int | float) and not isinstance(given, bool)
    if not is_number or not given >= 0 or (isinstance(given, float) and given > 1):
        raise DefinitionError(
            f"max_rejected={given!r}: must be a share of the rows, 0.0 to 1.0, or a count of rows, 0 or more"
        )
    return given


def digest(content: Mapping[str, Any]) -> str:
    """SHA-256 of JSON values, as hexadecimal digits."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


# What single cells must be beyond their type: allowed values, ranges, patterns. Null breaks none.

_MOST_SHOWN = 8


@dataclass(frozen=True)
class Demand:
    """``holds`` is true, or null, for a cell that is as it should be; ``text`` follows on the cell that is not."""

    column: str
    holds: pl.Expr
    text: str

    def broken(self) -> pl.Expr:
        return (~self.holds).fill_null(value=False)

    def reason(self, kind: pl.DataType) -> pl.Expr:
        """Text such as ``distance: 9000 is above 5000``."""
        return pl.concat_str(pl.lit(f"{self.column}: "), casting.shown(col(self.column), kind), pl.lit(f" {self.text}"))


def demands(
    schema: Mapping[str, pl.DataType],
    allowed: Mapping[str, Collection[Any]],
    ranges: Mapping[str, tuple[Any, Any]],
    patterns: Mapping[str, str],
) -> tuple[Demand, ...]:
    """The demands of a contract, on columns of its schema.

    Raises:
        DefinitionError: one cannot hold for its column's type.
    """
    result = [_allowed(name, values, schema[name]) for name, values in allowed.items()]
    for name, bounds in ranges.items():
        result += _range(name, bounds, schema[name])
    result += [_pattern(name, pattern, schema[name]) for name, pattern in patterns.items()]
    return tuple(result)


def _allowed(name: str, values: Collection[Any], kind: pl.DataType) -> Demand:
    if isinstance(values, str) or not values:
        raise DefinitionError(f"allowed: {name!r} has {values!r}; give the values, such as ['EWR', 'JFK']")
    among = pl.Series([value("allowed", name, one, kind) for one in values], dtype=kind)
    listed = [_shown(one) for one in list(values)[:_MOST_SHOWN]]
    more = f" … ({len(values):,} in all)" if len(values) > _MOST_SHOWN else ""
    return Demand(name, col(name).is_in(among.implode()), f"is none of {', '.join(listed)}{more}")


def _range(name: str, bounds: tuple[Any, Any], kind: pl.DataType) -> list[Demand]:
    if not isinstance(bounds, tuple | list) or len(bounds) != 2 or all(bound is None for bound in bounds):
        raise DefinitionError(
            f"ranges: {name!r} has {bounds!r}; give the lowest and the highest value, such as (0, 100), "
            "or None for an end that is open"
        )
    if not (kind.is_numeric() or kind.is_temporal()):
        raise DefinitionError(f"ranges: {name!r} is {kind}, which has no range; a rule may compare it")
    low, high = (None if bound is None else value("ranges", name, bound, kind) for bound in bounds)
    if low is not None and high is not None and low > high:
        raise DefinitionError(f"ranges: {name!r} has {bounds!r}: nothing is between these; write the lower one first")
    limits = []
    if low is not None:
        limits.append(Demand(name, col(name) >= pl.lit(low, dtype=kind), f"is below {_shown(low)}"))
    if high is not None:
        limits.append(Demand(name, col(name) <= pl.lit(high, dtype=kind), f"is above {_shown(high)}"))
    return limits


def _pattern(name: str, pattern: str, kind: pl.DataType) -> Demand:
    if kind != pl.String:
        raise DefinitionError(f"patterns: {name!r} is {kind}; only pl.String has patterns")
    if not isinstance(pattern, str):
        raise DefinitionError(f"patterns: {name!r} has {pattern!r}; give a regular expression, such as '[A-Z]{{2}}'")
    holds = col(name).str.contains(f"^(?:{pattern})$")
    try:
        pl.DataFrame({name: [""]}).select(holds)
    except pl.exceptions.PolarsError as error:
        raise DefinitionError(
            f"patterns: {name!r} has {pattern!r}, which is no regular expression as Polars knows them "
            f"(https://docs.rs/regex): {str(error).strip().splitlines()[-1]}"
        ) from None
    return Demand(name, holds, f"does not match {shorten(pattern)}")


def _shown(value: Any) -> str:
    return f'"{shorten(value)}"' if isinstance(value, str) else str(value)


# What a file must be as a whole: not too many rejected rows, enough rows, and young ones.


@dataclass(frozen=True)
class FileFacts:
    """A file that was checked. ``newest``: of each column that must be fresh, the greatest value.

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
        """The aggregates that have to be known of the good rows."""
        return [col(name).max() for name in self.fresh]

    def judge(self, facts: FileFacts) -> None:
        """Raise DataError ``TooManyRejected``, ``TooFewRows``, ``TooManyRows`` or ``Stale`` if it is another."""
        self._judge_rejected(facts)
        self._judge_rows(facts)
        if facts.landed is not None:
            for name, age in self.fresh.items():
                _judge_age(name, age, facts.newest.get(name), facts.landed)

    def _judge_rejected(self, facts: FileFacts) -> None:
        limit = self.max_rejected
        if limit is None or not facts.rows_rejected:
            return
        allowed = limit * facts.rows_read if isinstance(limit, float) else limit
        if facts.rows_rejected > allowed:
            limit_text = f"{limit:.1%} of them" if isinstance(limit, float) else f"{limit:,}"
            raise DataError(
                "TooManyRejected",
                f"{facts.rows_rejected:,} of {facts.rows_read:,} rows were rejected; the contract allows {limit_text}",
                hint="mend the file, or raise max_rejected if so many bad rows are to be expected",
            )

    def _judge_rows(self, facts: FileFacts) -> None:
        good = facts.rows_read - facts.rows_rejected
        fewest, most = self.rows
        said = f"the file has {good:,} good rows" + (f" of {facts.rows_read:,}" if facts.rows_rejected else "")
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
            f'the newest "{name}" is {newest}, more than {_duration(age)} before the file landed at '
            f"{landed:%Y-%m-%d %H:%M:%S} UTC",
            hint=hint,
            place=Place(column=name, text=str(newest)),
        )


def _end(newest: date | datetime) -> datetime:
    """The last moment that a value stands for. A day is not over before its end; times without a zone are in UTC."""
    if not isinstance(newest, datetime):
        return datetime.combine(newest, time(), UTC) + timedelta(days=1)
    return newest if newest.tzinfo is not None else newest.replace(tzinfo=UTC)


def _duration(age: timedelta) -> str:
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


def freshness(given: Mapping[str, Any], schema: Mapping[str, pl.DataType]) -> dict[str, timedelta]:
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
