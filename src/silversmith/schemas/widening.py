"""The least type that two columns have in common, as far as readers of Parquet can follow. Pure.

Followed are: nothing but nulls → anything; an integer → a bigger one; Float32 → Float64; new fields of a struct; and
the same inside of lists and structs. An integer → a float is no such widening: see fitting.py.
"""

from __future__ import annotations

import polars as pl
from polars.datatypes import DataTypeClass

_SIGNED: dict[int, pl.DataType] = {8: pl.Int8(), 16: pl.Int16(), 32: pl.Int32(), 64: pl.Int64()}
_UNSIGNED: dict[int, pl.DataType] = {8: pl.UInt8(), 16: pl.UInt16(), 32: pl.UInt32(), 64: pl.UInt64()}
_BITS: dict[pl.DataType, int] = {kind: bits for kinds in (_SIGNED, _UNSIGNED) for bits, kind in kinds.items()}


def join(one: pl.DataType, other: pl.DataType) -> pl.DataType | None:
    """The least type that both are read as without loss; None where there is none."""
    if one == other or pl.Null() in (one, other):
        return other if one == pl.Null() else one
    if one in _BITS and other in _BITS:
        return _integer(one, other)
    if one.is_float() and other.is_float():
        return one if _precision(one) >= _precision(other) else other
    if isinstance(one, pl.Struct) and isinstance(other, pl.Struct):
        return _struct(one, other)
    if isinstance(one, pl.List) and isinstance(other, pl.List):
        inner = join(_inner(one), _inner(other))
        return None if inner is None else pl.List(inner)
    return None


def _integer(one: pl.DataType, other: pl.DataType) -> pl.DataType | None:
    signed = [kind for kind in (one, other) if kind in _SIGNED.values()]
    if len(signed) != 1:
        return one if _BITS[one] >= _BITS[other] else other
    unsigned = other if signed[0] == one else one
    return _SIGNED.get(max(_BITS[signed[0]], 2 * _BITS[unsigned]))


def _precision(kind: pl.DataType) -> int:
    return {"Float16": 16, "Float32": 32}.get(repr(kind), 64)


def _struct(one: pl.Struct, other: pl.Struct) -> pl.DataType | None:
    """The fields of the first in its order, then those that only the other has."""
    fields, others = _fields(one), _fields(other)
    joined: dict[str, pl.DataType] = {}
    for name in {**fields, **others}:
        kind = join(fields.get(name, pl.Null()), others.get(name, pl.Null()))
        if kind is None:
            return None
        joined[name] = kind
    return pl.Struct(joined)


def _fields(kind: pl.Struct) -> dict[str, pl.DataType]:
    return {field.name: _instance(field.dtype) for field in kind.fields}


def _inner(kind: pl.List) -> pl.DataType:
    return _instance(kind.inner)


def _instance(kind: pl.DataType | DataTypeClass) -> pl.DataType:
    return kind if isinstance(kind, pl.DataType) else kind()


def widened(cells: pl.Expr, found: pl.DataType, wanted: pl.DataType) -> pl.Expr:
    """Cells of one type in one that :func:`join` made of it. Polars' own cast puts a struct's fields by place."""
    if found == wanted:
        return cells
    if isinstance(found, pl.Struct) and isinstance(wanted, pl.Struct):
        there = _fields(found)
        fields = [
            (widened(cells.struct.field(name), there[name], kind) if name in there else pl.lit(None, dtype=kind)).alias(
                name
            )
            for name, kind in _fields(wanted).items()
        ]
        return pl.when(cells.is_not_null()).then(pl.struct(fields))
    if isinstance(found, pl.List) and isinstance(wanted, pl.List):
        return cells.list.eval(widened(pl.element(), _inner(found), _inner(wanted)))
    return cells.cast(wanted)
