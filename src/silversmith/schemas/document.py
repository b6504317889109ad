"""The schema document of a transform: the columns that each code gives silver, their history, the owner. Pure."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import polars as pl

from silversmith.contract.casting import instance_of

#: The types that are their name alone.
_PLAIN = {
    kind.__name__: kind()
    for kind in (
        *(pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.Int128, pl.UInt8, pl.UInt16, pl.UInt32, pl.UInt64, pl.UInt128),
        *(pl.Float16, pl.Float32, pl.Float64, pl.Boolean, pl.String, pl.Binary, pl.Date, pl.Time, pl.Null),
        pl.Categorical,
    )
}

#: The types that have parameters.
_CALLED = {
    kind.__name__: kind for kind in (pl.Datetime, pl.Duration, pl.Decimal, pl.Enum, pl.List, pl.Array, pl.Struct)
}


def dtype_text(kind: pl.DataType) -> str:
    """A type as text that :func:`parse_dtype` understands."""
    return repr(kind)


def parse_dtype(text: str) -> pl.DataType:
    """The type that a text names. Names and calls are looked up, never run.

    Raises:
        ValueError: it is no type.
    """
    try:
        dtype = _parsed(ast.parse(text, mode="eval").body)
    except (SyntaxError, TypeError, ValueError, KeyError, RecursionError, MemoryError) as error:
        raise ValueError(f"{text!r} is no type of a column") from error
    if not isinstance(dtype, pl.DataType):
        raise ValueError(f"{text!r} is no type of a column")
    return dtype


def _parsed(node: ast.expr) -> Any:
    if isinstance(node, ast.Name):
        return _PLAIN[node.id]
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        named = {str(item.arg): _parsed(item.value) for item in node.keywords}
        return _CALLED[node.func.id](*map(_parsed, node.args), **named)
    if isinstance(node, ast.Dict):
        return {ast.literal_eval(key): _parsed(value) for key, value in zip(node.keys, node.values, strict=True) if key}
    return ast.literal_eval(node)


def dtype_code(kind: pl.DataType) -> str:
    """A type as Python code over ``polars as pl``: ``pl.List(pl.Int64)``."""
    tree = ast.parse(dtype_text(kind), mode="eval")
    return ast.unparse(_Prefixed().visit(tree))


class _Prefixed(ast.NodeTransformer):
    def visit_Name(self, node: ast.Name) -> ast.AST:
        return ast.Attribute(ast.Name("pl", ast.Load()), node.id, ast.Load())


_SIGNED: dict[int, pl.DataType] = {8: pl.Int8(), 16: pl.Int16(), 32: pl.Int32(), 64: pl.Int64()}
_UNSIGNED: dict[int, pl.DataType] = {8: pl.UInt8(), 16: pl.UInt16(), 32: pl.UInt32(), 64: pl.UInt64()}
_BITS: dict[pl.DataType, int] = {kind: bits for kinds in (_SIGNED, _UNSIGNED) for bits, kind in kinds.items()}


def join(one: pl.DataType, other: pl.DataType) -> pl.DataType | None:
    """The smallest type that holds both without loss; None: there is none."""
    if one == other or pl.Null() in (one, other):
        return other if one == pl.Null() else one
    if one in _BITS and other in _BITS:
        return _integer(one, other)
    if one.is_float() and other.is_float():
        return one if _precision(one) >= _precision(other) else other
    if isinstance(one, pl.Struct) and isinstance(other, pl.Struct):
        return _struct(one, other)
    if isinstance(one, pl.List) and isinstance(other, pl.List):
        inner = join(instance_of(one.inner), instance_of(other.inner))
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
    return {field.name: instance_of(field.dtype) for field in kind.fields}


def widened(cells: pl.Expr, before: pl.DataType, after: pl.DataType) -> pl.Expr:
    """Cells as the type that :func:`join` returned. Polars' own cast puts a struct's fields by place."""
    if before == after:
        return cells
    if isinstance(before, pl.Struct) and isinstance(after, pl.Struct):
        fields_before = _fields(before)
        fields = [
            (
                widened(cells.struct.field(name), fields_before[name], kind)
                if name in fields_before
                else pl.lit(None, dtype=kind)
            ).alias(name)
            for name, kind in _fields(after).items()
        ]
        return pl.when(cells.is_not_null()).then(pl.struct(fields))
    if isinstance(before, pl.List) and isinstance(after, pl.List):
        return cells.list.eval(widened(pl.element(), instance_of(before.inner), instance_of(after.inner)))
    return cells.cast(after)


#: How many schemas are kept, one for each code, and how many changes.
MOST_CODES = 8
MOST_CHANGES = 500

#: How many columns of one change are recorded.
MOST_SHOWN = 50


def schema_key(transform: str) -> str:
    """The key in silver under which the schemas of a transform are recorded. No transform is called ``_schemas``."""
    return f"_schemas/{transform}.json"


@dataclass(frozen=True)
class Schema:
    """The columns of the silver that one code makes; ``version`` 0: that code has made none yet.

    ``large`` names the integer columns in which there are numbers that no Float64 gives back.
    """

    code: str
    version: int = 0
    columns: Mapping[str, pl.DataType] = field(default_factory=dict)
    large: frozenset[str] = frozenset()

    @cached_property
    def has_untyped(self) -> bool:
        """Whether a column has had no value yet."""
        return pl.Null() in self.columns.values()


@dataclass(frozen=True)
class Entry:
    """One version: what changed with which bronze object, when (ISO 8601, UTC), by which code."""

    version: int
    at: str
    key: str
    code: str
    changes: Sequence[str]


@dataclass(frozen=True)
class Document:
    """The record of one transform. The schema whose code was first seen last is the last.

    ``owner`` is the name of the stack whose silver it is, of the pipeline where it runs locally; empty: nobody's yet.
    ``former`` are the names from which it was taken over: their objects are the owner's now.
    """

    transform: str
    schemas: tuple[Schema, ...] = ()
    history: tuple[Entry, ...] = ()
    owner: str = ""
    former: tuple[str, ...] = ()

    def owners(self, name: str) -> frozenset[str]:
        """The owners whose objects the stack ``name`` may replace, an empty name for objects that name nobody; none if
        this silver is another's."""
        return frozenset({"", name, *self.former}) if self.owner in {"", name} else frozenset()

    @property
    def version(self) -> int:
        """The newest version of any code's schema."""
        return max((schema.version for schema in self.schemas), default=0)

    def of(self, code: str) -> Schema:
        """The schema of one code's silver; version 0 where it has none yet."""
        return next((schema for schema in self.schemas if schema.code == code), Schema(code))

    def everything(self) -> dict[str, pl.DataType]:
        """The columns that any of the silver may have, whichever code made it. Of types that do not go together, the
        newest counts."""
        columns: dict[str, pl.DataType] = {}
        for schema in reversed(self.schemas):
            for name, kind in schema.columns.items():
                columns[name] = join(columns.get(name, pl.Null()), kind) or columns[name]
        return columns

    def changed(self, schema: Schema, *, key: str, at: str) -> Document:
        """The document once a code's schema has become another one, by the bronze object ``key``. Only columns make a
        version; the number that the schema is given with is left out of account."""
        before = self.of(schema.code)
        number = before.version
        history = self.history
        if schema.columns != before.columns or not number:
            number = self.version + 1
            changes = tuple(differences(before.columns, schema.columns).values())[:MOST_SHOWN]
            entry = Entry(number, at, key, schema.code, changes)
            history = (*history, entry)[-MOST_CHANGES:]
        changed = Schema(schema.code, number, schema.columns, schema.large)
        if before.version:
            schemas = tuple(changed if each.code == changed.code else each for each in self.schemas)
        else:
            schemas = (*self.schemas, changed)[-MOST_CODES:]
        return replace(self, schemas=schemas, history=history)

    def to_json(self) -> bytes:
        content = {
            "transform": self.transform,
            **({"owner": self.owner} if self.owner else {}),
            **({"former": list(self.former)} if self.former else {}),
            "version": self.version,
            "schemas": [
                {
                    "code": schema.code,
                    "version": schema.version,
                    "columns": {name: dtype_text(kind) for name, kind in schema.columns.items()},
                    "large": sorted(schema.large),
                }
                for schema in self.schemas
            ],
            "history": [{**vars(entry), "changes": list(entry.changes)} for entry in self.history],
        }
        return json.dumps(content, indent=1).encode()

    @staticmethod
    def from_json(transform: str, body: bytes) -> Document:
        """The document that was recorded. One that cannot be read counts as none: the next file records it anew; but
        its owner stays where that can be read."""
        owner, former = _owners({})
        try:
            content: dict[str, Any] = json.loads(body)
            owner, former = _owners(content)
            schemas = tuple(
                Schema(
                    str(each["code"]),
                    int(each["version"]),
                    {str(name): parse_dtype(text) for name, text in each["columns"].items()},
                    frozenset(each["large"]),
                )
                for each in content["schemas"]
            )
            history = tuple(
                Entry(
                    int(each["version"]), str(each["at"]), str(each["key"]), str(each["code"]), tuple(each["changes"])
                )
                for each in content["history"]
            )
        except (KeyError, TypeError, ValueError, AttributeError):
            return Document(transform, owner=owner, former=former)
        return Document(transform, schemas, history, owner, former)


def _owners(content: Mapping[str, Any]) -> tuple[str, tuple[str, ...]]:
    """Owner and former owners, as far as they are texts."""
    owner, former = content.get("owner"), content.get("former")
    names = former if isinstance(former, list) else []
    return owner if isinstance(owner, str) else "", tuple(name for name in names if isinstance(name, str))


def differences(before: Mapping[str, pl.DataType], after: Mapping[str, pl.DataType]) -> dict[str, str]:
    """The change of each column: ``+ b: String``, ``- c: Date``, ``~ a: Int32 → Int64``."""
    changes = {name: f"- {name}: {kind}" for name, kind in before.items() if name not in after}
    for name, kind in after.items():
        if name not in before:
            changes[name] = f"+ {name}: {kind}"
        elif kind != before[name]:
            changes[name] = f"~ {name}: {before[name]} → {kind}"
    return changes
