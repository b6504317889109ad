"""The columns of one file beside those that silver has: which type each gets, or why the two do not go together.

Where types differ in kind the values decide: a file of whole numbers goes into a column of floats if each is exact as
one, and floats into a column of integers if all of them are whole. A column of integers becomes one of floats if none
that it has had so far is beyond what a float gives back.
"""

from __future__ import annotations

import operator
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Literal

import polars as pl

from silversmith.contract import casting
from silversmith.errors import DataError, Place
from silversmith.formats.table import col, shorten
from silversmith.schemas.document import Schema, differences, dtype_code, join, widened

#: Integers up to this one, and down to its negative, are exact as Float64.
_EXACT = 2**53

#: Integers that a Float64 always holds.
_SMALL = (pl.Int8(), pl.Int16(), pl.Int32(), pl.UInt8(), pl.UInt16(), pl.UInt32())

#: Integers that it may not hold.
_LARGEST = (pl.Int64(), pl.UInt64())

#: So many differences are told in an error.
_TOLD = 20


@dataclass(frozen=True)
class Fitted:
    """``rows`` as they shall be written, and the schema of silver with them. None: they are as they were."""

    rows: pl.LazyFrame | None
    schema: Schema | None


class Changed(DataError):
    """``SchemaChanged``: these ``columns`` of a file do not go together with silver's."""

    columns: tuple[str, ...] = ()


class Values:
    """What must be known of the values of a file's columns, found out when it is asked for."""

    def __init__(self, rows: pl.LazyFrame | pl.DataFrame, found: Mapping[str, pl.DataType]) -> None:
        self._frame = rows if isinstance(rows, pl.DataFrame) else None
        self._rows = rows.lazy()
        self._found = found

    def without_any(self, names: Collection[str]) -> set[str]:
        """Those of the columns that have nothing but nulls."""
        return self._which({name: col(name).is_null().all() for name in names})

    def large(self, names: Collection[str]) -> set[str]:
        """Those of the columns of integers that have one which no Float64 gives back."""
        if self._frame is not None:
            return {name for name in names if _is_large(self._frame[name])}
        if not self._any(((col(name) > _EXACT) | (col(name) < -_EXACT)) for name in names):
            return set()
        return self._which({name: (col(name).max() > _EXACT) | (col(name).min() < -_EXACT) for name in names})

    def fit(self, name: str, wanted: pl.DataType) -> bool:
        """Whether each value of a column has its like in another type."""
        return not self._which({name: self._misfits(name, wanted).any()})

    def misfit(self, name: str, wanted: pl.DataType) -> str | None:
        """The first value that has not, as text."""
        text = casting.shown(col(name), self._found[name])
        try:
            bad = (
                self._rows.filter(self._misfits(name, wanted))
                .select(text.alias("text"))
                .head(1)
                .collect(engine=self._engine)
            )
        except pl.exceptions.PolarsError:
            return None
        return bad.item() if bad.height else None

    @property
    def _engine(self) -> Literal["in-memory", "streaming"]:
        return "streaming" if self._frame is None else "in-memory"

    def _misfits(self, name: str, wanted: pl.DataType) -> pl.Expr:
        found = self._found[name]
        return casting.failed(col(name), casting.cast(col(name), found, wanted), found)

    def _any(self, questions: Iterable[pl.Expr]) -> bool:
        """Whether a row answers any of the questions with yes. Of a Parquet file its statistics tell that, mostly, and
        none of its values is read."""
        some = reduce(operator.or_, questions, pl.lit(value=False))
        return self._rows.filter(some).head(1).collect(engine=self._engine).height > 0

    def _which(self, questions: Mapping[str, pl.Expr]) -> set[str]:
        if not questions:
            return set()
        asked = [question.alias(f"{place}") for place, question in enumerate(questions.values())]
        answers = self._rows.select(asked).collect(engine=self._engine).row(0)
        return {name for name, answer in zip(questions, answers, strict=True) if answer}


def _is_large(numbers: pl.Series) -> bool:
    """Directly: an expression would cost more than all the rest of a small file's fitting."""
    low, high = numbers.min(), numbers.max()
    return isinstance(low, int) and isinstance(high, int) and not -_EXACT <= low <= high <= _EXACT


def fit(
    rows: pl.LazyFrame | pl.DataFrame, found: Mapping[str, pl.DataType], recorded: Schema, guessed: Collection[str]
) -> Fitted:
    """Fit the rows of a file to what silver has, or what silver has to them.

    Args:
        rows: what is to be written. They may be read several times.
        found: their types.
        recorded: the columns of silver.
        guessed: the columns whose type a reader found out. Of one without any value it could only say "text".

    Raises:
        DataError: ``SchemaChanged``.
    """
    values = Values(rows, found)
    watched = [name for name, kind in found.items() if kind in _LARGEST and name not in recorded.large]
    large = recorded.large | values.large(watched)
    is_same = recorded.version > 0 and list(found.items()) == list(recorded.columns.items())
    if is_same and large == recorded.large:
        return Fitted(None, None)
    unknown = [
        name
        for name in guessed
        if found.get(name) == pl.String() and recorded.columns.get(name, pl.Null()) != pl.String()
    ]
    empty = values.without_any(unknown)
    given = {name: pl.Null() if name in empty else kind for name, kind in found.items()}
    columns = _columns(recorded, given, values, large)
    fitted = _written(rows.lazy(), given, columns) if list(found.items()) != list(columns.items()) else None
    if recorded.version and columns == recorded.columns and large == recorded.large:
        return Fitted(fitted, None)
    return Fitted(fitted, Schema(recorded.code, recorded.version, columns, large))


def ahead(rows: pl.LazyFrame, found: Mapping[str, pl.DataType], recorded: Schema) -> pl.LazyFrame:
    """The rows as :func:`fit` would have them, as far as their types tell it: so they are seldom written twice.

    The values are not looked at; what they decide, and all that is new, stays as it is.
    """
    columns = {name: _sure(kind, found.get(name)) for name, kind in recorded.columns.items()} | {
        name: kind for name, kind in found.items() if name not in recorded.columns
    }
    return rows if list(columns.items()) == list(found.items()) else _written(rows, found, columns)


def _sure(kind: pl.DataType, found: pl.DataType | None) -> pl.DataType:
    return kind if found is None or join(kind, found) == kind else found


def _written(rows: pl.LazyFrame, given: Mapping[str, pl.DataType], columns: Mapping[str, pl.DataType]) -> pl.LazyFrame:
    """The rows in these columns. A file without any column has no rows either."""
    if not given:
        return pl.LazyFrame(schema=dict(columns))
    return rows.with_columns(_made(name, given, kind).alias(name) for name, kind in columns.items()).select(
        col(name) for name in columns
    )


def _made(name: str, given: Mapping[str, pl.DataType], wanted: pl.DataType) -> pl.Expr:
    """A column as it is written."""
    if name not in given or (given[name] == pl.Null() and wanted != pl.Null()):
        return pl.lit(None, dtype=wanted)
    if given[name] == pl.Null():
        return pl.lit(None, dtype=pl.Null())
    if join(wanted, given[name]) == wanted:
        return widened(col(name), given[name], wanted)
    return casting.cast(col(name), given[name], wanted)


def _columns(
    recorded: Schema, given: Mapping[str, pl.DataType], values: Values, large: frozenset[str] | set[str]
) -> dict[str, pl.DataType]:
    """What silver has with this file: the columns it had, in their order, then those that only the file has."""
    columns: dict[str, pl.DataType] = {}
    bad: dict[str, str] = {}
    for name, kind in recorded.columns.items():
        if name not in given:
            columns[name] = kind
            continue
        both = join(kind, given[name]) or _by_value(name, kind, given[name], values, large)
        if both is None:
            misfit = values.misfit(name, kind) if _may_fit(given[name], kind, told=True) else None
            bad[name] = f", such as {shorten(misfit)}" if misfit is not None else ""
        else:
            columns[name] = both
    if bad:
        raise _changed(recorded, given, bad)
    return {**columns, **{name: kind for name, kind in given.items() if name not in columns}}


def _by_value(
    name: str, kind: pl.DataType, found: pl.DataType, values: Values, large: Collection[str]
) -> pl.DataType | None:
    if _may_fit(found, kind) and values.fit(name, kind):
        return kind
    if found.is_float() and (kind in _SMALL or (kind in _LARGEST and name not in large)):
        return pl.Float64()
    return None


def _may_fit(found: pl.DataType, kind: pl.DataType, *, told: bool = False) -> bool:
    """Whether values of one type may have their like in the other, so that it is worth to look at each.

    Text is text, and a number is a number; ``told`` is only about naming a value that is not what it should be.
    """
    if found == pl.String() and kind != pl.String():
        return told
    words = (pl.Categorical, pl.Enum)
    if kind == pl.String():
        return isinstance(found, words)
    return kind != pl.Boolean() and found != pl.Boolean() and found != pl.Null()


def _changed(recorded: Schema, given: Mapping[str, pl.DataType], bad: Mapping[str, str]) -> Changed:
    name = next(iter(bad))
    lines = [f"{line}{bad.get(column, '')}" for column, line in differences(recorded.columns, given).items()]
    lines.sort(key=lambda line: line[0] != "~")
    shown = lines[:_TOLD] + ([f"… and {len(lines) - _TOLD} more"] if len(lines) > _TOLD else [])
    wider = given[name] if given[name] != pl.Null() else recorded.columns[name]
    error = Changed(
        "SchemaChanged",
        f'the column "{shorten(name)}" is {given[name]} in this file, and {recorded.columns[name]} in the silver that '
        f"there is (version {recorded.version}): no reader of all silver could follow. From silver's columns to this "
        "file's:\n" + "\n".join(f"  {line}" for line in shown),
        hint=f"mend the file; or say in the contract which type it is to be, such as schema={{{name!r}: "
        f"{dtype_code(wider)}}}, and run `silversmith reconcile --changed`, which makes all silver anew",
        place=Place(column=name, text=bad[name].removeprefix(", such as ") or None),
    )
    error.columns = tuple(bad)
    return error
