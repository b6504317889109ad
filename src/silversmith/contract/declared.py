"""The contract as it is declared."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, Literal

import polars as pl

from silversmith import terms
from silversmith.contract import checking, rowwise
from silversmith.contract.checking import Checked
from silversmith.contract.demands import demands
from silversmith.contract.expectations import Expectations, Found, row_range
from silversmith.contract.expectations import fresh as freshness
from silversmith.contract.layout import ROW_NUMBER, DataType
from silversmith.contract.rowwise import Rowwise
from silversmith.formats.archives.content import Scratch
from silversmith.formats.table import ROW, Table


class Contract:
    """What a transform demands of the rows it gets.

    Args:
        schema: column names and their Polars types. Cells are cast leniently about blanks around them and exactly about
            their value: ``"12.5"`` is no integer. A cell that cannot be cast rejects its row. A blank cell is null.
        rules: what every row must satisfy, a Polars expression for each name. As with SQL's CHECK, a rule is broken
            when it is false; when it is null, because a cell is, it is not: that is what ``required`` is for.
        required: the columns of the schema that may not be null.
        unique: the columns of the schema whose values, taken together, no two rows may share. Of rows that are good
            otherwise the first keeps them. As in SQL, rows with a null among them are all different.
        allowed: of columns of the schema, the values that there may be, besides null.
        ranges: of columns of the schema, the lowest and the highest value that there may be; None: no such end.
        patterns: of columns of the schema, the regular expression that the whole text must match.
            https://docs.rs/regex/latest/regex/#syntax
        rename: names in the file, and the names that these columns have from there on. A file may have either.
        defaults: of columns of the schema, what stands for a null or blank cell, and for a column that is filled.
        on_extra_column: what to do with a column that the schema does not name: ``keep`` it with the type that was
            read, ``drop`` it, or ``reject`` the file. An empty schema names nothing, and keeps everything.
        on_missing_column: when a column of the schema is not there: ``reject`` the file, ``fill`` the column with its
            default or nulls, or ``keep`` the file as it is, without the column. A required column without a default
            is never missing.
        max_rejected: above this share (a float up to 1.0) or count (an int) of rejected rows, the whole file goes to
            quarantine. None: never.
        rows: the fewest and the most good rows that a file may have; None: no such end. Another number of them: the
            whole file goes to quarantine.
        fresh: of date and time columns of the schema, how much older than the moment when the file landed in bronze
            their newest value may be. If it is older, the whole file goes to quarantine.

    Raises:
        DefinitionError: one of these is not what it should be.
    """

    def __init__(
        self,
        schema: Mapping[str, DataType] | None = None,
        rules: Mapping[str, pl.Expr] | None = None,
        *,
        required: Collection[str] = (),
        unique: Collection[str] = (),
        allowed: Mapping[str, Collection[Any]] | None = None,
        ranges: Mapping[str, tuple[Any, Any]] | None = None,
        patterns: Mapping[str, str] | None = None,
        rename: Mapping[str, str] | None = None,
        defaults: Mapping[str, Any] | None = None,
        on_extra_column: Literal["keep", "drop", "reject"] = "keep",
        on_missing_column: Literal["reject", "keep", "fill"] = "reject",
        max_rejected: float | None = None,
        rows: tuple[int | None, int | None] | None = None,
        fresh: Mapping[str, timedelta] | None = None,
    ) -> None:
        self.schema: Mapping[str, pl.DataType] = MappingProxyType(terms.schema(schema or {}))
        self.rules: Mapping[str, pl.Expr] = MappingProxyType(terms.rules(rules or {}))
        self.required = terms.columns("required", required, self.schema)
        self.unique = terms.columns("unique", unique, self.schema)
        given = {"allowed": allowed, "ranges": ranges, "patterns": patterns}
        limits = {name: terms.mapping(name, value, self.schema) for name, value in given.items()}
        self.demands = demands(self.schema, **limits)
        self.rename = MappingProxyType(terms.renames(rename or {}))
        self.defaults = MappingProxyType(terms.defaults(terms.mapping("defaults", defaults, self.schema), self.schema))
        self.on_extra_column = terms.choice("on_extra_column", on_extra_column, ("keep", "drop", "reject"))
        self.on_missing_column = terms.choice("on_missing_column", on_missing_column, ("reject", "keep", "fill"))
        self.max_rejected = terms.share(max_rejected)
        self.expectations = Expectations(
            self.max_rejected, row_range(rows), freshness(terms.mapping("fresh", fresh, self.schema), self.schema)
        )
        of_columns = self.schema, self.rename, self.defaults, self.demands
        self._takes_any_row = not any((*of_columns, self.rules, self.required, self.unique))

    def __repr__(self) -> str:
        return f"Contract({dict(self.schema)!r}, rules={list(self.rules)})"

    @property
    def wanted(self) -> Mapping[str, pl.DataType]:
        """The columns whose text the readers leave as it is, so that a cell that cannot be cast can be named."""
        if not self.rename:
            return self.schema
        old = {old: self.schema[new] for old, new in self.rename.items() if new in self.schema}
        return {**self.schema, **old}

    def fingerprint(self) -> str:
        """A digest that changes when the contract's meaning does; the same in every process and Python version."""
        content = {
            "schema": [[name, repr(kind)] for name, kind in self.schema.items()],
            "rules": sorted([name, terms.expression(rule)] for name, rule in self.rules.items()),
            "required": sorted(self.required),
            "unique": sorted(self.unique),
            "extra": self.on_extra_column,
            "missing": self.on_missing_column,
            "max_rejected": repr(self.max_rejected),
        }
        later = {
            "demands": sorted([one.column, terms.expression(one.holds)] for one in self.demands),
            "rename": sorted(self.rename.items()),
            "defaults": sorted([name, repr(value)] for name, value in self.defaults.items()),
            "rows": [bound for bound in self.expectations.rows if bound is not None] and self.expectations.rows,
            "fresh": sorted([name, age.total_seconds()] for name, age in self.expectations.fresh.items()),
        }
        # what says nothing is left out: a contract that uses none of what came later keeps its fingerprint
        return terms.digest({**content, **{name: value for name, value in later.items() if value}})

    def check(self, table: Table, scratch: Scratch | None = None) -> Checked:
        """Hold a table against this contract, lazily: both sides can be computed in one streaming pass.

        With ``scratch`` for temporary files, a table of very many rows, which must be unique, is read once right away:
        which rows are there twice is found out in bounded memory.

        Raises:
            DataError: ``MissingColumn``, ``ExtraColumn``, ``DuplicateColumns``, ``BrokenRule`` (a rule cannot be
                computed over this file), ``TooManyRepeated``.
        """
        return checking.check(self, table, scratch)

    def split(self, frame: pl.DataFrame, table: Table | None = None) -> tuple[pl.DataFrame, pl.DataFrame | None]:
        """The same for rows that are in memory: good rows, and the rejected ones or None where there are none.

        When nothing is rejected, as is usual, it costs little more than the casts. ``table`` is where the frame is
        from: its malformed records are among the rejected.

        Raises:
            DataError: as :meth:`check`.
        """
        if self._takes_any_row and (table is None or table.malformed is None):
            rows = frame.clone()
            if ROW in rows.columns:
                rows.drop_in_place(ROW)
            return rows, None
        given = table or Table(frame.lazy(), "")
        table = checking.renamed(Table(frame.lazy(), given.format, frame, given.malformed, given.decimal_comma), self)
        assert table.frame is not None
        layout = checking.lay_out(self, table, dict(table.frame.schema))
        if table.malformed is None:
            good = checking.all_good(self, table.frame, layout)
            if good is not None:
                return good, None
        checked = checking.check(self, table, None)
        good, rejected = pl.collect_all([checked.good, checked.rejected])
        return good, rejected.sort(ROW_NUMBER) if rejected.height else None

    def by_row(self, kinds: Mapping[str, pl.DataType], *, decimal_comma: bool = False) -> Rowwise | None:
        """This contract for a file with such columns, to hold against it part by part; None where it has to see all
        rows at once.

        Raises:
            DataError: as :meth:`check`.
        """
        return rowwise.rowwise(self, kinds, decimal_comma=decimal_comma)

    def judge(
        self,
        rows_read: int,
        rows_rejected: int,
        *,
        newest: Mapping[str, Any] | None = None,
        landed: datetime | None = None,
    ) -> None:
        """Judge the file as a whole.

        Args:
            rows_read: how many records it has.
            rows_rejected: how many of them were rejected.
            newest: the greatest value of each column that must be fresh, among the good rows.
            landed: when the file landed in bronze, in UTC; None: no time is looked at.

        Raises:
            DataError: ``TooManyRejected``, ``TooFewRows``, ``TooManyRows``, ``Stale``.
        """
        self.expectations.judge(Found(rows_read, rows_rejected, newest or {}, landed))
