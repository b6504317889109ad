"""The columns of one table beside those of a contract, those that a check adds, and the errors if they differ."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

import polars as pl

from silversmith.contract import casting
from silversmith.contract.notation import Notation
from silversmith.errors import DataError, Place
from silversmith.formats.table import ROW, Table, col, shorten

#: The columns of a rejected row besides its own: its number in the file, its first line there, the reasons, its text.
ROW_NUMBER = "row"
LINE = "line"
REASONS = "reasons"
TEXT = "text"

DataType = pl.DataType | type[pl.DataType]


class Layout:
    """The way from a table's columns to a contract's.

    Args:
        schema: the contract's columns.
        dtypes: the table's columns, without the row number.
        defaults: by column, the value that replaces a null.
        dropped: the table's columns that no good row has.
        absent: the contract's columns that neither the table nor a good row has.
        decimal_comma: ``1,5`` in text means one and a half.
        notations: by column, how its days and times are written.
    """

    def __init__(
        self,
        schema: Mapping[str, pl.DataType],
        dtypes: Mapping[str, pl.DataType],
        *,
        defaults: Mapping[str, Any],
        dropped: Collection[str],
        absent: Collection[str],
        decimal_comma: bool,
        notations: Mapping[str, Notation],
    ) -> None:
        self.schema = {name: dtype for name, dtype in schema.items() if name not in absent}
        self.dtypes = dtypes
        self.dropped = dropped
        self.decimal_comma = decimal_comma
        self.notations = notations
        self._defaults = defaults
        self._prefix = "__"
        while any(name.startswith(self._prefix) for name in (*dtypes, *schema) if name != ROW):
            self._prefix += "_"
        #: By column that is cast, or has a default, the name of the column with its cells as they were read.
        self.before = {
            name: f"{self._prefix}before {name}"
            for name, dtype in self.schema.items()
            if name in dtypes and (dtypes[name] != dtype or name in defaults)
        }
        self.bad = f"{self._prefix}bad"
        self.twice = f"{self._prefix}twice"
        self.reasons = f"{self._prefix}reasons"

    def rule(self, name: str) -> str:
        """The column with the answers of a rule."""
        return f"{self._prefix}rule {name}"

    def filled(self) -> dict[str, pl.DataType]:
        """The contract's columns that the table does not have, and good rows do."""
        return {name: dtype for name, dtype in self.schema.items() if name not in self.dtypes}

    def default(self, name: str) -> pl.Expr:
        """The value that replaces a null in a column: null, if the contract has no other."""
        return pl.lit(self._defaults.get(name), dtype=self.schema[name])

    def casts(self) -> list[pl.Expr]:
        return [
            *[self._cast(name, before).alias(name) for name, before in self.before.items()],
            *[self.default(name).alias(name) for name in self.filled()],
        ]

    def cast(self, name: str, cells: pl.Expr, source: pl.DataType) -> pl.Expr:
        """Cells of a column in the contract's type; unchanged where it names none."""
        notation, target = self.notations.get(name), self.schema.get(name, source)
        return casting.cast(cells, source, target, decimal_comma=self.decimal_comma, notation=notation)

    def _cast(self, name: str, before: str) -> pl.Expr:
        cells, source = pl.col(before), self.dtypes[name]
        value = self.cast(name, cells, source)
        if name not in self._defaults:
            return value
        return pl.when(casting.present(cells, source)).then(value).otherwise(self.default(name))

    def names(self) -> list[str]:
        """The columns of good rows: the contract's in its order, then the table's others in theirs."""
        others = [name for name in self.dtypes if name not in self.schema and name not in self.dropped]
        return [*self.schema, *others]

    def originals(self, *, cast: bool = True) -> list[pl.Expr]:
        """The columns as they were read, in the table's order, under names that leave those of rejected rows free.

        ``cast``: whether the rows were cast, and have these cells beside the contract's.
        """
        reserved = {ROW_NUMBER, LINE, REASONS, TEXT}
        taken = reserved | set(self.dtypes)
        columns = []
        for name in self.dtypes:
            free = name
            while free in reserved or (free != name and free in taken):
                free += "_"
            taken.add(free)
            columns.append(col(self.before.get(name, name) if cast else name).alias(free))
        return columns


#: The first rejected rows of a file get their line and text; later ones have nulls there.
MOST_WITH_ORIGINS = 100_000

#: How much text they may have in all, in characters.
MOST_TEXT = 64 * 1024 * 1024


def with_origins(rejected: pl.LazyFrame, table: Table, most: int = MOST_WITH_ORIGINS) -> pl.LazyFrame:
    """Rejected rows of a table, with the columns ``line`` and ``text`` if the file has lines."""
    if table.origins is None:
        return rejected
    names = rejected.collect_schema().names()
    first = rejected.select(pl.col(ROW_NUMBER).bottom_k(most)).collect(engine="streaming").to_series().to_list()
    origins = table.origins(first)
    numbers, lines, texts, length = [], [], [], 0
    for number, (line, text) in sorted(origins.items()):
        length += len(text)
        if length > MOST_TEXT:
            break
        numbers.append(number)
        lines.append(line)
        texts.append(text)
    known = pl.col(TEXT) if TEXT in names else pl.lit(None, dtype=pl.String)
    columns = [
        _looked_up(numbers, pl.Series(lines, dtype=pl.UInt64)).alias(LINE),
        pl.coalesce(_looked_up(numbers, pl.Series(texts, dtype=pl.String)), known).alias(TEXT),
    ]
    others = [col(name) for name in names if name not in {ROW_NUMBER, REASONS, TEXT}]
    return rejected.select(pl.col(ROW_NUMBER), columns[0], *others, pl.col(REASONS), columns[1])


def _looked_up(numbers: list[int], values: pl.Series) -> pl.Expr:
    if not numbers:
        return pl.lit(None, dtype=values.dtype)
    keys = pl.Series(numbers, dtype=pl.UInt64)
    return pl.col(ROW_NUMBER).replace_strict(keys, values, default=None, return_dtype=values.dtype)


def missing(name: str, names: list[str]) -> DataError:
    near = get_close_matches(name, names, n=1) or [column for column in names if column.lower() == name.lower()]
    shown = ", ".join(f'"{shorten(column)}"' for column in names[:12]) + (" …" if len(names) > 12 else "")
    return DataError(
        "MissingColumn",
        f'the column "{name}" is missing; the file has {shown or "no columns"}',
        hint=(f'did the sender rename it to "{near[0]}"? Then: rename={{"{near[0]}": "{name}"}}. Or ' if near else "")
        + "correct the file, change the contract, or set on_missing_column='fill' if it may be missing",
        place=Place(column=name),
    )


def unknown(names: Sequence[str]) -> DataError:
    return DataError(
        "ExtraColumn",
        f'the contract has no column "{shorten(names[0])}"' + (f" and {len(names) - 1} more" if len(names) > 1 else ""),
        hint="add it to the schema, or set on_extra_column to 'keep' or 'drop'",
        place=Place(column=names[0]),
    )


def renamed_onto(old: str, new: str, rival: str) -> DataError:
    return DataError(
        "DuplicateColumns",
        f'the file has both "{shorten(old)}", which the contract renames to "{shorten(new)}", and a column '
        f'"{shorten(rival)}"',
        hint="correct the file: remove the column that is not meant; the contract cannot know which one that is",
        place=Place(column=old),
    )


def not_boolean(name: str, dtype: pl.DataType) -> DataError:
    return DataError(
        "BrokenRule",
        f'the rule "{name}" is {dtype} over this file, where it should be true or false for each row',
        hint="compare it with something: pl.col('distance') > 0",
    )


def broken_drop(name: str, problem: str) -> DataError:
    return DataError(
        "BrokenRule",
        f'drop: "{name}" cannot be computed over this file: {problem.strip().partition(chr(10))[0]}',
        hint="it sees the columns as they were read, before the contract's casts: text, in a format that has no types; "
        "it must be true or false for each row",
    )


def broken_rule(name: str, rule: pl.Expr, layout: Layout, error: Exception) -> DataError:
    known = {*layout.dtypes, *layout.schema}
    unknown_columns = [column for column in rule.meta.root_names() if column not in known]
    if unknown_columns:
        fault = missing(unknown_columns[0], list(layout.dtypes))
        message = f'{fault.message}, and the rule "{name}" needs it'
        return DataError(fault.code, message, hint=fault.hint, place=fault.place)
    return DataError(
        "BrokenRule",
        f'the rule "{name}" cannot be computed over this file: {str(error).strip().partition(chr(10))[0]}',
        hint="name the columns of the rule in the contract's schema, so that they have the type that it needs",
    )
