"""What the rows of a file must be: columns, types, rules. Splits them into good rows and rejected ones."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from types import MappingProxyType
from typing import Literal

import polars as pl

from silversmith import casting, terms
from silversmith.errors import DataError, Place
from silversmith.formats.table import ROW, Table, col, shorten

#: The columns that a rejected row has besides its own: its number in the file, the reasons against it, and, of a record
#: that could not become a row, its text.
ROW_NUMBER = "row"
REASONS = "reasons"
TEXT = "text"

DataType = pl.DataType | type[pl.DataType]


@dataclass(frozen=True)
class Checked:
    """A table held against a contract.

    ``good`` has the contract's types, first its columns in its order, then all others; no row numbers. ``rejected`` has
    the row's number (``row``), the columns as they were read, and ``reasons``, a list of texts. A column of the data
    that is called so, too, has ``_`` after its name there. ``table`` keeps the temporary files that both are read from.
    """

    good: pl.LazyFrame
    rejected: pl.LazyFrame
    table: Table = field(repr=False)


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
        on_extra_column: what to do with a column that the schema does not name: ``keep`` it with the type that was
            read, ``drop`` it, or ``reject`` the file. An empty schema names nothing, and keeps everything.
        on_missing_column: when a column of the schema is not there: ``reject`` the file, or ``fill`` it with nulls
            (unless it is required).
        max_rejected: above this share (a float up to 1.0) or count (an int) of rejected rows, the whole file goes to
            quarantine. None: never.

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
        on_extra_column: Literal["keep", "drop", "reject"] = "keep",
        on_missing_column: Literal["reject", "fill"] = "reject",
        max_rejected: float | None = None,
    ) -> None:
        self.schema: Mapping[str, pl.DataType] = MappingProxyType(terms.schema(schema or {}))
        self.rules: Mapping[str, pl.Expr] = MappingProxyType(terms.rules(rules or {}))
        self.required = terms.columns("required", required, self.schema)
        self.unique = terms.columns("unique", unique, self.schema)
        self.on_extra_column = terms.choice("on_extra_column", on_extra_column, ("keep", "drop", "reject"))
        self.on_missing_column = terms.choice("on_missing_column", on_missing_column, ("reject", "fill"))
        self.max_rejected = terms.share(max_rejected)

    def __repr__(self) -> str:
        return f"Contract({dict(self.schema)!r}, rules={list(self.rules)})"

    @property
    def wanted(self) -> Mapping[str, pl.DataType]:
        """The columns whose text the readers leave as it is, so that a cell that cannot be cast can be named."""
        return self.schema

    def fingerprint(self) -> str:
        """A digest that changes when the contract's meaning does; the same in every process and Python version."""
        return terms.digest(
            {
                "schema": [[name, repr(kind)] for name, kind in self.schema.items()],
                "rules": sorted([name, terms.expression(rule)] for name, rule in self.rules.items()),
                "required": sorted(self.required),
                "unique": sorted(self.unique),
                "extra": self.on_extra_column,
                "missing": self.on_missing_column,
                "max_rejected": repr(self.max_rejected),
            }
        )

    def check(self, table: Table) -> Checked:
        """Hold a table against this contract, lazily: both sides can be computed in one streaming pass.

        Raises:
            DataError: ``MissingColumn``, ``ExtraColumn``, ``BrokenRule`` (a rule cannot be computed over this file).
        """
        layout = self._layout(table, dict(table.rows.collect_schema()))
        self._try_rules(layout)
        marked = self._marked(table.rows, layout)
        good = marked.filter(~pl.col(layout.bad)).select(layout.output())
        rejected = marked.filter(pl.col(layout.bad)).select(self._rejected(layout))
        if table.malformed is not None:
            rejected = pl.concat([rejected, _malformed(table.malformed)], how="diagonal")
        return Checked(good, rejected, table)

    def split(self, frame: pl.DataFrame, table: Table | None = None) -> tuple[pl.DataFrame, pl.DataFrame | None]:
        """The same for rows that are in memory: good rows, and the rejected ones or None where there are none.

        When nothing is rejected, as is usual, it costs little more than the casts. ``table`` is where the frame is
        from: its malformed records are among the rejected.

        Raises:
            DataError: as :meth:`check`.
        """
        table = table or Table(frame.lazy(), "")
        layout = self._layout(table, dict(frame.schema))
        if table.malformed is None:
            good = self._all_good(frame, layout)
            if good is not None:
                return good, None
        checked = self.check(Table(frame.lazy(), table.format, frame, table.malformed, table.decimal_comma))
        good, rejected = pl.collect_all([checked.good, checked.rejected])
        return good, rejected.sort(ROW_NUMBER) if rejected.height else None

    def judge(self, rows_read: int, rows_rejected: int) -> None:
        """Raise DataError ``TooManyRejected`` if more rows were rejected than ``max_rejected`` allows."""
        limit = self.max_rejected
        if limit is None or not rows_rejected:
            return
        allowed = limit * rows_read if isinstance(limit, float) else limit
        if rows_rejected > allowed:
            told = f"{limit:.1%} of them" if isinstance(limit, float) else f"{limit:,}"
            raise DataError(
                "TooManyRejected",
                f"{rows_rejected:,} of {rows_read:,} rows were rejected; the contract allows {told}",
                hint="mend the file, or raise max_rejected if so many bad rows are to be expected",
            )

    def _layout(self, table: Table, found: dict[str, pl.DataType]) -> _Layout:
        """The table's columns beside the contract's, once it is clear that they go together."""
        kinds = {name: kind for name, kind in found.items() if name != ROW}
        missing = [name for name in self.schema if name not in kinds]
        refused = missing if self.on_missing_column == "reject" else [name for name in missing if name in self.required]
        if refused:
            raise _missing(refused[0], list(kinds))
        extra = [name for name in kinds if name not in self.schema] if self.schema else []
        if extra and self.on_extra_column == "reject":
            raise DataError(
                "ExtraColumn",
                f'the contract does not know the column "{shorten(extra[0])}"'
                + (f" and {len(extra) - 1} more" if len(extra) > 1 else ""),
                hint="add it to the schema, or set on_extra_column to 'keep' or 'drop'",
                place=Place(column=extra[0]),
            )
        dropped = set(extra) if self.on_extra_column == "drop" else set()
        return _Layout(self.schema, kinds, dropped, decimal_comma=table.decimal_comma)

    def _try_rules(self, layout: _Layout) -> None:
        """Compute the rules over no rows, which tells what they cannot be computed over."""
        empty = pl.DataFrame(schema={**layout.kinds, **self.schema})
        for name, rule in self.rules.items():
            try:
                (made,) = empty.select(rule.alias("rule")).get_columns()
            except pl.exceptions.PolarsError as error:
                raise _broken_rule(name, rule, layout, error) from None
            if made.dtype != pl.Boolean:
                raise DataError(
                    "BrokenRule",
                    f'the rule "{name}" is {made.dtype} over this file, where it should be true or false for each row',
                    hint="compare it with something: pl.col('distance') > 0",
                )

    def _marked(self, rows: pl.LazyFrame, layout: _Layout) -> pl.LazyFrame:
        """The rows with their casts, what they were before, and for each whether it is bad.

        Rules are computed over all rows, good or not, since they may compare a row with all others.
        """
        before = [col(name).alias(place) for name, place in layout.before.items()]
        rows = rows.with_columns(before).with_columns(layout.casts())
        rows = rows.with_columns(rule.alias(layout.rule(name)) for name, rule in self.rules.items())
        bad = pl.any_horizontal([pl.lit(value=False), *[is_bad for is_bad, _ in self._faults(layout)]])
        rows = rows.with_columns(bad.alias(layout.bad), pl.lit(value=False).alias(layout.twice))
        if not self.unique:
            return rows
        keys = [col(name) for name in self.unique]
        alone = pl.col(layout.bad) | pl.any_horizontal(key.is_null() for key in keys)
        first = pl.struct(*keys, pl.when(alone).then(pl.col(ROW)).alias(ROW)).is_first_distinct()
        rows = rows.with_columns((~first).alias(layout.twice))
        return rows.with_columns(pl.col(layout.bad) | pl.col(layout.twice))

    def _faults(self, layout: _Layout) -> list[tuple[pl.Expr, pl.Expr]]:
        """What can be wrong with a row: whether it is, and the text that says so."""
        faults = []
        for name, place in layout.before.items():
            found, wanted = layout.kinds[name], self.schema[name]
            is_bad = casting.failed(pl.col(place), col(name), found)
            faults.append((is_bad, casting.reason(name, pl.col(place), found, wanted)))
            if name in self.required:
                faults.append((col(name).is_null() & ~is_bad, pl.lit(f"{name}: is required, and is null")))
        faults += [
            (col(name).is_null(), pl.lit(f"{name}: is required, and is null"))
            for name in self.required
            if name not in layout.before
        ]
        faults += [
            ((~pl.col(layout.rule(name))).fill_null(value=False), pl.lit(f"{name}: the rule is broken"))
            for name in self.rules
        ]
        return faults

    def _rejected(self, layout: _Layout) -> list[pl.Expr]:
        twice = f"{', '.join(self.unique)}: an earlier row has the same"
        faults = [*self._faults(layout), (pl.col(layout.twice), pl.lit(twice))]
        reasons = [pl.when(is_bad).then(text) for is_bad, text in faults]
        return [
            pl.col(ROW).alias(ROW_NUMBER),
            *layout.originals(),
            pl.concat_list(reasons).list.drop_nulls().alias(REASONS),
        ]

    def _all_good(self, frame: pl.DataFrame, layout: _Layout) -> pl.DataFrame | None:
        """The cast rows, if every one is good; None if one is not, or finding out takes more than this."""
        cast: dict[str, pl.Series] = {}
        for name, cells in zip(frame.columns, frame.get_columns(), strict=True):
            wanted = self.schema.get(name, cells.dtype)
            made = None if layout.decimal_comma and wanted.is_numeric() else casting.quickly(cells, wanted)
            made = self._by_expression(cells, layout, wanted) if made is None else made
            if made is None:
                return None
            cast[name] = made.alias(name)
        for name, kind in layout.filled().items():
            cast[name] = pl.Series(name, [None], dtype=kind).new_from_index(0, frame.height)
        if any(cast[name].null_count() for name in self.required):
            return None
        good = pl.DataFrame({name: cast[name] for name in layout.names()})
        if self.rules:
            seen = good if not layout.dropped else pl.DataFrame({name: cast[name] for name in cast if name != ROW})
            if not self._obeyed(seen):
                return None
        if self.unique and good.select(pl.struct(map(col, self.unique)).is_duplicated().any()).item():
            return None
        return good

    def _by_expression(self, cells: pl.Series, layout: _Layout, wanted: pl.DataType) -> pl.Series | None:
        """A column that a direct cast does not do for; None if a cell of it has no such value."""
        frame = cells.alias("before").to_frame()
        after = casting.cast(pl.col("before"), cells.dtype, wanted, decimal_comma=layout.decimal_comma)
        made = frame.select(
            after.alias("after"), casting.failed(pl.col("before"), after, cells.dtype).any().alias("failed")
        )
        return None if made["failed"].any() else made["after"]

    def _obeyed(self, rows: pl.DataFrame) -> bool:
        try:
            answers = rows.select(rule.alias(f"{place}") for place, rule in enumerate(self.rules.values()))
        except pl.exceptions.PolarsError:
            return False  # the long way says which rule, and why
        return all(answer.dtype == pl.Boolean and answer.all() for answer in answers.get_columns())


class _Layout:
    """The columns of one table beside those of a contract, and names for what the check adds to them."""

    def __init__(
        self,
        schema: Mapping[str, pl.DataType],
        kinds: Mapping[str, pl.DataType],
        dropped: Collection[str],
        *,
        decimal_comma: bool,
    ) -> None:
        self._schema = schema
        self.kinds = kinds
        self.dropped = dropped
        self.decimal_comma = decimal_comma
        self._prefix = "__"
        while any(name.startswith(self._prefix) for name in (*kinds, *schema) if name != ROW):
            self._prefix += "_"
        #: Where a cast column is kept as it was read, while its cast has its name.
        self.before = {
            name: f"{self._prefix}before {name}" for name in schema if name in kinds and kinds[name] != schema[name]
        }
        self.bad = f"{self._prefix}bad"
        self.twice = f"{self._prefix}twice"

    def rule(self, name: str) -> str:
        """Where what a rule says of a row is kept."""
        return f"{self._prefix}rule {name}"

    def filled(self) -> dict[str, pl.DataType]:
        """The contract's columns that the table does not have."""
        return {name: kind for name, kind in self._schema.items() if name not in self.kinds}

    def casts(self) -> list[pl.Expr]:
        made = [
            casting.cast(pl.col(place), self.kinds[name], self._schema[name], decimal_comma=self.decimal_comma).alias(
                name
            )
            for name, place in self.before.items()
        ]
        return [*made, *[pl.lit(None, dtype=kind).alias(name) for name, kind in self.filled().items()]]

    def names(self) -> list[str]:
        """The columns of good rows: the contract's in its order, then the table's others in theirs."""
        others = [name for name in self.kinds if name not in self._schema and name not in self.dropped]
        return [*self._schema, *others]

    def output(self) -> list[pl.Expr]:
        return [col(name) for name in self.names()]

    def originals(self) -> list[pl.Expr]:
        """The columns as they were read, in the table's order, under names that leave those of rejected rows free."""
        return [col(self.before.get(name, name)).alias(free) for name, free in self.free_names().items()]

    def free_names(self) -> dict[str, str]:
        taken = {ROW_NUMBER, REASONS, TEXT} | set(self.kinds)
        names = {}
        for name in self.kinds:
            free = name
            while free in {ROW_NUMBER, REASONS, TEXT} or (free != name and free in taken):
                free += "_"
            taken.add(free)
            names[name] = free
        return names


def _malformed(malformed: pl.DataFrame) -> pl.LazyFrame:
    """The records that the reader could not make rows of, in the shape of rejected rows: their text in one column."""
    frame = malformed.select(
        pl.col(ROW).alias(ROW_NUMBER), pl.col("text").alias(TEXT), pl.concat_list("reason").alias(REASONS)
    )
    return frame.lazy()


def _missing(name: str, found: list[str]) -> DataError:
    near = get_close_matches(name, found, n=1) or [other for other in found if other.lower() == name.lower()]
    shown = ", ".join(f'"{shorten(other)}"' for other in found[:12]) + (" …" if len(found) > 12 else "")
    return DataError(
        "MissingColumn",
        f'the column "{name}" is missing; the file has {shown or "no columns"}',
        hint=(f'did the sender rename it to "{near[0]}"? ' if near else "")
        + "mend the file, change the contract, or set on_missing_column='fill' if it may be missing",
        place=Place(column=name),
    )


def _broken_rule(name: str, rule: pl.Expr, layout: _Layout, error: Exception) -> DataError:
    unknown = [
        column for column in rule.meta.root_names() if column not in layout.kinds and column not in layout.filled()
    ]
    if unknown:
        missing = _missing(unknown[0], list(layout.kinds))
        return DataError(
            "MissingColumn",
            f'{missing.message}, and the rule "{name}" needs it',
            hint=missing.hint,
            place=missing.place,
        )
    return DataError(
        "BrokenRule",
        f'the rule "{name}" cannot be computed over this file: {str(error).strip().partition(chr(10))[0]}',
        hint="name the columns of the rule in the contract's schema, so that they have the type that it needs",
    )
