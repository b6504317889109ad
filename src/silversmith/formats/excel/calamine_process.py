"""The process in which calamine reads a workbook. It runs as a script and imports neither Silversmith nor Polars.

calamine is fast, and it trusts its input: a few bytes can make it ask for more memory than there is, which aborts the
process, and damage can make it panic. In a process of its own, under a limit of memory and of processor time, either
is an answer about that one file.

Requests and replies: one line of JSON on standard input, one pickle with its length before it on standard output. The
first request opens the workbook and is answered with its worksheets; each further one names a sheet and the chunk of
its rows that is wanted next, and is answered with rows. A reply that is a text is an error: ``encrypted``, ``memory``,
``unreadable`` or ``broken``, then ``:`` and the reason in words.
"""

from __future__ import annotations

import json
import pickle
import re
import resource
import struct
import sys
from collections.abc import Callable, Iterator
from datetime import date, datetime, time, timedelta
from typing import Any, BinaryIO

#: A chunk of rows ends after so many cells.
CHUNK_CELLS = 50_000

#: Seconds of processor time that a workbook may take.
MOST_SECONDS = 300

#: https://learn.microsoft.com/en-us/openspecs/office_file_formats/ms-xls/
_ERROR_CODES = {
    0x00: "#NULL!", 0x07: "#DIV/0!", 0x0F: "#VALUE!", 0x17: "#REF!", 0x1D: "#NAME?", 0x24: "#NUM!", 0x2A: "#N/A",
    0x2B: "#GETTING_DATA",
}  # fmt: skip

#: The error cells of each sheet, by its number: row, from 1, column, from 0, and text, in order. calamine's Python
#: binding gives such cells as empty.
ErrorCells = dict[int, list[tuple[int, int, str]]]

#: calamine leaves out what stands beyond this column of an .ods, LibreOffice's last one.
ODS_COLUMNS = 16_384


class _Unreadable(Exception):
    """A document that would be read wrongly. The text says why."""


class _Rows:
    """The worksheets of one workbook, their rows in chunks."""

    def __init__(self, path: str, kind: str) -> None:
        from python_calamine import CalamineWorkbook, SheetTypeEnum, SheetVisibleEnum

        self._kind = kind
        self._workbook = CalamineWorkbook.from_path(path)
        self._errors = ERROR_CELLS[kind](path) if kind in ERROR_CELLS else {}
        self.sheets = [
            (index, sheet.name, sheet.visible == SheetVisibleEnum.Visible)
            for index, sheet in enumerate(self._workbook.sheets_metadata)
            if sheet.typ == SheetTypeEnum.WorkSheet
        ]
        self._position = (-1, -1)
        self._iterator: Iterator[dict[str, Any]] = iter(())

    def chunk(self, index: int, number: int) -> dict[str, Any]:
        """Chunk ``number`` of the rows of a sheet, from 0; empty after the last. Chunks are asked for in order."""
        if self._position != (index, number):
            self._iterator = self._chunks(index)
        self._position = (index, number + 1)
        return next(self._iterator, {})

    def _chunks(self, index: int) -> Iterator[dict[str, Any]]:
        errors = self._errors.get(index, [])
        sheet = self._workbook.get_sheet_by_index(index)
        is_ods = self._kind == "ods"
        _, left = sheet.start or (0, 0)
        _, last = sheet.end or (0, 0)
        if is_ods and last + 1 >= ODS_COLUMNS:
            raise _Unreadable(f"a row has {ODS_COLUMNS:,} cells or more")
        rows: list[int] = []
        cells: list[Any] = []
        for number, row in enumerate(sheet.iter_rows(), 1):
            if row.count("") < len(row):
                rows.append(number)
                cells += [_length_of(cell) if type(cell) is str else cell for cell in row] if is_ods else row
            if len(cells) >= CHUNK_CELLS:
                above = [error for error in errors if error[0] <= number]
                errors = errors[len(above) :]
                yield _chunk(left, rows, cells, above, is_ods=is_ods)
                rows, cells = [], []
        if rows or errors:
            yield _chunk(left, rows, cells, errors, is_ods=is_ods)


def _chunk(
    left: int, rows: list[int], cells: list[Any], errors: list[tuple[int, int, str]], *, is_ods: bool
) -> dict[str, Any]:
    """Rows as lists, which take less than an object for each row: the number of each, and for each cell its kind, as in
    ``sheets.Kind``, and a number; the texts of those that are texts. Empty cells are empty texts."""
    kinds, numbers = (_ODS_KINDS, _ODS_NUMBERS) if is_ods else (_KINDS, _NUMBERS)
    return {
        "left": left,
        "rows": rows,
        "kinds": [kinds[type(cell)] for cell in cells],
        "numbers": [numbers[type(cell)](cell) for cell in cells],
        "texts": [cell for cell in cells if type(cell) is str],
        "errors": errors,
    }


#: The kind of a cell by its type. Lengths of time are numbers of days in Excel's formats; in .ods every time is one.
_KINDS = {float: 0, int: 0, timedelta: 0, bool: 1, datetime: 2, date: 2, time: 3, str: 5}
_ODS_KINDS = {**_KINDS, time: 4, timedelta: 4}

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001

#: Milliseconds, but for numbers; what a text gives is not used.
_NUMBERS: dict[type, Callable[[Any], float]] = {
    float: float,
    int: float,
    bool: float,
    str: len,
    datetime: lambda moment: (moment - _EPOCH) / timedelta(milliseconds=1),
    date: lambda day: (day - _EPOCH.date()) / timedelta(milliseconds=1),
    time: lambda clock: ((clock.hour * 60 + clock.minute) * 60 + clock.second) * 1000 + clock.microsecond / 1000,
    timedelta: lambda length: length / timedelta(days=1),
}
_ODS_NUMBERS = {**_NUMBERS, timedelta: lambda length: length / timedelta(milliseconds=1)}

#: Stands before a text that looks like a length of time, as ``calamine.py`` writes it.
TEXT = "\ue000"

_DURATION = re.compile(r"(-?)PT(\d{1,6})H(\d{1,2})M(\d{1,2}(?:[.,]\d+)?)S")


def _length_of(text: str) -> timedelta | str:
    """A length of time, which calamine gives as ISO 8601 where it is over a day; any other text as it is."""
    match = _DURATION.fullmatch(text) if "PT" in text[:3] else None
    if match is None:
        return text.removeprefix(TEXT)
    length = timedelta(hours=int(match[2]), minutes=int(match[3]), seconds=float(match[4].replace(",", ".")))
    return -length if match[1] else length


def _xls_errors(path: str) -> ErrorCells:
    """Of an .xls: records ``BoolErr``, and ``Formula`` whose cached result is an error."""
    import olefile  # type: ignore[import-untyped]

    with olefile.OleFileIO(path) as document:
        name = next((name for name in ("Workbook", "Book") if document.exists(name)), None)
        stream = document.openstream(name).read() if name else b""
    if not _PERHAPS_ERRORS.search(stream):
        return {}
    sheets = [struct.unpack_from("<I", data)[0] for kind, data in _biff(stream, 0) if kind == 0x85]
    return {index: sorted(_xls_sheet_errors(stream, at)) for index, at in enumerate(sheets)}


def _xls_sheet_errors(stream: bytes, at: int) -> Iterator[tuple[int, int, str]]:
    for kind, data in _biff(stream, at):
        if kind == 0x0205 and data[7] == 1:
            code = data[6]
        elif kind in {0x0006, 0x0206, 0x0406} and data[12:14] == b"\xff\xff" and data[6] == 2:
            code = data[8]
        else:
            continue
        row, column = struct.unpack_from("<HH", data)
        yield row + 1, column, _ERROR_CODES.get(code, "#ERROR!")


#: Such a record, or something that looks like it. Most workbooks have none, and are not walked.
_PERHAPS_ERRORS = re.compile(rb"\x05\x02\x08\x00.{7}\x01|\x06[\x00\x02\x04].{8}\x02.{5}\xff\xff", re.DOTALL)


def _biff(stream: bytes, at: int) -> Iterator[tuple[int, bytes]]:
    """The records of one substream, from its BOF to its EOF; charts within it are left out."""
    depth = 0
    while at + 4 <= len(stream):
        kind, length = struct.unpack_from("<HH", stream, at)
        depth += {0x0809: 1, 0x000A: -1}.get(kind, 0)
        if depth <= 0:
            return
        if depth == 1:
            yield kind, stream[at + 4 : at + 4 + length]
        at += 4 + length


def _xlsb_errors(path: str) -> ErrorCells:
    """Of an .xlsb: records ``BrtCellError`` and ``BrtFmlaError``."""
    import posixpath
    from xml.etree.ElementTree import fromstring
    from zipfile import ZipFile

    with ZipFile(path) as archive:
        relationships = fromstring(archive.read("xl/_rels/workbook.bin.rels"))  # noqa: S314 -- of limited size and memory
        targets = {relationship.get("Id"): relationship.get("Target", "") for relationship in relationships}
        sheets = []
        for kind, data in _biff12(archive.read("xl/workbook.bin")):
            if kind == 156:  # BrtBundleSh
                length = struct.unpack_from("<I", data, 8)[0]
                target = targets[data[12 : 12 + 2 * length].decode("utf-16-le")]
                sheets.append(posixpath.normpath(posixpath.join("/xl", target)).lstrip("/"))
        return {index: sorted(_xlsb_sheet_errors(archive.read(part))) for index, part in enumerate(sheets)}


def _xlsb_sheet_errors(stream: bytes) -> Iterator[tuple[int, int, str]]:
    row = 0
    for kind, data in _biff12(stream):
        if kind == 0:  # BrtRowHdr
            row = struct.unpack_from("<I", data)[0]
        elif kind in {3, 11}:
            yield row + 1, struct.unpack_from("<I", data)[0], _ERROR_CODES.get(data[8], "#ERROR!")


def _biff12(stream: bytes) -> Iterator[tuple[int, bytes]]:
    """Records, whose kinds and lengths are numbers of seven bits a byte."""
    at = 0
    while at < len(stream):
        kind, at = _varint(stream, at, keep=True)
        length, at = _varint(stream, at, keep=False)
        yield kind, stream[at : at + length]
        at += length


def _varint(stream: bytes, at: int, *, keep: bool) -> tuple[int, int]:
    """A number and the place after it. A kind keeps the bit that says that it goes on: none has more than two bytes."""
    number = 0
    for shift in range(2 if keep else 4):
        byte = stream[at + shift]
        number |= (byte & 0x7F) << 7 * shift
        if not byte & 0x80:
            return number, at + shift + 1
    return number, at + (2 if keep else 4)


#: How to find the error cells of a format; those of .ods are texts already, see ``calamine.py``.
ERROR_CELLS: dict[str, Callable[[str], ErrorCells]] = {"xls": _xls_errors, "xlsb": _xlsb_errors}


def _open(path: str, kind: str, memory: int) -> _Rows | None:
    """The worksheets, read under limits; None if the workbook is encrypted."""
    for limit, most in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CPU, MOST_SECONDS),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(limit)
        resource.setrlimit(limit, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))
    return None if kind == "xls" and _is_encrypted_package(path) else _Rows(path, kind)


def _is_encrypted_package(path: str) -> bool:
    """Whether a compound file is an .xlsx with a password."""
    import olefile

    with olefile.OleFileIO(path) as document:
        return bool(document.exists("EncryptedPackage"))


def failure(error: BaseException) -> str:
    names = {kind.__name__ for kind in type(error).__mro__}
    if "PasswordError" in names:
        return "encrypted:"
    if isinstance(error, MemoryError):
        return "memory:"
    if isinstance(error, ImportError):
        return f"broken:{error}"
    if isinstance(error, _Unreadable):
        return f"unreadable:{error}"
    if "CalamineError" in names:
        return "memory:" if "limit exceeded" in str(error) else f"unreadable:{error}"
    return "unreadable:a part of it is damaged"  # a panic, whose text says nothing to a user


def main(requests: BinaryIO, replies: BinaryIO) -> None:
    """Answer requests until there are no more."""
    workbook: _Rows | None = None
    while line := requests.readline():
        try:
            request = json.loads(line)
            if "path" in request:
                sys.path[:] = request["modules"]
                workbook = _open(request["path"], request["kind"], request["memory"])
                answer: Any = workbook.sheets if workbook else "encrypted:"
            else:
                answer = workbook and workbook.chunk(request["sheet"], request["chunk"])
            reply = pickle.dumps(answer, pickle.HIGHEST_PROTOCOL)
        except BaseException as error:  # noqa: BLE001 -- a panic of Rust is a BaseException
            reply = pickle.dumps(failure(error))
        replies.write(struct.pack("<Q", len(reply)))
        replies.write(reply)
        replies.flush()


if __name__ == "__main__":
    main(sys.stdin.buffer, sys.stdout.buffer)
