"""Tar archives, read as a stream: member by member, in memory for one piece.

``tarfile`` reads the headers. It would read an extended header of any size, and takes a damaged header in the middle
for the end of the archive: so it gets the bytes through :class:`Stream`, and each header by itself.
https://pubs.opengroup.org/onlinepubs/9799919799/utilities/pax.html
"""

from __future__ import annotations

from collections.abc import Iterator
from tarfile import BLOCKSIZE, HeaderError, TarError, TarFile, TarInfo
from typing import IO, cast

from silversmith.errors import DataError
from silversmith.formats.table import shorten

_PIECE = 1024 * 1024

#: How names are decoded, so that every name is a text.
_ENCODING, _ON_ERROR = "utf-8", "backslashreplace"

_OTHERS = {b"1": "a hard link", b"2": "a symbolic link", b"3": "a device", b"4": "a device", b"6": "a pipe"}


class Stream:
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
            raise _unreadable(f"an extended header has {length:,} bytes")
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
                raise _unreadable("it ends in the middle of a member")
            yield piece

    def rest(self) -> Iterator[bytes]:
        """All the bytes after, in the pieces in which they come."""
        yield self._buffer[self._at :]
        yield from self._pieces


def is_tar(head: bytes, name: str) -> bool:
    """Whether the first bytes are a header. Archives of before 1988 have no magic, so that their name must say it."""
    if len(head) < BLOCKSIZE or not (head[257:262] == b"ustar" or name.lower().endswith(".tar")):
        return False
    try:
        TarInfo.frombuf(head[:BLOCKSIZE], _ENCODING, _ON_ERROR)
    except (HeaderError, ValueError):
        return False
    return True


def members(stream: Stream) -> Iterator[tuple[str, Iterator[bytes]]]:
    """The name of each file and its bytes in pieces, to be taken, if at all, before the next file is asked for.

    Raises:
        DataError: ``UnreadableTar``.
    """
    archive = TarFile(fileobj=cast("IO[bytes]", stream), mode="w", encoding=_ENCODING, errors=_ON_ERROR)  # only a state
    while header := stream.peek(BLOCKSIZE):
        if not header.strip(b"\0"):
            return
        try:
            member = TarInfo.fromtarfile(archive)
        except (TarError, ValueError, OverflowError, RecursionError):
            raise _unreadable("a member's header is damaged") from None
        _check(member)
        end = stream.tell() + member.size
        if not member.isdir():
            yield member.name.removeprefix("./"), stream.up_to(end)
        for _ in stream.up_to(end):
            pass
        stream.read(-member.size % BLOCKSIZE)
    raise _unreadable("it has no end mark")


def _check(member: TarInfo) -> None:
    if member.sparse is not None or member.issparse():
        raise _unreadable("a member is sparse: its holes are left out")
    if not (member.isfile() or member.isdir()):
        what = _OTHERS.get(member.type, f"of the kind {member.type!r}")
        raise _unreadable(f'the member "{shorten(member.name)}" is {what}, which has no data in it')
    if member.size < 0:
        raise _unreadable("a member's size is below zero")


def _unreadable(why: str) -> DataError:
    return DataError(
        "UnreadableTar",
        f"the file is no whole tar archive: {why}",
        hint="it may have been cut off while it was written or sent: pack and put it again",
    )
