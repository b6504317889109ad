"""The place of the records in a document: a JSON Pointer, followed in memory, or in a file of any size to an array.

https://www.rfc-editor.org/rfc/rfc6901
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, BinaryIO

import orjson

from silversmith.errors import DataError, Place
from silversmith.formats.archives.content import Content
from silversmith.formats.json.parse import LARGEST, too_large
from silversmith.formats.table import shorten

#: Bytes of a document that are looked at at once.
PIECE = 4 * 1024 * 1024


def steps_of(pointer: str) -> list[str]:
    """The keys that a pointer goes through."""
    return [step.replace("~1", "/").replace("~0", "~") for step in pointer.split("/")[1:]]


def pointer_of(steps: Sequence[str]) -> str:
    """The pointer that goes through some keys."""
    return "".join("/" + step.replace("~", "~0").replace("/", "~1") for step in steps)


def resolve(value: Any, pointer: str) -> Any:
    """The value that a pointer leads to.

    Raises:
        DataError: ``MissingPointer``.
    """
    for key in steps_of(pointer):
        if isinstance(value, dict) and key in value:
            value = value[key]
        elif isinstance(value, list) and key.isdecimal() and key.isascii() and int(key[:9]) < len(value):
            value = value[int(key)]
        else:
            keys = ", ".join(map(shorten, islice(value, 8))) if isinstance(value, dict) else type(value).__name__
            raise DataError(
                "MissingPointer",
                f'the document has nothing at "{pointer}": there is no "{shorten(key)}"; found: {keys or "nothing"}',
                hint="look at the reader's pointer: Json(pointer=…)",
                place=Place(column=key),
            )
    return value


@dataclass(frozen=True)
class Carved:
    """A document in two parts: ``array`` is one of its arrays, which begins after ``column`` characters on ``line``;
    ``rest`` is the document with an empty array in its place. If both parts are JSON, the document is.
    """

    rest: bytes
    array: Content
    line: int
    column: int


def carve(content: Content, pointer: str, *, piece: int = PIECE) -> Carved | None:
    """Cut the array at a pointer out of a document of any size; None if no array is there. Neither part is parsed.

    Raises:
        DataError: ``TooLarge`` for the rest, or one string; ``UnreadableJson`` if the pointer leads to two arrays.
    """
    with content.open() as file:
        place = _find(file, steps_of(pointer), piece)
        if place is None:
            return None
        begin, end = place
        if begin + content.size - end > LARGEST:
            raise too_large("the document has, beside the array at the pointer, more bytes")
        file.seek(0)
        before = file.read(begin)
        path, lines = content.scratch.file(".array"), 0
        with path.open("wb") as array:
            while begin < end:
                data = file.read(min(piece, end - begin))
                array.write(data)
                begin += len(data)
                lines += data.count(b"\n")
        # line ends in the array's place: so an error after it is told on its own line
        rest = before + b"[" + b"\n" * lines + b"]" + file.read()
    decoded = before.decode("utf-8", "replace")
    line_before = decoded.rpartition("\n")[2]
    return Carved(rest, replace(content, data=None, path=path), decoded.count("\n") + 1, len(line_before))


def _find(file: BinaryIO, steps: Sequence[str], piece: int) -> tuple[int, int] | None:
    """The bounds of the array that some keys lead to. The file need not be JSON: parsing shows that."""
    path: list[str | int] = []  # the key, or the position, within each open object and array
    place, begin, depth, text = None, 0, 0, b""
    for token, offset in _tokens(file, piece):
        if depth:
            depth += (token in (b"[", b"{")) - (token in (b"]", b"}"))
            place = place if depth else (begin, offset + 1)
        elif token == b"[" and list(map(str, path)) == steps:
            if place is not None:
                raise DataError(
                    "UnreadableJson",
                    f'the document has two arrays at "{pointer_of(steps)}": a key is there twice',
                    hint="correct the program that writes the file",
                )
            begin, depth = offset, 1
        elif token in (b"[", b"{"):
            path.append(0 if token == b"[" else "")
        elif token in (b"]", b"}"):
            path = path[:-1]
        elif token == b":" and path:
            path[-1] = _key(text)
        elif token == b"," and path and isinstance(path[-1], int):
            path[-1] += 1
        else:
            text = token
    return (begin, file.tell()) if depth else place


def _key(token: bytes) -> str:
    try:
        return str(orjson.loads(token))
    except orjson.JSONDecodeError:
        return ""


def _tokens(file: BinaryIO, piece: int) -> Iterator[tuple[bytes, int]]:
    """The strings and marks of a document, and their places in the file."""
    buffer, offset = b"", 0
    while True:
        more = file.read(piece)
        buffer += more
        end = len(buffer)
        for match in _TOKEN.finditer(buffer):
            if match[0] == b'"':
                end = match.start()
                break
            yield match[0], offset + match.start()
        buffer, offset = buffer[end:], offset + end
        if len(buffer) > LARGEST:
            raise too_large("one text in the document has more bytes")
        if not more:
            return


#: A string, the beginning of one that does not end here, or a mark of the grammar.
_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|"|[\[\]{}:,]', re.DOTALL)
