"""Workbooks of Excel 97 to 2003 (.xls): records of a few bytes each, in one stream of a compound file.

https://learn.microsoft.com/en-us/openspecs/office_file_formats/ms-xls/
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from math import isfinite

from silversmith.errors import DataError
from silversmith.formats.archives.content import Content
from silversmith.formats.excel.ole import Compound
from silversmith.formats.excel.ooxml import unreadable
from silversmith.formats.excel.sheets import Cell, Row, is_builtin_moment, is_moment, moment

#: The largest workbook, in bytes: it is held in memory.
LARGEST = 64 * 1024 * 1024

_BOF, _EOF, _CONTINUE, _SHEET, _DATES, _PASSWORD = 0x0809, 0x0A, 0x3C, 0x85, 0x22, 0x2F
_FORMAT, _STYLE, _WORDS = 0x041E, 0xE0, 0xFC
_WORD, _NUMBER, _SHORT, _SHORTS, _LABEL, _RICH = 0xFD, 0x0203, 0x027E, 0xBD, 0x0204, 0xD6
_TRUTH, _FORMULA, _RESULT = 0x0205, 0x06, 0x0207
_BIFF8 = 0x0600

_ERRORS = {
    0x00: "#NULL!", 0x07: "#DIV/0!", 0x0F: "#VALUE!", 0x17: "#REF!", 0x1D: "#NAME?", 0x24: "#NUM!", 0x2A: "#N/A",
}  # fmt: skip

#: A record: its kind, and its data with what continues it, in the parts in which it stands.
_Record = tuple[int, list[bytes]]


class Workbook:
    """A workbook's sheets by name. ``visible`` are those that are shown.

    Raises:
        DataError: ``UnreadableExcel``, ``TooLarge``.
    """

    def __init__(self, content: Content) -> None:
        if content.size > LARGEST:
            raise DataError(
                "TooLarge",
                f"the workbook has {content.size:,} bytes; {LARGEST:,} are read, in memory",
                hint="save it as .xlsx or CSV",
            )
        stream = Compound(content.read()).stream("Workbook", "Book")
        if stream is None:
            raise unreadable("it is an old Office file, but no Excel workbook")
        self._stream = stream
        self._formats: dict[int, str] = {}
        self._styles: list[int] = []
        self._words: list[str] = []
        self._since_1904 = False
        self._places: dict[str, int] = {}
        self.visible: list[str] = []
        try:
            self._read_globals()
        except (struct.error, IndexError):
            raise unreadable("a record is too short") from None
        self._moments = [self._is_moment(one) for one in self._styles]

    @property
    def names(self) -> list[str]:
        """All worksheets, hidden ones too."""
        return list(self._places)

    def rows(self, name: str) -> Iterator[Row]:
        """The rows of a sheet."""
        try:
            yield from self._rows(self._places[name])
        except (struct.error, IndexError):
            raise unreadable("a record is too short") from None

    def _read_globals(self) -> None:
        readers: dict[int, Callable[[list[bytes]], None]] = {
            _SHEET: self._note_sheet,
            _FORMAT: lambda parts: self._formats.update({_u16(parts[0], 0): _Text(parts, 2).text()}),
            _STYLE: lambda parts: self._styles.append(_u16(parts[0], 2)),
            _WORDS: self._note_words,
        }
        for position, (kind, parts) in enumerate(self._records(0)):
            if position == 0 and (kind != _BOF or _u16(parts[0], 0) != _BIFF8):
                raise unreadable("it is of Excel 95 or before, or no workbook")
            if kind == _PASSWORD:
                raise unreadable("it is encrypted: save it without a password; S3 encrypts what lies in it")
            if kind == _DATES:
                self._since_1904 = _u16(parts[0], 0) == 1
            elif kind in readers:
                readers[kind](parts)
            elif kind == _EOF:
                return

    def _records(self, at: int) -> Iterator[_Record]:
        """The records from a place in the stream, each with what continues it."""
        kind, parts = -1, list[bytes]()
        stream = self._stream
        while at + 4 <= len(stream):
            found, length = struct.unpack_from("<HH", stream, at)
            data = stream[at + 4 : at + 4 + length]
            if len(data) < length:
                raise unreadable("it ends in the middle")
            at += 4 + length
            if found == _CONTINUE:
                parts.append(data)
                continue
            if kind >= 0:
                yield kind, parts
            kind, parts = found, [data]
        if kind >= 0:
            yield kind, parts

    def _note_sheet(self, parts: list[bytes]) -> None:
        (place, state, kind, length, wide) = struct.unpack_from("<IBBBB", parts[0], 0)
        if kind != 0:
            return  # a chart or a macro
        raw = parts[0][8 : 8 + length * (2 if wide & 1 else 1)]
        name = raw.decode("utf-16-le" if wide & 1 else "latin-1", "replace")
        self._places[name] = place
        if state & 3 == 0:
            self.visible.append(name)

    def _note_words(self, parts: list[bytes]) -> None:
        (number,) = struct.unpack_from("<I", parts[0], 4)
        reader = _Text(parts, 8)
        if number * 3 > sum(map(len, parts)):
            raise unreadable("it says that it has more words than it can hold")
        self._words = [reader.text() for _ in range(number)]

    def _is_moment(self, number: int) -> bool:
        return is_moment(self._formats[number]) if number in self._formats else is_builtin_moment(number)

    def _rows(self, place: int) -> Iterator[Row]:
        """Rows as the cells come, which is row by row."""
        row, cells = -1, dict[int, Cell]()
        depth, pending = 0, 0
        for kind, parts in self._records(place):
            if kind in {_BOF, _EOF}:
                depth += 1 if kind == _BOF else -1
                if depth == 0:
                    break
            elif depth == 1 and kind == _RESULT:
                cells[pending] = _Text(parts, 0).text()
            elif depth == 1 and kind in _CELLS:
                (found,) = struct.unpack_from("<H", parts[0], 0)
                if found < row:
                    raise unreadable("its rows are out of order")
                if found > row and cells:
                    yield row + 1, cells
                    cells = {}
                row = found
                for pending, cell in self._cells(kind, parts):
                    if cell is not None:
                        cells[pending] = cell
        if depth:
            raise unreadable("a sheet ends in the middle")
        if cells:
            yield row + 1, cells

    def _cells(self, kind: int, parts: list[bytes]) -> Iterator[tuple[int, Cell]]:
        """The cells of a record, and their columns."""
        data = parts[0]
        column, style = struct.unpack_from("<HH", data, 2)
        if kind == _SHORTS:
            for at in range(4, len(data) - 2, 6):
                style, short = struct.unpack_from("<HI", data, at)
                yield column, self._number(_short(short), style)
                column += 1
        elif kind == _FORMULA:
            yield column, self._result(data, style)
        elif kind == _WORD:
            yield column, self._words[_u32(data, 6)]
        elif kind == _NUMBER:
            yield column, self._number(struct.unpack_from("<d", data, 6)[0], style)
        elif kind == _SHORT:
            yield column, self._number(_short(_u32(data, 6)), style)
        elif kind == _TRUTH:
            yield column, _error(data[6]) if data[7] else bool(data[6])
        else:
            yield column, _Text(parts, 6).text()

    def _number(self, number: float, style: int) -> Cell:
        if not isfinite(number):
            raise unreadable("a cell has a number that is none")
        return moment(number, since_1904=self._since_1904) if self._moments[style] else number

    def _result(self, data: bytes, style: int) -> Cell:
        """What a formula came to; text comes in a record of its own."""
        if data[12:14] != b"\xff\xff":
            return self._number(struct.unpack_from("<d", data, 6)[0], style)
        if data[6] == 1:
            return bool(data[8])
        return _error(data[8]) if data[6] == 2 else None


_CELLS = frozenset([_WORD, _NUMBER, _SHORT, _SHORTS, _LABEL, _RICH, _TRUTH, _FORMULA])


class _Text:
    """Reads texts from the parts of a record. Where letters go on in another part, it says anew how wide they are."""

    def __init__(self, parts: list[bytes], at: int) -> None:
        self._parts = parts
        self._part = 0
        self._at = at

    def _take(self, length: int) -> bytes:
        found = b""
        while len(found) < length:
            data = self._parts[self._part]
            piece = data[self._at : self._at + length - len(found)]
            found += piece
            self._at += len(piece)
            if self._at >= len(data) and len(found) < length:
                self._part, self._at = self._part + 1, 0
        return found

    def text(self) -> str:
        length, flags = struct.unpack("<HB", self._take(3))
        runs = struct.unpack("<H", self._take(2))[0] if flags & 8 else 0
        extra = struct.unpack("<I", self._take(4))[0] if flags & 4 else 0
        letters = self._letters(length, wide=bool(flags & 1))
        if runs * 4 + extra > sum(map(len, self._parts)):
            raise unreadable("a text is longer than its record")
        self._take(runs * 4 + extra)
        return letters

    def _letters(self, length: int, *, wide: bool) -> str:
        text = ""
        while length:
            if self._at >= len(self._parts[self._part]):
                self._part, self._at = self._part + 1, 1
                wide = bool(self._parts[self._part][0] & 1)
            size = 2 if wide else 1
            data = self._parts[self._part]
            piece = data[self._at : self._at + length * size]
            piece = piece[: len(piece) // size * size]
            if not piece:
                raise unreadable("a text is cut off")
            text += piece.decode("utf-16-le" if wide else "latin-1", "replace")
            self._at += len(piece)
            length -= len(piece) // size
        return text


def _u16(data: bytes, at: int) -> int:
    return int(struct.unpack_from("<H", data, at)[0])


def _u32(data: bytes, at: int) -> int:
    return int(struct.unpack_from("<I", data, at)[0])


def _short(number: int) -> float:
    """A number in 30 bits: whole, or the upper half of a floating one; a hundredth of it if the lowest bit is set.

    https://learn.microsoft.com/en-us/openspecs/office_file_formats/ms-xls/04fa5c29-3960-47f8-a7c0-cd6ed9a5c8b9
    """
    if number & 2:
        found = float((number - (1 << 32) if number & (1 << 31) else number) >> 2)
    else:
        (found,) = struct.unpack("<d", struct.pack("<Q", (number & 0xFFFFFFFC) << 32))
    return float(found / 100 if number & 1 else found)


def _error(code: int) -> str:
    return _ERRORS.get(code, "#ERROR!")
