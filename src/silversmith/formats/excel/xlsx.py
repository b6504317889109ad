"""Workbooks of Excel since 2007 (.xlsx, .xlsm), read row by row, in memory for one row and the shared strings.

A workbook is a zip archive of XML parts. Relationships say which part is what, so that no part is known by its path.
An element counts only with the namespace and the depth that the schema gives it: extensions repeat its names elsewhere.
https://ecma-international.org/publications-and-standards/standards/ecma-376/
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from math import inf, isfinite
from pyexpat import ExpatError, ParserCreate, XMLParserType
from typing import TYPE_CHECKING

from silversmith.errors import DataError
from silversmith.formats.archives import zips
from silversmith.formats.archives.content import unpacked_limit
from silversmith.formats.excel.sheets import Cell, Row, SheetInfo, moment, unreadable
from silversmith.formats.table import shorten

if TYPE_CHECKING:
    from zipfile import ZipFile, ZipInfo

#: The largest sheet that Excel knows.
MOST_ROWS, MOST_COLUMNS = 1_048_576, 16_384

#: The most XML of a part that is held in memory, such as the shared strings, in bytes.
MOST_PART = 128 * 1024 * 1024

#: The namespaces of the transitional and of the strict form, of elements and of references to relationships.
_MAIN = ("http://schemas.openxmlformats.org/spreadsheetml/2006/main", "http://purl.oclc.org/ooxml/spreadsheetml/main")
_REFERENCES = (
    "http://schemas.openxmlformats.org/officeDocument/2006/relationships",
    "http://purl.oclc.org/ooxml/officeDocument/relationships",
)
_PACKAGE = ("http://schemas.openxmlformats.org/package/2006/relationships",)

#: Number formats that have numbers instead of codes and show a day or a time; 46 is elapsed time.
#: https://learn.microsoft.com/en-us/dotnet/api/documentformat.openxml.spreadsheet.numberingformat
_BUILTIN_MOMENTS = frozenset([*range(14, 23), *range(27, 37), 45, 47, *range(50, 59)])
_QUOTED = re.compile(r'"[^"]*"|\\.|_.|\*.|\[(?!h+\]|m+\]|s+\])[^\]]*\]', flags=re.IGNORECASE)
_ELAPSED = re.compile(r"\[(?:h+|m+|s+)\]", flags=re.IGNORECASE)

_ESCAPED = re.compile(r"_x([0-9A-Fa-f]{4})_")
_REFERENCE = re.compile(r"[A-Za-z]{1,3}[0-9]+")


class Workbook:
    """The worksheets of a workbook.

    Raises:
        DataError: ``UnreadableExcel``, ``TooLarge``.
    """

    def __init__(self, archive: ZipFile) -> None:
        self._package = _Package(archive)
        part = self._package.main_part()
        related = self._package.relationships(part)
        targets = {identifier: target for identifier, kind, target in related if kind == "worksheet"}
        self._styles_part = next((target for _, kind, target in related if kind == "styles"), None)
        self._strings_part = next((target for _, kind, target in related if kind == "sharedStrings"), None)
        self._parts: list[str] = []
        self._since_1904 = False
        self._strings: list[str] | None = None
        self._days: dict[str, bool] = {}
        self.sheets: list[SheetInfo] = []
        for path, attributes in self._package.elements(part, _MAIN):
            if path == "workbook/workbookPr":
                self._since_1904 = attributes.get("date1904") in {"1", "true", "on"}
            elif path == "workbook/sheets/sheet":
                target = targets.get(
                    next((attributes[f"{one} id"] for one in _REFERENCES if f"{one} id" in attributes), "")
                )
                if target is not None:
                    self._parts.append(target)
                    shown = attributes.get("state") not in {"hidden", "veryHidden"}
                    self.sheets.append(SheetInfo(attributes.get("name", ""), shown))

    def rows(self, index: int) -> Iterator[Row]:
        """The rows of a sheet.

        Raises:
            DataError: ``UnreadableExcel``, ``TooLarge``.
        """
        if self._strings is None:
            self._strings = _shared_strings(self._package, self._strings_part)
            self._days = _moment_styles(self._package, self._styles_part)
        decoder = _SheetDecoder(self._strings, self._days, since_1904=self._since_1904)
        plain = _PlainRows(decoder)
        for _ in self._package.parse(self._parts[index], decoder.prepare, limit=None, feed=plain.feed):
            yield from decoder.take()


class _Package:
    """The parts of an Office document. Names are compared without case, and a backslash counts as a slash."""

    def __init__(self, archive: ZipFile) -> None:
        self._archive = archive
        self._members = {_folded(member.filename): member for member in reversed(archive.infolist())}

    def main_part(self) -> str:
        """The workbook's part: the root's relationships name it."""
        if _folded("_rels/.rels") in self._members:
            for _, kind, target in self.relationships(""):
                if kind == "officeDocument":
                    return target
        return "xl/workbook.xml"

    def relationships(self, part: str) -> list[tuple[str, str, str]]:
        """Id, last word of the type, and target of each relationship of a part; ``""`` is the package itself."""
        folder, name = posixpath.split(part)
        found = []
        for path, attributes in self.elements(posixpath.join(folder, "_rels", f"{name}.rels"), _PACKAGE):
            if path == "Relationships/Relationship" and attributes.get("TargetMode") != "External":
                target = posixpath.normpath(
                    posixpath.join("/", folder, attributes.get("Target", "").replace("\\", "/"))
                )
                kind = attributes.get("Type", "").rpartition("/")[2]
                found.append((attributes.get("Id", ""), kind, target.lstrip("/")))
        return found

    def has(self, part: str) -> bool:
        return _folded(part) in self._members

    def elements(self, part: str, namespaces: tuple[str, ...]) -> Iterator[tuple[str, dict[str, str]]]:
        """The path of local names and the attributes of each element of these namespaces, as they begin. Where an
        element of another namespace is among those around it, the path says so with a ``*``."""
        begun: list[tuple[str, dict[str, str]]] = []
        path: list[str] = []

        def start(name: str, attributes: dict[str, str]) -> None:
            namespace, _, local = name.rpartition(" ")
            path.append(local if namespace in namespaces else "*")
            begun.append(("/".join(path[-8:]), attributes))

        def end(_: str) -> None:
            path.pop()

        def prepare(parser: XMLParserType) -> None:
            parser.StartElementHandler, parser.EndElementHandler = start, end

        for _ in self.parse(part, prepare, limit=MOST_PART):
            yield from begun
            begun.clear()

    def parse(
        self,
        part: str,
        prepare: Callable[[XMLParserType], None],
        *,
        limit: int | None,
        feed: Callable[[XMLParserType, bytes], object] = lambda parser, piece: parser.Parse(piece, not piece),
    ) -> Iterator[None]:
        """Parse a part, a piece at a time. ``prepare`` sets the handlers; names are ``namespace local``. ``limit`` is
        in bytes of XML; None: as much as any object may unpack to. ``feed`` gives the parser a piece, an empty one
        after the last.

        Raises:
            DataError: ``UnreadableExcel``, ``TooLarge``.
        """
        member = self._members.get(_folded(part))
        if member is None:
            raise unreadable(f'it has no part "{shorten(part)}"')
        check_size(member, limit)
        parser = ParserCreate(namespace_separator=" ")
        parser.buffer_text = True
        parser.StartDoctypeDeclHandler = refuse_doctype
        prepare(parser)
        try:
            for piece in zips.pieces(self._archive, member):
                feed(parser, piece)
                yield
            feed(parser, b"")
            yield
        except (ExpatError, ValueError, LookupError) as error:
            raise unreadable(f'its part "{shorten(part)}" is not XML: {error}') from None


def check_size(member: ZipInfo, limit: int | None = None) -> None:
    """Raise DataError ``TooLarge`` for a part with more bytes than ``limit``; None: than any object may unpack to. No
    more than its directory says is ever unpacked of a part."""
    limit = unpacked_limit(member.compress_size) if limit is None else limit
    if member.file_size > limit:
        raise DataError(
            "TooLarge",
            f'the part "{shorten(member.filename)}" of the document has {member.file_size:,} bytes; {limit:,} are read',
            hint="save the sheet as CSV, which has no limit",
        )


def _folded(name: str) -> str:
    return name.replace("\\", "/").lstrip("/").casefold()


def refuse_doctype(*_: object) -> None:
    """A handler of expat: entities, which a DOCTYPE declares, could make gigabytes of a few bytes."""
    raise unreadable("it has a DOCTYPE, which no such document has")


def is_moment(format_code: str) -> bool:
    """Whether a number format of the workbook's own shows a day or a time. Elapsed time, ``[h]:mm``, is a number."""
    if _ELAPSED.search(format_code):
        return False
    bare = _QUOTED.sub("", format_code.partition(";")[0])
    return "general" not in bare.lower() and bool(re.search(r"[ymdhs]", bare, flags=re.IGNORECASE))


def is_builtin_moment(number: int) -> bool:
    """The same for the formats that have numbers instead of codes."""
    return number in _BUILTIN_MOMENTS


def _moment_styles(package: _Package, part: str | None) -> dict[str, bool]:
    """For each style of cells, by its number as text, whether numbers in it are days or times."""
    if part is None or not package.has(part):
        return {}
    codes: dict[str, str] = {}
    formats: list[str] = []
    for path, attributes in package.elements(part, _MAIN):
        if path == "styleSheet/numFmts/numFmt":
            codes[attributes.get("numFmtId", "")] = attributes.get("formatCode", "")
        elif path == "styleSheet/cellXfs/xf":
            formats.append(attributes.get("numFmtId", "0"))
    return {
        str(index): is_moment(codes[one]) if one in codes else is_builtin_moment(_integer(one))
        for index, one in enumerate(formats)
    }


def _integer(digits: str) -> int:
    """A number of at most nine digits; -1 for any other text."""
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 10 else -1


def _shared_strings(package: _Package, part: str | None) -> list[str]:
    """The texts of all sheets, which cells name by their number. Phonetic runs are no part of a text."""
    if part is None or not package.has(part):
        return []
    strings: list[str] = []
    text: list[str] = []
    path: list[str] = []

    def prepare(parser: XMLParserType) -> None:
        def start(name: str, _: dict[str, str]) -> None:
            namespace, _sep, local = name.rpartition(" ")
            path.append(local if namespace in _MAIN else "*")
            if local == "si" and len(path) == 2:
                text.clear()
            is_text = local == "t" and path in (["sst", "si", "t"], ["sst", "si", "r", "t"])
            parser.CharacterDataHandler = text.append if is_text else None

        def end(_: str) -> None:
            parser.CharacterDataHandler = None
            if path == ["sst", "si"]:
                strings.append(unescaped("".join(text)))
            path.pop()

        parser.StartElementHandler, parser.EndElementHandler = start, end

    for _ in package.parse(part, prepare, limit=MOST_PART):
        pass
    return strings


def unescaped(text: str) -> str:
    """Text of a cell: ``_x000D_`` is how a character is written that XML has no place for."""
    return _ESCAPED.sub(_character, text) if "_x" in text else text


def _character(match: re.Match[str]) -> str:
    code = int(match[1], 16)
    return match[0] if 0xD800 <= code <= 0xDFFF else chr(code)  # half of a surrogate pair is no character


class _SheetDecoder:
    """Rows out of the elements of a worksheet: ``worksheet / sheetData / row / c / v``, or ``is`` with text inside.

    The handlers run once for each element of each cell, so they are closures over a few local variables.
    """

    def __init__(self, strings: list[str], days: dict[str, bool], *, since_1904: bool) -> None:
        self._strings = strings
        self._days = days
        self._since_1904 = since_1904
        self._rows: list[Row] = []
        self._text: list[str] = []
        self._columns: dict[str, int] = {}
        self._number = 0
        self.between_rows = False

    def take(self) -> list[Row]:
        """The rows that are whole, to be taken once."""
        rows = self._rows[:]
        self._rows.clear()
        return rows

    def prepare(self, parser: XMLParserType) -> None:
        """Look for the rows; nothing else of the sheet is heard."""
        depth = 0

        def start(name: str, _: dict[str, str]) -> None:
            nonlocal depth
            depth += 1
            if depth == 2 and name in _SHEET_DATA:
                self.between_rows = True
                self._enter(parser, name.rpartition(" ")[0], leave)

        def end(_: str) -> None:
            nonlocal depth
            depth -= 1

        def leave() -> None:
            nonlocal depth
            depth -= 1
            self.between_rows = False
            parser.StartElementHandler, parser.EndElementHandler = start, end

        parser.StartElementHandler, parser.EndElementHandler = start, end

    def _enter(self, parser: XMLParserType, namespace: str, leave: Callable[[], None]) -> None:  # noqa: C901, PLR0915
        row_name, cell_name, value_name, inline_name, run_name, text_name = (
            f"{namespace} {local}" for local in ("row", "c", "v", "is", "r", "t")
        )
        text, rows, columns, decode = self._text, self._rows, self._columns, self._decode
        depth, in_row, in_cell, in_inline, in_run, in_text = 0, False, False, False, False, False
        cells: dict[int, Cell] = {}
        column = -1
        kind: str | None = None
        style: str | None = None
        value: str | None = None
        inline = ""

        def start(name: str, attributes: dict[str, str]) -> None:
            nonlocal depth, in_row, in_cell, in_inline, in_run, in_text, cells, column, kind, style, value, inline
            depth += 1
            if depth == 3:
                if in_cell:
                    if name == value_name:
                        text.clear()
                        parser.CharacterDataHandler = text.append
                    elif name == inline_name:
                        in_inline, inline = True, ""
            elif depth == 2:
                if in_row and name == cell_name:
                    in_cell = True
                    get = attributes.get
                    reference = get("r")
                    if reference is None:
                        column += 1
                    else:
                        letters = reference.rstrip("0123456789")
                        column = columns[letters] if letters in columns else self._column(letters, reference)
                    kind, style, value = get("t"), get("s"), None
            elif depth == 1:
                self.between_rows = False
                if name == row_name:
                    self._number = self._row_number(attributes.get("r"))
                    in_row, cells, column = True, {}, -1
            elif in_inline:
                in_run = name == run_name if depth == 4 else in_run
                if name == text_name and (depth == 4 or (depth == 5 and in_run)):
                    in_text = True
                    text.clear()
                    parser.CharacterDataHandler = text.append

        def end(name: str) -> None:
            nonlocal depth, in_row, in_cell, in_inline, in_run, in_text, value, inline
            depth -= 1
            if depth == 2:
                if in_cell and name == value_name:
                    value = text[0] if len(text) == 1 else "".join(text)
                    parser.CharacterDataHandler = None
                elif in_inline:
                    in_inline = False
                    value = inline if kind == "inlineStr" else value
            elif depth == 1:
                in_cell = False
                if value:
                    cell = decode(kind, style, value)
                    if cell != "":
                        cells[column] = cell
                    value = None
            elif depth == 0:
                if in_row and cells:
                    rows.append((self._number, cells))
                in_row = False
                self.between_rows = True
            elif depth < 0:
                leave()
            elif in_text:
                inline += "".join(text)
                in_text = False
                parser.CharacterDataHandler = None

        parser.StartElementHandler, parser.EndElementHandler = start, end

    def add_plain(self, number: str, cells: Iterable[tuple[str, str, str, str, str]]) -> None:
        """A row, with the letters, style, kind, value and inline text of each cell, any of them perhaps empty."""
        self._number = self._row_number(number)
        columns, decode = self._columns, self._decode
        row: dict[int, Cell] = {}
        for letters, style, kind, value, inline in cells:
            text = inline if kind == "inlineStr" else value
            if text:
                cell = decode(kind or None, style or None, text)
                if cell != "":
                    row[columns[letters] if letters in columns else self._column(letters, f"{letters}1")] = cell
        if row:
            self._rows.append((self._number, row))

    def _row_number(self, written: str | None) -> int:
        """A row that does not say its number is the one after the row before."""
        number = self._number + 1 if written is None else _integer(written)
        if not 1 <= number <= MOST_ROWS:
            raise unreadable(f"a row has the number {written!r}")
        return number

    def _column(self, letters: str, reference: str) -> int:
        """The column of a reference such as ``B7``, from 0."""
        if not _REFERENCE.fullmatch(reference):
            raise unreadable(f"a cell is at {reference!r}")
        column = -1
        for letter in letters.upper():
            column = (column + 1) * 26 + ord(letter) - ord("A")
        if column >= MOST_COLUMNS:
            raise unreadable(f"a cell is at {reference!r}")
        self._columns[letters] = column
        return column

    def _decode(self, kind: str | None, style: str | None, text: str) -> Cell:
        if kind == "s":
            index = _integer(text.strip())
            if not 0 <= index < len(self._strings):
                raise unreadable(f"a cell in row {self._number} names a shared string that is not there")
            return self._strings[index]
        if kind is None or kind == "n":
            try:
                number = float(text)
            except ValueError:
                number = inf
            if not isfinite(number):
                raise unreadable(f"a cell in row {self._number} has the number {shorten(text)!r}")
            if style is None or not self._is_day(style):
                return number
            return moment(number, since_1904=self._since_1904)
        decode = _DECODERS.get(kind)
        if decode is None:
            raise unreadable(f"a cell in row {self._number} is of the unknown kind {kind!r}")
        return decode(text)

    def _is_day(self, style: str) -> bool:
        """A style that is not there is the default one."""
        is_day = self._days.get(style)
        if is_day is None:
            is_day = self._days[style] = self._days.get(str(_integer(style)), False)
        return is_day


#: A cell as programs write it. No character in it is special in XML, so that its text is what XML says it is.
_TEXT = r"([^<>&\r\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]*)"
_CELL = (
    r'<c r="([A-Z]{1,3})[0-9]+"(?: s="([0-9]+)")?(?: t="([a-zA-Z]+)")?'
    rf'(?:/>|>(?:<f>{_TEXT[1:-1]}</f>)?(?:<v>{_TEXT}</v>)?(?:<is><t(?: xml:space="preserve")?>{_TEXT}</t></is>)?</c>)'
)
_CELLS = re.compile(_CELL)
_PLAIN_ROW = re.compile(
    rf'<row r="([0-9]+)"(?:(?!xmlns)[^<>/&])*>((?:{_CELL.replace("(?:", "(").replace("(", "(?:")})*)</row>\s*'
)


class _PlainRows:
    """Takes rows in the form in which programs write them from the XML before it is parsed: that is four times faster.

    A row is taken only between rows, where the parser has all before it, and only if every character of it fits
    :data:`_PLAIN_ROW`. The parser gets all the rest: the same sheet less those rows. After a comment or the like, in
    which text may look like a row, it gets everything.
    """

    def __init__(self, decoder: _SheetDecoder) -> None:
        self._decoder = decoder
        self._buffer = b""
        self._off = False
        self._begun = False

    def feed(self, parser: XMLParserType, piece: bytes) -> None:
        """Give the parser a piece without its plain rows; an empty piece ends the part."""
        data, self._buffer = self._buffer + piece, b""
        if not self._begun:
            head, mark, rest = data.partition(b"<sheetData>")
            self._off = self._off or not _is_utf8(head)
            if mark:
                parser.Parse(head + mark, False)
                self._begun, data = True, rest
                self._off = self._off or not self._decoder.between_rows
            elif not self._off and piece and len(data) < _LONGEST_HEAD:
                self._buffer = data
                return
            else:
                self._off = True
        if not self._off:
            end = data.rfind(b"</row>") + len(b"</row>")
            if end < len(b"</row>"):
                end = 0 if piece else len(data)
            if b"<!" in data or b"<?" in data or len(data) > _LONGEST_ROW + len(piece):
                self._off = True
            else:
                self._buffer = data[end:] if piece else b""
                self._take(parser, data[:end])
                data = b"" if piece else data[end:]
        if data:
            parser.Parse(data, False)
        if not piece:
            parser.Parse(b"", True)

    def _take(self, parser: XMLParserType, data: bytes) -> None:
        """Take the plain rows of the data, and give the parser the others."""
        text = data.decode()
        at = 0
        while at < len(text):
            match = _PLAIN_ROW.match(text, at) if self._decoder.between_rows else None
            if match is not None:
                self._decoder.add_plain(match[1], _CELLS.findall(match[2]))
                at = match.end()
                continue
            following = text.find("<row ", at + 1)
            end = following if following > 0 else len(text)
            parser.Parse(text[at:end].encode(), False)
            at = end


def _is_utf8(head: bytes) -> bool:
    """Whether XML that begins so is UTF-8, and its names are in the namespace of worksheets without a prefix."""
    declared = re.match(rb"""(?:\xef\xbb\xbf)?<\?xml [^>]*?encoding=["']([^"']+)["']""", head)
    return declared is None or declared[1].lower() == b"utf-8"


#: The rows begin within so many bytes, and each is no longer, or the sheet is parsed as any other XML.
_LONGEST_HEAD = _LONGEST_ROW = 4 * 1024 * 1024


def _iso(text: str) -> Cell:
    """A moment in ISO 8601; any other text stays text."""
    try:
        value = datetime.fromisoformat(text)
    except ValueError:
        return text
    return value if value.tzinfo is None else value.astimezone(UTC).replace(tzinfo=None)


_SHEET_DATA = frozenset(f"{namespace} sheetData" for namespace in _MAIN)

_DECODERS: dict[str, Callable[[str], Cell]] = {
    "str": unescaped,
    "inlineStr": unescaped,
    "e": str,
    "b": lambda text: text.strip() in {"1", "true"},
    "d": _iso,
}
