"""JSON documents one after the other in one file, as programs leave them that append: ``{…}{…}`` or ``{…}\\n{…}``.

No standard has it, so nothing is taken for it that could be a damaged document: without being told, only objects are.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from typing import Any, BinaryIO

import orjson

from silversmith.errors import DataError, Place
from silversmith.formats import text
from silversmith.formats.archives.content import Content
from silversmith.formats.json.kinds import too_deep
from silversmith.formats.json.parse import exact, is_doubtful, parse_strictly, unreadable
from silversmith.formats.json.rows import Block, block_of
from silversmith.formats.table import shorten

#: The longest document, in characters.
LONGEST = 32 * 1024 * 1024

_BLANK = re.compile(r"[ \t\r\n]*")
_SCANNER = json.JSONDecoder()


def is_sequence(data: bytes) -> bool:
    """Whether the text begins with an object that is followed by another one."""
    try:
        decoded = data.decode()
        _, end = _SCANNER.raw_decode(decoded, _after_blank(decoded, 0))
    except (ValueError, RecursionError):
        return False
    at = _after_blank(decoded, end)
    return decoded.lstrip(" \t\r\n").startswith("{") and decoded.startswith("{", at)


def _after_blank(decoded: str, at: int) -> int:
    blank = _BLANK.match(decoded, at)
    return blank.end() if blank else at


def blocks(content: Content, size: int, *, objects: bool) -> Iterator[Block]:
    """The documents in blocks, ``size`` bytes at a time. Arrays are so many records as they have elements; with
    ``objects``, no document may be anything else than an object.

    Raises:
        DataError: ``UnreadableJson`` with the place, ``NotUtf8``, ``TooDeep``, ``TooLarge``.
    """
    number = 1
    with content.open() as file:
        for values, doubtful in _Documents(file, size, objects=objects):
            block = block_of(values, number, doubtful=doubtful)
            number += len(values)
            yield block


class _Documents:
    """Finds where documents end with Python's scanner, which needs no end of text there; orjson says what they are."""

    def __init__(self, file: BinaryIO, size: int, *, objects: bool) -> None:
        self._file = file
        self._size = size
        self._objects = objects
        self._buffer = ""
        self._line = 1
        self._column = 0

    def __iter__(self) -> Iterator[tuple[list[Any], bool]]:
        decoder = codecs.getincrementaldecoder("utf-8")()
        if self._file.read(len(text.BOM)) != text.BOM:
            self._file.seek(0)
        while True:
            more = self._file.read(self._size)
            try:
                self._buffer += decoder.decode(more, final=not more)
            except UnicodeDecodeError as error:
                self._pass(self._buffer)
                raise text.not_utf8(error.object, error, offset=None, line=self._line, column=self._column) from None
            documents = list(self._whole(final=not more))
            if documents:
                yield self._parsed(documents)
            if not more:
                if self._buffer.strip(" \t\r\n"):
                    parse_strictly(self._buffer.encode(), line=self._line, column=self._column)
                return
            if len(self._buffer) > LONGEST:
                raise DataError(
                    "TooLarge",
                    f"a document that begins on line {self._line} has more than {LONGEST:,} characters",
                    hint="put it as NDJSON (one record on each line), which has no limit",
                    place=Place(line=self._line),
                )

    def _whole(self, *, final: bool) -> Iterator[tuple[bytes, int, int]]:
        """The documents that the buffer has whole, each with the line and the column before it; they leave it."""
        buffer, at = self._buffer, 0
        while True:
            start = _after_blank(buffer, at)
            try:
                _, end = _SCANNER.raw_decode(buffer, start)
            except RecursionError:
                raise too_deep() from None
            except ValueError:
                break  # it is not whole yet, or never will be
            if end == len(buffer) and not final:
                break  # a number may go on
            self._pass(buffer[at:start])
            yield buffer[start:end].encode(), self._line, self._column
            self._pass(buffer[start:end])
            at = end
        self._buffer = buffer[at:]

    def _pass(self, passed: str) -> None:
        ends = passed.count("\n")
        self._line += ends
        self._column = len(passed) - passed.rfind("\n") - 1 if ends else self._column + len(passed)

    def _parsed(self, documents: list[tuple[bytes, int, int]]) -> tuple[list[Any], bool]:
        values = []
        for document, line, column in documents:
            try:
                values.append(orjson.loads(document))
            except orjson.JSONDecodeError as error:
                raise unreadable(document, error, line=line, column=column) from None
            if self._objects and not isinstance(values[-1], dict):
                raise _no_object(document, line, column + 1)
        doubtful = is_doubtful(b"\n".join(document for document, _, _ in documents), values)
        if doubtful:
            values = [exact(document) for document, _, _ in documents]
        return [one for value in values for one in (value if isinstance(value, list) else [value])], doubtful


def _no_object(document: bytes, line: int, column: int) -> DataError:
    return DataError(
        "UnreadableJson",
        f"not JSON: text after the end of the document, and no other object (line {line}, column {column})",
        hint="JSON is RFC 8259: one document. If documents follow one another, say so: Json(concatenated=True)",
        place=Place(line=line, column=column, text=shorten(document[:200].decode("utf-8", "replace"))),
    )
