"""Workbooks of LibreOffice and its like (.ods): their sheets, row by row, with memory for one row.

https://docs.oasis-open.org/office/OpenDocument/v1.3/os/part3-schema/OpenDocument-v1.3-os-part3-schema.html
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from math import isfinite
from pyexpat import XMLParserType
from typing import TYPE_CHECKING

from silversmith.formats.excel import ooxml
from silversmith.formats.excel.ooxml import unreadable
from silversmith.formats.excel.sheets import Cell, Row, time_of_day
from silversmith.formats.table import shorten

if TYPE_CHECKING:
    from zipfile import ZipFile

_PART = "content.xml"
_NUMBERS = {"float", "percentage", "currency"}
_DURATION = re.compile(r"PT(\d{1,6})H(\d{1,2})M(\d{1,2}(?:[.,]\d+)?)S")

#: The widest sheet that LibreOffice knows, and more rows than it does.
MOST_PLACES, MOST_ROWS = 16_384, 2**31


class Workbook:
    """A workbook's sheets by name. That one is hidden is a matter of style here, and not looked at."""

    def __init__(self, archive: ZipFile) -> None:
        ooxml.check_size(archive, _PART)
        self._archive = archive
        names: list[str] = []

        def prepare(parser: XMLParserType) -> None:
            def start(name: str, attributes: dict[str, str]) -> None:
                if name == "table:table":
                    names.append(attributes.get("table:name", ""))

            parser.StartElementHandler = start

        for _ in ooxml.parse(archive, _PART, prepare):
            pass
        self.names = names

    @property
    def visible(self) -> list[str]:
        return self.names

    def rows(self, name: str) -> Iterator[Row]:
        """The rows of a sheet.

        Raises:
            DataError: ``UnreadableExcel``.
        """
        rows = _Rows(name)
        for _ in ooxml.parse(self._archive, _PART, rows.prepare):
            yield from rows.taken()


class _Rows:
    """Makes rows of what the parser hears within one sheet. What is written many times comes many times."""

    def __init__(self, sheet: str) -> None:
        self._sheet = sheet
        self._depth = 0
        self._within = False
        self._rows: list[tuple[Row, int]] = []
        self._number = 1
        self._cells: dict[int, Cell] = {}
        self._place = self._repeat = self._row_repeat = 0
        self._attributes: dict[str, str] = {}
        self._paragraphs: list[str] = []
        self._listening = self._remarks = 0

    def prepare(self, parser: XMLParserType) -> None:
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._characters

    def taken(self) -> Iterator[Row]:
        """The rows that are whole, to be taken once."""
        rows, self._rows = self._rows, []
        for (number, cells), repeat in rows:
            for again in range(repeat):
                yield number + again, cells

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        if name == "table:table":
            self._depth += 1
            if self._depth == 1:
                self._within = attributes.get("table:name", "") == self._sheet
                self._number = 1
        if not self._within:
            return
        if name == "table:table-row":
            self._cells, self._place = {}, 0
            self._row_repeat = _count(attributes.get("table:number-rows-repeated", "1"))
        elif name in {"table:table-cell", "table:covered-table-cell"}:
            self._attributes, self._paragraphs = attributes, []
            self._repeat = _count(attributes.get("table:number-columns-repeated", "1"))
        elif name == "office:annotation":
            self._remarks += 1
        elif not self._remarks:
            self._text_begins(name, attributes)

    def _text_begins(self, name: str, attributes: dict[str, str]) -> None:
        if name == "text:p":
            self._listening += 1
            self._paragraphs.append("")
        elif not self._listening:
            return
        elif name == "text:s":
            self._characters(" " * min(_count(attributes.get("text:c", "1")), 10_000))
        elif name in {"text:tab", "text:line-break"}:
            self._characters("\t" if name == "text:tab" else "\n")

    def _characters(self, data: str) -> None:
        if self._listening and not self._remarks:
            self._paragraphs[-1] += data

    def _end(self, name: str) -> None:
        if self._within:
            if name == "text:p" and not self._remarks:
                self._listening -= 1
            elif name == "office:annotation":
                self._remarks -= 1
            elif name in {"table:table-cell", "table:covered-table-cell"}:
                self._cell_ends()
            elif name == "table:table-row":
                self._row_ends()
        if name == "table:table":
            self._depth -= 1
            self._within = self._within and self._depth > 0

    def _cell_ends(self) -> None:
        cell = _cell(self._attributes, "\n".join(self._paragraphs))
        if cell is not None:
            if self._place + self._repeat > MOST_PLACES:
                raise unreadable(f"row {self._number} has more than {MOST_PLACES:,} cells")
            for place in range(self._place, self._place + self._repeat):
                self._cells[place] = cell
        self._place += self._repeat

    def _row_ends(self) -> None:
        if self._cells:
            self._rows.append(((self._number, self._cells), self._row_repeat))
        self._number += self._row_repeat
        if self._number > MOST_ROWS:
            raise unreadable("it has more rows than a sheet can have")


def _count(digits: str) -> int:
    if not (digits.isascii() and digits.isdigit() and len(digits) < 10):
        raise unreadable(f"something is repeated {shorten(digits)!r} times")
    return int(digits)


def _cell(attributes: dict[str, str], text: str) -> Cell:
    """A cell by its kind; what does not fit its kind is the text that is shown."""
    kind = attributes.get("office:value-type")
    if kind is None or attributes.get("calcext:value-type") == "error":
        return text or None
    if kind in _NUMBERS:
        return _number(attributes.get("office:value", ""), text)
    if kind == "boolean":
        return attributes.get("office:boolean-value") == "true"
    if kind == "date":
        return _date(attributes.get("office:date-value", ""), text)
    if kind == "time":
        return _time(attributes.get("office:time-value", ""), text)
    return attributes.get("office:string-value") or text or None


def _number(value: str, text: str) -> Cell:
    try:
        number = float(value)
    except ValueError:
        return text
    return number if isfinite(number) else text


def _date(value: str, text: str) -> Cell:
    try:
        found = datetime.fromisoformat(value)
    except ValueError:
        return text
    return found if found.tzinfo is None else text


def _time(value: str, text: str) -> Cell:
    """A time of day; a longer or negative time is the text that is shown."""
    found = _DURATION.fullmatch(value)
    if not found:
        return text
    length = timedelta(hours=int(found[1]), minutes=int(found[2]), seconds=float(found[3].replace(",", ".")))
    if length >= timedelta(days=1):
        return text
    return time_of_day(length)
