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
from silversmith.contract import rejected as refusals
from silversmith.contract.casting import Notation, notations
from silversmith.contract.rejected import AT_ONCE, BROKEN, LINE, REASONS, ROW_NUMBER, TEXT, commonest_reasons, repeated
from silversmith.contract.terms import SPELLINGS, Respelled
from silversmith.formats.archives.content import Scratch
from silversmith.formats.table import ROW, Table, col, joined

#: Up to so many columns of a broken rule are shown with their values.
_MOST_SHOWN = 4

DataType = pl.DataType | type[pl.DataType]


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
            ``"%d.%m.%Y"``, with the directives of Python's strptime. None: ISO 8601. By column of numbers, how the file
            would write 1234.56: ``"1.234,56"``. https://docs.python.org/3/library/datetime.html#format-codes
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
        layout = Layout(self, table.rows.collect_schema(), decimal_comma=table.decimal_comma)
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
            good = Layout(self, dtypes, decimal_comma=table.decimal_comma).all_good(table.frame)
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
        reasons = partial(commonest_reasons, rejected)
        self.expectations.judge(rows_read, rows_rejected, newest or {}, landed, reasons)


def drops(contract: Contract, dtypes: Mapping[str, pl.DataType]) -> pl.Expr:
    """Whether the contract drops a row. A column that the file lacks drops none.

    Raises:
        DataError: ``BrokenRule``.
    """
    answers = [pl.lit(value=False)]
    for name, rule in contract.drop.items():
        if not set(rule.meta.root_names()) <= set(dtypes):
            continue
        try:
            dtype = terms.dtype_of_answers(rule, dtypes)
        except pl.exceptions.PolarsError as error:
            raise refusals.broken_drop(name, str(error)) from None
        if dtype != pl.Boolean:
            raise refusals.broken_drop(name, f"it is {dtype}")
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
        raise refusals.renamed_onto(clashing[0], new, first[new])
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
    layout = Layout(contract, table.rows.collect_schema(), decimal_comma=table.decimal_comma)
    layout.try_rules()
    height = table.height or 0
    path = scratch.file(".keys.parquet") if scratch and not table.in_memory and height > at_once else None
    marked = layout.with_repeated(layout.marked(table.rows), path, height=height, at_once=at_once)
    numbered = marked.filter(~pl.col(layout.bad)).select(pl.col(ROW), *map(col, layout.names()))
    good = numbered.drop(ROW)
    rejected = marked.filter(pl.col(layout.bad)).select(layout.rejected())
    if table.malformed is not None:
        text = pl.col(ROW).alias(ROW_NUMBER), pl.col("text").alias(TEXT), pl.concat_list("reason").alias(REASONS)
        rejected = pl.concat([rejected, table.malformed.lazy().select(text)], how="diagonal")
    newest = contract.expectations.newest()
    return Checked(good, rejected, good.select(newest) if newest else None, numbered, table)


class Layout:
    """The way from the columns of one table to those of a contract, and the columns that a check adds.

    Args:
        contract: the contract.
        dtypes: the table's columns.
        decimal_comma: ``1,5`` in text means one and a half.

    Raises:
        DataError: ``MissingColumn``, ``ExtraColumn``.
    """

    def __init__(self, contract: Contract, dtypes: Mapping[str, pl.DataType], *, decimal_comma: bool) -> None:
        self.contract = contract
        self.dtypes = {name: dtype for name, dtype in dtypes.items() if name != ROW}
        self._decimal_comma = decimal_comma
        missing = [name for name in contract.schema if name not in dtypes]
        keeps = contract.on_missing_column == "keep"
        needed = [name for name in contract.required if keeps or name not in contract.defaults]
        refused = missing if contract.on_missing_column == "reject" else [name for name in missing if name in needed]
        if refused:
            raise refusals.missing(refused[0], list(self.dtypes))
        extra = [name for name in self.dtypes if name not in contract.schema] if contract.schema else []
        if extra and contract.on_extra_column == "reject":
            raise refusals.unknown(extra)
        #: The contract's columns that good rows have, and the table's that they have not.
        self.schema = {name: dtype for name, dtype in contract.schema.items() if not (keeps and name in missing)}
        self._dropped = set(extra) if contract.on_extra_column == "drop" else set()
        prefix = "__"
        while any(name.startswith(prefix) for name in (*self.dtypes, *contract.schema)):
            prefix += "_"
        #: By column that is cast, or has a default, the name of the column with its cells as they were read.
        self._before = {
            name: f"{prefix}before {name}"
            for name, dtype in self.schema.items()
            if name in dtypes and (dtypes[name] != dtype or name in contract.defaults)
        }
        self._rules = {name: f"{prefix}rule {name}" for name in contract.rules}
        self._filled = {name: dtype for name, dtype in self.schema.items() if name not in dtypes}
        self.bad, self._twice, self.reasons = f"{prefix}bad", f"{prefix}twice", f"{prefix}reasons"

    def names(self) -> list[str]:
        """The columns of good rows: the contract's in its order, then the table's others in theirs."""
        others = [name for name in self.dtypes if name not in self.schema and name not in self._dropped]
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
            columns.append(col(self._before.get(name, name) if cast else name).alias(free))
        return columns

    def try_rules(self) -> None:
        """Compute the rules over no rows, to learn whether they can be computed over such columns.

        Raises:
            DataError: ``MissingColumn``, ``BrokenRule``.
        """
        known = {**self.dtypes, **self.schema}
        for name, rule in self.contract.rules.items():
            try:
                dtype = terms.dtype_of_answers(rule, known)
            except pl.exceptions.PolarsError as error:
                raise refusals.broken_rule(name, rule.meta.root_names(), known, list(self.dtypes), error) from None
            if dtype != pl.Boolean:
                raise refusals.not_boolean(name, dtype)

    def marked(self, rows: pl.LazyFrame) -> pl.LazyFrame:
        """The rows cast, beside the cells before the cast, and whether each row is bad.

        Rules are computed over all rows, good or not, since they may compare a row with all others.
        """
        rows = rows.with_columns(col(name).alias(before) for name, before in self._before.items())
        rows = rows.with_columns(
            *[self._cast(name, pl.col(before), self.dtypes[name]).alias(name) for name, before in self._before.items()],
            *[self._default(name).alias(name) for name in self._filled],
        )
        rows = rows.with_columns(self.contract.rules[name].alias(answer) for name, answer in self._rules.items())
        bad = pl.any_horizontal([pl.lit(value=False), *[is_bad for is_bad, _ in self._faults()]])
        return rows.with_columns(bad.alias(self.bad), pl.lit(value=False).alias(self._twice))

    def with_repeated(self, rows: pl.LazyFrame, path: Path | None, *, height: int, at_once: int) -> pl.LazyFrame:
        """The rows, and marked those that repeat an earlier one. Bad rows, and those with a null, repeat none.

        ``path`` is the file for the keys of very many rows, about ``height`` of them; None: they are compared in
        memory.
        """
        keys = self._keys()
        if not keys:
            return rows
        alone = pl.col(self.bad) | pl.any_horizontal(key.is_null() for key in keys)
        if path is None:
            twice = ~pl.struct(*keys, pl.when(alone).then(pl.col(ROW)).alias(ROW)).is_first_distinct()
        else:
            numbers = repeated(rows.filter(~alone), keys, path, height=height, at_once=at_once)
            twice = pl.col(ROW).is_in(numbers.implode())
        rows = rows.with_columns(twice.alias(self._twice))
        return rows.with_columns(pl.col(self.bad) | pl.col(self._twice))

    def rejected(self) -> list[pl.Expr]:
        """The columns of rejected rows."""
        twice = f"{', '.join(self.contract.unique)}: an earlier row has the same"
        reasons = [
            pl.when(is_bad).then(text) for is_bad, text in [*self._faults(), (pl.col(self._twice), pl.lit(twice))]
        ]
        return [
            pl.col(ROW).alias(ROW_NUMBER),
            *self.originals(),
            pl.concat_list(reasons).list.drop_nulls().alias(REASONS),
        ]

    def all_good(self, frame: pl.DataFrame) -> pl.DataFrame | None:
        """The cast rows, if every row is good; None if one is bad, or if only :func:`check` can know."""
        contract = self.contract
        columns: dict[str, pl.Series] = {}
        for name, cells in zip(frame.columns, frame.get_columns(), strict=True):
            values = self._quickly(name, cells)
            values = self._by_expression(name, cells) if values is None else values
            if values is None:
                return None
            columns[name] = values
        for name, dtype in self._filled.items():
            columns[name] = pl.Series(name, [contract.defaults.get(name)], dtype=dtype).new_from_index(0, frame.height)
        if any(columns[name].null_count() for name in contract.required):
            return None
        names = self.names()
        good = joined(columns[name] for name in names) if names else pl.DataFrame()
        if contract.rules or contract.demands:
            everything = good if not self._dropped else joined(columns[name] for name in columns if name != ROW)
            if not _all_obey(contract, everything):
                return None
        keys = self._keys()
        if keys and good.select(pl.struct(keys).is_duplicated().any()).item():
            return None
        return good

    def _keys(self) -> list[pl.Expr]:
        return [col(name) for name in self.contract.unique if name in self.schema]

    def _default(self, name: str) -> pl.Expr:
        """The value that replaces a null in a column: null, if the contract has no other."""
        return pl.lit(self.contract.defaults.get(name), dtype=self.schema[name])

    def _cast(self, name: str, cells: pl.Expr, source: pl.DataType) -> pl.Expr:
        """Cells of a column in the contract's type; unchanged where it names none."""
        notation, target = self.contract.formats.get(name), self.schema.get(name, source)
        value = casting.cast(cells, source, target, decimal_comma=self._decimal_comma, notation=notation)
        if name not in self.contract.defaults:
            return value
        return pl.when(casting.present(cells, source)).then(value).otherwise(self._default(name))

    def _quickly(self, name: str, cells: pl.Series) -> pl.Series | None:
        """A column cast without an expression; None if it takes one."""
        target = self.schema.get(name, cells.dtype)
        if name in self.contract.formats or name in self.contract.defaults:
            return None
        return None if self._decimal_comma and target.is_numeric() else casting.quickly(cells, target)

    def _by_expression(self, name: str, cells: pl.Series) -> pl.Series | None:
        """A column cast by an expression; None if a cell cannot be cast."""
        frame = cells.alias("before").to_frame()
        after = self._cast(name, pl.col("before"), cells.dtype)
        is_failed = casting.failed(pl.col("before"), after, cells.dtype).any()
        result = frame.select(after.alias("after"), is_failed.alias("failed"))
        return None if result["failed"].any() else result["after"].alias(name)

    def _faults(self) -> list[tuple[pl.Expr, pl.Expr]]:
        """The possible faults of a row: whether it has each, and the reason."""
        contract = self.contract
        possible = []
        for name, before in self._before.items():
            source, target = self.dtypes[name], self.schema[name]
            is_bad = casting.failed(pl.col(before), col(name), source)
            possible.append((is_bad, casting.reason(name, pl.col(before), source, target, contract.formats.get(name))))
            if name in contract.required:
                possible.append((col(name).is_null() & ~is_bad, _required_reason(name)))
        uncast = [name for name in contract.required if name not in self._before]
        possible += [(col(name).is_null(), _required_reason(name)) for name in uncast]
        demands = [demand for demand in contract.demands if demand.column in self.schema]
        possible += [(demand.broken(), demand.reason(self.schema[demand.column])) for demand in demands]
        possible += [
            ((~pl.col(answer)).fill_null(value=False), self._rule_reason(name)) for name, answer in self._rules.items()
        ]
        return possible

    def _rule_reason(self, name: str) -> pl.Expr:
        """Text that names a rule, and the values that break it: ``positive: the rule is broken by distance -1``."""
        dtypes = {**self.dtypes, **self.schema}
        names = self.contract.rules[name].meta.root_names()
        columns = [column for column in dict.fromkeys(names) if column in dtypes]
        if not columns or len(columns) > _MOST_SHOWN:
            return pl.lit(f"{name}{BROKEN}")
        values = [
            pl.concat_str(pl.lit(f"{column} "), casting.shown(col(column), dtypes[column]).fill_null("null"))
            for column in columns
        ]
        return pl.concat_str(pl.lit(f"{name}{BROKEN} by "), pl.concat_str(values, separator=", "))


def _required_reason(name: str) -> pl.Expr:
    return pl.lit(f"{name}: is required, and is null")


def _all_obey(contract: Contract, rows: pl.DataFrame) -> bool:
    demands = [demand.holds for demand in contract.demands if demand.column in rows.columns]
    try:
        answers = rows.select_seq(
            answer.alias(f"{number}") for number, answer in enumerate([*demands, *contract.rules.values()])
        )
    except pl.exceptions.PolarsError:
        return False  # check() names the rule and the reason
    return all(answer.dtype == pl.Boolean and answer.all() for answer in answers.get_columns())
