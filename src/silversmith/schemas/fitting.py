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
from silversmith.formats.table import EXACT, col, shorten
from silversmith.schemas.document import Schema, differences, dtype_code, join, widened

#: Integers that a Float64 always holds.
_SMALL = (pl.Int8(), pl.Int16(), pl.Int32(), pl.UInt8(), pl.UInt16(), pl.UInt32())

#: Integers that it may not hold.
_LARGEST = (pl.Int64, pl.UInt64)

#: How many differences an error shows.
_SHOWN = 20


@dataclass(frozen=True)
class Fitted:
    """The ``rows`` to write, and the schema of silver with them. None: as they were."""

    rows: pl.LazyFrame | None
    schema: Schema | None


class Changed(DataError):
    """``SchemaChanged``: these ``columns`` of a file do not go together with silver's."""

    columns: tuple[str, ...] = ()


class Values:
    """Answers questions about the values of a file's columns, each when it is asked."""

    def __init__(self, rows: pl.LazyFrame | pl.DataFrame, dtypes: Mapping[str, pl.DataType]) -> None:
        self._frame = rows if isinstance(rows, pl.DataFrame) else None
        self._rows = rows.lazy()
        self._engine: Literal["in-memory", "streaming"] = "streaming" if self._frame is None else "in-memory"
        self._dtypes = dtypes

    def without_any(self, names: Collection[str]) -> set[str]:
        """The columns that have nothing but nulls."""
        return self._which({name: col(name).is_null().all() for name in names})

    def large(self, names: Collection[str]) -> set[str]:
        """The columns of integers that have one which no Float64 gives back."""
        if self._frame is not None:
            return {name for name in names if _is_large(self._frame.get_column(name))}
        if not self._any(((col(name) > EXACT) | (col(name) < -EXACT)) for name in names):
            return set()
        return self._which({name: (col(name).max() > EXACT) | (col(name).min() < -EXACT) for name in names})

    def fit(self, name: str, dtype: pl.DataType) -> bool:
        """Whether each value of a column has its like in another type."""
        return not self._which({name: self._misfits(name, dtype).any()})

    def misfit(self, name: str, dtype: pl.DataType) -> str | None:
        """The first value that has not, as text."""
        text = casting.shown(col(name), self._dtypes[name])
        misfits = self._rows.filter(self._misfits(name, dtype)).select(text.alias("text"))
        try:
            bad = misfits.head(1).collect(engine=self._engine)
        except pl.exceptions.PolarsError:
            return None
        return bad.item() if bad.height else None

    def _misfits(self, name: str, dtype: pl.DataType) -> pl.Expr:
        before = self._dtypes[name]
        return casting.failed(col(name), casting.cast(col(name), before, dtype), before)

    def _any(self, questions: Iterable[pl.Expr]) -> bool:
        """Whether a row answers any of the questions with yes. Of a Parquet file its statistics tell that, mostly, and
        none of its values is read."""
        some = reduce(operator.or_, questions, pl.lit(value=False))
        return self._rows.filter(some).head(1).collect(engine=self._engine).height > 0

    def _which(self, questions: Mapping[str, pl.Expr]) -> set[str]:
        if not questions:
            return set()
        named = [question.alias(f"{place}") for place, question in enumerate(questions.values())]
        answers = self._rows.select(named).collect(engine=self._engine).row(0)
        return {name for name, answer in zip(questions, answers, strict=True) if answer}


def _is_large(numbers: pl.Series) -> bool:
    """Directly: an expression would cost more than all the rest of a small file's fitting."""
    low, high = numbers.min(), numbers.max()
    return isinstance(low, int) and isinstance(high, int) and not -EXACT <= low <= high <= EXACT


def fit(
    rows: pl.LazyFrame | pl.DataFrame, dtypes: Mapping[str, pl.DataType], recorded: Schema, guessed: Collection[str]
) -> Fitted:
    """Fit the rows of a file to what silver has, or what silver has to them.

    Args:
        rows: what is to be written. They may be read several times.
        dtypes: their types.
        recorded: the columns of silver.
        guessed: the columns whose type a reader found out. Of one without any value it could only say "text".

    A column that has had no value in any file has no type yet. It is recorded as such and not written, because no type
    of Parquet goes together with all that may follow: see docs/decisions/0126-a-column-waits-for-its-type.md.

    Raises:
        DataError: ``SchemaChanged``, or ``AmbiguousColumn``.
    """
    _require_distinct(dtypes, recorded)
    values = Values(rows, dtypes)
    watched = [name for name, kind in dtypes.items() if isinstance(kind, _LARGEST) and name not in recorded.large]
    large = recorded.large | values.large(watched)
    is_same = recorded.version > 0 and list(dtypes.items()) == list(recorded.columns.items())
    if is_same and large == recorded.large and not recorded.has_untyped:
        return Fitted(None, None)
    unknown = [
        name
        for name in guessed
        if dtypes.get(name) == pl.String() and recorded.columns.get(name, pl.Null()) != pl.String()
    ]
    empty = values.without_any(unknown)
    file_dtypes = {name: pl.Null() if name in empty else kind for name, kind in dtypes.items()}
    columns = _columns(recorded, file_dtypes, values, large)
    typed = _with_types(columns)
    fitted = _written(rows.lazy(), file_dtypes, typed) if list(dtypes.items()) != list(typed.items()) else None
    if recorded.version and columns == recorded.columns and large == recorded.large:
        return Fitted(fitted, None)
    return Fitted(fitted, Schema(recorded.code, recorded.version, columns, large))


def _require_distinct(names: Iterable[str], recorded: Schema) -> None:
    """
    Raises:
        DataError: ``AmbiguousColumn``: a column that is new differs from another one only by case.
    """
    new = [name for name in names if name not in recorded.columns]
    seen = {name.lower(): name for name in recorded.columns} if new else {}
    for name in new:
        same = seen.setdefault(name.lower(), name)
        if same != name:
            raise DataError(
                "AmbiguousColumn",
                f'the columns "{shorten(same)}" and "{shorten(name)}" of silver would differ only by case, and DuckDB, '
                "Athena and most other engines take them for one",
                hint="rename one of them, in the contract or in the transform: "
                f"rename={{{name!r}: {name + '_2'!r}}}, or rows.rename({{{name!r}: {name + '_2'!r}}})",
                place=Place(column=name),
            )


def _with_types(columns: Mapping[str, pl.DataType]) -> Mapping[str, pl.DataType]:
    """The columns that are written: those that have a type; or all, if none has, so that the rows are counted."""
    return {name: dtype for name, dtype in columns.items() if dtype != pl.Null()} or columns


def fit_by_types(rows: pl.LazyFrame, dtypes: Mapping[str, pl.DataType], recorded: Schema) -> pl.LazyFrame:
    """The rows as :func:`fit` would return them, as far as types alone decide it: so they are seldom written twice.

    The values are not looked at. Columns that they decide, and new columns, stay as they are.
    """
    columns = {name: _certain_dtype(kind, dtypes.get(name)) for name, kind in recorded.columns.items()} | {
        name: kind for name, kind in dtypes.items() if name not in recorded.columns
    }
    return rows if list(columns.items()) == list(dtypes.items()) else _written(rows, dtypes, columns)


def _certain_dtype(silver_dtype: pl.DataType, file_dtype: pl.DataType | None) -> pl.DataType:
    return silver_dtype if file_dtype is None or join(silver_dtype, file_dtype) == silver_dtype else file_dtype


def _written(rows: pl.LazyFrame, dtypes: Mapping[str, pl.DataType], columns: Mapping[str, pl.DataType]) -> pl.LazyFrame:
    """The rows in these columns. A file without any column has no rows either."""
    if not dtypes:
        return pl.LazyFrame(schema=dict(columns))
    return rows.with_columns(_column(name, dtypes, kind).alias(name) for name, kind in columns.items()).select(
        col(name) for name in columns
    )


def _column(name: str, dtypes: Mapping[str, pl.DataType], dtype: pl.DataType) -> pl.Expr:
    """A column as it is written."""
    if name not in dtypes or (dtypes[name] == pl.Null() and dtype != pl.Null()):
        return pl.lit(None, dtype=dtype)
    if dtypes[name] == pl.Null():
        return pl.lit(None, dtype=pl.Null())
    if join(dtype, dtypes[name]) == dtype:
        return widened(col(name), dtypes[name], dtype)
    return casting.cast(col(name), dtypes[name], dtype)


def _columns(
    recorded: Schema, dtypes: Mapping[str, pl.DataType], values: Values, large: frozenset[str] | set[str]
) -> dict[str, pl.DataType]:
    """The columns of silver with this file: the columns it had, in their order, then those that only the file has."""
    columns: dict[str, pl.DataType] = {}
    misfits: dict[str, str] = {}
    for name, kind in recorded.columns.items():
        if name not in dtypes:
            columns[name] = kind
            continue
        both = join(kind, dtypes[name]) or _by_value(name, kind, dtypes[name], values, large)
        if both is None:
            misfit = values.misfit(name, kind) if _may_fit(dtypes[name], kind, for_error=True) else None
            misfits[name] = f", such as {shorten(misfit)}" if misfit is not None else ""
        else:
            columns[name] = both
    if misfits:
        raise _changed(recorded, dtypes, misfits)
    return {**columns, **{name: kind for name, kind in dtypes.items() if name not in columns}}


def _by_value(
    name: str, silver_dtype: pl.DataType, file_dtype: pl.DataType, values: Values, large: Collection[str]
) -> pl.DataType | None:
    if _may_fit(file_dtype, silver_dtype) and values.fit(name, silver_dtype):
        return silver_dtype
    if file_dtype.is_float() and (silver_dtype in _SMALL or (isinstance(silver_dtype, _LARGEST) and name not in large)):
        return pl.Float64()
    return None


def _may_fit(file_dtype: pl.DataType, silver_dtype: pl.DataType, *, for_error: bool = False) -> bool:
    """Whether values of the file's type may be exact in silver's, so that each is looked at.

    Text is text, and a number is a number. ``for_error``: the question is only which value to name in an error.
    """
    if file_dtype == pl.String() and silver_dtype != pl.String():
        return for_error
    categories = (pl.Categorical, pl.Enum)
    if silver_dtype == pl.String():
        return isinstance(file_dtype, categories)
    return silver_dtype != pl.Boolean() and file_dtype != pl.Boolean() and file_dtype != pl.Null()


def _changed(recorded: Schema, dtypes: Mapping[str, pl.DataType], misfits: Mapping[str, str]) -> Changed:
    name = next(iter(misfits))
    lines = [f"{line}{misfits.get(column, '')}" for column, line in differences(recorded.columns, dtypes).items()]
    lines.sort(key=lambda line: line[0] != "~")
    shown = lines[:_SHOWN] + ([f"… and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else [])
    wider = dtypes[name] if dtypes[name] != pl.Null() else recorded.columns[name]
    error = Changed(
        "SchemaChanged",
        f'the column "{shorten(name)}" is {dtypes[name]} in this file, and {recorded.columns[name]} in the silver that '
        f"there is (version {recorded.version}): no reader of all silver could follow. From silver's columns to this "
        "file's:\n" + "\n".join(f"  {line}" for line in shown),
        hint=f"correct the file; or name the type in the contract, such as schema={{{name!r}: "
        f"{dtype_code(wider)}}}, and run `silversmith reconcile --changed`, which makes all silver again",
        place=Place(column=name, text=misfits[name].removeprefix(", such as ") or None),
    )
    error.columns = tuple(misfits)
    return error
