"""A contract as it is declared, and the check of a table against it, in one streaming pass or in memory."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import polars as pl

from silversmith.contract import casting, terms
from silversmith.contract import layout as layouts
from silversmith.contract.layout import REASONS, ROW_NUMBER, TEXT, DataType, Layout
from silversmith.errors import DataError, Place
from silversmith.formats.archives.content import Scratch
from silversmith.formats.table import ROW, Table, col

#: So many columns of a broken rule are shown with their values.
_SHOWN = 4

#: Up to so many rows are compared at once. A row among them takes about 130 bytes.
AT_ONCE = 500_000

#: So many rows of one file may repeat others: their numbers are kept in memory.
MOST_REPEATED = 2_000_000

_SEEDS = (0x51, 0x1A)


@dataclass(frozen=True)
class Checked:
    """A table that was checked against a contract.

    ``good`` has the contract's types, first its columns in its order, then all others; no row numbers. ``rejected`` has
    the row's number (``row``), the columns as they were read, and ``reasons``, a list of texts. A column of the data
    that is called so, too, has ``_`` after its name there. ``newest`` is one row: what the contract's expectations must
    know of the good rows. ``table`` keeps the temporary files that all are read from.
    """

    good: pl.LazyFrame
    rejected: pl.LazyFrame
    newest: pl.LazyFrame | None
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
        self.demands = terms.demands(self.schema, **limits)
        self.rename = MappingProxyType(terms.renames(rename or {}))
        self.defaults = MappingProxyType(terms.defaults(terms.mapping("defaults", defaults, self.schema), self.schema))
        self.on_extra_column = terms.choice("on_extra_column", on_extra_column, ("keep", "drop", "reject"))
        self.on_missing_column = terms.choice("on_missing_column", on_missing_column, ("reject", "keep", "fill"))
        self.max_rejected = terms.share(max_rejected)
        ages = terms.freshness(terms.mapping("fresh", fresh, self.schema), self.schema)
        self.expectations = terms.Expectations(self.max_rejected, terms.row_range(rows), ages)
        of_columns = self.schema, self.rename, self.defaults, self.demands
        self._takes_any_row = not any((*of_columns, self.rules, self.required, self.unique))

    def __repr__(self) -> str:
        return f"Contract({dict(self.schema)!r}, rules={list(self.rules)})"

    @property
    def wanted(self) -> Mapping[str, pl.DataType]:
        """The columns that readers of text leave as text, so that a cell that cannot be cast can be shown."""
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
        """Check a table against this contract, lazily: good and rejected rows can be computed in one streaming pass.

        With ``scratch`` for temporary files, a table of very many rows that must be unique is read once right away, to
        find the rows that repeat others in bounded memory.

        Raises:
            DataError: ``MissingColumn``, ``ExtraColumn``, ``DuplicateColumns``, ``BrokenRule`` (a rule cannot be
                computed over this file), ``TooManyRepeated``.
        """
        return check(self, table, scratch)

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
        table = renamed(Table(frame.lazy(), given.format, frame, given.malformed, given.decimal_comma), self)
        assert table.frame is not None
        layout = lay_out(self, table, dict(table.frame.schema))
        if table.malformed is None:
            good = all_good(self, table.frame, layout)
            if good is not None:
                return good, None
        checked = check(self, table, None)
        good, rejected = pl.collect_all([checked.good, checked.rejected])
        return good, rejected.sort(ROW_NUMBER) if rejected.height else None

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
        self.expectations.judge(terms.FileFacts(rows_read, rows_rejected, newest or {}, landed))


@dataclass(frozen=True)
class _Keys:
    """The file for the keys of very many rows, ``height`` of them, and how many are compared at once."""

    path: Path
    height: int
    at_once: int

    @staticmethod
    def of(table: Table, scratch: Scratch | None, at_once: int) -> _Keys | None:
        height = table.height or 0
        if table.in_memory or scratch is None or height <= at_once:
            return None
        return _Keys(scratch.file(".keys.parquet"), height, at_once)


def renamed(table: Table, contract: Contract) -> Table:
    """The table with its columns under the contract's names.

    Raises:
        DataError: ``DuplicateColumns``: it has a column of the old name and one of the new.
    """
    names = table.rows.collect_schema().names() if contract.rename else []
    mapping = {old: new for old, new in contract.rename.items() if old in names}
    there_already = [old for old, new in mapping.items() if new in names]
    if there_already and table.height:
        raise layouts.renamed_onto(there_already[0], mapping[there_already[0]])
    if not mapping:
        return table
    rows, frame = table.rows.drop(there_already), table.frame
    mapping = {old: new for old, new in mapping.items() if old not in there_already}
    if frame is not None:
        frame = frame.drop(there_already).rename(mapping)
        rows = frame.lazy()
    else:
        rows = rows.rename(mapping)
    return replace(table, rows=rows, frame=frame)


def check(contract: Contract, table: Table, scratch: Scratch | None, at_once: int = AT_ONCE) -> Checked:
    """See :meth:`silversmith.Contract.check`."""
    table = renamed(table, contract)
    layout = lay_out(contract, table, dict(table.rows.collect_schema()))
    try_rules(contract, layout)
    marked = _marked(contract, table.rows, layout)
    if contract.unique:
        marked = _mark_repeated(contract, marked, layout, _Keys.of(table, scratch, at_once))
    good = marked.filter(~pl.col(layout.bad)).select(layout.output())
    rejected = marked.filter(pl.col(layout.bad)).select(_rejected(contract, layout))
    if table.malformed is not None:
        rejected = pl.concat([rejected, _malformed(table.malformed)], how="diagonal")
    newest = contract.expectations.newest()
    return Checked(good, rejected, good.select(newest) if newest else None, table)


def lay_out(contract: Contract, table: Table, dtypes: dict[str, pl.DataType]) -> Layout:
    """The table's columns beside the contract's, once it is clear that they go together.

    Raises:
        DataError: ``MissingColumn``, ``ExtraColumn``.
    """
    kinds = {name: kind for name, kind in dtypes.items() if name != ROW}
    missing = [name for name in contract.schema if name not in kinds]
    keeps = contract.on_missing_column == "keep"
    needed = [name for name in contract.required if keeps or name not in contract.defaults]
    refused = missing if contract.on_missing_column == "reject" else [name for name in missing if name in needed]
    if refused:
        raise layouts.missing(refused[0], list(kinds))
    extra = [name for name in kinds if name not in contract.schema] if contract.schema else []
    if extra and contract.on_extra_column == "reject":
        raise layouts.unknown(extra)
    return Layout(
        contract.schema,
        kinds,
        defaults=contract.defaults,
        dropped=set(extra) if contract.on_extra_column == "drop" else set(),
        absent=set(missing) if keeps else set(),
        decimal_comma=table.decimal_comma,
    )


def try_rules(contract: Contract, layout: Layout) -> None:
    """Compute the rules over no rows, which tells what they cannot be computed over.

    Raises:
        DataError: ``MissingColumn``, ``BrokenRule``.
    """
    empty = pl.DataFrame(schema={**layout.kinds, **layout.schema})
    for name, rule in contract.rules.items():
        try:
            (verdict,) = empty.select(rule.alias("rule")).get_columns()
        except pl.exceptions.PolarsError as error:
            raise layouts.broken_rule(name, rule, layout, error) from None
        if verdict.dtype != pl.Boolean:
            raise layouts.not_a_verdict(name, verdict.dtype)


def _marked(contract: Contract, rows: pl.LazyFrame, layout: Layout) -> pl.LazyFrame:
    """The rows with their casts, what they were before, and for each whether it is bad.

    Rules are computed over all rows, good or not, since they may compare a row with all others.
    """
    before = [col(name).alias(place) for name, place in layout.before.items()]
    rows = rows.with_columns(before).with_columns(layout.casts())
    rows = rows.with_columns(rule.alias(layout.rule(name)) for name, rule in contract.rules.items())
    bad = pl.any_horizontal([pl.lit(value=False), *[is_bad for is_bad, _ in _faults(contract, layout)]])
    return rows.with_columns(bad.alias(layout.bad), pl.lit(value=False).alias(layout.twice))


def _mark_repeated(contract: Contract, rows: pl.LazyFrame, layout: Layout, key_file: _Keys | None) -> pl.LazyFrame:
    """The rows, those marked, too, that repeat an earlier one. Rows that are bad anyway, or with a null, are alone."""
    keys = [col(name) for name in contract.unique if name in layout.schema]
    if not keys:
        return rows
    alone = pl.col(layout.bad) | pl.any_horizontal(key.is_null() for key in keys)
    if key_file is None:
        twice = ~pl.struct(*keys, pl.when(alone).then(pl.col(ROW)).alias(ROW)).is_first_distinct()
    else:
        again = repeated(rows.filter(~alone), keys, key_file.path, height=key_file.height, at_once=key_file.at_once)
        twice = pl.col(ROW).is_in(again.implode())
    rows = rows.with_columns(twice.alias(layout.twice))
    return rows.with_columns(pl.col(layout.bad) | pl.col(layout.twice))


def _faults(contract: Contract, layout: Layout) -> list[tuple[pl.Expr, pl.Expr]]:
    """What can be wrong with a row: whether it is, and the text that says so."""
    faults = []
    for name, place in layout.before.items():
        source, target = layout.kinds[name], layout.schema[name]
        is_bad = casting.failed(pl.col(place), col(name), source)
        faults.append((is_bad, casting.reason(name, pl.col(place), source, target)))
        if name in contract.required:
            faults.append((col(name).is_null() & ~is_bad, pl.lit(f"{name}: is required, and is null")))
    faults += [
        (col(name).is_null(), pl.lit(f"{name}: is required, and is null"))
        for name in contract.required
        if name not in layout.before
    ]
    faults += [
        (demand.broken(), demand.reason(layout.schema[demand.column]))
        for demand in contract.demands
        if demand.column in layout.schema
    ]
    faults += [
        ((~pl.col(layout.rule(name))).fill_null(value=False), _rule_reason(name, rule, layout))
        for name, rule in contract.rules.items()
    ]
    return faults


def _rule_reason(name: str, rule: pl.Expr, layout: Layout) -> pl.Expr:
    """Text that names a rule, and what broke it: ``positive: the rule is broken by distance -1``."""
    kinds = {**layout.kinds, **layout.schema}
    columns = [column for column in dict.fromkeys(rule.meta.root_names()) if column in kinds]
    if not columns or len(columns) > _SHOWN:
        return pl.lit(f"{name}: the rule is broken")
    values = [
        pl.concat_str(pl.lit(f"{column} "), casting.shown(col(column), kinds[column]).fill_null("null"))
        for column in columns
    ]
    return pl.concat_str(pl.lit(f"{name}: the rule is broken by "), pl.concat_str(values, separator=", "))


def _rejected(contract: Contract, layout: Layout) -> list[pl.Expr]:
    twice = f"{', '.join(contract.unique)}: an earlier row has the same"
    faults = [*_faults(contract, layout), (pl.col(layout.twice), pl.lit(twice))]
    reasons = [pl.when(is_bad).then(text) for is_bad, text in faults]
    return [
        pl.col(ROW).alias(ROW_NUMBER),
        *layout.originals(),
        pl.concat_list(reasons).list.drop_nulls().alias(REASONS),
    ]


def _malformed(malformed: pl.DataFrame) -> pl.LazyFrame:
    """The records that the reader could not make rows of, in the shape of rejected rows: their text in one column."""
    frame = malformed.select(
        pl.col(ROW).alias(ROW_NUMBER), pl.col("text").alias(TEXT), pl.concat_list("reason").alias(REASONS)
    )
    return frame.lazy()


def all_good(contract: Contract, frame: pl.DataFrame, layout: Layout) -> pl.DataFrame | None:
    """The cast rows, if every one is good; None if one is not, or finding out takes more than this."""
    cast: dict[str, pl.Series] = {}
    for name, cells in zip(frame.columns, frame.get_columns(), strict=True):
        target = layout.schema.get(name, cells.dtype)
        values = None if layout.decimal_comma and target.is_numeric() else casting.quickly(cells, target)
        values = _by_expression(cells, layout, target) if values is None else values
        if values is None:
            return None
        cast[name] = (_defaulted(values, layout.default(name)) if name in contract.defaults else values).alias(name)
    for name, kind in layout.filled().items():
        cast[name] = pl.Series(name, [contract.defaults.get(name)], dtype=kind).new_from_index(0, frame.height)
    if any(cast[name].null_count() for name in contract.required):
        return None
    good = pl.DataFrame({name: cast[name] for name in layout.names()})
    if contract.rules or contract.demands:
        seen = good if not layout.dropped else pl.DataFrame({name: cast[name] for name in cast if name != ROW})
        if not _obeyed(contract, seen):
            return None
    keys = [col(name) for name in contract.unique if name in layout.schema]
    if keys and good.select(pl.struct(keys).is_duplicated().any()).item():
        return None
    return good


def _defaulted(cells: pl.Series, default: pl.Expr) -> pl.Series:
    value = pl.col("value")
    filled = pl.when(casting.present(value, cells.dtype)).then(value).otherwise(default)
    return cells.alias("value").to_frame().select(filled.alias("value")).to_series()


def _by_expression(cells: pl.Series, layout: Layout, target: pl.DataType) -> pl.Series | None:
    """A column that a direct cast does not do for; None if a cell of it has no such value."""
    frame = cells.alias("before").to_frame()
    after = casting.cast(pl.col("before"), cells.dtype, target, decimal_comma=layout.decimal_comma)
    result = frame.select(
        after.alias("after"), casting.failed(pl.col("before"), after, cells.dtype).any().alias("failed")
    )
    return None if result["failed"].any() else result["after"]


def _obeyed(contract: Contract, rows: pl.DataFrame) -> bool:
    demands = [demand.holds for demand in contract.demands if demand.column in rows.columns]
    try:
        answers = rows.select_seq(
            answer.alias(f"{place}") for place, answer in enumerate([*demands, *contract.rules.values()])
        )
    except pl.exceptions.PolarsError:
        return False  # the long way says which rule, and why
    return all(answer.dtype == pl.Boolean and answer.all() for answer in answers.get_columns())


def repeated(
    rows: pl.LazyFrame, keys: Sequence[pl.Expr], path: Path, *, height: int, at_once: int = AT_ONCE
) -> pl.Series:
    """The numbers of the rows whose keys an earlier row has, too, for more rows than memory could hold the keys of.

    Of each row two digests of 64 bits and its number are written to a temporary file, 24 bytes, and compared a share at
    a time, so that one share fits in memory. For two different rows to have both digests in common a file would need
    some billions of times more rows than any has.

    Args:
        rows: those that count, with :data:`ROW`, in the order of the file.
        keys: what may not be there twice.
        path: a temporary file.
        height: about how many rows there are.
        at_once: how many of them to compare at once.

    Raises:
        DataError: ``TooManyRepeated``.
    """
    digests = [pl.struct(*keys).hash(seed).alias(f"{position}") for position, seed in enumerate(_SEEDS)]
    rows.select(pl.col(ROW), *digests).sink_parquet(path, compression="uncompressed")
    shares = max(1, -(-height // at_once))
    numbers = pl.Series(ROW, [], dtype=pl.UInt64)
    for share in range(shares):
        some = pl.scan_parquet(path, glob=False).filter(pl.col("0") % shares == share)
        again = some.filter(~pl.struct("0", "1").is_first_distinct()).select(ROW)
        numbers = pl.concat([numbers, again.collect(engine="streaming").to_series()])
        if len(numbers) > MOST_REPEATED:
            raise DataError(
                "TooManyRepeated",
                f"more than {MOST_REPEATED:,} rows have the same key as an earlier one",
                hint="the columns in `unique` may not be the ones that tell rows apart; else make the file's rows "
                "unique before it is put, or drop `unique` and do it in the transform",
                place=Place(row=int(numbers[0])),
            )
    path.unlink()
    return numbers
