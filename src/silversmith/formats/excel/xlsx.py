"""Workbooks of Excel since 2007 (.xlsx, .xlsm): their sheets, row by row, with memory for one row and the words.

https://learn.microsoft.com/en-us/openspecs/office_standards/ms-oi29500/
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from math import inf, isfinite
from pyexpat import XMLParserType
from typing import TYPE_CHECKING

from silversmith.formats.excel import ooxml
from silversmith.formats.excel.ooxml import local, unreadable
from silversmith.formats.excel.sheets import Cell, Row, is_builtin_moment, is_moment, moment
from silversmith.formats.table import shorten

if TYPE_CHECKING:
    from zipfile import ZipFile

#: The largest sheet that Excel knows.
MOST_ROWS, MOST_PLACES = 1_048_576, 16_384

_ESCAPED = re.compile(r"_x([0-9A-Fa-f]{4})_")
_REFERENCE = re.compile(r"[A-Z]{1,3}[0-9]+")


class Workbook:
    """A workbook's sheets by name. ``visible`` are those that are shown."""

    def __init__(self, archive: ZipFile) -> None:
        self._archive = archive
        for part in ("xl/workbook.xml", "xl/_rels/workbook.xml.rels", "xl/styles.xml", "xl/sharedStrings.xml"):
            ooxml.check_size(archive, part, ooxml.MOST_PARTS)
        targets = _targets(archive)
        self._parts: dict[str, str] = {}
        self._since_1904 = False
        self.visible: list[str] = []
        for name, attributes in _elements(archive, "xl/workbook.xml"):
            if name == "workbookPr":
                self._since_1904 = attributes.get("date1904") in {"1", "true"}
            elif name == "sheet":
                self._note(attributes, targets)
        self._words: list[str] | None = None
        self._moments: list[bool] | None = None

    def _note(self, attributes: dict[str, str], targets: dict[str, str]) -> None:
        identifier = next((value for key, value in attributes.items() if local(key) == "id" and ":" in key), "")
        name, target = attributes.get("name", ""), targets.get(identifier)
        if target is not None:
            self._parts[name] = target
            if attributes.get("state", "visible") == "visible":
                self.visible.append(name)

    @property
    def names(self) -> list[str]:
        """All worksheets, hidden ones too."""
        return list(self._parts)

    def rows(self, name: str) -> Iterator[Row]:
        """The rows of a sheet.

        Raises:
            DataError: ``UnreadableExcel``, ``TooLarge``.
        """
        if self._words is None:
            self._words = _shared_strings(self._archive)
        if self._moments is None:
            self._moments = _styles(self._archive)
        part = self._parts[name]
        ooxml.check_size(self._archive, part)
        rows = _Rows(self._words, self._moments, since_1904=self._since_1904)
        for _ in ooxml.parse(self._archive, part, rows.prepare):
            yield from rows.taken()


def _targets(archive: ZipFile) -> dict[str, str]:
    """The parts of the worksheets, by the ids that the workbook has for them."""
    found = {}
    for name, attributes in _elements(archive, "xl/_rels/workbook.xml.rels"):
        if name == "Relationship" and attributes.get("Type", "").endswith("/worksheet"):
            target = attributes.get("Target", "")
            found[attributes.get("Id", "")] = target[1:] if target.startswith("/") else f"xl/{target}"
    return found


def _elements(archive: ZipFile, part: str) -> Iterator[tuple[str, dict[str, str]]]:
    """The elements of a small part as they begin."""
    found: list[tuple[str, dict[str, str]]] = []

    def prepare(parser: XMLParserType) -> None:
        parser.StartElementHandler = lambda name, attributes: found.append((local(name), attributes))

    for _ in ooxml.parse(archive, part, prepare):
        yield from found
        found.clear()


def _styles(archive: ZipFile) -> list[bool]:
    """For each style of cells, whether numbers in it are moments."""
    if "xl/styles.xml" not in archive.NameToInfo:
        return []
    codes: dict[str, str] = {}
    styles: list[str] = []
    within = ""
    for name, attributes in _elements(archive, "xl/styles.xml"):
        if name == "numFmt":
            codes[attributes.get("numFmtId", "")] = attributes.get("formatCode", "")
        elif name in {"cellXfs", "cellStyleXfs", "cellStyles", "dxfs"}:
            within = name
        elif name == "xf" and within == "cellXfs":
            styles.append(attributes.get("numFmtId", "0"))
    return [is_moment(codes[one]) if one in codes else is_builtin_moment(_integer(one)) for one in styles]


def _integer(digits: str) -> int:
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 10 else -1


def _shared_strings(archive: ZipFile) -> list[str]:
    """The words of all sheets, which cells name by their number."""
    part = "xl/sharedStrings.xml"
    if part not in archive.NameToInfo:
        return []
    words: list[str] = []
    text: list[str] = []
    listening = phonetic = False

    def prepare(parser: XMLParserType) -> None:
        def start(name: str, _: dict[str, str]) -> None:
            nonlocal listening, phonetic
            name = local(name)
            if name == "si":
                text.clear()
            elif name == "rPh":
                phonetic = True
            listening = name == "t" and not phonetic

        def end(name: str) -> None:
            nonlocal listening, phonetic
            name = local(name)
            listening = False
            if name == "si":
                words.append(unescaped("".join(text)))
            elif name == "rPh":
                phonetic = False

        parser.StartElementHandler, parser.EndElementHandler = start, end
        parser.CharacterDataHandler = lambda data: text.append(data) if listening else None

    for _ in ooxml.parse(archive, part, prepare):
        pass
    return words


def unescaped(text: str) -> str:
    """Text of a cell: ``_x000D_`` is how a character is written that XML has no place for."""
    return _ESCAPED.sub(_character, text) if "_x" in text else text


def _character(found: re.Match[str]) -> str:
    code = int(found[1], 16)
    return found[0] if 0xD800 <= code <= 0xDFFF else chr(code)  # half of a pair is no character


class _Rows:
    """Makes rows of what the parser hears."""

    def __init__(self, words: list[str], moments: list[bool], *, since_1904: bool) -> None:
        self._words = words
        self._moments = moments
        self._since_1904 = since_1904
        self._rows: list[Row] = []
        self._number = 0
        self._cells: dict[int, Cell] = {}
        self._place = -1
        self._kind = self._style = ""
        self._text: list[str] = []
        self._listening = False
        self._places: dict[str, int] = {}

    def prepare(self, parser: XMLParserType) -> None:
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._characters

    def taken(self) -> list[Row]:
        """The rows that are whole, to be taken once."""
        rows, self._rows = self._rows, []
        return rows

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        name = local(name)
        if name == "c":
            self._place = self._where(attributes.get("r"))
            self._kind, self._style = attributes.get("t", "n"), attributes.get("s", "")
            self._text = []
        elif name in {"v", "t"}:
            self._listening = True
        elif name == "row":
            told = attributes.get("r")
            self._number = self._number + 1 if told is None else _integer(told)
            if not 1 <= self._number <= MOST_ROWS:
                raise unreadable(f"a row has the number {told!r}")
            self._cells, self._place = {}, -1
        elif name == "rPh":
            self._listening = False

    def _where(self, reference: str | None) -> int:
        """The column of a cell, from 0; a cell that does not say is beside the one before."""
        if reference is None:
            return self._place + 1
        letters = reference.rstrip("0123456789")
        place = self._places.get(letters)
        if place is None:
            if not _REFERENCE.fullmatch(reference):
                raise unreadable(f"a cell is at {reference!r}")
            place = -1
            for letter in letters:
                place = (place + 1) * 26 + ord(letter) - ord("A")
            if place >= MOST_PLACES:
                raise unreadable(f"a cell is at {reference!r}")
            self._places[letters] = place
        return place

    def _characters(self, data: str) -> None:
        if self._listening:
            self._text.append(data)

    def _end(self, name: str) -> None:
        name = local(name)
        if name in {"v", "t"}:
            self._listening = False
        elif name == "c":
            if self._text:
                self._cells[self._place] = self._cell("".join(self._text))
        elif name == "row" and self._cells:
            self._rows.append((self._number, self._cells))

    def _cell(self, text: str) -> Cell:
        read = _KINDS.get(self._kind)
        if read is not None:
            return read(text)
        if self._kind == "s":
            at = _integer(text.strip())
            if not 0 <= at < len(self._words):
                raise unreadable(f"a cell in row {self._number} names a word that is not there")
            return self._words[at]
        if self._kind != "n":
            raise unreadable(f"a cell in row {self._number} is of the unknown kind {self._kind!r}")
        try:
            number = float(text)
        except ValueError:
            number = inf
        if not isfinite(number):
            raise unreadable(f"a cell in row {self._number} has the number {shorten(text)!r}")
        style = _integer(self._style)
        is_day = 0 <= style < len(self._moments) and self._moments[style]
        return moment(number, since_1904=self._since_1904) if is_day else number


def _iso(text: str) -> Cell:
    """A moment in ISO 8601; what is none stays text."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return text
    return found if found.tzinfo is None else found.astimezone(UTC).replace(tzinfo=None)


_KINDS: dict[str, Callable[[str], Cell]] = {
    "str": unescaped,
    "inlineStr": unescaped,
    "e": str,
    "b": lambda text: text.strip() in {"1", "true"},
    "d": _iso,
}
