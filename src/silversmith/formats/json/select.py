"""Places in JSON: of the records in a document, by a JSON Pointer; and of columns in each record, by the reader's.

Where the keys of records differ from one to the next, as in logs, the columns of silver stay the same, and nothing is
lost.
https://www.rfc-editor.org/rfc/rfc6901
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import islice
from typing import Any, BinaryIO

import orjson

from silversmith.errors import DataError, Place
from silversmith.formats.archives.content import Content
from silversmith.formats.json.rows import Block, Blocks
from silversmith.formats.json.values import LARGEST, Kind, as_text, too_large
from silversmith.formats.table import ROW, shorten
from silversmith.formats.text import texts_problem

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


# The columns of each record.

#: By key, the column that holds its value, or the same of the object that it holds.
_Tree = dict[str, "str | _Tree"]


@dataclass(frozen=True)
class Selection:
    """The part of a record to take. ``columns`` are pairs of a column and its pointer; empty: the record as it is."""

    columns: tuple[tuple[str, str], ...] = ()
    each: str | None = None
    extra: str | None = None
    null_values: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.columns or self.each or self.null_values)

    def of(self, blocks: Blocks) -> Blocks:
        """The blocks, with the selected parts of their records."""
        return partial(self._selected, blocks) if self else blocks

    def _selected(self, blocks: Blocks, _: Mapping[str, Kind]) -> Iterator[Block]:
        first = 1
        for block in blocks({}):  # columns are parsed at once only where kinds are known
            assert isinstance(block, Block)
            part = block if self.each is None else _exploded_block(block, steps_of(self.each), first)
            first += len(part.records) + len(part.malformed)
            yield Block(list(map(self._row, part.records)), part.numbers, part.malformed)

    def _row(self, record: dict[str, Any]) -> dict[str, Any]:
        if not self.columns:
            return {name: None if value in self.null_values else value for name, value in record.items()}
        row: dict[str, Any] = {}
        rest = self._take(record, _tree(self.columns), row)
        if rest and self.extra is not None:
            row[self.extra] = as_text(rest)
        return row

    def _take(self, value: dict[str, Any], tree: _Tree, row: dict[str, Any]) -> dict[str, Any]:
        """Fill the row, and return what is left of the object."""
        rest = {}
        for key, item in value.items():
            branch = tree.get(key)
            if isinstance(branch, str):
                if isinstance(item, dict | list):
                    row[branch] = as_text(item)
                else:
                    row[branch] = None if item in self.null_values else item
            elif branch is not None and isinstance(item, dict):
                if left := self._take(item, branch, row):
                    rest[key] = left
            elif branch is None or item is not None:
                rest[key] = item
        return rest


#: Each record as it is.
ALL = Selection()


def _exploded_block(block: Block, steps: Sequence[str], first: int) -> Block:
    """The elements of the records' lists as records of their own, with numbers from ``first`` on."""
    items: dict[int, Any] = dict(zip(block.numbers, block.records, strict=True))
    items |= {number: (text, reason) for number, text, reason in block.malformed}
    records: list[dict[str, Any]] = []
    numbers: list[int] = []
    malformed: list[tuple[int, str, str]] = []
    for number in sorted(items):
        item = items[number]
        if isinstance(item, tuple):
            malformed.append((first, *item))
            first += 1
        else:
            parts = _exploded(item, steps)
            records += parts
            numbers += range(first, first + len(parts))
            first += len(parts)
    return Block(records, numbers, malformed)


def _exploded(record: dict[str, Any], steps: Sequence[str]) -> list[dict[str, Any]]:
    """The record once for each element of its list, which stands in the list's place; without a list, as it is."""
    key, *deeper = steps
    value = record.get(key)
    parts = value
    if deeper:
        parts = _exploded(value, deeper) if isinstance(value, dict) else None
    return [{**record, key: part} for part in parts] if isinstance(parts, list) else [record]


@cache
def _tree(columns: tuple[tuple[str, str], ...]) -> _Tree:
    tree: _Tree = {}
    for column, pointer in columns:
        *parents, last = steps_of(pointer)
        branch = tree
        for step in parents:
            inner = branch.setdefault(step, {})
            if isinstance(inner, str):
                raise ValueError(f"{pointer!r} leads into {inner!r}, which is a column of its own")
            branch = inner
        if last in branch:
            raise ValueError(f"{pointer!r} is named twice, or holds what another column is made of")
        branch[last] = column
    return tree


def problem_of(columns: Any, each: Any, extra: Any, null_values: Any) -> str:
    """The end of an error about these options of ``Json``; empty if they are fine."""
    if columns is not None:
        pairs = list(columns.items()) if isinstance(columns, Mapping) else []
        if not pairs or not all(_is_name(name) and _is_pointer(pointer) for name, pointer in pairs):
            return f"columns={columns!r}): must say where in a record each column is, as {{'city': '/customer/city'}}"
        try:
            _tree(tuple(pairs))
        except ValueError as error:
            return f"columns=…): {error}"
    if each is not None and not _is_pointer(each):
        return f"each={each!r}): must be where a record has its list, as '/logEvents'"
    if extra is not None and (not _is_name(extra) or columns is None or extra in columns):
        return f"extra={extra!r}): must be the name of another column, beside columns=…"
    return texts_problem("null_values", null_values)


def _is_name(name: object) -> bool:
    return isinstance(name, str) and name not in {"", ROW}


def _is_pointer(pointer: object) -> bool:
    return isinstance(pointer, str) and pointer.startswith("/")
