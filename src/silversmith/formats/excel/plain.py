"""Workbooks as calamine needs them to read every cell right: copied as they are, or written anew.

calamine drops CDATA, reads text beside the cell's as the cell's, looks for some parts by their usual names only, makes
times of day of negative numbers, and its Python binding gives cells with errors as empty. A workbook with any of that
is written to a new archive that holds the plain cells only. The search for it errs towards writing.

https://ecma-international.org/publications-and-standards/standards/ecma-376/
https://docs.oasis-open.org/office/OpenDocument/v1.3/os/part3-schema/OpenDocument-v1.3-os-part3-schema.html
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from pyexpat import ExpatError, ParserCreate
from xml.etree.ElementTree import Element, ParseError, fromstring
from xml.sax.saxutils import escape, quoteattr
from zipfile import ZIP_STORED, ZipFile, ZipInfo

from silversmith.errors import DataError
from silversmith.formats.archives import zips
from silversmith.formats.archives.content import Content, unpacked_limit
from silversmith.formats.excel.sheets import encrypted, unreadable
from silversmith.formats.table import shorten

#: The largest .xls, in bytes: it is held in memory.
LARGEST_XLS = 64 * 1024 * 1024

#: The largest of the parts that describe the others: relationships, the workbook, styles. In bytes.
_LARGEST_SMALL_PART = 16 * 1024 * 1024

#: Pieces are searched with so many bytes of the piece before; no formula is longer.
_OVERLAP = 64 * 1024

_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_STRICT = "http://purl.oclc.org/ooxml/spreadsheetml/main"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006/relationships"
_SPACE = "http://www.w3.org/XML/1998/namespace space"
_STATES = frozenset({"visible", "hidden", "veryHidden"})


def prepare(content: Content, kind: str) -> Path:
    """A file that calamine reads right, with no part that unpacks to more than an object may.

    Raises:
        DataError: ``UnreadableExcel``, ``TooLarge``, ``UnreadableZip``.
    """
    path = content.scratch.file(f".{kind}")  # calamine goes by the ending
    if kind == "xls":
        if content.size > LARGEST_XLS:
            raise _too_large(f"the workbook has {content.size:,} bytes; {LARGEST_XLS:,} are read, in memory")
    else:
        with content.open() as file, closing(zips.opened(file)) as archive:
            for member in archive.infolist():
                _check_size(member)
            if (kind == "xlsx" and _write_xlsx(archive, path)) or (kind == "ods" and _write_ods(archive, path)):
                return path
    if content.path is not None:
        path.symlink_to(content.path)
    else:
        path.write_bytes(content.read())
    return path


def _check_size(member: ZipInfo) -> None:
    """No more than the directory says is ever unpacked of a part."""
    limit = unpacked_limit(member.compress_size)
    if member.file_size > limit:
        raise _too_large(
            f'the part "{shorten(member.filename)}" of the document has {member.file_size:,} bytes; {limit:,} are read'
        )


def _too_large(message: str) -> DataError:
    return DataError("TooLarge", message, hint="save the sheet as CSV, which has no limit")


@dataclass(frozen=True)
class _Sheet:
    name: str
    state: str
    part: str


class _Xlsx:
    """The parts of an .xlsx, which relationships name. Names are compared without case, and a backslash is a slash."""

    def __init__(self, archive: ZipFile) -> None:
        self.archive = archive
        self._members = zips.folded(archive)
        root = self._relationships("") if "_rels/.rels" in self._members else {}
        self.main = next((part for kind, part in root.values() if kind == "officeDocument"), "xl/workbook.xml")
        related = self._relationships(self.main)
        present = {kind: part for kind, part in related.values() if part.casefold() in self._members}
        self.styles, self.strings = present.get("styles"), present.get("sharedStrings")
        workbook = self._xml(self.main)
        namespace = workbook.tag.rpartition("}")[0] + "}"
        self.is_1904 = any(
            one.get("date1904") in {"1", "true", "on"} for one in workbook.iterfind(f"{namespace}workbookPr")
        )
        self.sheets = []
        for sheet in workbook.iterfind(f"{namespace}sheets/{namespace}sheet"):
            identifier = next((value for key, value in sheet.items() if key.endswith("}id")), "")
            kind, part = related.get(identifier, ("", ""))
            if kind == "worksheet":
                self.sheets.append(_Sheet(sheet.get("name", ""), sheet.get("state", "visible"), part))

    def pieces(self, part: str) -> Iterator[bytes]:
        return zips.pieces(self.archive, self._member(part))

    def has_usual_parts(self) -> bool:
        """Whether calamine finds all parts."""
        usual = {self.main: "xl/workbook.xml", self.styles: "xl/styles.xml", self.strings: "xl/sharedstrings.xml"}
        return all(part is None or part.casefold() == name for part, name in usual.items()) and all(
            sheet.state in _STATES for sheet in self.sheets
        )

    def plain_names(self) -> dict[str, str]:
        """Parts of cells, texts and styles, with the names under which calamine finds them."""
        names = {sheet.part: f"xl/worksheets/sheet{number}.xml" for number, sheet in enumerate(self.sheets, 1)}
        usual = {self.strings: "xl/sharedStrings.xml", self.styles: "xl/styles.xml"}
        return names | {part: name for part, name in usual.items() if part is not None}

    def described(self) -> dict[str, str]:
        """The parts that say what the others are, for parts of these names."""
        names = self.plain_names()
        kinds = {self.strings: "sharedStrings", self.styles: "styles"}
        relationships = [
            f'<Relationship Id="r{number}" Type="{_OFFICE}/{kinds.get(part, "worksheet")}" Target="/{name}"/>'
            for number, (part, name) in enumerate(names.items(), 1)
        ]
        sheets = "".join(
            f"<sheet name={quoteattr(sheet.name)} sheetId='{number}' r:id='r{list(names).index(sheet.part) + 1}'"
            f" state='{sheet.state if sheet.state in _STATES else 'visible'}'/>"
            for number, sheet in enumerate(self.sheets, 1)
        )
        root = f'<Relationship Id="r" Type="{_OFFICE}/officeDocument" Target="xl/workbook.xml"/>'
        return {
            "_rels/.rels": f'<Relationships xmlns="{_PACKAGE}">{root}</Relationships>',
            "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{_PACKAGE}">{"".join(relationships)}</Relationships>',
            "xl/workbook.xml": f'<workbook xmlns="{_MAIN}" xmlns:r="{_OFFICE}">'
            f"<workbookPr date1904='{int(self.is_1904)}'/><sheets>{sheets}</sheets></workbook>",
        }

    def _member(self, part: str) -> ZipInfo:
        member = self._members.get(part.casefold())
        if member is None:
            raise unreadable(f'it has no part "{shorten(part)}"')
        return member

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
            raise _too_large(f'the part "{shorten(part)}" of the workbook has {member.file_size:,} bytes')
        try:
            return fromstring(b"".join(self.pieces(part)))  # noqa: S314 -- small; expat bounds what entities make
        except (ParseError, ValueError, LookupError) as error:
            raise unreadable(f'its part "{shorten(part)}" is not XML: {error}') from None

    def moments(self) -> set[bytes]:
        """The numbers of the styles that may show days or times."""
        if self.styles is None:
            return set()
        sheet = self._xml(self.styles)
        namespace = sheet.tag.rpartition("}")[0] + "}"
        codes = {
            number_format.get("numFmtId", ""): number_format.get("formatCode", "")
            for number_format in sheet.iterfind(f"{namespace}numFmts/{namespace}numFmt")
        }
        formats = [style.get("numFmtId", "0") for style in sheet.iterfind(f"{namespace}cellXfs/{namespace}xf")]
        return {
            str(index).encode()
            for index, number_format in enumerate(formats)
            if _MOMENT.search(codes.get(number_format, "" if number_format in _NUMBER_FORMATS else "d"))
        }


_MOMENT = re.compile("[ymdhs]", re.IGNORECASE)

#: The formats that have numbers instead of codes and show numbers or text.
_NUMBER_FORMATS = {str(number) for number in (*range(14), *range(37, 45), 48, 49)}

#: Marks of XML that calamine does not read right: comments and CDATA, extensions, other namespaces, errors, CR, NUL.
_MARKS = (b"<!", b"extLst", b"xmlns", b't="e"', b"t='e'", b"\r", b"\0")
_CELLS_BEGIN = re.compile(rb"<(?:([\w.-]+):)?(?:sheetData|sst)\b[^>]*>")
_CELLS_END = re.compile(rb"</(?:[\w.-]+:)?(?:sheetData|sst)\s*>")
_PREFIX = re.compile(rb"xmlns:([^\s=]+)")
_OTHER_ENCODING = re.compile(rb"""encoding=["'](?!utf-8)""", re.IGNORECASE)
_NEGATIVE = re.compile(
    rb"""<(?:[\w.-]+:)?c\s[^>]*?\bs=["'](\d+)["'][^>]*>\s*(?:<[^>]*/>|<[^>]*>[^<]*</[^>]*>)?\s*<[^>]*v>-"""
)


def _write_xlsx(archive: ZipFile, path: Path) -> bool:
    """Write an .xlsx anew, if it has to be."""
    workbook = _Xlsx(archive)
    moments = workbook.moments()
    sheets = [sheet.part for sheet in workbook.sheets]
    if (
        workbook.has_usual_parts()
        and all(_is_plain(workbook.pieces(part), (*_MARKS, b"&#"), moments) for part in sheets)
        and (workbook.strings is None or _is_plain(workbook.pieces(workbook.strings), _MARKS, moments))
    ):
        return False
    with ZipFile(path, "w", ZIP_STORED) as plain:
        for name, text in workbook.described().items():
            plain.writestr(name, text)
        for part, name in workbook.plain_names().items():
            with plain.open(ZipInfo(name), "w", force_zip64=True) as target:
                for piece in _rewritten(workbook.pieces(part), _XlsxWriter(), part):
                    target.write(piece)
    return True


def _is_plain(pieces: Iterator[bytes], marks: tuple[bytes, ...], moments: set[bytes]) -> bool:
    """Whether all cells of a part are in the form that calamine reads. Numbers below zero are no ``moments``."""
    data, has_begun = b"", False
    for piece in pieces:
        data += piece
        if not has_begun:
            begin = _CELLS_BEGIN.search(data)
            head = data[: begin.end()] if begin else b"<!"
            own = begin[1] if begin else None
            if b"<!" in head or _OTHER_ENCODING.search(head) or (own and b" xmlns=" in head):
                return False
            marks += tuple(b"<" + prefix + b":" for prefix in _PREFIX.findall(head) if prefix != own)
            data, has_begun = data[len(head) :], True
        end = _CELLS_END.search(data)
        data = data[: end.start()] if end else data
        if any(mark in data for mark in marks):
            return False
        if moments and b"v>-" in data and not moments.isdisjoint(_NEGATIVE.findall(data)):
            return False
        if end or head.endswith(b"/>"):
            return True
        data = data[-_OVERLAP:]
    return False


def _write_ods(archive: ZipFile, path: Path) -> bool:
    """Write an .ods anew: its mimetype and manifest, which some programs leave out, and its cells."""
    members = zips.folded(archive)
    cells, manifest = members.get("content.xml"), members.get("meta-inf/manifest.xml")
    if cells is None:
        raise unreadable('it has no part "content.xml"')
    if manifest is not None and _has_any(zips.pieces(archive, manifest), [b"encryption-data"]):
        raise encrypted()
    with ZipFile(path, "w", ZIP_STORED) as plain:
        plain.writestr("mimetype", _MIMETYPE)
        plain.writestr("META-INF/manifest.xml", _MANIFEST)
        pieces = zips.pieces(archive, cells)
        head = next(zips.pieces(archive, cells), b"").replace(b"'", b'"')
        if not all(declaration in head for declaration in _USUAL) or _has_any(zips.pieces(archive, cells), _ODS_MARKS):
            pieces = _rewritten(pieces, _OdsWriter(), "content.xml")
        with plain.open(ZipInfo("content.xml"), "w", force_zip64=True) as target:
            for piece in pieces:
                target.write(piece)
    return True


def _has_any(pieces: Iterator[bytes], marks: Iterable[bytes]) -> bool:
    tail = b""
    for piece in pieces:
        data = tail + piece
        if any(mark in data for mark in marks):
            return True
        tail = data[-_OVERLAP:]
    return False


class _Writer:
    """Writes the plain cells of a document from expat's events. An element is left out with all that is in it."""

    def __init__(self) -> None:
        self.output: list[str] = []
        self.path: list[str] = []
        self._left_out = 0

    def start(self, name: str, attributes: dict[str, str]) -> None:
        tag = "" if self._left_out else self.tag_of(name)
        if not tag:
            self._left_out += 1
            return
        self.path.append(tag)
        self.begin(tag, attributes)

    def end(self, _: str) -> None:
        if self._left_out:
            self._left_out -= 1
        else:
            self.finish(self.path.pop())

    def characters(self, data: str) -> None:
        if not self._left_out:
            self.text(data)

    def write(self, tag: str, attributes: Mapping[str, str], declared: str) -> None:
        """Write the beginning of an element; ``declared`` are the namespaces, for the root."""
        written = "".join(f" {key}={quoteattr(value)}" for key, value in attributes.items())
        self.output.append(f"<{tag}{declared if len(self.path) == 1 else ''}{written}>")

    def tag_of(self, name: str) -> str:
        """The element's name in the new document; empty if it is left out."""
        raise NotImplementedError

    def begin(self, tag: str, attributes: dict[str, str]) -> None:
        raise NotImplementedError

    def finish(self, tag: str) -> None:
        self.output.append(f"</{tag}>")

    def text(self, data: str) -> None:
        self.output.append(escape(data))


def _rewritten(pieces: Iterator[bytes], writer: _Writer, part: str) -> Iterator[bytes]:
    parser = ParserCreate(namespace_separator=" ")
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = _refuse_doctype
    parser.StartElementHandler, parser.EndElementHandler = writer.start, writer.end
    parser.CharacterDataHandler = writer.characters
    try:
        for piece in chain(pieces, (b"",)):
            parser.Parse(piece, not piece)
            yield "".join(writer.output).encode()
            writer.output.clear()
    except (ExpatError, ValueError, LookupError) as error:
        raise unreadable(f'its part "{shorten(part)}" is not XML: {error}') from None


def _refuse_doctype(*_: object) -> None:
    """A handler of expat: entities, which a DOCTYPE declares, could make gigabytes of a few bytes."""
    raise unreadable("it has a DOCTYPE, which no such document has")


class _XlsxWriter(_Writer):
    """Writes errors as text, and numbers below zero without their style: none is a day or a time."""

    def tag_of(self, name: str) -> str:
        namespace, _, local = name.rpartition(" ")
        return local if namespace in {_MAIN, _STRICT} and local not in {"extLst", "rPh"} else ""

    def begin(self, tag: str, attributes: dict[str, str]) -> None:
        kept = {key: value for key, value in attributes.items() if " " not in key}
        if _SPACE in attributes:
            kept["xml:space"] = attributes[_SPACE]
        if tag == "c" and kept.get("t") == "e":
            kept["t"] = "str"
        self.write(tag, kept, f' xmlns="{_MAIN}"')

    def text(self, data: str) -> None:
        if data.startswith("-") and self.path[-2:] == ["c", "v"]:
            at = next(place for place in range(-1, -len(self.output), -1) if self.output[place].startswith("<c"))
            self.output[at] = re.sub(' s="[0-9]*"', "", self.output[at])
        super().text(data)


_MIMETYPE = "application/vnd.oasis.opendocument.spreadsheet"
_MANIFEST = (
    '<manifest:manifest xmlns:manifest="urn:oasis:names:tc:opendocument:xmlns:manifest:1.0" manifest:version="1.2">'
    f'<manifest:file-entry manifest:full-path="/" manifest:media-type="{_MIMETYPE}"/>'
    '<manifest:file-entry manifest:full-path="content.xml" manifest:media-type="text/xml"/></manifest:manifest>'
)

#: The namespaces that a plain document has elements of, and the prefixes under which calamine knows them.
_PREFIXES = {
    "urn:oasis:names:tc:opendocument:xmlns:office:1.0": "office",
    "urn:oasis:names:tc:opendocument:xmlns:table:1.0": "table",
    "urn:oasis:names:tc:opendocument:xmlns:text:1.0": "text",
    "urn:oasis:names:tc:opendocument:xmlns:style:1.0": "style",
}
_DECLARED = "".join(f' xmlns:{prefix}="{namespace}"' for namespace, prefix in _PREFIXES.items())
_USUAL = tuple(f'xmlns:{prefix}="{namespace}"'.encode() for namespace, prefix in _PREFIXES.items())[:3]
_ERROR = "urn:org:documentfoundation:names:experimental:calc:xmlns:calcext:1.0 value-type"

#: Elements in which nothing is a cell or a cell's text.
_LEFT_OUT = frozenset({"office:annotation", "office:forms", "table:shapes", "table:tracked-changes", "text:note"})
_CELLS = frozenset({"table:table-cell", "table:covered-table-cell"})

#: Marks of XML that calamine does not read right: shapes, tabs and line breaks, notes, errors, and a table in a cell.
#: A reference to a character may be a part of such a mark.
_ODS_MARKS = (
    b"draw:", b"text:tab", b"text:line-", b"text:note", b"text:ruby", b"tracked-", b"error", b"&#", b"is-sub-table",
)  # fmt: skip

#: One blank for each that ``text:s`` stands for, up to so many.
_MOST_BLANKS = 10_000


class _OdsWriter(_Writer):
    """Writes errors as text, and of a paragraph nothing but the text."""

    def __init__(self) -> None:
        super().__init__()
        self._paragraph = 0

    def tag_of(self, name: str) -> str:
        tag = _prefixed(name)
        is_left_out = (
            tag in _LEFT_OUT or tag.startswith("text:ruby-text") or (tag == "table:table" and tag in self.path)
        )
        return "" if is_left_out else tag

    def begin(self, tag: str, attributes: dict[str, str]) -> None:
        if self._paragraph:
            self.output.append(_text_of(tag, attributes))
        elif tag == "text:p" and self.path[-2] in _CELLS:
            self._paragraph = len(self.path)
            self.output.append("<text:p>")
        elif not tag.startswith("text:"):
            written = {_prefixed(key): value for key, value in attributes.items()}
            written.pop("", None)
            if tag in _CELLS and attributes.get(_ERROR) == "error":
                written = {key: value for key, value in written.items() if not key.startswith("office:")}
                written["office:value-type"] = "string"
            self.write(tag, written, _DECLARED)

    def finish(self, tag: str) -> None:
        if self._paragraph == len(self.path) + 1:
            self._paragraph = 0
            self.output.append("</text:p>")
        elif not self._paragraph and not tag.startswith("text:"):
            super().finish(tag)

    def text(self, data: str) -> None:
        if self._paragraph:
            super().text(data)


def _prefixed(name: str) -> str:
    """A name with the usual prefix; empty for a namespace that plain documents have no need of."""
    namespace, _, local = name.rpartition(" ")
    prefix = _PREFIXES.get(namespace)
    return f"{prefix}:{local}" if prefix else ""


def _text_of(tag: str, attributes: dict[str, str]) -> str:
    """The text that an empty element within a paragraph stands for."""
    if tag == "text:s":
        digits = attributes.get("urn:oasis:names:tc:opendocument:xmlns:text:1.0 c", "1")
        return " " * (min(int(digits), _MOST_BLANKS) if digits.isascii() and digits.isdigit() else 1)
    return {"text:tab": "\t", "text:line-break": "\n"}.get(tag, "")
