"""What the rows of a file must be: columns, types, rules. Splits them into good rows and rejected ones."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from typing import Any, Literal

import polars as pl

from silversmith.casting import cast, reason_for
from silversmith.errors import DataError, DefinitionError, Place
from silversmith.formats.table import ROW, Table

#: The column of a rejected row's number, and that of its reasons, in the quarantined Parquet file.
ROW_NUMBER = "row"
REASONS = "reasons"

DataType = pl.DataType | type[pl.DataType]


@dataclass(frozen=True)
class Checked:
    """A table held against a contract: what is good, what is not.

    ``good`` has the contract's types and no row numbers. ``rejected`` has the row's number (``row``), the columns as
    they were read, and ``reasons``, a list of texts.
    """

    good: pl.LazyFrame
    rejected: pl.LazyFrame


class Contract:
    """What a transform demands of the rows it gets.

    Args:
        schema: column names and their Polars types. Cells are cast leniently about blanks around them and exactly
            about their value: ``"12.5"`` is no integer. A cell that cannot be cast rejects its row.
        rules: what every row must satisfy, a Polars expression for each name. As with SQL's CHECK, a rule is broken when
            it is false; when it is null, because a cell is, it is not: that is what ``required`` is for.
        required: the columns that may not be null.
        unique: the columns whose values, taken together, no two rows may share; the first row keeps them.
        on_extra_column: what to do with a column that the schema does not name: ``keep`` it with the type that was
            read, ``drop`` it, or ``reject`` the file. An empty schema names nothing, and keeps everything.
        on_missing_column: when a column of the schema is not there: ``reject`` the file, or ``fill`` it with nulls.
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
        self.schema: Mapping[str, pl.DataType] = _schema(schema or {})
        self.rules: Mapping[str, pl.Expr] = _rules(rules or {})
        self.required = _names("required", required)
        self.unique = _names("unique", unique)
        self.on_extra_column = _one_of("on_extra_column", on_extra_column, ("keep", "drop", "reject"))
        self.on_missing_column = _one_of("on_missing_column", on_missing_column, ("reject", "fill"))
        self.max_rejected = _share(max_rejected)

    def __repr__(self) -> str:
        return f"Contract({dict(self.schema)!r}, rules={list(self.rules)})"

    @property
    def wanted(self) -> Mapping[str, pl.DataType]:
        """The columns whose text the readers leave as it is, so that a cell that cannot be cast can be named."""
        return self.schema

    def fingerprint(self) -> str:
        """A digest that changes when the contract's meaning does; the same in every process and Python version."""
        content = {
            "schema": {name: str(kind) for name, kind in self.schema.items()},
            "rules": {name: _expression(rule) for name, rule in self.rules.items()},
            "required": sorted(self.required),
            "unique": sorted(self.unique),
            "extra": self.on_extra_column,
            "missing": self.on_missing_column,
            "max_rejected": self.max_rejected,
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    @cached_property
    def _is_empty(self) -> bool:
        return not (self.schema or self.rules or self.required or self.unique)

    def check(self, table: Table) -> Checked:
        """Hold a table against this contract, lazily: both sides can be computed in one streaming pass.

        Raises:
            DataError: ``MissingColumn``, ``ExtraColumn``, ``BrokenRule`` (a rule names a column that is not there).
        """
        found = table.rows.collect_schema()
        names = [name for name in found if name != ROW]
        self._check_columns(names)
        if self._is_empty:
            return Checked(table.rows.drop(ROW), _malformed(table, names))
        marked = self._marked(table, dict(found), names)
        ok = pl.col(REASONS_MARK).list.len() == 0
        good = marked.filter(ok).select(self._output(names))
        rejected = marked.filter(~ok).select(
            pl.col(ROW).alias(ROW_NUMBER),
            *[pl.col(_raw(name)).alias(_free(name)) for name in names],
            pl.col(REASONS_MARK).alias(REASONS),
        )
        return Checked(good, pl.concat([rejected, _malformed(table, names)], how="diagonal_relaxed"))

    def split(self, frame: pl.DataFrame, table: Table) -> tuple[pl.DataFrame, pl.DataFrame | None]:
        """The same for rows that are in memory: good rows, and the rejected ones or None where there are none.

        When nothing is rejected, as is usual, it costs little more than the casts.

        Raises:
            DataError: as :meth:`check`.
        """
        names = [name for name in frame.columns if name != ROW]
        self._check_columns(names)
        if self._is_empty and table.malformed is None:
            return frame.drop(ROW), None
        if table.malformed is None and (good := self._all_good(frame, table, names)) is not None:
            return good, None
        checked = self.check(table)
        good, rejected = pl.collect_all([checked.good, checked.rejected])
        return good, rejected if rejected.height else None

    def judge(self, rows_read: int, rows_rejected: int) -> None:
        """Raise DataError ``TooManyRejected`` if more rows were rejected than ``max_rejected`` allows."""
        limit = self.max_rejected
        if limit is None or not rows_rejected:
            return
        allowed = limit * rows_read if isinstance(limit, float) else limit
        if rows_rejected > allowed:
            raise DataError(
                "TooManyRejected",
                f"{rows_rejected} of {rows_read} rows were rejected; the contract allows {limit}"
                + (" of them (a share)" if isinstance(limit, float) else ""),
                hint="Mend the file, or raise max_rejected if so many bad rows are to be expected.",
            )

    def _all_good(self, frame: pl.DataFrame, table: Table, names: list[str]) -> pl.DataFrame | None:
        """The cast rows, if every one is good; None if any is not."""
        kinds = dict(frame.schema)
        casts = [
            cast(name, kinds[name], kind, decimal_comma=table.decimal_comma)
            for name, kind in self.schema.items()
            if name in kinds
        ]
        fills = [pl.lit(None, dtype=kind).alias(name) for name, kind in self.schema.items() if name not in kinds]
        with _broken_rules(self, names):
            good = frame.with_columns(*casts, *fills)
            tests = [
                (good[name].null_count() == frame[name].null_count()) and _exact(frame[name], good[name])
                for name in self.schema
                if name in kinds
            ]
            tests += [good[name].null_count() == 0 for name in self.required if name in good.columns]
            if not all(tests):
                return None
            if self.rules:
                broken = good.select([(~rule).any().alias(str(at)) for at, rule in enumerate(self.rules.values())])
                if any(broken.row(0)):
                    return None
            if self.unique and good.select(pl.struct(*self.unique).is_duplicated().any()).item():
                return None
        return good.select(self._output(names))

    def _check_columns(self, names: list[str]) -> None:
        missing = [name for name in self.schema if name not in names]
        if missing and self.on_missing_column == "reject":
            near = get_close_matches(missing[0], names, n=1)
            raise DataError(
                "MissingColumn",
                f"the column {missing[0]!r} is missing; the file has {_listed(names)}",
                hint=(f"Did the sender rename it to {near[0]!r}? " if near else "")
                + "Mend the file, change the contract, or set on_missing_column='fill'.",
                place=Place(column=missing[0]),
            )
        extra = [name for name in names if name not in self.schema]
        if extra and self.schema and self.on_extra_column == "reject":
            raise DataError(
                "ExtraColumn",
                f"the contract does not know the column {extra[0]!r}"
                + (f" and {len(extra) - 1} more" * (len(extra) > 1)),
                hint="Add it to the schema, or set on_extra_column to 'keep' or 'drop'.",
                place=Place(column=extra[0]),
            )

    def _marked(self, table: Table, kinds: dict[str, pl.DataType], names: list[str]) -> pl.LazyFrame:
        """The rows with their casts, their raw cells beside them, and the reasons against each."""
        raw = table.rows.with_columns([pl.col(name).alias(_raw(name)) for name in names])
        casts, reasons = [], []
        for name, kind in self.schema.items():
            if name in kinds:
                casts.append(cast(name, kinds[name], kind, decimal_comma=table.decimal_comma))
                reasons.append(reason_for(name, _raw(name), kinds[name], kind))
            else:
                casts.append(pl.lit(None, dtype=kind).alias(name))
        reasons += [
            pl.when(pl.col(name).is_null()).then(pl.lit(f"{name}: is required and empty")) for name in self.required
        ]
        reasons += [pl.when(~rule).then(pl.lit(f"broke the rule: {name}")) for name, rule in self.rules.items()]
        if self.unique:
            reasons.append(
                pl.when(~pl.struct(*self.unique).is_first_distinct()).then(
                    pl.lit(f"{', '.join(self.unique)}: appears in an earlier row")
                )
            )
        rows = raw.with_columns(casts)
        with _broken_rules(self, names):
            marked = rows.with_columns(pl.concat_list(reasons).list.drop_nulls().alias(REASONS_MARK))
            marked.collect_schema()
        return marked

    def _output(self, names: list[str]) -> list[pl.Expr]:
        """The columns of good rows: the file's in their order, without row numbers, then those that were filled."""
        kept = [name for name in names if name in self.schema or not self.schema or self.on_extra_column == "keep"]
        filled = [name for name in self.schema if name not in names]
        return [pl.col(name) for name in (*kept, *filled)]


#: The column, while rows are checked, that holds the reasons against each; no file may have it.
REASONS_MARK = "__reasons__"


def _raw(name: str) -> str:
    """Where a column is kept as it was read, while its cast takes its name."""
    return f"__raw__{name}"


def _free(name: str) -> str:
    """A column's name beside the two that rejected rows have of their own."""
    return f"{name}_" if name in {ROW_NUMBER, REASONS} else name


def _malformed(table: Table, names: list[str]) -> pl.LazyFrame:
    """The records that the reader could not make rows of, in the shape of rejected rows: their text in one column."""
    if table.malformed is None:
        empty = {ROW_NUMBER: pl.UInt64, REASONS: pl.List(pl.String)}
        return pl.LazyFrame(schema=empty)
    text = next(name for name in ("text", "text_", "text__") if name not in names)
    return table.malformed.lazy().select(
        pl.col(ROW).alias(ROW_NUMBER), pl.col("text").alias(text), pl.concat_list("reason").alias(REASONS)
    )


class _broken_rules:  # noqa: N801 -- used as a block, like contextlib's
    """Turn what Polars says of a rule that cannot be computed into what the author of the contract needs."""

    def __init__(self, contract: Contract, names: list[str]) -> None:
        self._contract = contract
        self._names = names

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if not isinstance(error, pl.exceptions.PolarsError):
            return
        for name, rule in self._contract.rules.items():
            known = {*self._names, *self._contract.schema}
            unknown = [column for column in rule.meta.root_names() if column not in known]
            if unknown:
                raise DataError(
                    "BrokenRule",
                    f"the rule {name!r} needs the column {unknown[0]!r}; the file has {_listed(self._names)}",
                    hint="Name the column in the contract's schema, so that a file without it is told apart.",
                    place=Place(column=unknown[0]),
                ) from None
        raise DataError(
            "BrokenRule",
            f"the contract cannot be computed over this file: {str(error).splitlines()[0]}",
            hint="A rule must be a Polars expression that is true or false for each row.",
        ) from None


def _exact(raw: pl.Series, cast_: pl.Series) -> bool:
    """Whether a cast between numbers kept every value; text either casts or becomes null, which is counted elsewhere."""
    if raw.dtype == cast_.dtype or not (raw.dtype.is_numeric() and cast_.dtype.is_numeric()):
        return True
    return bool(cast_.cast(raw.dtype, strict=False).eq_missing(raw).all())


def _listed(names: Collection[str]) -> str:
    shown = ", ".join(repr(name) for name in list(names)[:12])
    return f"{shown} and {len(names) - 12} more" if len(names) > 12 else shown or "no columns"


def _expression(rule: pl.Expr) -> str:
    """A rule as text that does not depend on the process: its own JSON form."""
    buffer = io.BytesIO()
    try:
        rule.meta.serialize(buffer, format="json")
    except (pl.exceptions.PolarsError, ValueError):
        return str(rule)  # a rule that calls Python has no JSON form
    return buffer.getvalue().decode()


def _schema(schema: Mapping[str, Any]) -> dict[str, pl.DataType]:
    if not isinstance(schema, Mapping):
        raise DefinitionError(f"schema must be a mapping of column names to Polars types, not {type(schema).__name__}")
    kinds = {}
    for name, kind in schema.items():
        if not isinstance(name, str) or not name or name.startswith("__"):
            raise DefinitionError(f"schema: {name!r} is no column name; names are text, and do not begin with '__'")
        try:
            found = kind() if isinstance(kind, type) else kind
        except TypeError:
            found = None
        if not isinstance(found, pl.DataType):
            raise DefinitionError(
                f"schema: the type of {name!r} is {kind!r}, which is no Polars type. Write pl.Int64, pl.String, "
                "pl.Float64, pl.Boolean, pl.Date, pl.Datetime('us', 'UTC') …"
            )
        kinds[name] = found
    return kinds


def _rules(rules: Mapping[str, Any]) -> dict[str, pl.Expr]:
    if not isinstance(rules, Mapping):
        raise DefinitionError(f"rules must be a mapping of names to expressions, not {type(rules).__name__}")
    for name, rule in rules.items():
        if not isinstance(name, str) or not name.strip():
            raise DefinitionError(f"rules: {name!r} is no name; it is what people read when a row is rejected")
        if not isinstance(rule, pl.Expr):
            raise DefinitionError(
                f"rules: {name!r} is {rule!r}, not a Polars expression. Write for example pl.col('distance') > 0"
            )
    return dict(rules)


def _names(what: str, names: Collection[str]) -> tuple[str, ...]:
    if isinstance(names, str) or not all(isinstance(name, str) and name for name in names):
        raise DefinitionError(f"{what} must be a collection of column names, such as ('id',); it is {names!r}")
    return tuple(names)


def _one_of(what: str, value: str, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        raise DefinitionError(f"{what} must be one of {', '.join(allowed)}; it is {value!r}")
    return value


def _share(value: float | None) -> float | None:
    if value is None:
        return None
    wrong = isinstance(value, bool) or not isinstance(value, int | float) or value < 0
    if wrong or (isinstance(value, float) and value > 1):
        raise DefinitionError(f"max_rejected is a share up to 1.0 or a count of rows; it is {value!r}")
    return value
