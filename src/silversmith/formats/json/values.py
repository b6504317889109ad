"""JSON text as values, strict and without silent damage; and the kinds of values, with the column type that keeps all.

orjson is fast and strict, but of an object with a repeated key it keeps the last value, and of an integer beyond 64
bits a float. Where the text may have either, it is parsed again by Python's own parser, which can be told to look.

The kinds form a lattice: two kinds join to the least one that keeps both, whatever the order they come in. Values that
no type but text keeps all of (numbers and words, integers beyond 64 bits, objects and lists) become text: words stay as
they are, everything else is its JSON.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from itertools import chain
from typing import Any, Final

import orjson
import polars as pl

from silversmith.errors import DataError, Place
from silversmith.formats import text
from silversmith.formats.table import EXACT, MOST_COLUMNS, shorten

#: The largest document that is parsed whole, in bytes; it takes some ten times that in memory. Arrays of records may be
#: larger: no single record of theirs may.
LARGEST = 32 * 1024 * 1024

#: The blanks of JSON.
SPACE = b" \t\r\n"

_DIGITS = bytes.maketrans(b"123456789", b"000000000")
#: Python converts no longer integers, since that takes quadratic time.
_MOST_DIGITS = 4000


class Repeated(dict[str, Any]):
    """An object in which one key stands twice, with different values: no row can hold both."""

    def __init__(self, pairs: Sequence[tuple[str, Any]], key: str) -> None:
        super().__init__(pairs)
        self._pairs = pairs
        self.key = key

    def items(self) -> Sequence[tuple[str, Any]]:  # type: ignore[override]
        """All pairs, so that JSON of it has both."""
        return self._pairs


def parse_strictly(data: bytes, *, line: int = 1, column: int = 0, added: int = 0) -> Any:
    """One JSON document by orjson.

    ``line`` says where in the file it begins, and ``column`` how many characters stand before it on that line. The
    last ``added`` characters are not from the file: an error that shows only there makes the result None.

    Raises:
        DataError: ``UnreadableJson``, ``NotUtf8`` or ``TooDeep``, with the place.
    """
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        if added and error.pos >= len(error.doc) - added:
            return None
        raise unreadable(data, error, line=line, column=column) from None


def unreadable(data: bytes, error: orjson.JSONDecodeError, *, line: int = 1, column: int = 0) -> DataError:
    """The error for text that is no JSON, with the place; ``line`` and ``column`` as in :func:`parse_strictly`."""
    try:
        data.decode()
    except UnicodeDecodeError as wrong:
        return text.not_utf8(data, wrong, line=line, column=column, offset=None)
    column = error.colno + (column if error.lineno == 1 else 0)
    line += error.lineno - 1
    if "depth limit" in error.msg:
        return too_deep(Place(line=line, column=column))
    around = error.doc[max(0, error.pos - 30) : error.pos + 30]
    return DataError(
        "UnreadableJson",
        f"not JSON: {error.msg} (line {line}, column {column})",
        hint="JSON is RFC 8259: double quotes, no trailing commas, no comments, no NaN",
        place=Place(line=line, column=column, text=shorten(around)),
    )


def too_large(what: str) -> DataError:
    """The error for JSON that cannot be parsed in bounded memory."""
    return DataError(
        "TooLarge",
        f"{what}, more than the {LARGEST:,} that are parsed at once",
        hint="put it as NDJSON (one record on each line), which has no limit",
    )


def exact(data: bytes) -> Any:
    """Valid JSON once more, with integers of any size, and :class:`Repeated` objects told from others."""
    try:
        return json.loads(data, object_pairs_hook=_object, parse_int=_integer)
    except RecursionError:
        raise too_deep() from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    by_key = dict(pairs)
    if len(by_key) < len(pairs):
        for key, value in pairs:
            if by_key[key] != value or type(by_key[key]) is not type(value):
                return Repeated(pairs, key)
    return by_key


def _integer(digits: str) -> int:
    if len(digits) > _MOST_DIGITS:
        raise DataError(
            "TooLarge",
            f"a number has {len(digits):,} digits",
            hint="put it as text, in quotes",
            place=Place(text=shorten(digits)),
        )
    return int(digits)


def is_doubtful(data: bytes, values: Sequence[Any]) -> bool:
    """Whether the text may have a repeated key, or an integer that orjson made a float of. It may err towards True."""
    zeros = data.translate(_DIGITS)
    if b"0" * 20 in zeros or b"-" + b"0" * 19 in zeros:
        return True
    dense = data.translate(None, b" \t\r\n")
    ends = dense.count(b'":')
    if b"\\" in dense and b'\\\\":' not in dense:
        ends -= dense.count(b'\\":')
    return ends > count_keys(values, enough=ends)


def count_keys(values: Sequence[Any], *, enough: int) -> int:
    """The number of keys of the objects in the values, at any depth; the count stops when there are ``enough``."""
    total = 0
    while True:
        types = set(map(type, values))
        objects = [value for value in values if type(value) is dict] if dict in types else []
        lists = [value for value in values if type(value) is list] if list in types else []
        total += sum(map(len, objects))
        if total >= enough or not (objects or lists):
            return total
        values = list(chain(chain.from_iterable(map(dict.values, objects)), chain.from_iterable(lists)))


def repeated_key(value: Any) -> str | None:
    """The key that stands twice somewhere in the value; None if none does."""
    pending = [value]
    while pending:
        nested = pending.pop()
        if isinstance(nested, Repeated):
            return nested.key
        if isinstance(nested, dict):
            pending.extend(nested.values())
        elif isinstance(nested, list):
            pending.extend(nested)
    return None


def as_json(value: Any) -> str:
    """A value as JSON again, with repeated keys where they were.

    Raises:
        DataError: ``TooDeep``.
    """
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    except RecursionError:
        raise too_deep() from None


# The kinds of values.

#: How deep lists and objects may be nested in a column; a column that has anything deeper becomes text.
MOST_DEPTH = 64

_LEAST_INT64, _MOST_INT64, _MOST_UINT64 = -(2**63), 2**63 - 1, 2**64 - 1


@dataclass(frozen=True)
class Kind:
    """One kind of values. ``low`` and ``high`` bound integers, ``item`` is of lists, ``fields`` are of objects."""

    name: str
    low: int = 0
    high: int = 0
    item: Kind | None = None
    fields: Mapping[str, Kind] = field(default_factory=dict)


NULL: Final = Kind("null")
BOOLEAN: Final = Kind("boolean")
FLOAT: Final = Kind("float")
WORDS: Final = Kind("words")
MIXED: Final = Kind("mixed")

#: The names of kinds whose values are what their column holds: neither nested nor to be made text first.
SCALARS: Final = frozenset({"boolean", "integer", "float", "words"})

_KIND_OF = {bool: BOOLEAN, float: FLOAT, str: WORDS}


_TEXT: Final = pl.String()
_INT64: Final = pl.Int64()
_TYPES: Final[Mapping[str, pl.DataType]] = {"boolean": pl.Boolean(), "float": pl.Float64()}


class _TooDeep(Exception):
    """Values are nested deeper than a column can hold."""


def kind_of(values: Sequence[Any]) -> Kind:
    """The kind that keeps all values of a column, as ``orjson`` or ``json`` parsed them.

    Raises:
        DataError: ``TooManyColumns``.
    """
    try:
        return _kind_of(values, 1)
    except _TooDeep:
        return MIXED


def _kind_of(values: Sequence[Any], depth: int) -> Kind:
    types = set(map(type, values))
    has_nulls = type(None) in types
    types.discard(type(None))
    if not types:
        return NULL
    if len(types) > 1:
        return reduce(join, (_kind_of([value for value in values if type(value) is kind], depth) for kind in types))
    (only,) = types
    if only in _KIND_OF:
        return _KIND_OF[only]
    present = [value for value in values if value is not None] if has_nulls else values
    if only is int:
        return integers(min(present), max(present))
    if depth > MOST_DEPTH:
        raise _TooDeep
    if only is list:
        return Kind("list", item=_kind_of(list(chain.from_iterable(present)), depth + 1))
    return _objects(present, depth)


def too_deep(place: Place | None = None) -> DataError:
    """The error for JSON that is nested deeper than parsers go."""
    return DataError(
        "TooDeep",
        "the data is nested too deep: parsers go down some hundreds of levels",
        hint="put a flatter form of it",
        place=place,
    )


def _objects(present: Sequence[dict[str, Any]], depth: int) -> Kind:
    gathered: dict[str, list[Any]] = {}
    for value in present:
        for name, inner in value.items():
            gathered.setdefault(name, []).append(inner)
    if len(gathered) > MOST_COLUMNS:
        raise DataError(
            "TooManyColumns",
            f"objects in one column have more than {MOST_COLUMNS:,} different keys",
            hint="where keys are data, put a list of objects instead of one object",
        )
    return Kind("object", fields={name: _kind_of(inner, depth + 1) for name, inner in gathered.items()})


def integers(low: int, high: int) -> Kind:
    """The kind of integers from ``low`` to ``high``: text where no type of 64 bits has room for both."""
    fits = low >= _LEAST_INT64 and (high <= _MOST_INT64 or (low >= 0 and high <= _MOST_UINT64))
    return Kind("integer", low, high) if fits else MIXED


def join(first: Kind, second: Kind) -> Kind:
    """The least kind that keeps what both keep."""
    if first is NULL or second is NULL or first == second:
        return second if first is NULL else first
    names = {first.name, second.name}
    if names == {"integer", "float"}:
        whole = first if first.name == "integer" else second
        return FLOAT if whole.low >= -EXACT and whole.high <= EXACT else MIXED
    if len(names) > 1:
        return MIXED
    if first.name == "integer":
        return integers(min(first.low, second.low), max(first.high, second.high))
    if first.item and second.item:
        return Kind("list", item=join(first.item, second.item))
    fields = dict.fromkeys([*first.fields, *second.fields])
    return Kind(
        "object", fields={name: join(first.fields.get(name, NULL), second.fields.get(name, NULL)) for name in fields}
    )


def type_of(kind: Kind) -> pl.DataType:
    """The column type that keeps a kind. An object without any key is text: no Parquet file can hold it otherwise."""
    if kind.name == "integer":
        return _INT64 if kind.high <= _MOST_INT64 else pl.UInt64()
    if kind.name == "list":
        assert kind.item is not None
        return pl.List(type_of(kind.item))
    if kind.name == "object" and kind.fields:
        return pl.Struct({name: type_of(inner) for name, inner in kind.fields.items()})
    return _TYPES.get(kind.name, _TEXT)


def column(name: str, values: Sequence[Any], kind: Kind) -> pl.Series:
    """Values as a column of a kind that keeps them all. Strict: nothing that does not fit becomes null."""
    if _must_convert(kind):
        values = [_converted(value, kind) for value in values]
    return pl.Series(name, values, dtype=type_of(kind), strict=True)


def _must_convert(kind: Kind, *, nested: bool = False) -> bool:
    """Whether values somewhere in it must become text first, or integers that are nested among floats floats."""
    if kind.name == "list":
        return kind.item is not None and _must_convert(kind.item, nested=True)
    if kind.name == "object":
        return not kind.fields or any(_must_convert(inner, nested=True) for inner in kind.fields.values())
    return kind == MIXED or (nested and kind == FLOAT)


def _converted(value: Any, kind: Kind) -> Any:
    if value is None:
        return None
    if kind.name == "list":
        assert kind.item is not None
        return [_converted(item, kind.item) for item in value]
    if kind.name == "object" and kind.fields:
        return {name: _converted(value.get(name), inner) for name, inner in kind.fields.items()}
    if kind.name in {"mixed", "object"}:
        return as_text(value)
    return float(value) if kind == FLOAT else value


def as_text(value: Any) -> str:
    """Words as they are, anything else as its JSON.

    Raises:
        DataError: ``TooDeep``.
    """
    if isinstance(value, str):
        return value
    try:
        return orjson.dumps(value).decode()
    except TypeError:  # an integer beyond 64 bits, or nested very deep
        return as_json(value)
