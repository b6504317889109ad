"""JSON text as values: strict, with the place of an error, and without silent damage.

orjson is fast and strict, but of an object with a repeated key it keeps the last value, and of an integer beyond 64
bits a float. Where the text may have either, it is parsed again by Python's own parser, which can be told to look.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import chain
from typing import Any

import orjson

from silversmith.errors import DataError, Place
from silversmith.formats import text
from silversmith.formats.json.kinds import too_deep
from silversmith.formats.table import shorten

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
        self.pairs = list(pairs)
        self.key = key


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


def render(value: Any) -> str:
    """A value as JSON again, with repeated keys where they were.

    Raises:
        DataError: ``TooDeep``.
    """
    try:
        return _rendered(value)
    except RecursionError:
        raise too_deep() from None


def _rendered(value: Any) -> str:
    if isinstance(value, dict):
        pairs = value.pairs if isinstance(value, Repeated) else value.items()
        return "{" + ",".join(f"{json.dumps(key, ensure_ascii=False)}:{_rendered(inner)}" for key, inner in pairs) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_rendered, value)) + "]"
    return json.dumps(value, ensure_ascii=False)
