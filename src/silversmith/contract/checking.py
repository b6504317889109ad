"""Holding a table against a contract: lazily in one streaming pass, or at once for rows that are in memory."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from silversmith import casting
from silversmith.contract import distinct, problems
from silversmith.contract.layout import REASONS, ROW_NUMBER, TEXT, Layout
from silversmith.formats.archives.content import Scratch
from silversmith.formats.table import ROW, Table, col

if TYPE_CHECKING:
    from silversmith.contract.declared import Contract

#: So many columns of a broken rule are shown with their values.
_SHOWN = 4


@dataclass(frozen=True)
class Checked:
    """A table held against a contract.

    ``good`` has the contract's types, first its columns in its order, then all others; no row numbers. ``rejected`` has
    the row's number (``row``), the columns as they were read, and ``reasons``, a list of texts. A column of the data
    that is called so, too, has ``_`` after its name there. ``newest`` is one row: what the contract's expectations must
    know of the good rows. ``table`` keeps the temporary files that all are read from.
    """

    good: pl.LazyFrame
    rejected: pl.LazyFrame
    newest: pl.LazyFrame | None
    table: Table = field(repr=False)


@dataclass(frozen=True)
class _Spill:
    """Where the keys of very many rows go, ``height`` of them, and how many are compared at once."""

    path: Path
    height: int
    at_once: int

    @staticmethod
    def of(table: Table, scratch: Scratch | None, at_once: int) -> _Spill | None:
        height = table.height or 0
        if table.in_memory or scratch is None or height <= at_once:
            return None
        return _Spill(scratch.file(".keys.parquet"), height, at_once)


def renamed(table: Table, contract: Contract) -> Table:
    """The table with its columns under the contract's names.

    Raises:
        DataError: ``DuplicateColumns``: it has a column of the old name and one of the new.
    """
    names = table.rows.collect_schema().names() if contract.rename else []
    mapping = {old: new for old, new in contract.rename.items() if old in names}
    there_already = [old for old, new in mapping.items() if new in names]
    if there_already and table.height:
        raise problems.renamed_onto(there_already[0], mapping[there_already[0]])
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


def check(contract: Contract, table: Table, scratch: Scratch | None, at_once: int = distinct.AT_ONCE) -> Checked:
    """See :meth:`silversmith.Contract.check`."""
    table = renamed(table, contract)
    layout = lay_out(contract, table, dict(table.rows.collect_schema()))
    try_rules(contract, layout)
    marked = _marked(contract, table.rows, layout)
    if contract.unique:
        marked = _mark_repeated(contract, marked, layout, _Spill.of(table, scratch, at_once))
    good = marked.filter(~pl.col(layout.bad)).select(layout.output())
    rejected = marked.filter(pl.col(layout.bad)).select(_rejected(contract, layout))
    if table.malformed is not None:
        rejected = pl.concat([rejected, _malformed(table.malformed)], how="diagonal")
    newest = contract.expectations.newest()
    return Checked(good, rejected, good.select(newest) if newest else None, table)


def lay_out(contract: Contract, table: Table, found: dict[str, pl.DataType]) -> Layout:
    """The table's columns beside the contract's, once it is clear that they go together.

    Raises:
        DataError: ``MissingColumn``, ``ExtraColumn``.
    """
    kinds = {name: kind for name, kind in found.items() if name != ROW}
    missing = [name for name in contract.schema if name not in kinds]
    keeps = contract.on_missing_column == "keep"
    needed = [name for name in contract.required if keeps or name not in contract.defaults]
    refused = missing if contract.on_missing_column == "reject" else [name for name in missing if name in needed]
    if refused:
        raise problems.missing(refused[0], list(kinds))
    extra = [name for name in kinds if name not in contract.schema] if contract.schema else []
    if extra and contract.on_extra_column == "reject":
        raise problems.unknown(extra)
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
            (made,) = empty.select(rule.alias("rule")).get_columns()
        except pl.exceptions.PolarsError as error:
            raise problems.broken_rule(name, rule, layout, error) from None
        if made.dtype != pl.Boolean:
            raise problems.not_a_verdict(name, made.dtype)


def _marked(contract: Contract, rows: pl.LazyFrame, layout: Layout) -> pl.LazyFrame:
    """The rows with their casts, what they were before, and for each whether it is bad.

    Rules are computed over all rows, good or not, since they may compare a row with all others.
    """
    before = [col(name).alias(place) for name, place in layout.before.items()]
    rows = rows.with_columns(before).with_columns(layout.casts())
    rows = rows.with_columns(rule.alias(layout.rule(name)) for name, rule in contract.rules.items())
    bad = pl.any_horizontal([pl.lit(value=False), *[is_bad for is_bad, _ in _faults(contract, layout)]])
    return rows.with_columns(bad.alias(layout.bad), pl.lit(value=False).alias(layout.twice))


def _mark_repeated(contract: Contract, rows: pl.LazyFrame, layout: Layout, spill: _Spill | None) -> pl.LazyFrame:
    """The rows, those marked, too, that repeat an earlier one. Rows that are bad anyway, or with a null, are alone."""
    keys = [col(name) for name in contract.unique if name in layout.schema]
    if not keys:
        return rows
    alone = pl.col(layout.bad) | pl.any_horizontal(key.is_null() for key in keys)
    if spill is None:
        twice = ~pl.struct(*keys, pl.when(alone).then(pl.col(ROW)).alias(ROW)).is_first_distinct()
    else:
        again = distinct.repeated(rows.filter(~alone), keys, spill.path, height=spill.height, at_once=spill.at_once)
        twice = pl.col(ROW).is_in(again.implode())
    rows = rows.with_columns(twice.alias(layout.twice))
    return rows.with_columns(pl.col(layout.bad) | pl.col(layout.twice))


def _faults(contract: Contract, layout: Layout) -> list[tuple[pl.Expr, pl.Expr]]:
    """What can be wrong with a row: whether it is, and the text that says so."""
    faults = []
    for name, place in layout.before.items():
        found, wanted = layout.kinds[name], layout.schema[name]
        is_bad = casting.failed(pl.col(place), col(name), found)
        faults.append((is_bad, casting.reason(name, pl.col(place), found, wanted)))
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
        wanted = layout.schema.get(name, cells.dtype)
        made = None if layout.decimal_comma and wanted.is_numeric() else casting.quickly(cells, wanted)
        made = _by_expression(cells, layout, wanted) if made is None else made
        if made is None:
            return None
        cast[name] = (_defaulted(made, layout.default(name)) if name in contract.defaults else made).alias(name)
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
    made = pl.col("made")
    filled = pl.when(casting.present(made, cells.dtype)).then(made).otherwise(default)
    return cells.alias("made").to_frame().select(filled.alias("made")).to_series()


def _by_expression(cells: pl.Series, layout: Layout, wanted: pl.DataType) -> pl.Series | None:
    """A column that a direct cast does not do for; None if a cell of it has no such value."""
    frame = cells.alias("before").to_frame()
    after = casting.cast(pl.col("before"), cells.dtype, wanted, decimal_comma=layout.decimal_comma)
    made = frame.select(
        after.alias("after"), casting.failed(pl.col("before"), after, cells.dtype).any().alias("failed")
    )
    return None if made["failed"].any() else made["after"]


def _obeyed(contract: Contract, rows: pl.DataFrame) -> bool:
    demands = [demand.holds for demand in contract.demands if demand.column in rows.columns]
    try:
        answers = rows.select_seq(
            answer.alias(f"{place}") for place, answer in enumerate([*demands, *contract.rules.values()])
        )
    except pl.exceptions.PolarsError:
        return False  # the long way says which rule, and why
    return all(answer.dtype == pl.Boolean and answer.all() for answer in answers.get_columns())
