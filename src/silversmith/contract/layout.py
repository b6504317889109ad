"""The columns of one table beside those of a contract, and names for what a check adds to them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import polars as pl

from silversmith import casting
from silversmith.formats.table import ROW, col

#: The columns that a rejected row has besides its own: its number in the file, the line that it begins on there, the
#: reasons against it, and its text.
ROW_NUMBER = "row"
LINE = "line"
REASONS = "reasons"
TEXT = "text"

DataType = pl.DataType | type[pl.DataType]


class Layout:
    """How a table's columns become a contract's.

    Args:
        schema: the contract's columns.
        kinds: the table's, without the row number.
        defaults: what stands for a null, by column.
        dropped: the table's columns that no good row has.
        absent: the contract's columns that no good row has either: the table does not have them, and none are made.
        decimal_comma: ``1,5`` in text means one and a half.
    """

    def __init__(
        self,
        schema: Mapping[str, pl.DataType],
        kinds: Mapping[str, pl.DataType],
        *,
        defaults: Mapping[str, Any],
        dropped: Collection[str],
        absent: Collection[str],
        decimal_comma: bool,
    ) -> None:
        self.schema = {name: kind for name, kind in schema.items() if name not in absent}
        self.kinds = kinds
        self.dropped = dropped
        self.decimal_comma = decimal_comma
        self._defaults = defaults
        self._prefix = "__"
        while any(name.startswith(self._prefix) for name in (*kinds, *schema) if name != ROW):
            self._prefix += "_"
        #: Where a column that is cast, or has a default, is kept as it was read, while what it became has its name.
        self.before = {
            name: f"{self._prefix}before {name}"
            for name, kind in self.schema.items()
            if name in kinds and (kinds[name] != kind or name in defaults)
        }
        self.bad = f"{self._prefix}bad"
        self.twice = f"{self._prefix}twice"

    def rule(self, name: str) -> str:
        """Where what a rule says of a row is kept."""
        return f"{self._prefix}rule {name}"

    def filled(self) -> dict[str, pl.DataType]:
        """The contract's columns that the table does not have, and good rows do."""
        return {name: kind for name, kind in self.schema.items() if name not in self.kinds}

    def default(self, name: str) -> pl.Expr:
        """What stands for a null in a column, which is null itself where the contract does not say."""
        return pl.lit(self._defaults.get(name), dtype=self.schema[name])

    def casts(self) -> list[pl.Expr]:
        return [
            *[self._cast(name, place).alias(name) for name, place in self.before.items()],
            *[self.default(name).alias(name) for name in self.filled()],
        ]

    def _cast(self, name: str, place: str) -> pl.Expr:
        cells, found = pl.col(place), self.kinds[name]
        made = casting.cast(cells, found, self.schema[name], decimal_comma=self.decimal_comma)
        if name not in self._defaults:
            return made
        return pl.when(casting.present(cells, found)).then(made).otherwise(self.default(name))

    def names(self) -> list[str]:
        """The columns of good rows: the contract's in its order, then the table's others in theirs."""
        others = [name for name in self.kinds if name not in self.schema and name not in self.dropped]
        return [*self.schema, *others]

    def output(self) -> list[pl.Expr]:
        return [col(name) for name in self.names()]

    def originals(self) -> list[pl.Expr]:
        """The columns as they were read, in the table's order, under names that leave those of rejected rows free."""
        return [col(self.before.get(name, name)).alias(free) for name, free in self._free_names().items()]

    def _free_names(self) -> dict[str, str]:
        taken = {ROW_NUMBER, LINE, REASONS, TEXT} | set(self.kinds)
        names = {}
        for name in self.kinds:
            free = name
            while free in {ROW_NUMBER, LINE, REASONS, TEXT} or (free != name and free in taken):
                free += "_"
            taken.add(free)
            names[name] = free
        return names
