"""Schemas of Dataframely and Pandera as contracts, for who has them: they are read, never imported here.

What such a schema says that a contract cannot say is refused where the transform is declared, and not ignored.

https://dataframely.readthedocs.io, https://pandera.readthedocs.io
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import polars as pl

from silversmith.contract.contract import Contract
from silversmith.errors import DefinitionError
from silversmith.formats.table import col


def accepted(given: object) -> Contract | None:
    """A contract, from one or from what is as good as one: a Dataframely schema, or one of Pandera for Polars.

    Raises:
        DefinitionError: it is none, or says what a contract cannot say.
    """
    if given is None or isinstance(given, Contract):
        return given
    kind = given if isinstance(given, type) else type(given)
    libraries = {base.__module__.partition(".")[0] for base in kind.__mro__}
    if "dataframely" in libraries and hasattr(given, "columns"):
        return _dataframely(given)
    if "pandera" in libraries:
        return _pandera(given.to_schema() if isinstance(given, type) and hasattr(given, "to_schema") else given)
    raise DefinitionError(
        f"contract={given!r}: must be a silversmith.Contract, a subclass of dataframely.Schema, or a schema or model "
        "of pandera.polars"
    )


def _dataframely(schema: Any) -> Contract:
    columns: Mapping[str, Any] = schema.columns()
    rules: dict[str, pl.Expr] = {}
    for name, column in columns.items():
        for rule, expression in column.validation_rules(col(name)).items():
            if rule != "nullability":
                rules[f"{name} {rule}"] = expression
    for rule, definition in schema._schema_validation_rules().items():
        if rule != "primary_key":
            rules[rule] = definition.expr
    return Contract(
        {name: column.dtype for name, column in columns.items()},
        rules,
        required=[name for name, column in columns.items() if not column.nullable],
        unique=[name for name, column in columns.items() if column.primary_key],
        on_extra_column="drop",
    )


def _pandera(schema: Any) -> Contract:
    if not hasattr(schema, "columns"):
        _refuse(f"{schema!r} is no schema of a frame; give a pandera.polars.DataFrameSchema or DataFrameModel")
    for what in ("checks", "parsers"):
        if getattr(schema, what, None):
            _refuse(f"the schema's own {what} are Python functions; write them as rules of a Contract")
    columns: Mapping[str, Any] = schema.columns
    kinds = {name: _pandera_kind(name, column) for name, column in columns.items()}
    rules: dict[str, pl.Expr] = {}
    for name, column in columns.items():
        for check in column.checks:
            rules[f"{name} {check.name}"] = _pandera_check(name, check)
    keys = [[name] for name, column in columns.items() if column.unique]
    keys += [list(schema.unique)] if schema.unique else []
    for key in keys[1:]:
        some = [col(name) for name in key]
        alone = pl.any_horizontal(one.is_null() for one in some)
        rules[f"{', '.join(key)} unique"] = pl.struct(*some).is_unique() | alone
    return Contract(
        kinds,
        rules,
        required=[name for name, column in columns.items() if not column.nullable],
        unique=keys[0] if keys else (),
        defaults={name: column.default for name, column in columns.items() if column.default is not None},
        on_extra_column={True: "reject", "filter": "drop"}.get(schema.strict, "keep"),  # type: ignore[arg-type]
        on_missing_column="keep" if _may_be_missing(columns) else "reject",
    )


def _pandera_kind(name: str, column: Any) -> Any:
    kind = getattr(column.dtype, "type", None)
    if not (isinstance(kind, pl.DataType) or (isinstance(kind, type) and issubclass(kind, pl.DataType))):
        _refuse(f"the column {name!r} has the type {column.dtype}; a contract needs one of Polars': use pandera.polars")
    if getattr(column, "regex", False):
        _refuse(f"the column {name!r} is a regular expression; a contract names each column")
    if getattr(column, "parsers", None):
        _refuse(f"the column {name!r} has parsers, which are Python functions; do that in the transform")
    return kind


def _may_be_missing(columns: Mapping[str, Any]) -> bool:
    """Whether columns may be missing: all that may be null, or none, since a contract has one word for all."""
    optional = [name for name, column in columns.items() if not column.required]
    for name in optional:
        if not columns[name].nullable:
            _refuse(f"the column {name!r} may be missing, but not be null; a contract cannot say so: make it nullable")
    needed = [name for name, column in columns.items() if column.required and column.nullable]
    if optional and needed:
        _refuse(
            f"the column {optional[0]!r} may be missing, and {needed[0]!r}, which may be null, may not; a contract has "
            "one word for all columns: on_missing_column"
        )
    return bool(optional)


_CHECKS: Mapping[str, Callable[..., pl.Expr]] = {
    "equal_to": lambda cells, value: cells == value,
    "not_equal_to": lambda cells, value: cells != value,
    "greater_than": lambda cells, min_value: cells > min_value,
    "greater_than_or_equal_to": lambda cells, min_value: cells >= min_value,
    "less_than": lambda cells, max_value: cells < max_value,
    "less_than_or_equal_to": lambda cells, max_value: cells <= max_value,
    "isin": lambda cells, allowed_values: cells.is_in(list(allowed_values)),
    "notin": lambda cells, forbidden_values: ~cells.is_in(list(forbidden_values)),
    "str_matches": lambda cells, pattern: cells.str.contains(f"^(?:{_text(pattern)})"),
    "str_contains": lambda cells, pattern: cells.str.contains(_text(pattern)),
    "str_startswith": lambda cells, string: cells.str.starts_with(string),
    "str_endswith": lambda cells, string: cells.str.ends_with(string),
}


def _pandera_check(name: str, check: Any) -> pl.Expr:
    """One of Pandera's own checks as an expression."""
    said: Mapping[str, Any] = check.statistics or {}
    if check.name == "in_range":
        return _in_range(col(name), **said)
    if check.name == "str_length":
        return _length(col(name).str.len_chars(), **said)
    if check.name not in _CHECKS:
        _refuse(
            f"the check {check.name!r} of the column {name!r} is a Python function, which a contract cannot call; "
            "write it as a rule of a Contract: Polars' own expressions"
        )
    return _CHECKS[check.name](col(name), **said)


def _in_range(cells: pl.Expr, *, min_value: Any, max_value: Any, include_min: bool, include_max: bool) -> pl.Expr:
    low: pl.Expr = cells >= min_value if include_min else cells > min_value
    high: pl.Expr = cells <= max_value if include_max else cells < max_value
    return low & high


def _length(
    length: pl.Expr, *, min_value: int | None, max_value: int | None, exact_value: int | None = None
) -> pl.Expr:
    bounds = []
    if exact_value is not None:
        bounds.append(length == exact_value)
    if min_value is not None:
        bounds.append(length >= min_value)
    if max_value is not None:
        bounds.append(length <= max_value)
    return pl.all_horizontal(bounds)


def _text(pattern: Any) -> str:
    return pattern if isinstance(pattern, str) else str(pattern.pattern)


def _refuse(problem: str) -> NoReturn:
    raise DefinitionError(f"this Pandera schema cannot be a contract: {problem}")
