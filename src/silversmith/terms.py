"""The terms of a contract, proved when it is declared: what cannot be is refused with what to write instead. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from typing import Any, TypeVar

import polars as pl

from silversmith.errors import DefinitionError
from silversmith.formats.table import ROW

_T = TypeVar("_T", bound=str)

_PYTHON = {int: "pl.Int64", str: "pl.String", float: "pl.Float64", bool: "pl.Boolean", bytes: "pl.Binary"}
_EXAMPLES = "pl.Int64, pl.Float64, pl.String, pl.Boolean, pl.Date, pl.Datetime('us', 'UTC'), pl.Decimal(10, 2) …"


def schema(given: Mapping[str, Any]) -> dict[str, pl.DataType]:
    """Column names and Polars types, each as an instance.

    Raises:
        DefinitionError: a name or a type is none.
    """
    if not isinstance(given, Mapping):
        raise DefinitionError(f"schema must map column names to Polars types; it is {type(given).__name__}")
    kinds = {}
    for name, kind in given.items():
        if not isinstance(name, str) or not name or name == ROW:
            raise DefinitionError(f"schema: {name!r} is no name of a column")
        kinds[name] = _type(name, kind)
    return kinds


def _type(name: str, kind: Any) -> pl.DataType:
    if isinstance(kind, type) and kind in _PYTHON:
        raise DefinitionError(f"schema: {name!r} is Python's {kind.__name__}; write {_PYTHON[kind]}")
    try:
        made = kind() if isinstance(kind, type) and issubclass(kind, pl.DataType) else kind
    except TypeError:
        raise DefinitionError(
            f"schema: {name!r} is {kind.__name__} of what? Write for example {_complete(kind)}"
        ) from None
    if not isinstance(made, pl.DataType) or made in (pl.Object, pl.Null, pl.Unknown):
        raise DefinitionError(f"schema: {name!r} is {kind!r}, which no column can have; write {_EXAMPLES}")
    return made


def _complete(kind: type) -> str:
    return {
        "Enum": "pl.Enum(['EWR', 'JFK'])",
        "Struct": "pl.Struct({'a': pl.Int64})",
        "Array": "pl.Array(pl.Int64, 3)",
    }.get(kind.__name__, "pl.List(pl.Int64)")


def rules(given: Mapping[str, Any]) -> dict[str, pl.Expr]:
    """Names and expressions that name their columns and call no Python.

    Raises:
        DefinitionError: one does not.
    """
    if not isinstance(given, Mapping):
        raise DefinitionError(f"rules must map names to Polars expressions; it is {type(given).__name__}")
    for name, rule in given.items():
        if not isinstance(name, str) or not name.strip():
            raise DefinitionError(f"rules: {name!r} is no name; it is what people read when a row is rejected")
        if not isinstance(rule, pl.Expr):
            raise DefinitionError(
                f"rules: {name!r} is {rule!r}, and no Polars expression. Write for example pl.col('distance') > 0"
            )
        if rule.meta.has_multiple_outputs():
            raise DefinitionError(
                f"rules: {name!r} may mean any number of columns; name each: pl.col('a') > 0, pl.col('b') > 0 …"
            )
        expression(rule, name)
    return dict(given)


def expression(rule: pl.Expr, name: str = "") -> str:
    """A rule as text that does not depend on the process: its own JSON form.

    Raises:
        DefinitionError: it calls Python, whose functions have no such form.
    """
    try:
        text = "" if "python_udf" in str(rule) else rule.meta.serialize(format="json")
    except (pl.exceptions.PolarsError, ValueError):
        text = ""
    if not text:
        raise DefinitionError(
            f"rules: {name!r} calls a Python function. A rule must be made of Polars' own expressions, so that it is "
            "fast, and known when it changes; do the rest in the transform"
        )
    return text


def columns(what: str, given: Collection[str], known: Collection[str]) -> tuple[str, ...]:
    """Names of columns of the schema, each once.

    Raises:
        DefinitionError: one is not.
    """
    if isinstance(given, str) or not all(isinstance(name, str) for name in given):
        raise DefinitionError(f"{what} must be a collection of column names, such as {what}=('id',); it is {given!r}")
    for name in given:
        if name not in known:
            raise DefinitionError(f"{what}: the schema has no column {name!r}; it has {', '.join(known) or 'none'}")
    return tuple(dict.fromkeys(given))


def mapping(what: str, given: Any, known: Collection[str]) -> dict[str, Any]:
    """What maps columns of the schema to something, or nothing at all.

    Raises:
        DefinitionError: it does not.
    """
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise DefinitionError(f"{what} must map columns of the schema to something; it is {type(given).__name__}")
    columns(what, list(given), known)
    return dict(given)


def value(what: str, name: str, given: Any, kind: pl.DataType) -> Any:
    """A value as a column of that type holds it.

    Raises:
        DefinitionError: such a column cannot hold it.
    """
    try:
        held = pl.Series([given], dtype=kind, strict=True).item()
    except (pl.exceptions.PolarsError, TypeError, ValueError, OverflowError):
        held = None
    if held is None or (isinstance(given, float) and held != given and not isinstance(held, float)):
        raise DefinitionError(f"{what}: {name!r} has {given!r}, which is no {kind}") from None
    return held


def defaults(given: Mapping[str, Any], kinds: Mapping[str, pl.DataType]) -> dict[str, Any]:
    """What stands for a null, by column.

    Raises:
        DefinitionError: a column cannot hold its default.
    """
    return {name: value("defaults", name, default, kinds[name]) for name, default in given.items()}


def renames(given: Mapping[str, str]) -> dict[str, str]:
    """Names in the file and what becomes of them.

    Raises:
        DefinitionError: one is no name, or two become the same.
    """
    if not isinstance(given, Mapping):
        raise DefinitionError(f"rename must map names in the file to new ones; it is {type(given).__name__}")
    for pair in given.items():
        if not all(isinstance(name, str) and name and name != ROW for name in pair):
            raise DefinitionError(f"rename: {pair[0]!r}: {pair[1]!r} are no two names of columns")
    targets = list(given.values())
    for old, new in given.items():
        if targets.count(new) > 1 or new in given:
            others = [other for other in given if other != old and new in (other, given[other])]
            raise DefinitionError(
                f"rename: {old!r} becomes {new!r}, which {others[0] if others else old!r} has to do with"
            )
    return dict(given)


def choice(what: str, given: _T, allowed: tuple[str, ...]) -> _T:
    """One of the allowed words.

    Raises:
        DefinitionError: it is not.
    """
    if given not in allowed:
        raise DefinitionError(f"{what} must be one of {', '.join(map(repr, allowed))}; it is {given!r}")
    return given


def share(given: float | None) -> float | None:
    """A share up to 1.0, or a count.

    Raises:
        DefinitionError: it is neither.
    """
    if given is None:
        return None
    is_number = isinstance(given, int | float) and not isinstance(given, bool)
    if not is_number or not given >= 0 or (isinstance(given, float) and given > 1):
        raise DefinitionError(
            f"max_rejected={given!r}: must be a share of the rows, 0.0 to 1.0, or a count of rows, 0 or more"
        )
    return given


def digest(content: Mapping[str, Any]) -> str:
    """SHA-256 of JSON values, as hexadecimal digits."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
