"""The terms of a contract, validated where it is declared: the error for a wrong term says what to write instead."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from difflib import get_close_matches
from typing import Any, Final, TypeVar

import polars as pl

from silversmith.contract import casting
from silversmith.errors import DataError, DefinitionError, Place
from silversmith.formats.table import ROW, clean_name, col, shorten

_T = TypeVar("_T", bound=str)

_PYTHON = {int: "pl.Int64", str: "pl.String", float: "pl.Float64", bool: "pl.Boolean", bytes: "pl.Binary"}
_EXAMPLES = "pl.Int64, pl.Float64, pl.String, pl.Boolean, pl.Date, pl.Datetime('us', 'UTC'), pl.Decimal(10, 2) …"
_INNER = {
    "Enum": "pl.Enum(['EWR', 'JFK'])",
    "Struct": "pl.Struct({'a': pl.Int64})",
    "Array": "pl.Array(pl.Int64, 3)",
}

# The functions up to the class Demand validate one argument of Contract each. They raise DefinitionError.


def schema(columns: Any) -> dict[str, pl.DataType]:
    """Column names and Polars types, each type as an instance."""
    _require_mapping(columns, "schema must map column names to Polars types")
    dtypes = {}
    for name, dtype in columns.items():
        if not isinstance(name, str) or not name or name == ROW:
            raise DefinitionError(f"schema: {name!r} is no name of a column")
        dtypes[name] = _instance(name, dtype)
    return dtypes


def _require_mapping(value: Any, requirement: str) -> None:
    if not isinstance(value, Mapping):
        raise DefinitionError(f"{requirement}; it is {type(value).__name__}")


def _instance(name: str, dtype: Any) -> pl.DataType:
    if isinstance(dtype, type) and dtype in _PYTHON:
        raise DefinitionError(f"schema: {name!r} is Python's {dtype.__name__}; write {_PYTHON[dtype]}")
    try:
        instance = dtype() if isinstance(dtype, type) and issubclass(dtype, pl.DataType) else dtype
    except TypeError:
        example = _INNER.get(dtype.__name__, "pl.List(pl.Int64)")
        raise DefinitionError(f"schema: {name!r} is {dtype.__name__} of what? Write for example {example}") from None
    if not isinstance(instance, pl.DataType) or instance in (pl.Object, pl.Null, pl.Unknown):
        raise DefinitionError(f"schema: {name!r} is {dtype!r}, which no column can have; write {_EXAMPLES}")
    return instance


def rules(expressions: Any, argument: str = "rules") -> dict[str, pl.Expr]:
    """Names and expressions that name their columns and call no Python."""
    _require_mapping(expressions, f"{argument} must map names to Polars expressions")
    for name, rule in expressions.items():
        if not isinstance(name, str) or not name.strip():
            raise DefinitionError(f"{argument}: {name!r} is no name; it is what people read")
        if not isinstance(rule, pl.Expr):
            raise DefinitionError(
                f"{argument}: {name!r} is {rule!r}, and no Polars expression. Write for example pl.col('distance') > 0"
            )
        if rule.meta.has_multiple_outputs():
            raise DefinitionError(
                f"{argument}: {name!r} may mean any number of columns; name each: pl.col('a') > 0, pl.col('b') > 0 …"
            )
        serialized(rule, name, argument)
    return dict(expressions)


def drops(terms: Any) -> tuple[dict[str, pl.Expr], dict[str, str]]:
    """Drops before the check: rows by expressions, and records that are no rows by regular expressions."""
    _require_mapping(terms, "drop must map names to Polars expressions, or to regular expressions")
    texts = {name: text for name, text in terms.items() if isinstance(text, str)}
    for name, text in texts.items():
        _require_regex("drop", name, text)
    return rules({name: rule for name, rule in terms.items() if name not in texts}, "drop"), texts


def columns_of_rules(
    argument: str, expressions: Mapping[str, pl.Expr], dtypes: Mapping[str, pl.DataType], on_extra_column: str
) -> None:
    """Refuse an expression over a column that the schema does not name: where no file may have another one, or where
    the name is nearly that of a column, and so a slip."""
    for name, expression in expressions.items():
        for column in expression.meta.root_names():
            near = get_close_matches(column, dtypes, n=1, cutoff=0.8)
            near = near or [known for known in dtypes if known.lower() == column.lower()]
            if not dtypes or column in dtypes or not (near or on_extra_column == "reject"):
                continue
            raise DefinitionError(
                f"{argument}: {name!r} names the column {column!r}, which the schema has not; "
                + (f"is {near[0]!r} meant? Else add it to the schema" if near else "add it to the schema")
                + f", which has {', '.join(dtypes)}"
            )


def types_of_rules(expressions: Mapping[str, pl.Expr], dtypes: Mapping[str, pl.DataType]) -> None:
    """Refuse a rule that cannot be computed over columns of these types, or is neither true nor false."""
    for name, rule in expressions.items():
        if not set(rule.meta.root_names()) <= set(dtypes):
            continue  # the types of other columns show in a file
        try:
            dtype = dtype_of_answers(rule, dtypes)
        except pl.exceptions.PolarsError as error:
            reason = str(error).strip().partition("\n")[0]
            raise DefinitionError(f"rules: {name!r} does not go with the types of the schema: {reason}") from None
        if dtype != pl.Boolean:
            raise DefinitionError(
                f"rules: {name!r} is {dtype}, where it should be true or false; compare it: pl.col('distance') > 0"
            )


def dtype_of_answers(rule: pl.Expr, dtypes: Mapping[str, pl.DataType]) -> pl.DataType:
    """
    Raises:
        PolarsError: the rule cannot be computed over columns of these types.
    """
    (answers,) = pl.DataFrame(schema=dtypes).select(rule.alias("rule")).get_columns()
    return answers.dtype


def serialized(rule: pl.Expr, name: str = "", argument: str = "rules") -> str:
    """A rule as JSON, which is the same in every process. A Python function has no such form."""
    try:
        text = "" if "python_udf" in str(rule) else rule.meta.serialize(format="json")
    except (pl.exceptions.PolarsError, ValueError):
        text = ""
    if not text:
        raise DefinitionError(
            f"{argument}: {name!r} calls a Python function. A rule must be made of Polars' own expressions, so that it "
            "is fast, and known when it changes; do the rest in the transform"
        )
    return text


def columns(argument: str, names: Collection[str], known: Collection[str]) -> tuple[str, ...]:
    """Names of columns of the schema, each once."""
    if isinstance(names, str) or not all(isinstance(name, str) for name in names):
        raise DefinitionError(
            f"{argument} must be a collection of column names, such as {argument}=('id',); it is {names!r}"
        )
    for name in names:
        if name not in known:
            raise DefinitionError(f"{argument}: the schema has no column {name!r}; it has {', '.join(known) or 'none'}")
    return tuple(dict.fromkeys(names))


def mapping(argument: str, values: Any, known: Collection[str]) -> dict[str, Any]:
    """A mapping from columns of the schema; None is an empty one."""
    if values is None:
        return {}
    _require_mapping(values, f"{argument} must map columns of the schema to something")
    columns(argument, list(values), known)
    return dict(values)


def value(argument: str, name: str, item: Any, dtype: pl.DataType) -> Any:
    """A value as a column of that type has it."""
    try:
        cell = pl.Series([item], dtype=dtype, strict=True).item()
    except (pl.exceptions.PolarsError, TypeError, ValueError, OverflowError):
        cell = None
    if cell is None or (isinstance(item, float) and cell != item and not isinstance(cell, float)):
        raise DefinitionError(f"{argument}: {name!r} has {item!r}, which is no {dtype}") from None
    return cell


def defaults(values: Mapping[str, Any], dtypes: Mapping[str, pl.DataType]) -> dict[str, Any]:
    """By column the value that replaces a null."""
    return {name: value("defaults", name, default, dtypes[name]) for name, default in values.items()}


def renames(names: Any) -> dict[str, str]:
    """Names in the file and their new names."""
    _require_mapping(names, "rename must map names in the file to new ones")
    for pair in names.items():
        if not all(isinstance(name, str) and name and name != ROW for name in pair):
            raise DefinitionError(f"rename: {pair[0]!r}: {pair[1]!r} are no two names of columns")
    targets = list(names.values())
    for old, new in names.items():
        if targets.count(new) > 1 or new in names:
            rivals = [name for name in names if name != old and new in (name, names[name])]
            raise DefinitionError(
                f"rename: {old!r} becomes {new!r}, which {rivals[0] if rivals else old!r} has to do with"
            )
    return dict(names)


def spellings(dtypes: Collection[str], renamed: Mapping[str, str], spelling: Callable[[str], str]) -> dict[str, str]:
    """By what counts of a name in the file, the name that its column gets."""
    known: dict[str, str] = {}
    for name, new in [*zip(dtypes, dtypes, strict=True), *renamed.items()]:
        if known.setdefault(spelling(name), new) != new:
            raise DefinitionError(
                f"names: {name!r} and the name of {known[spelling(name)]!r} are both {spelling(name)!r} in a file; "
                "give one of them another name, or match names exactly"
            )
    return known


def choice(argument: str, word: _T, allowed: tuple[str, ...]) -> _T:
    """A word that must be among the allowed ones."""
    if word not in allowed:
        raise DefinitionError(f"{argument} must be one of {', '.join(map(repr, allowed))}; it is {word!r}")
    return word


def share(number: float | None) -> float | None:
    """A share up to 1.0, or a count, or None."""
    if number is None:
        return None
    is_number = isinstance(number, int | float) and not isinstance(number, bool)
    if not is_number or not number >= 0 or (isinstance(number, float) and number > 1):
        raise DefinitionError(
            f"max_rejected={number!r}: must be a share of the rows, 0.0 to 1.0, or a count of rows, 0 or more"
        )
    return number


def row_range(bounds: Any) -> tuple[int | None, int | None]:
    """The fewest and the most rows."""
    if bounds is None:
        return None, None
    pair = tuple(bounds) if isinstance(bounds, tuple | list) else ()
    is_valid = len(pair) == 2 and all(
        bound is None or (isinstance(bound, int) and not isinstance(bound, bool) and bound >= 0) for bound in pair
    )
    if not is_valid or (None not in pair and pair[0] > pair[1]):
        raise DefinitionError(
            f"rows={bounds!r}: give the fewest and the most good rows of a file, such as (1, 1_000_000), or None for "
            "an end that is open"
        )
    return pair[0], pair[1]


def freshness(ages: Mapping[str, Any], dtypes: Mapping[str, pl.DataType]) -> dict[str, timedelta]:
    """By column the greatest age of its newest value."""
    for name, age in ages.items():
        if dtypes[name].base_type() not in (pl.Date, pl.Datetime):
            raise DefinitionError(f"fresh: {name!r} is {dtypes[name]}; only pl.Date and pl.Datetime can be fresh")
        if not isinstance(age, timedelta) or age < timedelta():
            raise DefinitionError(f"fresh: {name!r} has {age!r}; give a timedelta, such as timedelta(days=2)")
    return dict(ages)


def digest(content: Mapping[str, Any]) -> str:
    """SHA-256 of JSON values, as hexadecimal digits."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


# The names of a file's columns: exactly, or in any spelling that the contract allows.

_WORD_BEGINS = re.compile(r"(?<=[^\W_A-Z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def snake_case(name: str) -> str:
    """``Item No.`` and ``ItemNo`` as ``item_no``: letters and digits of any script, and underscores between words."""
    words = re.sub(r"[\W_]+", "_", _WORD_BEGINS.sub("_", clean_name(name))).strip("_").lower()
    return words or name


def _without_case(name: str) -> str:
    return clean_name(name).casefold()


#: By the value of the contract's option, what of a name counts. ``exact`` has no entry: all of it does.
SPELLINGS: Final[Mapping[str, Callable[[str], str]]] = {"any_case": _without_case, "snake_case": snake_case}


class Respelled(dict[str, pl.DataType]):
    """Types by column, for a reader that looks up the names of its file, in any spelling that counts as the same."""

    def __init__(self, dtypes: Mapping[str, pl.DataType], spelling: Callable[[str], str]) -> None:
        super().__init__((spelling(name), dtype) for name, dtype in dtypes.items())
        self._spelling = spelling

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and super().__contains__(self._spelling(name))

    def __getitem__(self, name: str) -> pl.DataType:
        return super().__getitem__(self._spelling(name))

    def get(self, name: str, default: pl.DataType | None = None) -> pl.DataType | None:  # type: ignore[override]
        """As of any mapping."""
        return super().get(self._spelling(name), default)

    def __or__(self, dtypes: Mapping[str, pl.DataType]) -> Respelled:  # type: ignore[override]
        return Respelled({**self, **dtypes}, self._spelling)


# Demands on single cells beyond their type: allowed values, ranges, patterns. Null breaks none.

_MOST_SHOWN = 8


@dataclass(frozen=True)
class Demand:
    """``holds`` is true or null for a good cell; ``text`` follows a bad one in the reason."""

    column: str
    holds: pl.Expr
    text: str

    def broken(self) -> pl.Expr:
        return (~self.holds).fill_null(value=False)

    def reason(self, dtype: pl.DataType) -> pl.Expr:
        """Text such as ``distance: 9000 is above 5000``."""
        cells = casting.shown(col(self.column), dtype)
        return pl.concat_str(pl.lit(f"{self.column}: "), cells, pl.lit(f" {self.text}"))


def demands(
    dtypes: Mapping[str, pl.DataType],
    allowed: Mapping[str, Collection[Any]],
    ranges: Mapping[str, tuple[Any, Any]],
    patterns: Mapping[str, str],
) -> tuple[Demand, ...]:
    """The demands of a contract, on columns of its schema.

    Raises:
        DefinitionError: one cannot hold for its column's type.
    """
    result = [_allowed(name, values, dtypes[name]) for name, values in allowed.items()]
    for name, bounds in ranges.items():
        result += _range(name, bounds, dtypes[name])
    return (*result, *[_pattern(name, pattern, dtypes[name]) for name, pattern in patterns.items()])


def _allowed(name: str, values: Collection[Any], dtype: pl.DataType) -> Demand:
    if isinstance(values, str) or not values:
        raise DefinitionError(f"allowed: {name!r} has {values!r}; give the values, such as ['EWR', 'JFK']")
    cells = pl.Series([value("allowed", name, item, dtype) for item in values], dtype=dtype)
    listed = ", ".join(map(_shown, list(values)[:_MOST_SHOWN]))
    more = f" … ({len(values):,} in all)" if len(values) > _MOST_SHOWN else ""
    return Demand(name, col(name).is_in(cells.implode()), f"is none of {listed}{more}")


def _range(name: str, bounds: tuple[Any, Any], dtype: pl.DataType) -> list[Demand]:
    if not isinstance(bounds, tuple | list) or len(bounds) != 2 or all(bound is None for bound in bounds):
        raise DefinitionError(
            f"ranges: {name!r} has {bounds!r}; give the lowest and the highest value, such as (0, 100), "
            "or None for an end that is open"
        )
    if not (dtype.is_numeric() or dtype.is_temporal()):
        raise DefinitionError(f"ranges: {name!r} is {dtype}, which has no range; a rule may compare it")
    low, high = (None if bound is None else value("ranges", name, bound, dtype) for bound in bounds)
    if low is not None and high is not None and low > high:
        raise DefinitionError(f"ranges: {name!r} has {bounds!r}: nothing is between these; write the lower one first")
    limits = []
    if low is not None:
        limits.append(Demand(name, col(name) >= pl.lit(low, dtype=dtype), f"is below {_shown(low)}"))
    if high is not None:
        limits.append(Demand(name, col(name) <= pl.lit(high, dtype=dtype), f"is above {_shown(high)}"))
    return limits


def _pattern(name: str, pattern: str, dtype: pl.DataType) -> Demand:
    if dtype != pl.String:
        raise DefinitionError(f"patterns: {name!r} is {dtype}; only pl.String has patterns")
    if not isinstance(pattern, str):
        raise DefinitionError(f"patterns: {name!r} has {pattern!r}; give a regular expression, such as '[A-Z]{{2}}'")
    _require_regex("patterns", name, pattern)
    holds = col(name).str.contains(f"^(?:{pattern})$")
    return Demand(name, holds, f"does not match {shorten(pattern)}")


def _require_regex(argument: str, name: str, pattern: str) -> None:
    try:
        pl.Series([""]).str.contains(f"^(?:{pattern})$")
    except pl.exceptions.PolarsError as error:
        raise DefinitionError(
            f"{argument}: {name!r} has {pattern!r}, which is no regular expression as Polars knows them "
            f"(https://docs.rs/regex): {str(error).strip().splitlines()[-1]}"
        ) from None


def _shown(item: Any) -> str:
    return f'"{shorten(item)}"' if isinstance(item, str) else str(item)


# Expectations of a file as a whole: few rejected rows, enough good ones, and fresh ones.


@dataclass(frozen=True)
class Expectations:
    """``max_rejected`` is a share (float) or a count (int), ``rows`` the fewest and the most good rows. ``fresh``: how
    much older than the file's landing the newest value of a column may be. None, or empty: nothing is expected."""

    max_rejected: float | None
    rows: tuple[int | None, int | None]
    fresh: Mapping[str, timedelta]

    def newest(self) -> list[pl.Expr]:
        """The newest value of each column that must be fresh."""
        return [col(name).max() for name in self.fresh]

    def judge(
        self,
        rows: int,
        rejected: int,
        newest: Mapping[str, Any],
        landed: datetime | None,
        reasons: Callable[[], Mapping[str, int]],
    ) -> None:
        """As :meth:`silversmith.Contract.judge`."""
        if rejected:
            self._judge_rejected(rows, rejected, reasons)
        self._judge_good(rows, rejected)
        if landed is not None:
            for name, age in self.fresh.items():
                _judge_age(name, age, newest.get(name), landed)

    def _judge_rejected(self, rows: int, rejected: int, reasons: Callable[[], Mapping[str, int]]) -> None:
        limit = self.max_rejected
        if rejected == rows and not (isinstance(limit, float) and limit == 1.0):
            raise DataError(
                "AllRowsRejected",
                f"{_all_of(rows)} rejected{_commonest(reasons())}",
                hint="correct the contract or the file; or allow files without a good row with max_rejected=1.0",
            )
        if limit is not None and rejected > (limit * rows if isinstance(limit, float) else limit):
            limit_text = f"{limit:.1%} of them" if isinstance(limit, float) else f"{limit:,}"
            raise DataError(
                "TooManyRejected",
                f"{rejected:,} of {rows:,} rows were rejected, and the contract allows {limit_text}"
                f"{_commonest(reasons())}",
                hint="correct the file, or raise max_rejected if so many bad rows are to be expected",
            )

    def _judge_good(self, rows: int, rejected: int) -> None:
        good = rows - rejected
        fewest, most = self.rows
        count = f"the file has {good:,} good rows" + (f" of {rows:,}" if rejected else "")
        if fewest is not None and good < fewest:
            raise DataError(
                "TooFewRows",
                f"{count}; the contract expects at least {fewest:,}",
                hint="the file may have been cut short while it was written or sent: put it again whole",
            )
        if most is not None and good > most:
            raise DataError(
                "TooManyRows",
                f"{count}; the contract expects at most {most:,}",
                hint="the file may hold more than it should, or some of it twice; else raise the contract's `rows`",
            )


def _all_of(rows: int) -> str:
    return "the only row was" if rows == 1 else f"all {rows:,} rows were"


def _commonest(reasons: Mapping[str, int]) -> str:
    """The reasons of rejected rows for a sentence, with how many rows each has."""
    described = [f"{reason} ({count:,} {'row' if count == 1 else 'rows'})" for reason, count in reasons.items()]
    return ": " + "; ".join(described) if described else ""


def _judge_age(name: str, age: timedelta, newest: Any, landed: datetime) -> None:
    hint = "the sender may have sent an old file again; else allow more in the contract's `fresh`"
    if newest is None:
        raise DataError(
            "Stale", f'"{name}" has no value in any good row, and so nothing new', hint=hint, place=Place(column=name)
        )
    try:
        is_stale = landed - _last_moment(newest) > age
    except OverflowError:
        is_stale = False  # the year 9999: newer than anything
    if is_stale:
        duration = f"{age.days} days" if age.seconds == 0 and age.days > 2 else f"{age / timedelta(hours=1):g} hours"
        raise DataError(
            "Stale",
            f'the newest "{name}" is {newest}, more than {duration} before the file landed at '
            f"{landed:%Y-%m-%d %H:%M:%S} UTC",
            hint=hint,
            place=Place(column=name, text=str(newest)),
        )


def _last_moment(newest: date | datetime) -> datetime:
    """The last moment of a value: that of a day is its end. Times without a zone are in UTC."""
    if not isinstance(newest, datetime):
        return datetime.combine(newest, time(), UTC) + timedelta(days=1)
    return newest if newest.tzinfo is not None else newest.replace(tzinfo=UTC)
