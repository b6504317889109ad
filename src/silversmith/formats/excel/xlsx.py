"""Workbooks of Excel since 2007 (.xlsx, .xlsm): XML parts in a zip archive, read in pieces of some megabytes.

Nearly all sheets have their cells in the few forms that programs write. A piece of such a sheet is taken apart by
Polars, without an object of Python for each cell; every byte of it has to fit :data:`_CELL`. Any other piece goes to
expat, which hands over the same columns of texts. An element counts by its namespace and by the elements around it:
extensions repeat its name elsewhere. Relationships say which part is what, so that no part is known by its path.

https://ecma-international.org/publications-and-standards/standards/ecma-376/
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import chain
from pyexpat import ExpatError, ParserCreate
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote
from xml.etree.ElementTree import Element, ParseError, fromstring

import polars as pl

from silversmith.formats.archives import zips
from silversmith.formats.archives.content import Content
from silversmith.formats.excel.sheets import (
    CELLS,
    DAY,
    MOST_TEXT,
    CellKind,
    SheetInfo,
    check_size,
    refuse_doctype,
    too_large,
    unreadable,
)
from silversmith.formats.table import shorten

if TYPE_CHECKING:
    from zipfile import ZipInfo

#: The largest sheet that Excel knows.
MOST_ROWS, MOST_COLUMNS = 1_048_576, 16_384

#: The largest of the parts that describe the others: relationships, the workbook, styles. In bytes.
_LARGEST_SMALL_PART = 16 * 1024 * 1024

#: Bytes of a part that are taken apart at once, and how long the head of a part, a row or a text may be for that.
PIECE = 2 * 1024 * 1024

#: The namespaces of the transitional and of the strict form.
_MAIN = ("http://schemas.openxmlformats.org/spreadsheetml/2006/main", "http://purl.oclc.org/ooxml/spreadsheetml/main")
_PACKAGE = "http://schemas.openxmlformats.org/package/2006/relationships"

_ESCAPED = re.compile(r"(?:_x[0-9A-Fa-f]{4}_)+")
_REFERENCE = re.compile(r"([A-Z]{1,3})([0-9]{1,7})", re.IGNORECASE)

#: What cells have as XML: row, column from 0, attributes, text; the attributes are in the form of :data:`_CELL`.
_RAW = {"row": pl.UInt32, "column": pl.UInt16, "attributes": pl.String, "text": pl.String}


class XlsxWorkbook:
    """The worksheets of a workbook.

    Raises:
        DataError: ``UnreadableExcel``, ``TooLarge``, ``UnreadableZip``.
    """

    def __init__(self, content: Content) -> None:
        self._file = content.open()
        try:
            self._archive = zips.opened(self._file)
            self._open()
        except BaseException:
            self._file.close()
            raise

    def _open(self) -> None:
        self._members = zips.folded(self._archive)
        root = self._relationships("") if "_rels/.rels" in self._members else {}
        main = next((part for kind, part in root.values() if kind == "officeDocument"), "xl/workbook.xml")
        related = self._relationships(main)
        present = {kind: part for kind, part in related.values() if part.casefold() in self._members}
        self._strings_part = present.get("sharedStrings")
        self._strings: pl.Series | None = None
        self._moments = _moment_styles(self._xml(present["styles"])) if "styles" in present else []
        workbook = self._xml(main)
        namespace = workbook.tag.rpartition("}")[0] + "}"
        self._is_1904 = any(
            properties.get("date1904") in {"1", "true", "on"}
            for properties in workbook.iterfind(f"{namespace}workbookPr")
        )
        self.sheets: list[SheetInfo] = []
        self._parts: list[str] = []
        for sheet in workbook.iterfind(f"{namespace}sheets/{namespace}sheet"):
            identifier = next((value for key, value in sheet.items() if key.endswith("}id")), "")
            kind, part = related.get(identifier, ("", ""))
            if kind == "worksheet":
                is_shown = sheet.get("state") not in {"hidden", "veryHidden"}
                self.sheets.append(SheetInfo(sheet.get("name", ""), is_shown))
                self._parts.append(part)

    def cells(self, index: int) -> Iterator[pl.DataFrame]:
        """The cells of a sheet, some rows at a time.

        Raises:
            DataError: ``UnreadableExcel``, ``TooLarge``.
        """
        if self._strings is None:
            self._strings = self._shared_strings()
        decoder = _Decoder(self._strings, self._moments, is_1904=self._is_1904)
        for raw in _Sheet(self._pieces(self._parts[index]), self._parts[index]).walk():
            yield decoder.decoded(raw)

    def close(self) -> None:
        """Close the archive."""
        self._file.close()

    def _shared_strings(self) -> pl.Series:
        if self._strings_part is None:
            return pl.Series(dtype=pl.String)
        texts: list[pl.Series] = []
        characters = 0
        for piece in _Strings(self._pieces(self._strings_part), self._strings_part).walk():
            texts.append(piece)
            characters += int(piece.str.len_chars().sum())
            if characters > MOST_TEXT:
                raise too_large(f"the texts of the workbook have more than {MOST_TEXT:,} characters")
        return _unescaped(pl.concat(texts)) if texts else pl.Series(dtype=pl.String)

    def _member(self, part: str) -> ZipInfo:
        member = self._members.get(part.casefold()) or self._members.get(unquote(part).casefold())
        if member is None:
            raise unreadable(f'it has no part "{shorten(part)}"')
        return member

    def _pieces(self, part: str) -> Iterator[bytes]:
        member = self._member(part)
        check_size(member)
        return zips.pieces(self._archive, member)

    def _relationships(self, part: str) -> dict[str, tuple[str, str]]:
        """The kind and the part of each relationship of a part, by identifier; ``""`` is the package itself."""
        folder, name = posixpath.split(part)
        related = {}
        relationships = self._xml(posixpath.join(folder, "_rels", f"{name}.rels"))
        for relationship in relationships.iterfind(f"{{{_PACKAGE}}}Relationship"):
            if relationship.get("TargetMode") != "External":
                target = posixpath.join("/", folder, relationship.get("Target", "").replace("\\", "/"))
                kind = relationship.get("Type", "").rpartition("/")[2]
                related[relationship.get("Id", "")] = (kind, posixpath.normpath(target).lstrip("/"))
        return related

    def _xml(self, part: str) -> Element:
        member = self._member(part)
        if member.file_size > _LARGEST_SMALL_PART:
            raise too_large(f'the part "{shorten(part)}" of the workbook has {member.file_size:,} bytes')
        try:
            return fromstring(b"".join(self._pieces(part)))  # noqa: S314 -- small; expat bounds what entities make
        except (ParseError, ValueError, LookupError) as error:
            raise unreadable(f'its part "{shorten(part)}" is not XML: {error}') from None


#: Number formats that have numbers instead of codes and show a day or a time; 46 is elapsed time.
#: https://learn.microsoft.com/en-us/dotnet/api/documentformat.openxml.spreadsheet.numberingformat
_BUILTIN_MOMENTS = frozenset(map(str, [*range(14, 23), *range(27, 37), 45, 47, *range(50, 59)]))
_QUOTED = re.compile(r'"[^"]*"|\\.|_.|\*.|\[(?!h+\]|m+\]|s+\])[^\]]*\]', flags=re.IGNORECASE)
_ELAPSED = re.compile(r"\[(?:h+|m+|s+)\]", flags=re.IGNORECASE)


def _moment_styles(styles: Element) -> list[bool]:
    """For each style of cells whether numbers in it are days or times. Elapsed time, ``[h]:mm``, is a number."""
    namespace = styles.tag.rpartition("}")[0] + "}"
    codes = {
        number_format.get("numFmtId", ""): number_format.get("formatCode", "")
        for number_format in styles.iterfind(f"{namespace}numFmts/{namespace}numFmt")
    }
    formats = [style.get("numFmtId", "0") for style in styles.iterfind(f"{namespace}cellXfs/{namespace}xf")]
    return [
        is_moment(codes[number_format]) if number_format in codes else number_format in _BUILTIN_MOMENTS
        for number_format in formats
    ]


def is_moment(format_code: str) -> bool:
    """Whether a number format of the workbook's own shows a day or a time."""
    if _ELAPSED.search(format_code):
        return False
    bare = _QUOTED.sub("", format_code.partition(";")[0])
    return "general" not in bare.lower() and bool(re.search(r"[ymdhs]", bare, flags=re.IGNORECASE))


# How cells are written by programs, in the words of Polars' regular expressions, which know no look-ahead. A piece is
# split before each cell, so what follows a cell, and the rows between it and the next one, are a part of its text.

_SPACE = r"[ \t\n]*"
_TEXT = r"(?:[^<&\x00-\x08\x0b-\x1f\x{fffe}\x{ffff}]|&(?:lt|gt|quot|apos|amp);)*"
_KEPT = '(?: xml:space="preserve")?'
_ATTRIBUTES = r"(?: [A-Za-z0-9:._-]+=\"[^<>&\"\x00-\x1f]*\")*"
_BETWEEN = (
    rf"{_SPACE}(?:</row>{_SPACE}(?:<row{_ATTRIBUTES} ?(?:/>|>{_SPACE}</row>){_SPACE})*<row{_ATTRIBUTES} ?>{_SPACE})?"
)
_CELL = (
    rf'^r="[A-Z]{{1,3}}[0-9]{{1,7}}"{_ATTRIBUTES} ?(?:/>|>{_SPACE}(?:<f{_ATTRIBUTES} ?(?:/>|>{_TEXT}</f>){_SPACE})?'
    rf"(?:<v{_KEPT}>{_TEXT}</v>|<v ?/>|<is><t{_KEPT}>{_TEXT}</t></is>)?{_SPACE}</c>){_BETWEEN}$"
)
#: The parts of a cell with a value, with a text of its own, and with a formula; all other cells are empty.
_HEAD = r'^r="(?P<column>[A-Z]+)(?P<row>[0-9]+)"(?P<attributes>[^>]*)>[ \t\n]*'
_PARTS = (
    _HEAD + r"<(?P<tag>v)>(?P<text>[^<]+)<",
    _HEAD + r"<(?P<tag>is><t[^<>]*|v [^<>]*)>(?P<text>[^<]+)<",
    _HEAD + r"<f(?:[^<>]*/>|[^<>]*>[^<]*</f>)[ \t\n]*<(?P<tag>v[^<>]*|is><t[^<>]*)>(?P<text>[^<]+)<",
)
_TRIMMED = "is><t"
_FIRST_ROW = re.compile(rf"{_SPACE}(?:<row{_ATTRIBUTES} ?(?:/>|>{_SPACE}</row>){_SPACE})*<row{_ATTRIBUTES} ?>{_SPACE}")
_ITEM = rf"^<t{_KEPT}>{_TEXT}</t>(?:<phoneticPr{_ATTRIBUTES} ?/>)?</si>{_SPACE}$"
_ENTITIES = {"&lt;": "<", "&gt;": ">", "&quot;": '"', "&apos;": "'", "&amp;": "&"}


#: Which state an element leads to, from the state of the element around it. All other elements lead nowhere.
_STEPS = {
    ("", "worksheet"): "worksheet",
    ("worksheet", "sheetData"): "rows",
    ("rows", "row"): "row",
    ("row", "c"): "cell",
    ("cell", "v"): "text",
    ("cell", "is"): "item",
    ("", "sst"): "items",
    ("items", "si"): "item",
    ("item", "t"): "text",
    ("item", "r"): "run",
    ("run", "t"): "text",
}


class _Part:
    """A part with cells or texts, as pieces: plain ones from :meth:`plain`, others from the handlers of expat."""

    element, around, last = "", "", b""

    def __init__(self, pieces: Iterator[bytes], part: str) -> None:
        self._pieces, self._part = pieces, part
        self._parser = ParserCreate(namespace_separator=" ")
        self._parser.buffer_text = True
        self._parser.StartDoctypeDeclHandler = refuse_doctype
        self._parser.StartElementHandler, self._parser.EndElementHandler = self._start, self._end
        self._path = [""]
        self._text: list[str] = []
        self._is_kept = False

    def plain(self, text: str) -> Any:
        """The cells or texts of whole rows or items; None unless all of them are in the plain form."""
        raise NotImplementedError

    def parsed(self) -> Any:
        """The cells or texts that the handlers have taken since the last call."""
        raise NotImplementedError

    def begin(self, state: str, attributes: dict[str, str], /) -> None:
        """An element that leads to a state begins."""

    def finish(self, state: str) -> None:
        """An element that led to a state ends."""
        raise NotImplementedError

    def walk(self) -> Iterator[Any]:
        """All pieces in order."""
        try:
            yield from self._walk()
        except (ExpatError, ValueError, LookupError) as error:
            raise unreadable(f'its part "{shorten(self._part)}" is not XML: {error}') from None

    def _walk(self) -> Iterator[Any]:
        data, is_begun = b"", False
        prefix: bytes | None = b""
        for piece in chain(self._pieces, (b"",)):
            data += piece
            if piece and len(data) < PIECE:
                continue
            if not is_begun:
                data, prefix = self._begin(data)
                is_begun = True
            if prefix is not None and (b"<!" in data or b"<?" in data):
                prefix = None  # what looks like a row may be within a comment
            if prefix is not None:
                last, end = b"</" + prefix + self.last, data.find(b"</" + prefix + self.element.encode())
                cut = end if end >= 0 else data.rfind(last) + len(last)
                if end < 0 and cut < len(last):
                    if piece and len(data) < 4 * PIECE:
                        continue
                    cut, prefix = 0, None
                yield from self._taken(data[:cut], prefix or b"")
                data = data[cut:]
                prefix = prefix if end < 0 else None
            if prefix is None:
                self._parser.Parse(data, False)
                data = b""
                yield self.parsed()
        self._parser.Parse(data, True)
        yield self.parsed()

    def _begin(self, data: bytes) -> tuple[bytes, bytes | None]:
        """The data after the head, which is parsed, and the prefix of the names; None: all is for the parser."""
        opening = re.search(rb"<(?:([\w.-]+:)?)" + self.element.encode() + rb"(?:\s[^<>]*[^/<>])?>", data)
        head = data[: opening.end()] if opening else b""
        self._parser.Parse(head, False)
        is_plain = opening is not None and self._path[-1] == self.around and not _UNUSUAL_HEAD.search(head)
        prefix = opening[1] or b"" if opening and is_plain else None
        return data[len(head) :], None if prefix and _DEFAULT.search(head) else prefix

    def _taken(self, data: bytes, prefix: bytes) -> Iterator[Any]:
        """The cells or texts of whole rows or items, plain or from the parser."""
        if b"xmlns" not in data:
            if prefix and data.count(b"<") == data.count(b"<" + prefix) + data.count(b"</" + prefix):
                text = data.replace(b"<" + prefix, b"<").replace(b"</" + prefix, b"</").decode()
            else:
                text = data.decode() if not prefix else "<"
            taken = self.plain(text)
            if taken is not None:
                yield taken
                return
        self._parser.Parse(data, False)
        yield self.parsed()

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        namespace, _, local = name.rpartition(" ")
        state = _STEPS.get((self._path[-1], local), "nowhere") if namespace in _MAIN else "nowhere"
        self._path.append(state)
        if state == "text":
            self._is_kept = attributes.get("http://www.w3.org/XML/1998/namespace space") == "preserve" or local == "v"
            self._text.clear()
            self._parser.CharacterDataHandler = self._text.append
        elif state != "nowhere":
            self.begin(state, attributes)

    def _end(self, _: str) -> None:
        state = self._path.pop()
        if state == "text":
            self._parser.CharacterDataHandler = None
        if state != "nowhere":
            self.finish(state)

    def taken_text(self) -> str:
        """The text of the element that ends. Blanks at its ends count only where it says so."""
        text = "".join(self._text)
        return text if self._is_kept else text.strip(_BLANKS)


_BLANKS = " \t\n\r"
_UNUSUAL_HEAD = re.compile(rb"""<!|encoding=["'](?!utf-8)""", re.IGNORECASE)
_DEFAULT = re.compile(rb"""\sxmlns\s*=""")


def _replaced(texts: pl.Series, has_entities: bool) -> pl.Series:
    return texts.str.replace_many(list(_ENTITIES), list(_ENTITIES.values())) if has_entities else texts


class _Strings(_Part):
    """The texts of all sheets, which cells name by their number. Phonetic runs are no part of a text."""

    element, around, last = "sst", "items", b"si>"

    def __init__(self, pieces: Iterator[bytes], part: str) -> None:
        super().__init__(pieces, part)
        self._items: list[str] = []
        self._item: list[str] = []

    def plain(self, text: str) -> pl.Series | None:
        first, *_ = text.partition("<si>")
        items = pl.Series([text]).str.split("<si>").explode()[1:]
        if first.strip(_BLANKS) or not items.str.contains(_ITEM).all():
            return None
        texts = items.str.extract(r"^<t[^>]*>([^<]*)")
        if items.str.starts_with("<t>").any():
            texts = texts.zip_with(~items.str.starts_with("<t>"), texts.str.strip_chars(_BLANKS))
        return _replaced(texts, "&" in text)

    def parsed(self) -> pl.Series:
        items, self._items = self._items, []
        return pl.Series(items, dtype=pl.String)

    def begin(self, state: str, _: dict[str, str]) -> None:
        if state == "item":
            self._item = []

    def finish(self, state: str) -> None:
        if state == "text":
            self._item.append(self.taken_text())
        elif state == "item":
            self._items.append("".join(self._item))


class _Sheet(_Part):
    """The cells of a worksheet."""

    element, around, last = "sheetData", "rows", b"row>"

    def __init__(self, pieces: Iterator[bytes], part: str) -> None:
        super().__init__(pieces, part)
        self._cells: list[tuple[int, int, str, str]] = []
        self._row = self._column = 0
        self._attributes = self._value = ""
        self._item: list[str] = []

    def plain(self, text: str) -> pl.DataFrame | None:
        cells = pl.Series([f"{text}<row>"]).str.split("<c ").explode()
        if not _FIRST_ROW.fullmatch(cells[0]) or not cells[1:].str.contains(_CELL).all():
            return None
        rest, taken = cells[1:], []
        for pattern in _PARTS:
            raw = rest.str.extract_groups(pattern).struct.unnest()
            is_taken = raw["row"].is_not_null()
            taken.append(raw.filter(is_taken))
            rest = rest.filter(~is_taken)
        raw = pl.concat(taken)
        if not raw.height:
            return pl.DataFrame(schema=_RAW)
        letters, texts = raw["column"].unique().to_list(), raw["text"]
        if (raw["tag"] == _TRIMMED).any():
            texts = texts.zip_with(raw["tag"] != _TRIMMED, texts.str.strip_chars(_BLANKS))
        raw = pl.DataFrame(
            {
                "row": raw["row"].cast(pl.UInt32),
                "column": raw["column"].replace_strict(letters, list(map(_column, letters)), return_dtype=pl.UInt16),
                "attributes": raw["attributes"],
                "text": _replaced(texts, "&" in text),
            }
        )
        self._row = int(raw["row"].max())  # type: ignore[arg-type]
        return raw

    def parsed(self) -> pl.DataFrame:
        cells, self._cells = self._cells, []
        return pl.DataFrame(cells, schema=_RAW, orient="row")

    def begin(self, state: str, attributes: dict[str, str]) -> None:
        if state == "row":
            self._row, self._column = _number(attributes.get("r", str(self._row + 1)), MOST_ROWS), -1
        elif state == "cell":
            reference = attributes.get("r")
            self._column += 1
            if reference is not None:
                match = _REFERENCE.fullmatch(reference)
                if match is None:
                    raise unreadable(f"a cell is at {shorten(reference)!r}")
                self._column, self._row = _column(match[1].upper()), _number(match[2], MOST_ROWS)
            self._attributes = "".join(f' {key}="{attributes[key]}"' for key in ("s", "t") if key in attributes)
            self._value, self._item = "", []
        elif state == "item":
            self._item = []

    def finish(self, state: str) -> None:
        if state == "text" and self._path[-1] == "cell":
            self._value = self.taken_text()
        elif state == "text":
            self._item.append(self.taken_text())
        elif state == "cell":
            inline = "".join(self._item)
            text = inline or self._value if "inlineStr" in self._attributes else self._value or inline
            if text:
                self._cells.append((self._row, min(self._column, MOST_COLUMNS), self._attributes, text))


def _column(letters: str) -> int:
    """The number of the column with these letters, from 0."""
    column = -1
    for letter in letters:
        column = (column + 1) * 26 + ord(letter) - ord("A")
    return column


def _number(digits: str, most: int) -> int:
    number = int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 10 else 0
    if not 1 <= number <= most:
        raise unreadable(f"a row has the number {shorten(digits)!r}")
    return number


#: What a cell may be by its attribute ``t``; a number, ``n``, whose style shows a day or a time is a ``moment``.
_KINDS = frozenset({"n", "s", "str", "inlineStr", "e", "b", "d"})


class _Decoder:
    """Cells with their values, out of their attributes and texts."""

    def __init__(self, strings: pl.Series, moments: Sequence[bool], *, is_1904: bool) -> None:
        self._strings, self._moments, self._is_1904 = strings, moments, is_1904

    def decoded(self, raw: pl.DataFrame) -> pl.DataFrame:
        """The cells with their values; cells of empty text are dropped."""
        if not (raw["column"].lt(MOST_COLUMNS) & raw["row"].is_between(1, MOST_ROWS)).all():
            raise unreadable(f"a cell is beyond row {MOST_ROWS:,} or column {MOST_COLUMNS:,}")
        attributes = raw["attributes"].unique().to_list()
        kinds = list(map(self._kind, attributes))
        each = raw["attributes"].replace_strict(attributes, kinds, return_dtype=pl.String)
        decoded = [self._as(kind, raw.filter(each == kind) if len(set(kinds)) > 1 else raw) for kind in set(kinds)]
        cells = pl.concat(decoded) if decoded else pl.DataFrame(schema=CELLS)
        return cells.filter((cells["text"] != "").fill_null(True))

    def _kind(self, attributes: str) -> str:
        values = dict(re.findall(r' ([a-zA-Z:]+)="([^"]*)"', attributes))
        kind, style = values.get("t", "n"), values.get("s", "")
        if kind not in _KINDS:
            raise unreadable(f"a cell is of the unknown kind {shorten(kind)!r}")
        is_style = style.isascii() and style.isdigit() and len(style) < 10 and int(style) < len(self._moments)
        return "moment" if kind == "n" and is_style and self._moments[int(style)] else kind

    def _as(self, kind: str, raw: pl.DataFrame) -> pl.DataFrame:
        texts = raw["text"]
        if kind == "n":
            return _cells(raw, CellKind.NUMBER, numbers=_numbers(raw))
        if kind == "moment":
            return self._moment_cells(raw)
        if kind == "b":
            is_true = texts.str.strip_chars(_BLANKS).is_in(["1", "true"])
            return _cells(raw, CellKind.FLAG, numbers=is_true.cast(pl.Float64))
        if kind == "s":
            indexes = texts.str.strip_chars(_BLANKS).cast(pl.UInt32, strict=False).fill_null(2**32 - 1)
            if (indexes >= len(self._strings)).any():
                raise unreadable("a cell names a shared string that is not there")
            return _cells(raw, CellKind.TEXT, texts=self._strings.gather(indexes))
        if kind == "d":
            return _iso_cells(raw)
        return _cells(raw, CellKind.TEXT, texts=texts if kind == "e" else _unescaped(texts))

    def _moment_cells(self, raw: pl.DataFrame) -> pl.DataFrame:
        """Numbers of days as moments, to the millisecond; below one as times of day. What is below zero or after the
        year 9999 stays a number."""
        days = pl.col("days")
        milliseconds = (days * DAY).round()
        is_day = (days >= 0) & (days < _LAST_1904 if self._is_1904 else days < _LAST)
        is_clock = milliseconds < DAY
        # Excel has a 29th of February 1900
        first = pl.lit(_EPOCH_1904) if self._is_1904 else pl.lit(_EPOCH) + (milliseconds < 60 * DAY).cast(pl.Float64)
        kind = pl.when(~is_day).then(CellKind.NUMBER).when(is_clock).then(CellKind.CLOCK).otherwise(CellKind.MOMENT)
        number = pl.when(~is_day).then(days).when(is_clock).then(milliseconds).otherwise(milliseconds + first * DAY)
        cells = raw.select("row", "column", _numbers(raw).alias("days"))
        return cells.select(
            "row", "column", kind.cast(pl.UInt8).alias("kind"), number.alias("number"), text=pl.lit(None, pl.String)
        )


#: The days before 1970 on which Excel's and the Macintosh's counts begin, and the number of the first day after 9999.
_EPOCH, _LAST = -25_569.0, 2_958_466
_EPOCH_1904, _LAST_1904 = -24_107.0, 2_957_004


def _cells(
    raw: pl.DataFrame, kind: CellKind, *, numbers: pl.Series | None = None, texts: pl.Series | None = None
) -> pl.DataFrame:
    number = pl.lit(None, pl.Float64) if numbers is None else numbers
    text = pl.lit(None, pl.String) if texts is None else texts
    return raw.select("row", "column", kind=pl.lit(int(kind), pl.UInt8), number=number, text=text)


def _numbers(raw: pl.DataFrame) -> pl.Series:
    numbers = raw["text"].cast(pl.Float64, strict=False)
    if numbers.null_count():
        numbers = raw["text"].str.strip_chars(_BLANKS).cast(pl.Float64, strict=False)
    is_finite = numbers.is_finite().fill_null(False)
    if not is_finite.all():
        cell = raw.filter(~is_finite).row(0, named=True)
        raise unreadable(f"a cell in row {cell['row']} has the number {shorten(cell['text'])!r}")
    return numbers


def _iso_cells(raw: pl.DataFrame) -> pl.DataFrame:
    """Moments in ISO 8601; any other text stays text."""
    texts = raw["text"].to_list()
    moments = [_moment_of_iso(text) for text in texts]
    kinds = [CellKind.TEXT if moment is None else CellKind.MOMENT for moment in moments]
    columns = (raw["row"].to_list(), raw["column"].to_list(), kinds, moments, texts)
    return pl.DataFrame(dict(zip(CELLS, columns, strict=True)), schema=CELLS)


def _moment_of_iso(text: str) -> float | None:
    """Milliseconds since 1970."""
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        return None
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


def _unescaped(texts: pl.Series) -> pl.Series:
    """Texts of cells: ``_x000D_`` is how a character is written that XML has no place for."""
    if not texts.str.contains("_x", literal=True).any():
        return texts
    return pl.Series([_ESCAPED.sub(_characters, text) for text in texts.to_list()], dtype=pl.String)


def _characters(match: re.Match[str]) -> str:
    """The characters of units of UTF-16; half of a surrogate pair is none."""
    try:
        return bytes.fromhex(match[0].replace("_x", "").replace("_", "")).decode("utf-16-be")
    except UnicodeDecodeError:
        return match[0]
