"""A contract as it is declared, and the check of a table against it, in one streaming pass or in memory."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import polars as pl

from silversmith.contract import casting, terms
from silversmith.contract import layout as layouts
from silversmith.contract.layout import REASONS, ROW_NUMBER, TEXT, DataType, Layout
from silversmith.contract.naming import SPELLINGS, Respelled
from silversmith.contract.notation import Notation, notations
from silversmith.errors import DataError, Place
from silversmith.formats.archives.content import Scratch
from silversmith.formats.table import ROW, Table, col, joined

#: Up to so many columns of a broken rule are shown with their values.
_MOST_SHOWN = 4

#: Follows the name of a rule in a reason.
_BROKEN = ": the rule is broken"

#: So many rules and columns are counted for one file.
_MOST_BROKEN = 50

#: So many of the commonest reasons of rejected rows are named where a file is refused for them.
_MOST_REASONS = 3

#: Up to so many rows have their keys compared at once. Each takes about 130 bytes.
AT_ONCE = 500_000

#: So many rows of one file may repeat others: their numbers are kept in memory.
MOST_REPEATED = 2_000_000

_SEEDS = (0x51, 0x1A)


@dataclass(frozen=True)
class Checked:
    """A table after its check against a contract.

    ``good`` has the contract's types, first its columns in its order, then all others; no row numbers. ``rejected`` has
    the row's number (``row``), the columns as they were read, and ``reasons``, a list of texts. A column of the data
    with such a name has ``_`` after it there. ``newest`` is one row, for the contract's expectations of freshness.
    ``numbered`` are the good rows with their numbers. ``table`` keeps the temporary files that all are read from.
    """

    good: pl.LazyFrame
    rejected: pl.LazyFrame
    newest: pl.LazyFrame | None
    numbered: pl.LazyFrame
    table: Table = field(repr=False)


class Contract:
    """The demands of a transform on the rows that it reads.

    Args:
        schema: column names and their Polars types. Casts are lenient about blanks around a cell and exact about its
            value: ``"12.5"`` is no integer. A cell that cannot be cast rejects its row. A blank cell is null.
        rules: demands on every row, a Polars expression for each name. As with SQL's CHECK, a rule is broken when it is
            false; when it is null, because a cell is, it is not: use ``required`` for that.
        drop: what is no data, taken out before the check, and counted: for each name an expression over the columns as
            they were read, under the contract's names (``pl.col("article").str.starts_with("Total")``); or a regular
            expression that the whole text of a record must match which is no row, such as a footer.
        required: the columns of the schema that may not be null.
        unique: the columns of the schema whose values, taken together, no two rows may share. Of rows that are good
            otherwise the first keeps them. As in SQL, rows with a null among them are all different.
        allowed: by column of the schema, the values that it may have besides null.
        ranges: by column of the schema, its lowest and its highest value; None: no such end.
        patterns: by column of the schema, the regular expression that the whole text must match.
            https://docs.rs/regex/latest/regex/#syntax
        formats: by date or time column of the schema, how it is written in text, or a list of such ways:
            ``"%d.%m.%Y"``, with the directives of Python's strptime. None: ISO 8601.
            https://docs.python.org/3/library/datetime.html#format-codes
        rename: names in the file, and the names of these columns from there on. A file may have either.
        defaults: by column of the schema, the value that replaces a null or blank cell, and fills a missing column.
        names: how names in the file are matched with those of ``schema`` and ``rename``: ``exact``; ``any_case``, so
            that ``Carrier`` is ``carrier``; or ``snake_case``, so that ``Item No.`` and ``ItemNo`` are ``item_no``, and
            columns that no term names are called so, too.
        on_extra_column: a column that the schema does not name: ``keep`` it with the type that was read, ``drop`` it,
            or ``reject`` the file. An empty schema names nothing, and keeps everything.
        on_missing_column: a column of the schema that the file lacks: ``reject`` the file, ``fill`` the column with its
            default or nulls, or ``keep`` the file as it is, without the column. A required column without a default
            is never missing.
        max_rejected: above this share (a float up to 1.0) or count (an int) of rejected rows, the whole file goes to
            quarantine. None: only where no good row is left of at least one, which ``1.0`` allows.
        rows: the fewest and the most good rows that a file may have; None: no such end. Another number of them: the
            whole file goes to quarantine.
        fresh: by date or time column of the schema, how much older its newest value may be than the moment when the
            file landed in bronze. If it is older, the whole file goes to quarantine.

    Raises:
        DefinitionError: a term is not valid.
    """

    def __init__(
        self,
        schema: Mapping[str, DataType] | None = None,
        rules: Mapping[str, pl.Expr] | None = None,
        *,
        drop: Mapping[str, pl.Expr | str] | None = None,
        required: Collection[str] = (),
        unique: Collection[str] = (),
        allowed: Mapping[str, Collection[Any]] | None = None,
        ranges: Mapping[str, tuple[Any, Any]] | None = None,
        patterns: Mapping[str, str] | None = None,
        formats: Mapping[str, str | Sequence[str]] | None = None,
        rename: Mapping[str, str] | None = None,
        defaults: Mapping[str, Any] | None = None,
        names: Literal["exact", "any_case", "snake_case"] = "exact",
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
        limits = {"allowed": allowed, "ranges": ranges, "patterns": patterns}
        self.demands = terms.demands(
            self.schema, **{name: terms.mapping(name, value, self.schema) for name, value in limits.items()}
        )
        self.formats: Mapping[str, Notation] = MappingProxyType(
            notations(terms.mapping("formats", formats, self.schema), self.schema)
        )
        self.rename = MappingProxyType(terms.renames(rename or {}))
        self.defaults = MappingProxyType(terms.defaults(terms.mapping("defaults", defaults, self.schema), self.schema))
        self.names = terms.choice("names", names, ("exact", *SPELLINGS))
        self._spelling = SPELLINGS.get(self.names)
        self._known = terms.spellings(self.schema, self.rename, self._spelling) if self._spelling else {}
        self.on_extra_column = terms.choice("on_extra_column", on_extra_column, ("keep", "drop", "reject"))
        self.on_missing_column = terms.choice("on_missing_column", on_missing_column, ("reject", "keep", "fill"))
        terms.columns_of_rules("rules", self.rules, self.schema, self.on_extra_column)
        dropped = terms.drops(drop or {})
        self.drop: Mapping[str, pl.Expr] = MappingProxyType(dropped[0])
        self.drop_texts: Mapping[str, str] = MappingProxyType(dropped[1])
        terms.columns_of_rules("drop", self.drop, self.schema, self.on_extra_column)
        terms.types_of_rules(self.rules, self.schema)
        self.max_rejected = terms.share(max_rejected)
        ages = terms.freshness(terms.mapping("fresh", fresh, self.schema), self.schema)
        self.expectations = terms.Expectations(self.max_rejected, terms.row_range(rows), ages)
        of_columns = self.schema, self.rename, self.defaults, self.demands
        self._takes_any_row = self.names != "snake_case" and not any(
            (*of_columns, self.rules, self.required, self.unique)
        )

    def __repr__(self) -> str:
        return f"Contract({dict(self.schema)!r}, rules={list(self.rules)})"

    @property
    def declared(self) -> dict[str, pl.DataType]:
        """The columns, under their new and old names, that readers leave as text to show cells that cannot be cast."""
        old = {old: self.schema[new] for old, new in self.rename.items() if new in self.schema}
        names = {**self.schema, **old}
        return Respelled(names, self._spelling) if self._spelling else names

    def named(self, names: Sequence[str]) -> list[str]:
        """The names of a file's columns as the contract has them."""
        if self._spelling is None:
            return [self.rename.get(name, name) for name in names]
        respelled = [(name, self._spelling(name)) for name in names]
        others = self.names == "snake_case"
        return [self._known.get(spelled, spelled if others else name) for name, spelled in respelled]

    def fingerprint(self) -> str:
        """A digest that changes when the contract's meaning does; the same in every process and Python version."""
        content = {
            "schema": [[name, repr(dtype)] for name, dtype in self.schema.items()],
            "rules": sorted([name, terms.serialized(rule)] for name, rule in self.rules.items()),
            "required": sorted(self.required),
            "unique": sorted(self.unique),
            "extra": self.on_extra_column,
            "missing": self.on_missing_column,
            "max_rejected": repr(self.max_rejected),
        }
        later = {
            "demands": sorted([demand.column, terms.serialized(demand.holds)] for demand in self.demands),
            "drop": sorted([name, terms.serialized(rule)] for name, rule in self.drop.items()),
            "drop_texts": sorted(self.drop_texts.items()),
            "formats": sorted(
                [name, [each.text for each in notation.formats]] for name, notation in self.formats.items()
            ),
            "rename": sorted(self.rename.items()),
            "defaults": sorted([name, repr(value)] for name, value in self.defaults.items()),
            "names": "" if self.names == "exact" else self.names,
            "rows": [bound for bound in self.expectations.rows if bound is not None] and self.expectations.rows,
            "fresh": sorted([name, age.total_seconds()] for name, age in self.expectations.fresh.items()),
        }
        # empty terms are left out: a contract that uses none of the later terms keeps its fingerprint
        return terms.digest({**content, **{name: value for name, value in later.items() if value}})

    def dropping(self, table: Table) -> tuple[Table, pl.LazyFrame | None]:
        """The table without what ``drop`` takes out, and a plan of how many rows that are; None: the contract has none.

        In memory the rows are counted right away, and the table's ``records`` are what is left. Of a table that streams
        they are all that were read but its malformed ones.

        Raises:
            DataError: ``BrokenRule``: an expression cannot be computed over this file.
        """
        if not self.drop and not self.drop_texts:
            return table, None
        table = without_texts(renamed(table, self), self)
        is_dropped = drops(self, dict(table.rows.collect_schema()))
        count = table.rows.select(is_dropped.sum().cast(pl.UInt64).alias("dropped"))
        if table.frame is None:
            return replace(table, rows=table.rows.filter(~is_dropped)), count
        frame = table.frame.filter(~is_dropped)
        return replace(table, rows=frame.lazy(), frame=frame, height=frame.height), count

    def rejected_rows(self, table: Table, reasons: pl.DataFrame) -> pl.LazyFrame:
        """The rows with these numbers, as those that broke the contract are written. ``reasons`` has both."""
        table = renamed(table, self)
        layout = lay_out(self, table, dict(table.rows.collect_schema()))
        rows = table.rows.join(reasons.lazy().rename({REASONS: layout.reasons}), on=ROW, how="inner")
        return rows.select(
            pl.col(ROW).alias(ROW_NUMBER), *layout.originals(cast=False), pl.col(layout.reasons).alias(REASONS)
        )

    def check(self, table: Table, scratch: Scratch | None = None) -> Checked:
        """Check a table against this contract, lazily: good and rejected rows can be computed in one streaming pass.

        With ``scratch`` for temporary files, a table of very many rows that must be unique is read once right away:
        rows that repeat others are looked for in bounded memory.

        Raises:
            DataError: ``MissingColumn``, ``ExtraColumn``, ``DuplicateColumns``, ``BrokenRule`` (a rule cannot be
                computed over this file), ``TooManyRepeated``.
        """
        return check(self, table, scratch)

    def split(self, frame: pl.DataFrame, table: Table | None = None) -> tuple[pl.DataFrame, pl.DataFrame | None]:
        """The same for rows in memory: good rows, and the rejected ones or None if there are none.

        When nothing is rejected, as is usual, it costs little more than the casts. The malformed records of ``table``,
        which the frame is of, are among the rejected.

        Raises:
            DataError: as :meth:`check`.
        """
        if self._takes_any_row and (table is None or table.malformed is None):
            rows = frame.clone()
            if ROW in rows.columns:
                rows.drop_in_place(ROW)
            return rows, None
        if table is None or table.frame is not frame:
            table = replace(table or Table(frame.lazy(), ""), rows=frame.lazy(), frame=frame)
        table = renamed(table, self)
        assert table.frame is not None
        if table.malformed is None:
            dtypes = dict(zip(table.frame.columns, table.frame.dtypes, strict=True))
            good = all_good(self, table.frame, lay_out(self, table, dtypes))
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
        rejected: pl.LazyFrame | None = None,
    ) -> None:
        """Judge the file as a whole.

        Args:
            rows_read: how many records it has.
            rows_rejected: how many of them were rejected.
            newest: the greatest value of each column that must be fresh, among the good rows.
            landed: when the file landed in bronze, in UTC; None: freshness is not judged.
            rejected: the rejected rows, for the error to name the commonest reasons; None: it names none.

        Raises:
            DataError: ``AllRowsRejected``, ``TooManyRejected``, ``TooFewRows``, ``TooManyRows``, ``Stale``.
        """
        reasons = partial(_commonest_reasons, rejected)
        self.expectations.judge(rows_read, rows_rejected, newest or {}, landed, reasons)


def _commonest_reasons(rejected: pl.LazyFrame | None) -> Mapping[str, int]:
    """For the columns and rules that most rows were rejected for: a reason as an example, and the number of rows."""
    if rejected is None:
        return {}
    reason = col(REASONS)
    name = reason.str.replace(r"^line \d+: ", "line: ").str.split(": ").list.first().alias("name")
    by_name = rejected.select(reason.explode()).group_by(name)
    counted = by_name.agg(reason.min(), pl.len().alias("rows")).sort("rows", "name", descending=[True, False])
    most = counted.head(_MOST_REASONS).collect(engine="streaming")
    return dict(most.select(REASONS, "rows").iter_rows())


def broken(contract: Contract, rejected: pl.LazyFrame) -> dict[str, int]:
    """How many of the rejected rows broke each rule, by its name, and each column (``column total``); ``line``: how
    many lines could not be read; a reason of the transform's own stands for itself. The commonest first, at most
    :data:`_MOST_BROKEN`."""
    reason = col(REASONS)
    head = reason.str.replace(r"^line \d+: .*", "line").str.split(": ").list.first()
    label = pl.when((head == "line") | (head == reason)).then(head).otherwise(pl.lit("column ") + head)
    for name in contract.rules:
        label = pl.when(reason.str.starts_with(f"{name}{_BROKEN}")).then(pl.lit(name)).otherwise(label)
    by_label = rejected.select(REASONS).with_row_index("at").explode(REASONS).group_by(label.alias("label"))
    counted = by_label.agg(col("at").n_unique().alias("rows")).sort("rows", "label", descending=[True, False])
    return dict(counted.drop_nulls().head(_MOST_BROKEN).collect(engine="streaming").iter_rows())


def drops(contract: Contract, dtypes: Mapping[str, pl.DataType]) -> pl.Expr:
    """Whether the contract drops a row. A column that the file lacks drops none.

    Raises:
        DataError: ``BrokenRule``.
    """
    empty = pl.DataFrame(schema=dtypes)
    answers = [pl.lit(value=False)]
    for name, rule in contract.drop.items():
        if not set(rule.meta.root_names()) <= set(dtypes):
            continue
        try:
            (answer,) = empty.select(rule.alias("rule")).get_columns()
        except pl.exceptions.PolarsError as error:
            raise layouts.broken_drop(name, str(error)) from None
        if answer.dtype != pl.Boolean:
            raise layouts.broken_drop(name, f"it is {answer.dtype}")
        answers.append(rule.fill_null(value=False))
    return pl.any_horizontal(answers)


def without_texts(table: Table, contract: Contract) -> Table:
    """The table without the malformed records whose text the contract drops."""
    if table.malformed is None or not contract.drop_texts:
        return table
    text = pl.col("text").str.strip_chars()
    is_dropped = pl.any_horizontal(text.str.contains(f"^(?:{each})$") for each in contract.drop_texts.values())
    malformed = table.malformed.filter(~is_dropped)
    return replace(table, malformed=malformed if malformed.height else None)


def renamed(table: Table, contract: Contract) -> Table:
    """The table with its columns under the contract's names.

    Raises:
        DataError: ``DuplicateColumns``: it has a column of the old name and one of the new.
    """
    if not contract.rename and contract.names == "exact":
        return table
    names = [name for name in table.rows.collect_schema().names() if name != ROW]
    mapping = {old: new for old, new in zip(names, contract.named(names), strict=True) if new != old}
    first: dict[str, str] = {name: name for name in names if name not in mapping}
    clashing = [old for old, new in mapping.items() if first.setdefault(new, old) != old]
    if clashing and table.height:
        new = mapping[clashing[0]]
        raise layouts.renamed_onto(clashing[0], new, first[new])
    if not mapping:
        return table
    mapping = {old: new for old, new in mapping.items() if old not in clashing}
    if table.frame is None:
        return replace(table, rows=table.rows.drop(clashing).rename(mapping))
    frame = table.frame.drop(clashing).rename(mapping)
    return replace(table, rows=frame.lazy(), frame=frame)


def check(contract: Contract, table: Table, scratch: Scratch | None, at_once: int = AT_ONCE) -> Checked:
    """See :meth:`silversmith.Contract.check`."""
    table = renamed(table, contract)
    layout = lay_out(contract, table, dict(table.rows.collect_schema()))
    try_rules(contract, layout)
    marked = _marked(contract, table.rows, layout)
    height = table.height or 0
    path = scratch.file(".keys.parquet") if scratch and not table.in_memory and height > at_once else None
    marked = _mark_repeated(contract, marked, layout, path, height=height, at_once=at_once)
    numbered = marked.filter(~pl.col(layout.bad)).select(pl.col(ROW), *map(col, layout.names()))
    good = numbered.drop(ROW)
    rejected = marked.filter(pl.col(layout.bad)).select(_rejected(contract, layout))
    if table.malformed is not None:
        text = pl.col(ROW).alias(ROW_NUMBER), pl.col("text").alias(TEXT), pl.concat_list("reason").alias(REASONS)
        rejected = pl.concat([rejected, table.malformed.lazy().select(text)], how="diagonal")
    newest = contract.expectations.newest()
    return Checked(good, rejected, good.select(newest) if newest else None, numbered, table)


def lay_out(contract: Contract, table: Table, dtypes: dict[str, pl.DataType]) -> Layout:
    """The table's columns beside the contract's.

    Raises:
        DataError: ``MissingColumn``, ``ExtraColumn``.
    """
    dtypes = {name: dtype for name, dtype in dtypes.items() if name != ROW}
    missing = [name for name in contract.schema if name not in dtypes]
    keeps = contract.on_missing_column == "keep"
    needed = [name for name in contract.required if keeps or name not in contract.defaults]
    refused = missing if contract.on_missing_column == "reject" else [name for name in missing if name in needed]
    if refused:
        raise layouts.missing(refused[0], list(dtypes))
    extra = [name for name in dtypes if name not in contract.schema] if contract.schema else []
    if extra and contract.on_extra_column == "reject":
        raise layouts.unknown(extra)
    return Layout(
        contract.schema,
        dtypes,
        defaults=contract.defaults,
        dropped=set(extra) if contract.on_extra_column == "drop" else set(),
        absent=set(missing) if keeps else set(),
        decimal_comma=table.decimal_comma,
        notations=contract.formats,
    )


def try_rules(contract: Contract, layout: Layout) -> None:
    """Compute the rules over no rows, to learn whether they can be computed over such columns.

    Raises:
        DataError: ``MissingColumn``, ``BrokenRule``.
    """
    empty = pl.DataFrame(schema={**layout.dtypes, **layout.schema})
    for name, rule in contract.rules.items():
        try:
            (answer,) = empty.select(rule.alias("rule")).get_columns()
        except pl.exceptions.PolarsError as error:
            raise layouts.broken_rule(name, rule, layout, error) from None
        if answer.dtype != pl.Boolean:
            raise layouts.not_boolean(name, answer.dtype)


def _marked(contract: Contract, rows: pl.LazyFrame, layout: Layout) -> pl.LazyFrame:
    """The rows cast, beside the cells before the cast, and whether each row is bad.

    Rules are computed over all rows, good or not, since they may compare a row with all others.
    """
    rows = rows.with_columns(col(name).alias(before) for name, before in layout.before.items())
    rows = rows.with_columns(layout.casts())
    rows = rows.with_columns(rule.alias(layout.rule(name)) for name, rule in contract.rules.items())
    bad = pl.any_horizontal([pl.lit(value=False), *[is_bad for is_bad, _ in _faults(contract, layout)]])
    return rows.with_columns(bad.alias(layout.bad), pl.lit(value=False).alias(layout.twice))


def _mark_repeated(
    contract: Contract, rows: pl.LazyFrame, layout: Layout, path: Path | None, *, height: int, at_once: int
) -> pl.LazyFrame:
    """The rows, and marked those that repeat an earlier one. Bad rows, and those with a null, repeat none.

    ``path`` is the file for the keys of very many rows, about ``height`` of them; None: they are compared in memory.
    """
    keys = [col(name) for name in contract.unique if name in layout.schema]
    if not keys:
        return rows
    alone = pl.col(layout.bad) | pl.any_horizontal(key.is_null() for key in keys)
    if path is None:
        twice = ~pl.struct(*keys, pl.when(alone).then(pl.col(ROW)).alias(ROW)).is_first_distinct()
    else:
        numbers = repeated(rows.filter(~alone), keys, path, height=height, at_once=at_once)
        twice = pl.col(ROW).is_in(numbers.implode())
    rows = rows.with_columns(twice.alias(layout.twice))
    return rows.with_columns(pl.col(layout.bad) | pl.col(layout.twice))


def _faults(contract: Contract, layout: Layout) -> list[tuple[pl.Expr, pl.Expr]]:
    """The possible faults of a row: whether it has each, and the reason."""
    faults = []
    for name, before in layout.before.items():
        source, target = layout.dtypes[name], layout.schema[name]
        is_bad = casting.failed(pl.col(before), col(name), source)
        faults.append((is_bad, casting.reason(name, pl.col(before), source, target, contract.formats.get(name))))
        if name in contract.required:
            faults.append((col(name).is_null() & ~is_bad, _required_reason(name)))
    uncast = [name for name in contract.required if name not in layout.before]
    faults += [(col(name).is_null(), _required_reason(name)) for name in uncast]
    demands = [demand for demand in contract.demands if demand.column in layout.schema]
    faults += [(demand.broken(), demand.reason(layout.schema[demand.column])) for demand in demands]
    faults += [
        ((~pl.col(layout.rule(name))).fill_null(value=False), _rule_reason(name, rule, layout))
        for name, rule in contract.rules.items()
    ]
    return faults


def _required_reason(name: str) -> pl.Expr:
    return pl.lit(f"{name}: is required, and is null")


def _rule_reason(name: str, rule: pl.Expr, layout: Layout) -> pl.Expr:
    """Text that names a rule, and the values that break it: ``positive: the rule is broken by distance -1``."""
    dtypes = {**layout.dtypes, **layout.schema}
    columns = [column for column in dict.fromkeys(rule.meta.root_names()) if column in dtypes]
    if not columns or len(columns) > _MOST_SHOWN:
        return pl.lit(f"{name}{_BROKEN}")
    values = [
        pl.concat_str(pl.lit(f"{column} "), casting.shown(col(column), dtypes[column]).fill_null("null"))
        for column in columns
    ]
    return pl.concat_str(pl.lit(f"{name}{_BROKEN} by "), pl.concat_str(values, separator=", "))


def _rejected(contract: Contract, layout: Layout) -> list[pl.Expr]:
    twice = f"{', '.join(contract.unique)}: an earlier row has the same"
    faults = [*_faults(contract, layout), (pl.col(layout.twice), pl.lit(twice))]
    reasons = [pl.when(is_bad).then(text) for is_bad, text in faults]
    return [
        pl.col(ROW).alias(ROW_NUMBER),
        *layout.originals(),
        pl.concat_list(reasons).list.drop_nulls().alias(REASONS),
    ]


def all_good(contract: Contract, frame: pl.DataFrame, layout: Layout) -> pl.DataFrame | None:
    """The cast rows, if every row is good; None if one is bad, or if only :func:`check` can know."""
    cast: dict[str, pl.Series] = {}
    for name, cells in zip(frame.columns, frame.get_columns(), strict=True):
        target = layout.schema.get(name, cells.dtype)
        is_plain = name not in contract.formats and not (layout.decimal_comma and target.is_numeric())
        values = casting.quickly(cells, target) if is_plain else None
        values = _by_expression(name, cells, layout) if values is None else values
        if values is None:
            return None
        cast[name] = _defaulted(values, layout.default(name)) if name in contract.defaults else values
    for name, dtype in layout.filled().items():
        cast[name] = pl.Series(name, [contract.defaults.get(name)], dtype=dtype).new_from_index(0, frame.height)
    if any(cast[name].null_count() for name in contract.required):
        return None
    names = layout.names()
    good = joined(cast[name] for name in names) if names else pl.DataFrame()
    if contract.rules or contract.demands:
        everything = good if not layout.dropped else joined(cast[name] for name in cast if name != ROW)
        if not _all_obey(contract, everything):
            return None
    keys = [col(name) for name in contract.unique if name in layout.schema]
    if keys and good.select(pl.struct(keys).is_duplicated().any()).item():
        return None
    return good


def _defaulted(cells: pl.Series, default: pl.Expr) -> pl.Series:
    value = pl.col("value")
    filled = pl.when(casting.present(value, cells.dtype)).then(value).otherwise(default)
    return cells.alias("value").to_frame().select(filled.alias(cells.name)).to_series()


def _by_expression(name: str, cells: pl.Series, layout: Layout) -> pl.Series | None:
    """A column cast by an expression; None if a cell cannot be cast."""
    frame = cells.alias("before").to_frame()
    after = layout.cast(name, pl.col("before"), cells.dtype)
    result = frame.select(
        after.alias("after"), casting.failed(pl.col("before"), after, cells.dtype).any().alias("failed")
    )
    return None if result["failed"].any() else result["after"].alias(name)


def _all_obey(contract: Contract, rows: pl.DataFrame) -> bool:
    demands = [demand.holds for demand in contract.demands if demand.column in rows.columns]
    try:
        answers = rows.select_seq(
            answer.alias(f"{number}") for number, answer in enumerate([*demands, *contract.rules.values()])
        )
    except pl.exceptions.PolarsError:
        return False  # check() names the rule and the reason
    return all(answer.dtype == pl.Boolean and answer.all() for answer in answers.get_columns())


def repeated(
    rows: pl.LazyFrame, keys: Sequence[pl.Expr], path: Path, *, height: int, at_once: int = AT_ONCE
) -> pl.Series:
    """The numbers of the rows whose keys an earlier row has, too, for too many rows to compare their keys in memory.

    Two digests of 64 bits and the number of each row go to a temporary file, 24 bytes, and are compared a share at a
    time, so that one share fits in memory. For two different rows to have both digests in common a file would need
    some billions of times more rows than any has.

    Args:
        rows: with :data:`ROW`, in the order of the file.
        keys: the columns that must be unique together.
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
        later = some.filter(~pl.struct("0", "1").is_first_distinct()).select(ROW)
        numbers = pl.concat([numbers, later.collect(engine="streaming").to_series()])
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
