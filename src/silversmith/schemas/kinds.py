"""Polars' types as text and back: ``List(Int64)``, ``Datetime(time_unit='us', time_zone='UTC')``. Pure."""

from __future__ import annotations

import ast
from typing import Any

import polars as pl

#: The types that are their name alone.
_PLAIN = {
    kind.__name__: kind()
    for kind in (
        *(pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.Int128, pl.UInt8, pl.UInt16, pl.UInt32, pl.UInt64, pl.UInt128),
        *(pl.Float16, pl.Float32, pl.Float64, pl.Boolean, pl.String, pl.Binary, pl.Date, pl.Time, pl.Null),
        pl.Categorical,
    )
}

#: Those that say more.
_CALLED = {
    kind.__name__: kind for kind in (pl.Datetime, pl.Duration, pl.Decimal, pl.Enum, pl.List, pl.Array, pl.Struct)
}


def text_of(kind: pl.DataType) -> str:
    """A type as text that :func:`parse` understands."""
    return repr(kind)


def parse(text: str) -> pl.DataType:
    """The type that a text says. Nothing else can be said by it: names and calls are looked up, never run.

    Raises:
        ValueError: it says none.
    """
    try:
        made = _made(ast.parse(text, mode="eval").body)
    except (SyntaxError, TypeError, ValueError, KeyError, RecursionError, MemoryError) as error:
        raise ValueError(f"{text!r} is no type of a column") from error
    if not isinstance(made, pl.DataType):
        raise ValueError(f"{text!r} is no type of a column")
    return made


def _made(node: ast.expr) -> Any:
    if isinstance(node, ast.Name):
        return _PLAIN[node.id]
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        named = {str(item.arg): _made(item.value) for item in node.keywords}
        return _CALLED[node.func.id](*map(_made, node.args), **named)
    if isinstance(node, ast.Dict):
        return {ast.literal_eval(key): _made(value) for key, value in zip(node.keys, node.values, strict=True) if key}
    return ast.literal_eval(node)


def python(kind: pl.DataType) -> str:
    """A type as Python code over ``polars as pl``: ``pl.List(pl.Int64)``."""
    tree = ast.parse(text_of(kind), mode="eval")
    return ast.unparse(_Prefixed().visit(tree))


class _Prefixed(ast.NodeTransformer):
    def visit_Name(self, node: ast.Name) -> ast.AST:
        return ast.Attribute(ast.Name("pl", ast.Load()), node.id, ast.Load())
