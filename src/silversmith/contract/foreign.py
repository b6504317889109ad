"""Schemas of Dataframely and Pandera as contracts: they are read, never imported here.

A term that a contract cannot express is refused where the transform is declared, and not ignored.

https://dataframely.readthedocs.io, https://pandera.readthedocs.io
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import polars as pl

from silversmith.contract.contract import Contract
from silversmith.errors import DefinitionError
from silversmith.formats.table import col


def accepted(schema: object) -> Contract | None:
    """A contract, from a contract, a Dataframely schema, or a Pandera schema for Polars. None stays None.

    Raises:
        DefinitionError: it is none of them, or has a term that a contract cannot express.
    """
    if schema is None or isinstance(schema, Contract):
        return schema
    kind = schema if isinstance(schema, type) else type(schema)
    libraries = {base.__module__.partition(".")[0] for base in kind.__mro__}
    if "dataframely" in libraries and hasattr(schema, "columns"):
        return _dataframely(schema)
    if "pandera" in libraries:
        is_model = isinstance(schema, type) and hasattr(schema, "to_schema")
        return _pandera(schema.to_schema() if is_model else schema)  # type: ignore[attr-defined]
    raise DefinitionError(
        f"contract={schema!r}: must be a silversmith.Contract, a subclass of dataframely.Schema, or a schema or model "
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
        raise _refused(f"{schema!r} is no schema of a frame; give a pandera.polars.DataFrameSchema or DataFrameModel")
    for part in ("checks", "parsers"):
        if getattr(schema, part, None):
            raise _refused(f"the schema's own {part} are Python functions; write them as rules of a Contract")
    columns: Mapping[str, Any] = schema.columns
    dtypes = {name: _pandera_dtype(name, column) for name, column in columns.items()}
    rules: dict[str, pl.Expr] = {}
    for name, column in columns.items():
        for check in column.checks:
            rules[f"{name} {check.name}"] = _pandera_check(name, check)
    keys = [[name] for name, column in columns.items() if column.unique]
    keys += [list(schema.unique)] if schema.unique else []
    for key in keys[1:]:
        cells = [col(name) for name in key]
        has_null = pl.any_horizontal(cell.is_null() for cell in cells)
        rules[f"{', '.join(key)} unique"] = pl.struct(*cells).is_unique() | has_null
    return Contract(
        dtypes,
        rules,
        required=[name for name, column in columns.items() if not column.nullable],
        unique=keys[0] if keys else (),
        defaults={name: column.default for name, column in columns.items() if column.default is not None},
        on_extra_column={True: "reject", "filter": "drop"}.get(schema.strict, "keep"),  # type: ignore[arg-type]
        on_missing_column="keep" if _may_be_missing(columns) else "reject",
    )


def _pandera_dtype(name: str, column: Any) -> Any:
    dtype = getattr(column.dtype, "type", None)
    if not (isinstance(dtype, pl.DataType) or (isinstance(dtype, type) and issubclass(dtype, pl.DataType))):
        raise _refused(
            f"the column {name!r} has the type {column.dtype}; a contract needs one of Polars': use pandera.polars"
        )
    if getattr(column, "regex", False):
        raise _refused(f"the column {name!r} is a regular expression; a contract names each column")
    if getattr(column, "parsers", None):
        raise _refused(f"the column {name!r} has parsers, which are Python functions; do that in the transform")
    return dtype


def _may_be_missing(columns: Mapping[str, Any]) -> bool:
    """Whether columns may be missing: all that may be null, or none, since a contract has one term for all."""
    optional = [name for name, column in columns.items() if not column.required]
    for name in optional:
        if not columns[name].nullable:
            raise _refused(
                f"the column {name!r} may be missing, but not be null; a contract cannot say so: make it nullable"
            )
    needed = [name for name, column in columns.items() if column.required and column.nullable]
    if optional and needed:
        raise _refused(
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
    "in_range": lambda cells, min_value, max_value, include_min, include_max: cells.is_between(
        min_value, max_value, _CLOSED[include_min, include_max]
    ),
    "str_length": lambda cells, min_value, max_value, exact_value=None: _length(
        cells.str.len_chars(), min_value, max_value, exact_value
    ),
}

_CLOSED: Mapping[tuple[bool, bool], Any] = {
    (True, True): "both",
    (True, False): "left",
    (False, True): "right",
    (False, False): "none",
}


def _pandera_check(name: str, check: Any) -> pl.Expr:
    """One of Pandera's own checks as an expression."""
    if check.name not in _CHECKS:
        raise _refused(
            f"the check {check.name!r} of the column {name!r} is a Python function, which a contract cannot call; "
            "write it as a rule of a Contract: Polars' own expressions"
        )
    return _CHECKS[check.name](col(name), **(check.statistics or {}))


def _length(length: pl.Expr, least: int | None, most: int | None, exact: int | None) -> pl.Expr:
    least, most = (exact, exact) if exact is not None else (least, most)
    return (length >= (least or 0)) & (length <= most if most is not None else pl.lit(value=True))


def _text(pattern: Any) -> str:
    return pattern if isinstance(pattern, str) else str(pattern.pattern)


def _refused(problem: str) -> DefinitionError:
    return DefinitionError(f"this Pandera schema cannot be a contract: {problem}")
