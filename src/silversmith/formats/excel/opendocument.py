"""The cells of an .ods as calamine needs them to read every one of them right.

calamine knows elements by their usual prefixes, insists on parts that some programs leave out, reads the text of shapes
as the cell's, drops tabs and line breaks, and its Python binding gives cells with errors as empty. A document with any
of that is written anew, with the plain cells only; any other one is copied as it is.
https://docs.oasis-open.org/office/OpenDocument/v1.3/os/part3-schema/OpenDocument-v1.3-os-part3-schema.html
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from pyexpat import ExpatError, ParserCreate
from xml.sax.saxutils import escape, quoteattr
from zipfile import ZIP_STORED, ZipFile, ZipInfo

from silversmith.formats.archives import zips
from silversmith.formats.archives.content import Content
from silversmith.formats.excel.sheets import encrypted, unreadable
from silversmith.formats.excel.xlsx import check_size, refuse_doctype

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
_ERROR = "urn:org:documentfoundation:names:experimental:calc:xmlns:calcext:1.0 value-type"

#: Elements in which nothing is a cell or a cell's text.
_LEFT_OUT = frozenset({"office:annotation", "office:forms", "table:shapes", "table:tracked-changes", "text:note"})
_CELLS = frozenset({"table:table-cell", "table:covered-table-cell"})

#: Marks of a document that has to be written anew; a reference to a character may be a part of one.
_MARKS = (
    b"draw:",
    b"text:tab",
    b"text:line-",
    b"text:note",
    b"text:ruby",
    b"tracked-",
    b"error",
    b"&#",
    b"is-sub-table",
)
_USUAL = tuple(f'xmlns:{prefix}="{namespace}"'.encode() for namespace, prefix in _PREFIXES.items())[:3]

#: A mark is found where it begins in one piece and ends in the next.
_LONGEST_MARK = 32

#: One blank for each that ``text:s`` stands for, up to so many.
_MOST_BLANKS = 10_000


def write_plain(content: Content, path: Path) -> None:
    """Write the cells of a document to a new archive.

    Raises:
        DataError: ``UnreadableExcel``, ``TooLarge``, ``UnreadableZip``.
    """
    with (
        content.open() as file,
        closing(zips.opened(content, file)) as archive,
        ZipFile(path, "w", ZIP_STORED) as plain,
    ):
        members = {member.filename.replace("\\", "/").casefold(): member for member in archive.infolist()}
        cells, manifest = members.get("content.xml"), members.get("meta-inf/manifest.xml")
        if cells is None:
            raise unreadable('it has no part "content.xml"')
        for member in (cells, manifest):
            if member is not None:
                check_size(member)
        if manifest is not None and any(
            b"encryption-data" in piece for piece in _overlapping(zips.pieces(archive, manifest))
        ):
            raise encrypted()
        plain.writestr("mimetype", _MIMETYPE)
        plain.writestr("META-INF/manifest.xml", _MANIFEST)
        with plain.open(ZipInfo("content.xml"), "w", force_zip64=True) as target:
            for piece in _plain(archive, cells):
                target.write(piece)


def _plain(archive: ZipFile, member: ZipInfo) -> Iterator[bytes]:
    """The document, written anew if it has to be."""
    unusual = any(
        _is_unusual(piece, first=n == 0) for n, piece in enumerate(_overlapping(zips.pieces(archive, member)))
    )
    pieces = zips.pieces(archive, member)
    return _rewritten(pieces) if unusual else pieces


def _is_unusual(piece: bytes, *, first: bool) -> bool:
    if first and not all(one in piece.replace(b"'", b'"') for one in _USUAL):
        return True
    return any(mark in piece for mark in _MARKS)


def _overlapping(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The pieces, each with the end of the one before."""
    tail = b""
    for piece in pieces:
        yield tail + piece
        tail = piece[-_LONGEST_MARK:]


def _rewritten(pieces: Iterator[bytes]) -> Iterator[bytes]:
    rewriter = _Rewriter()
    parser = ParserCreate(namespace_separator=" ")
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = refuse_doctype
    parser.StartElementHandler, parser.EndElementHandler = rewriter.start, rewriter.end
    parser.CharacterDataHandler = rewriter.characters
    try:
        for piece in pieces:
            parser.Parse(piece, False)
            yield rewriter.take()
        parser.Parse(b"", True)
        yield rewriter.take()
    except (ExpatError, ValueError, LookupError) as error:
        raise unreadable(f'its part "content.xml" is not XML: {error}') from None


class _Rewriter:
    """Hears a document and writes its cells. Of a paragraph it writes nothing but the text."""

    def __init__(self) -> None:
        self._output: list[str] = []
        self._path: list[str] = []
        self._left_out = 0
        self._tables = 0
        self._paragraphs = 0

    def take(self) -> bytes:
        """What was written, to be taken once."""
        output = "".join(self._output).encode()
        self._output.clear()
        return output

    def start(self, name: str, attributes: dict[str, str]) -> None:
        tag = _prefixed(name)
        nested = tag == "table:table" and self._tables == 1
        if self._left_out or not tag or tag in _LEFT_OUT or nested or tag.startswith("text:ruby-text"):
            self._left_out += 1
            return
        self._path.append(tag)
        self._tables += tag == "table:table"
        if self._paragraphs:
            self._paragraphs += 1
            self._output.append(_text_of(tag, attributes))
            return
        if tag.startswith("text:"):
            if tag == "text:p" and self._path[-2] in _CELLS:
                self._paragraphs = 1
                self._output.append("<text:p>")
            return
        written = {_prefixed(key): value for key, value in attributes.items()}
        written.pop("", None)
        if tag in _CELLS and attributes.get(_ERROR) == "error":
            written = {key: value for key, value in written.items() if not key.startswith("office:")}
            written["office:value-type"] = "string"
        declared = _DECLARED if len(self._path) == 1 else ""
        self._output.append(f"<{tag}{declared}{''.join(f' {key}={quoteattr(one)}' for key, one in written.items())}>")

    def characters(self, data: str) -> None:
        if self._paragraphs and not self._left_out:
            self._output.append(escape(data))

    def end(self, _: str) -> None:
        if self._left_out:
            self._left_out -= 1
            return
        tag = self._path.pop()
        self._tables -= tag == "table:table"
        if self._paragraphs:
            self._paragraphs -= 1
            if not self._paragraphs:
                self._output.append("</text:p>")
        elif not tag.startswith("text:"):
            self._output.append(f"</{tag}>")


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


_DECLARED = "".join(f' xmlns:{prefix}="{namespace}"' for namespace, prefix in _PREFIXES.items())
