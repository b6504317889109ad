"""Zip archives: their directory, proved to be small before it is read, and their members, piece by piece."""

from __future__ import annotations

import errno
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any, BinaryIO, cast

from silversmith.errors import DataError
from silversmith.formats.archives.content import damaged
from silversmith.formats.table import shorten

if TYPE_CHECKING:
    from zipfile import ZipFile, ZipInfo

#: The first bytes of a zip archive; the second are those of an empty one.
MAGICS = (b"PK\x03\x04", b"PK\x05\x06")

#: The directory of an archive is held in memory whole, so it may have only so many bytes and so many entries.
MOST_DIRECTORY = 4 * 1024 * 1024
MOST_ENTRIES = 10_000

_PIECE = 1024 * 1024
_METHODS = {0: "stored", 8: "deflate", 12: "bzip2"}


def opened(file: BinaryIO) -> ZipFile:
    """The archive, with its directory read.

    Raises:
        DataError: ``UnreadableZip``, or ``TooManyMembers`` for a directory that is too large to be one of data files.
    """
    from zipfile import ZipFile

    with reading():
        archive = ZipFile(cast("IO[bytes]", _ShortReads(file)))
    if len(archive.infolist()) > MOST_ENTRIES:
        raise _too_many()
    return archive


class _ShortReads:
    """A file for ``zipfile``, which reads an archive's directory at once, however long the archive says that it is."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def read(self, length: int = -1) -> bytes:
        if length > MOST_DIRECTORY:
            raise _too_many()
        return self._file.read(length)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def _too_many() -> DataError:
    return DataError(
        "TooManyMembers",
        f"the archive has more than {MOST_ENTRIES:,} members, or too long a directory of them",
        hint="put the files one by one, or in several archives",
    )


@contextmanager
def reading() -> Iterator[None]:
    """Errors of ``zipfile`` about the bytes of an archive as DataError ``UnreadableZip``."""
    from zipfile import BadZipFile

    try:
        yield
    except OSError as error:
        if error.errno not in {None, errno.EINVAL}:  # EINVAL: a directory that points before the beginning
            raise
        raise unreadable(str(error)) from None
    except (BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError, OverflowError) as error:
        raise unreadable(str(error) or type(error).__name__) from None


def unreadable(why: str) -> DataError:
    """The error for what is no whole archive."""
    return damaged("Zip", f"no whole zip archive: {shorten(why)}", "zip")


def pieces(archive: ZipFile, member: ZipInfo) -> Iterator[bytes]:
    """The bytes of a member, in pieces of bounded size; never more than the directory says.

    Raises:
        DataError: ``UnreadableZip``, also where it is encrypted, or compressed in a way that is not read.
    """
    if member.flag_bits & 0x1:
        raise DataError(
            "UnreadableZip",
            f'the member "{shorten(member.filename)}" is encrypted',
            hint="zip it without a password; S3 encrypts what lies in it",
        )
    if member.compress_type not in _METHODS:
        raise DataError(
            "UnreadableZip",
            f'the member "{shorten(member.filename)}" is compressed by method {member.compress_type}, '
            f"which is not read; {', '.join(_METHODS.values())} are",
            hint="zip it with deflate, which every tool can",
        )
    with reading(), archive.open(member) as file:
        while piece := file.read(_PIECE):
            yield piece


def folded(archive: ZipFile) -> dict[str, ZipInfo]:
    """The members by name, in lower case and with slashes; of several the first."""
    members = reversed(archive.infolist())
    return {member.filename.replace("\\", "/").lstrip("/").casefold(): member for member in members}


def office(archive: ZipFile) -> str:
    """The kind of office document that the archive is: ``xlsx``, ``xlsb``, ``docx``, ``pptx``, ``ods``; empty if none.

    https://learn.microsoft.com/en-us/openspecs/office_standards/ms-xlsx/
    """
    members = folded(archive)
    for part, kind in _MAIN_PARTS.items():
        if part in members:
            return kind
    is_encrypted = "encrypted-package" in members  # LibreOffice's since 24.8
    if ("content.xml" in members or is_encrypted) and ("mimetype" in members or "meta-inf/manifest.xml" in members):
        return "ods"
    types = members.get("[content_types].xml")
    if types is None or "_rels/.rels" not in members or types.file_size > _MOST_TYPES:
        return ""
    listed = b"".join(pieces(archive, types))
    return next((kind for mark, kind in _CONTENT_TYPES.items() if mark in listed), "")


#: The part that makes a document of a kind, where all programs but a few have it.
_MAIN_PARTS = {
    "xl/workbook.xml": "xlsx",
    "xl/workbook.bin": "xlsb",
    "word/document.xml": "docx",
    "ppt/presentation.xml": "pptx",
}

#: Its type, where the part is elsewhere.
_CONTENT_TYPES = {
    b"spreadsheetml.sheet.main+xml": "xlsx",
    b"spreadsheetml.template.main+xml": "xlsx",
    b"ms-excel.sheet.macroEnabled.main+xml": "xlsx",
    b"wordprocessingml.document.main+xml": "docx",
    b"presentationml.presentation.main+xml": "pptx",
}
_MOST_TYPES = 1024 * 1024
