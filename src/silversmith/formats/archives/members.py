"""The files within one object: the object itself, unpacked, or the members of the archive that it is.

Members are data: their names choose a format and stand in messages, and no file is ever written under them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from tarfile import BLOCKSIZE, HeaderError, TarError, TarFile, TarInfo
from typing import IO, cast

from silversmith.errors import DataError
from silversmith.formats.archives import zips
from silversmith.formats.archives.compression import compression_of, stripped
from silversmith.formats.archives.content import Content, Scratch, collect, damaged, packed, unpacked_limit
from silversmith.formats.table import shorten
from silversmith.keypatterns import KeyPattern
from silversmith.stores import Source

#: How many data files one archive may have.
MOST_MEMBERS = 1_000

_PIECE = 1024 * 1024
_HEAD, _MAGIC = 1024, 16

#: Files that macOS and Windows put in archives by themselves.
NOISE = {".DS_Store", "Thumbs.db", "desktop.ini"}

#: The name of each member, and its bytes.
_Members = Iterable[tuple[str, Iterator[bytes]]]


def unpack_all(source: Source, scratch: Scratch, pattern: str | None = None) -> list[Content]:
    """The files of an object: one, unless it is an archive. Of an archive's members only those are unpacked whose name
    matches the pattern; None: all.

    One compression may be within another, and a tar in both: each is known by the bytes.

    Raises:
        DataError: ``UnreadableZip``, ``UnreadableTar``, ``UnreadableGzip`` … , ``NestedArchive``, ``TooManyMembers``,
            ``NoMembers``, or ``TooLarge`` for a file that unpacks to more than a hundred times its size.
    """
    content = packed(source, scratch)
    return _unpack(content, pattern, unpacked_limit(content.size))


def _unpack(content: Content, pattern: str | None, most: int) -> list[Content]:
    """``most``: the bytes that may come out of one packing."""
    scratch = content.scratch
    compression = compression_of(content.head(_MAGIC), content.name)
    name, packing = stripped(content.name), content.packing + ("+" + compression.name if compression else "")
    if compression is None:
        content = content if name == content.name else replace(content, name=name)
        head = content.head(_HEAD)
        if not head.startswith(zips.MAGICS) and not _is_tar(head, name):
            return [content]  # as most are
    with content.open() as file:
        stream = _Stream(compression.pieces(file) if compression else iter(partial(file.read, _PIECE), b""))
        if _is_tar(stream.peek(_HEAD), name):
            return _gather(_tar_members(stream), content, pattern, "+tar" + packing)
        if compression is not None:
            is_first = not content.packing
            content = replace(collect(stream.rest(), scratch, most), name=name, packing=packing)
            if is_first and compression_of(content.head(_MAGIC), name) is not None:
                return _unpack(content, pattern, most)  # packed twice, as by Content-Encoding and by its name
    content = replace(content, name=name)
    return _unzip(content, pattern) if content.head(4).startswith(zips.MAGICS) else [_alone(content)]


def _unzip(content: Content, pattern: str | None) -> list[Content]:
    """A workbook is a zip archive, too: that one is a file."""
    with content.open() as file, closing(zips.opened(file)) as archive:
        kind = zips.office(archive)
        if kind:
            return [replace(content, kind=kind)]
        if content.packing:
            raise _nested("a zip archive that is compressed once more")
        members = [
            (member.filename, zips.pieces(archive, member))
            for member in archive.infolist()
            if not member.filename.endswith("/")  # is_dir() fails where there is no name at all
        ]
        return _gather(members, content, pattern, "+zip")


def _gather(members: _Members, archive: Content, pattern: str | None, packing: str) -> list[Content]:
    """The members that match, unpacked; together they may be as large as one file may."""
    contents: list[Content] = []
    used, passed = 0, Counter[str]()
    matches = KeyPattern.parse(pattern).matches if pattern is not None else lambda _: True
    for name, pieces in members:
        base = name.rstrip("/").rpartition("/")[2]
        if base in NOISE or base.startswith("._") or name.startswith("__MACOSX/"):
            continue
        passed[name] += 1
        if passed[name] > 1 or len(passed) > zips.MOST_ENTRIES:
            raise _too_many(name, len(passed))
        if not matches(name):
            continue
        if len(contents) == MOST_MEMBERS:
            raise _too_many("", MOST_MEMBERS + 1)
        content = collect(pieces, archive.scratch, unpacked_limit(archive.size), used=used)
        used += content.size
        contents.append(_alone(replace(content, name=name, packing=packing, member=name)))
    if not contents:
        raise _no_members(list(passed), pattern)
    return contents


def _alone(content: Content) -> Content:
    """A file that came out of one packing, proved to be in no other. A workbook in an archive is no archive."""
    if content.head(4).startswith(zips.MAGICS):
        with content.open() as file, closing(zips.opened(file)) as archive:
            kind = zips.office(archive)
        if not kind:
            raise _nested(_called(content, "a zip archive"))
        return replace(content, kind=kind)
    compression = compression_of(content.head(_MAGIC), content.name)
    if compression is not None:
        raise _nested(_called(content, f"compressed with {compression.name}"))
    if _is_tar(content.head(_HEAD), content.name):
        raise _nested(_called(content, "a tar archive"))
    return content


def _called(content: Content, what: str) -> str:
    return (
        f'the member "{shorten(content.member)}", which is {what}'
        if content.member
        else f"data that is {what} once more"
    )


def _nested(what: str) -> DataError:
    return DataError(
        "NestedArchive",
        f"the file contains {what}: deeper nesting is not read",
        hint="unpack it, and put the files in it, packed once or not at all",
    )


def _too_many(name: str, number: int) -> DataError:
    if name and number <= zips.MOST_ENTRIES:
        return DataError(
            "DuplicateMembers",
            f'the archive has two members of the name "{shorten(name)}"',
            hint="pack it again, with each file once",
        )
    return DataError(
        "TooManyMembers",
        f"the archive has {number:,} files or more; {MOST_MEMBERS:,} are read",
        hint='put them in several archives, or say which ones to read: Archive(members="data/*.csv")',
    )


def _no_members(names: list[str], pattern: str | None) -> DataError:
    if not names:
        return DataError("EmptyFile", "the archive has no file in it", hint="put it again with data")
    shown = ", ".join(f'"{shorten(name)}"' for name in names[:8])
    return DataError(
        "NoMembers",
        f'no file of the archive is called like "{pattern}"; it has: {shown}',
        hint="look at the reader's members: Archive(members=…)",
    )


# Tar archives, read as a stream: member by member, in memory for one piece. ``tarfile`` reads the headers. It would
# read an extended header of any size, and takes a damaged header in the middle for the end of the archive: so it gets
# the bytes through a stream of our own, and each header by itself.
# https://pubs.opengroup.org/onlinepubs/9799919799/utilities/pax.html

#: How names are decoded, so that every name is a text.
_NAMES, _ON_ERROR = "utf-8", "backslashreplace"

_OTHER_KINDS = {b"1": "a hard link", b"2": "a symbolic link", b"3": "a device", b"4": "a device", b"6": "a pipe"}


class _Stream:
    """Bytes that come in pieces, as the file that ``tarfile`` reads headers from. It goes forward only, and one read is
    of limited size: an extended header holds long names and a few numbers."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._buffer = b""
        self._at = self._position = 0

    def peek(self, length: int) -> bytes:
        """The next bytes, which stay; fewer only at the end."""
        while len(self._buffer) - self._at < length:
            piece = next(self._pieces, None)
            if piece is None:
                break
            self._buffer, self._at = self._buffer[self._at :] + piece, 0
        return self._buffer[self._at : self._at + length]

    def read(self, length: int) -> bytes:
        """The next bytes; fewer only at the end."""
        if length > _PIECE:
            raise _unreadable_tar(f"an extended header has {length:,} bytes")
        data = self.peek(length)
        self._at += len(data)
        self._position += len(data)
        return data

    def tell(self) -> int:
        return self._position

    def up_to(self, position: int) -> Iterator[bytes]:
        """The bytes up to a position, in pieces."""
        while self._position < position:
            piece = self.read(min(position - self._position, _PIECE))
            if not piece:
                raise _unreadable_tar("it ends in the middle of a member")
            yield piece

    def rest(self) -> Iterator[bytes]:
        """All the bytes after, in the pieces in which they come."""
        yield self._buffer[self._at :]
        yield from self._pieces


def _is_tar(head: bytes, name: str) -> bool:
    """Whether the first bytes are a header. Archives of before 1988 have no magic, so that their name must say it."""
    if len(head) < BLOCKSIZE or not (head[257:262] == b"ustar" or name.lower().endswith(".tar")):
        return False
    try:
        TarInfo.frombuf(head[:BLOCKSIZE], _NAMES, _ON_ERROR)
    except (HeaderError, ValueError):
        return False
    return True


def _tar_members(stream: _Stream) -> Iterator[tuple[str, Iterator[bytes]]]:
    """The name of each file and its bytes in pieces, to be taken, if at all, before the next file is asked for.

    Raises:
        DataError: ``UnreadableTar``.
    """
    archive = TarFile(fileobj=cast("IO[bytes]", stream), mode="w", encoding=_NAMES, errors=_ON_ERROR)  # only a state
    while header := stream.peek(BLOCKSIZE):
        if not header.strip(b"\0"):
            return
        try:
            member = TarInfo.fromtarfile(archive)
        except (TarError, ValueError, OverflowError, RecursionError):
            raise _unreadable_tar("a member's header is damaged") from None
        _check_tar(member)
        end = stream.tell() + member.size
        if not member.isdir():
            yield member.name.removeprefix("./"), stream.up_to(end)
        for _ in stream.up_to(end):
            pass
        stream.read(-member.size % BLOCKSIZE)
    raise _unreadable_tar("it has no end mark")


def _check_tar(member: TarInfo) -> None:
    if member.sparse is not None or member.issparse():
        raise _unreadable_tar("a member is sparse: its holes are left out")
    if not (member.isfile() or member.isdir()):
        what = _OTHER_KINDS.get(member.type, f"of the kind {member.type!r}")
        raise _unreadable_tar(f'the member "{shorten(member.name)}" is {what}, which has no data in it')
    if member.size < 0:
        raise _unreadable_tar("a member's size is below zero")


def _unreadable_tar(why: str) -> DataError:
    return damaged("Tar", f"no whole tar archive: {why}", "pack")
