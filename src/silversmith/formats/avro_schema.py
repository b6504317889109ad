"""Avro schemas as Polars can decode them: the same bytes, said in other words where it does not know the word.

A map has the bytes of an array of its entries, an enum those of an int, a union of one type those of the type, and a
null has none. https://avro.apache.org/docs/1.12.0/specification/
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from silversmith.errors import DataError
from silversmith.formats.table import MOST_COLUMNS, shorten

#: How deep types may be nested, and how many there may be once every name is spelled out.
MOST_DEPTH = 64
MOST_TYPES = 2 * MOST_COLUMNS

#: Primitive types, and the fewest bytes a value takes.
_PRIMITIVES = {"null": 0, "boolean": 1, "int": 1, "long": 1, "float": 4, "double": 8, "bytes": 1, "string": 1}

#: The most digits and the most bytes of a decimal number that a column holds.
_MOST_DIGITS, _MOST_DECIMAL_BYTES = 38, 16


@dataclass(frozen=True)
class Prepared:
    """A schema for Polars; ``names`` are all fields in order, ``nulls`` those that are left out since they take no
    bytes, ``enums`` the words of those that are decoded as numbers. A record takes ``least`` bytes or more."""

    schema: Mapping[str, Any]
    names: tuple[str, ...]
    nulls: frozenset[str]
    enums: Mapping[str, tuple[str, ...]]
    least: int


def prepare(schema: object) -> Prepared:
    """A file's schema, made ready.

    Raises:
        DataError: ``UnsupportedAvro`` where no table can hold what it describes, or Polars cannot decode it.
    """
    if not isinstance(schema, dict) or schema.get("type") != "record":
        raise unsupported("it is not of records")
    preparation = _Preparation()
    fields, nulls, enums, least = [], set(), {}, 0
    names = [_name(one) for one in _fields(schema)]
    preparation.define(schema, depth=1)
    for name, one in zip(names, _fields(schema), strict=True):
        kind = one.get("type")
        symbols = preparation.nullable_enum(kind, schema.get("namespace", ""))
        if symbols is not None and isinstance(kind, list):
            enums[name] = symbols
            kind = ["int" if item != "null" else item for item in kind]
        made, size = preparation.type(kind, schema.get("namespace", ""), 2)
        least += size
        if made == "null":
            nulls.add(name)
        else:
            fields.append({"name": name, "type": made})
    if not fields:
        raise unsupported("its records have no fields")
    return Prepared(
        {"type": "record", "name": "record", "fields": fields}, tuple(names), frozenset(nulls), enums, max(1, least)
    )


@dataclass
class _Preparation:
    """Spells types out. ``named`` holds the types that have names; None while one is being spelled out itself."""

    named: dict[str, Any] = field(default_factory=dict)
    types: int = 0

    def define(self, schema: Mapping[str, Any], depth: int) -> None:
        """Note that a named type is under way: if it refers to itself now, it is endless."""
        self.named[_full(schema, "")] = None
        self._count(depth)

    def _count(self, depth: int) -> None:
        self.types += 1
        if depth > MOST_DEPTH or self.types > MOST_TYPES:
            raise unsupported("its types are nested too deep, or too many")

    def nullable_enum(self, kind: object, namespace: str) -> tuple[str, ...] | None:
        """The words of a type that is an enum or null."""
        if not (isinstance(kind, list) and len(kind) == 2 and "null" in kind):
            return None
        (other,) = [item for item in kind if item != "null"] or [None]
        found = self.named.get(_qualified(other, namespace)) if isinstance(other, str) else other
        if isinstance(found, dict) and found.get("type") == "enum":
            self.type(other, namespace, 2)  # it may be referred to later
            return tuple(map(str, found.get("symbols", ())))
        return None

    def type(self, kind: object, namespace: str, depth: int) -> tuple[Any, int]:
        """A type for Polars, and the fewest bytes a value of it takes."""
        self._count(depth)
        if isinstance(kind, str):
            return self._by_name(kind, namespace, depth)
        if isinstance(kind, list):
            return self._union(kind, namespace, depth)
        if not isinstance(kind, dict):
            raise unsupported(f"{shorten(repr(kind))} is no type")
        if isinstance(kind.get("type"), dict | list):
            return self.type(kind["type"], namespace, depth + 1)
        return self._complex(kind, namespace, depth)

    def _complex(self, kind: dict[str, Any], namespace: str, depth: int) -> tuple[Any, int]:
        """A type that is said by an object."""
        name = kind.get("type")
        if name == "array":
            made, size = self.type(kind.get("items"), namespace, depth + 1)
            return {"type": "array", "items": _held(made, size)}, 1
        if name == "map":
            made, size = self.type(kind.get("values"), namespace, depth + 1)
            entry = [{"name": "key", "type": "string"}, {"name": "value", "type": _held(made, size)}]
            return {"type": "array", "items": {"type": "record", "name": "entry", "fields": entry}}, 1
        if name in {"record", "enum", "fixed"}:
            return self._defined(kind, namespace, depth)
        if name in _PRIMITIVES:
            _check_decimal(kind, 0)
            kept = {key: kind[key] for key in ("type", "logicalType", "precision", "scale") if key in kind}
            return (kept if "logicalType" in kept else name), _PRIMITIVES[name]
        return self._by_name(str(name), namespace, depth)

    def _by_name(self, name: str, namespace: str, depth: int) -> tuple[Any, int]:
        if name in _PRIMITIVES:
            return name, _PRIMITIVES[name]
        full = _qualified(name, namespace)
        found = self.named.get(full, self.named.get(name, ...))
        if found is ...:
            raise unsupported(f'it names a type "{shorten(name)}" that it does not define')
        if found is None:
            raise unsupported(f'its type "{shorten(name)}" holds itself, which no column can')
        return self._defined(found, namespace, depth)

    def _defined(self, kind: dict[str, Any], namespace: str, depth: int) -> tuple[Any, int]:
        full = _full(kind, namespace)
        if kind["type"] == "enum":
            self.named[full] = kind
            return {"type": "enum", "name": "e", "symbols": _symbols(kind)}, 1
        if kind["type"] == "fixed":
            self.named[full] = kind
            size = kind.get("size")
            if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size < 2**31:
                raise unsupported(f'the size of "{shorten(full)}" is no number of bytes')
            if kind.get("logicalType") == "duration":
                raise unsupported("durations of months, days and milliseconds are no column type")
            _check_decimal(kind, size)
            kept = {key: kind[key] for key in ("type", "size", "logicalType", "precision", "scale") if key in kind}
            return {**kept, "name": "f"}, size
        self.named[full] = None
        inner = full.rpartition(".")[0]
        fields, least = [], 0
        for one in _fields(kind):
            made, size = self.type(one.get("type"), inner, depth + 1)
            fields.append({"name": _name(one), "type": _held(made, 1)})
            least += size
        self.named[full] = kind
        return {"type": "record", "name": "r", "fields": fields}, least

    def _union(self, kinds: list[Any], namespace: str, depth: int) -> tuple[Any, int]:
        others = [kind for kind in kinds if kind != "null"]
        if len(kinds) == 1:
            # one type alone still writes its number, a zero, before the value
            raise unsupported("it has a union of one type")
        if len(kinds) != 2 or len(others) != 1:
            raise unsupported(f"it has a union of {len(kinds)} types; only null and one other make a column")
        made, _ = self.type(others[0], namespace, depth + 1)
        if isinstance(made, dict) and made["type"] == "enum":
            raise unsupported("it has an enum within a list or a record")
        return [made if kind != "null" else kind for kind in kinds], 1


def _held(made: Any, size: int) -> Any:
    """A type within another. It must take bytes: else a few bytes could stand for any number of values. Polars decodes
    enums only as columns."""
    if isinstance(made, dict) and made["type"] == "enum":
        raise unsupported("it has an enum within a list or a record")
    if made == "null" or size == 0:
        raise unsupported("it has lists or records of what takes no bytes")
    return made


def _check_decimal(kind: Mapping[str, Any], size: int) -> None:
    if kind.get("logicalType") != "decimal":
        return
    precision, scale = kind.get("precision"), kind.get("scale", 0)
    if not (isinstance(precision, int) and isinstance(scale, int) and 1 <= precision <= _MOST_DIGITS >= scale >= 0):
        raise unsupported(f"decimals have {precision!r} digits; a column holds {_MOST_DIGITS}")
    if size > _MOST_DECIMAL_BYTES:
        raise unsupported(f"decimals have {size} bytes; a column holds {_MOST_DECIMAL_BYTES}")


def _symbols(kind: Mapping[str, Any]) -> list[str]:
    symbols = kind.get("symbols")
    if not isinstance(symbols, list) or not symbols or not all(isinstance(one, str) for one in symbols):
        raise unsupported("an enum has no symbols")
    return symbols


def _fields(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    fields = record.get("fields")
    if not isinstance(fields, list) or not all(isinstance(one, dict) for one in fields):
        raise unsupported("a record has no list of fields")
    return fields


def _name(one: Mapping[str, Any]) -> str:
    name = one.get("name")
    if not isinstance(name, str):
        raise unsupported("a field has no name")
    return name


def _full(kind: Mapping[str, Any], namespace: str) -> str:
    name, own = str(kind.get("name", "")), kind.get("namespace", namespace)
    return name if "." in name or not own else f"{own}.{name}"


def _qualified(name: str, namespace: str) -> str:
    return name if "." in name or not namespace else f"{namespace}.{name}"


def unsupported(why: str) -> DataError:
    """The error for what cannot become a table."""
    return DataError(
        "UnsupportedAvro",
        f"the file's schema cannot be a table: {why}",
        hint="write records of plain types, with unions only of null and one other; or put it as NDJSON",
    )
