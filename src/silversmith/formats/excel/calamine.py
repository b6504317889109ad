"""Workbooks of .xls, .xlsb and .ods, read by calamine in a process of its own, which has a limit of memory.

In an .ods calamine takes text beside that of a cell for the cell's, wants a mimetype, and gives cells with errors as
empty. So a document is written to a new archive, which holds the plain cells only where there may be any of that.

https://docs.oasis-open.org/office/OpenDocument/v1.3/os/part3-schema/OpenDocument-v1.3-os-part3-schema.html
docs/decisions/0114-workbooks-by-calamine.md
"""

from __future__ import annotations

import io
import json
import os
import pickle
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import closing
from itertools import chain
from pathlib import Path
from pyexpat import ExpatError, ParserCreate
from typing import IO, Any
from xml.sax.saxutils import escape, quoteattr
from zipfile import ZIP_STORED, ZipFile, ZipInfo

import polars as pl

from silversmith.errors import DataError
from silversmith.formats.archives import zips
from silversmith.formats.archives.content import Content
from silversmith.formats.excel import calamine_process
from silversmith.formats.excel.sheets import (
    CELLS,
    CellKind,
    SheetInfo,
    check_size,
    encrypted,
    refuse_doctype,
    too_large,
    unreadable,
)
from silversmith.formats.table import function_memory

#: Memory for the process where no function's memory is known, in bytes, and the least that it gets.
MEMORY = 1024 * 1024 * 1024
LEAST_MEMORY = 192 * 1024 * 1024

#: A reply may have so many bytes; it ends after far fewer.
_MOST_REPLY = 256 * 1024 * 1024


class Workbook:
    """The worksheets of a workbook; ``close`` ends its process.

    Args:
        content: the file.
        kind: ``xls``, ``xlsb`` or ``ods``.
        memory: for the process, in bytes; None: what is left of the function's.

    Raises:
        DataError: ``UnreadableExcel``, ``TooLarge``.
    """

    def __init__(self, content: Content, kind: str, memory: int | None = None) -> None:
        path = _prepared(content, kind)
        self._memory = memory or memory_left()
        self._complaints: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 -- closed by close()
        self.process = subprocess.Popen(  # noqa: S603 -- our own script
            [sys.executable, "-I", "-S", calamine_process.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._complaints,
        )
        try:
            request = {"path": str(path), "kind": kind, "modules": sys.path, "memory": self._memory}
            sheets = self._ask(request)
        except BaseException:
            self.close()
            raise
        self._indexes = [index for index, _, _ in sheets]
        self.sheets = [SheetInfo(name, visible) for _, name, visible in sheets]

    def cells(self, index: int) -> Iterator[pl.DataFrame]:
        """The cells of a sheet, some rows at a time.

        Raises:
            DataError: ``UnreadableExcel``, ``TooLarge``.
        """
        number = 0
        while chunk := self._ask({"sheet": self._indexes[index], "chunk": number}):
            yield _cells_of(chunk)
            number += 1

    def close(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.communicate()
        self._complaints.close()

    def _ask(self, request: dict[str, Any]) -> Any:
        process = self.process
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.flush()
        except BrokenPipeError:
            raise self._death() from None
        head = process.stdout.read(8)
        length = int.from_bytes(head, "little")
        if length > _MOST_REPLY:
            raise self._too_large()
        reply = process.stdout.read(length)
        if len(head) < 8 or len(reply) < length:
            raise self._death()
        answer = _ListsOnly(io.BytesIO(reply)).load()
        if isinstance(answer, str):
            raise self._error(*answer.partition(":")[::2])
        return answer

    def _error(self, kind: str, why: str) -> Exception:
        if kind == "broken":
            return RuntimeError(f"a package of Silversmith cannot be imported: {why}")
        if kind == "encrypted":
            return encrypted()
        return self._too_large() if kind == "memory" else unreadable(why)

    def _death(self) -> Exception:
        """The process ended by itself: its allocator aborts where there is no memory left."""
        code = self.process.wait()
        self._complaints.seek(0)
        if code == -signal.SIGKILL or b"memory allocation" in self._complaints.read(65_536):
            return self._too_large()
        return unreadable("it takes too long" if code == -signal.SIGXCPU else "a part of it is damaged")

    def _too_large(self) -> DataError:
        return DataError(
            "TooLarge",
            f"the workbook takes more than {self._memory // 1024 // 1024:,} MB of memory to read",
            hint="save it as CSV, or give the transform more memory: memory=…",
        )


def _cells_of(chunk: dict[str, Any]) -> pl.DataFrame:
    """A chunk of the process as a frame of cells, with the cells that are not empty."""
    errors = [(row, column, CellKind.TEXT, None, text) for row, column, text in chunk["errors"]]
    frames = [pl.DataFrame(errors, schema=CELLS, orient="row")]
    if chunk["rows"]:
        rows, kinds = pl.Series(chunk["rows"], dtype=pl.UInt32), pl.Series(chunk["kinds"], dtype=pl.UInt8)
        width = kinds.len() // rows.len()
        columns = pl.int_range(chunk["left"], chunk["left"] + width, dtype=pl.UInt16, eager=True)
        nothing = pl.Series([None], dtype=pl.String).new_from_index(0, kinds.len())
        cells = {
            "row": rows.gather(pl.int_range(kinds.len(), dtype=pl.UInt32, eager=True) // width),
            "column": pl.concat([columns] * rows.len()),
            "kind": kinds,
            "number": pl.Series(chunk["numbers"], dtype=pl.Float64),
            "text": nothing.scatter((kinds == CellKind.TEXT).arg_true(), chunk["texts"]),
        }
        frames.append(pl.DataFrame(cells).filter((pl.col("text") != "").fill_null(True)))
    return pl.concat(frames)


class _ListsOnly(pickle.Unpickler):
    """Reads numbers, texts and lists of them, and refuses everything else."""

    def find_class(self, _module: str, _name: str) -> Any:
        raise unreadable("a part of it is damaged")


def memory_left() -> int:
    """Memory of this function that is not in use, in bytes; where there is no function, :data:`MEMORY`."""
    whole = function_memory()
    if whole is None:
        return MEMORY
    used = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return max(LEAST_MEMORY, whole - used)


# A file that calamine reads right.

#: The largest .xls, in bytes: it is held in memory.
LARGEST_XLS = 64 * 1024 * 1024

#: Pieces are searched with so many bytes of the piece before; no formula is longer.
_OVERLAP = 64 * 1024


def _prepared(content: Content, kind: str) -> Path:
    """A file that calamine reads right, with no part that unpacks to more than an object may.

    Raises:
        DataError: ``UnreadableExcel``, ``TooLarge``, ``UnreadableZip``.
    """
    path = content.scratch.file(f".{kind}")  # calamine goes by the ending
    if kind == "xls":
        if content.size > LARGEST_XLS:
            raise too_large(f"the workbook has {content.size:,} bytes; {LARGEST_XLS:,} are read, in memory")
    else:
        with content.open() as file, closing(zips.opened(file)) as archive:
            for member in archive.infolist():
                check_size(member)
            if kind == "ods":
                _write_ods(archive, path)
                return path
    if content.path is not None:
        path.symlink_to(content.path)
    else:
        path.write_bytes(content.read())
    return path


def _write_ods(archive: ZipFile, path: Path) -> None:
    """Write an .ods anew: its mimetype and manifest, which some programs leave out, and its cells."""
    members = zips.folded(archive)
    cells, manifest = members.get("content.xml"), members.get("meta-inf/manifest.xml")
    if manifest is not None and _has_any(zips.pieces(archive, manifest), [b"encryption-data"]):
        raise encrypted()
    if cells is None:
        raise unreadable('it has no part "content.xml"')
    with ZipFile(path, "w", ZIP_STORED) as plain:
        plain.writestr("mimetype", _MIMETYPE)
        plain.writestr("META-INF/manifest.xml", _MANIFEST)
        pieces = zips.pieces(archive, cells)
        head = next(zips.pieces(archive, cells), b"").replace(b"'", b'"')
        if not all(declaration in head for declaration in _USUAL) or _has_any(zips.pieces(archive, cells), _ODS_MARKS):
            pieces = _rewritten(pieces)
        with plain.open(ZipInfo("content.xml"), "w", force_zip64=True) as target:
            for piece in pieces:
                target.write(piece)


#: Lengths of time in another form than calamine or its process reads.
_OTHER_LENGTHS = re.compile(rb"""time-value=["'](?!-?PT\d+H\d+M\d+(?:[.,]\d+)?S["'])""")
_LENGTH = re.compile(r"(-?)P(?:(\d{1,6})D)?T?(?:(\d{1,7})H)?(?:(\d{1,8})M)?(?:(\d{1,9})(?:[.,](\d{1,9}))?S)?")


def _in_hours(value: str) -> str:
    """A length of time in hours, minutes and seconds; any other text as it is."""
    match = _LENGTH.fullmatch(value)
    if match is None or not any(match.groups()[1:5]):
        return value
    days, hours, minutes, seconds = (int(number or 0) for number in match.groups()[1:5])
    minutes, seconds = minutes + seconds // 60, seconds % 60
    hours, minutes = 24 * days + hours + minutes // 60, minutes % 60
    return f"{match[1]}PT{hours}H{minutes}M{seconds}{f'.{match[6]}' if match[6] else ''}S"


def _has_any(pieces: Iterator[bytes], marks: Iterable[bytes]) -> bool:
    tail = b""
    for piece in pieces:
        data = tail + piece
        if any(mark in data for mark in marks) or _OTHER_LENGTHS.search(data):
            return True
        tail = data[-_OVERLAP:]
    return False


def _rewritten(pieces: Iterator[bytes]) -> Iterator[bytes]:
    writer = _OdsWriter()
    parser = ParserCreate(namespace_separator=" ")
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = refuse_doctype
    parser.StartElementHandler, parser.EndElementHandler = writer.start, writer.end
    parser.CharacterDataHandler = writer.text
    try:
        for piece in chain(pieces, (b"",)):
            parser.Parse(piece, not piece)
            yield "".join(writer.output).encode()
            writer.output.clear()
    except (ExpatError, ValueError, LookupError) as error:
        raise unreadable(f'its part "content.xml" is not XML: {error}') from None


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

#: Marks of XML that calamine does not read right: shapes, tabs and line breaks, notes, errors, a table in a cell, and
#: texts that look like lengths of time.
#: A reference to a character may be a part of such a mark.
_ODS_MARKS = (
    b"draw:", b"text:tab", b"text:line-", b"text:note", b"text:ruby", b"tracked-", b"error", b"&#", b"is-sub-table",
    b">PT", b">-PT",
)  # fmt: skip

#: One blank for each that ``text:s`` stands for, up to so many.
_MOST_BLANKS = 10_000


class _OdsWriter:
    """Writes the plain cells of a document from expat's events: errors as text, of a paragraph nothing but the text. An
    element is left out with all that is in it."""

    def __init__(self) -> None:
        self.output: list[str] = []
        self.path: list[str] = []
        self._left_out = self._paragraph = 0
        self._is_first = False

    def start(self, name: str, attributes: dict[str, str]) -> None:
        tag = "" if self._left_out else self.tag_of(name)
        if not tag:
            self._left_out += 1
            return
        self.path.append(tag)
        if self._paragraph:
            self.output.append(_text_of(tag, attributes))
        elif tag == "text:p" and self.path[-2] in _CELLS:
            self._paragraph, self._is_first = len(self.path), True
            self.output.append("<text:p>")
        elif not tag.startswith("text:"):
            written = {_prefixed(key): value for key, value in attributes.items()}
            written.pop("", None)
            if tag in _CELLS and attributes.get(_ERROR) == "error":
                written = {key: value for key, value in written.items() if not key.startswith("office:")}
                written["office:value-type"] = "string"
            if written.get("office:value-type") == "time" and "office:time-value" in written:
                written["office:time-value"] = _in_hours(written["office:time-value"])
            attributes_text = "".join(f" {key}={quoteattr(value)}" for key, value in written.items())
            self.output.append(f"<{tag}{_DECLARED if len(self.path) == 1 else ''}{attributes_text}>")

    def end(self, _: str) -> None:
        if self._left_out:
            self._left_out -= 1
            return
        tag = self.path.pop()
        if self._paragraph == len(self.path) + 1:
            self._paragraph = 0
            self.output.append("</text:p>")
        elif not self._paragraph and not tag.startswith("text:"):
            self.output.append(f"</{tag}>")

    def text(self, data: str) -> None:
        if self._paragraph and not self._left_out:
            is_like_a_length = self._is_first and data.startswith(("PT", "-PT"))
            self.output.append(calamine_process.TEXT * is_like_a_length + escape(data))
            self._is_first = False

    def tag_of(self, name: str) -> str:
        tag = _prefixed(name)
        is_left_out = (
            tag in _LEFT_OUT or tag.startswith("text:ruby-text") or (tag == "table:table" and tag in self.path)
        )
        return "" if is_left_out else tag


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
