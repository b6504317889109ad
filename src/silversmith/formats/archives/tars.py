"""Tar archives, read as a stream: member by member, in memory for one piece.

``tarfile`` reads the headers. It would read an extended header of any size, and takes a damaged header in the middle
for the end of the archive: so it gets the bytes through :class:`_Window`, and each header by itself.
https://pubs.opengroup.org/onlinepubs/9799919799/utilities/pax.html
"""

from __future__ import annotations

from collections.abc import Iterator
from tarfile import BLOCKSIZE, HeaderError, TarError, TarFile, TarInfo
from typing import IO, cast

from silversmith.errors import DataError
from silversmith.formats.table import shorten

_PIECE = 1024 * 1024

#: Extended headers hold long names and a few numbers: in bytes, far less than this.
MOST_HEADER = 1024 * 1024

#: How names are decoded, so that every name is a text.
_ENCODING, _ON_ERROR = "utf-8", "backslashreplace"

_OTHERS = {b"1": "a hard link", b"2": "a symbolic link", b"3": "a device", b"4": "a device", b"6": "a pipe"}


class Stream:
    """Bytes that come in pieces, read in any lengths."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._buffer = b""
        self._at = 0

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
        data = self.peek(length)
        self._at += len(data)
        return data

    def rest(self) -> Iterator[bytes]:
        """All the bytes after, in the pieces in which they come."""
        buffer, self._buffer, self._at = self._buffer[self._at :], b"", 0
        if buffer:
            yield buffer
        yield from self._pieces


class _Window:
    """The file that ``tarfile`` reads headers from: it goes forward only, and a header is of limited size."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._position = 0

    def read(self, length: int) -> bytes:
        if length > MOST_HEADER:
            raise _unreadable(f"an extended header has {length:,} bytes")
        data = self._stream.read(length)
        self._position += len(data)
        return data

    def tell(self) -> int:
        return self._position

    def skip_to(self, position: int) -> Iterator[bytes]:
        """The bytes up to a position, in pieces."""
        while self._position < position:
            piece = self.read(min(position - self._position, _PIECE))
            if not piece:
                raise _unreadable("it ends in the middle of a member")
            yield piece

    def peek(self) -> bytes:
        """The next header, which stays."""
        return self._stream.peek(BLOCKSIZE)


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
    window = _Window(stream)
    archive = _archive(window)
    while True:
        header = window.peek()
        if not header:
            raise _unreadable("it has no end mark")
        if not header.strip(b"\0"):
            return
        try:
            member = TarInfo.fromtarfile(archive)
        except (TarError, ValueError, OverflowError, RecursionError):
            raise _unreadable("a member's header is damaged") from None
        _check(member)
        end = window.tell() + member.size
        if not member.isdir():
            yield member.name, window.skip_to(end)
        for _ in window.skip_to(end):
            pass
        window.read(-member.size % BLOCKSIZE)


def _archive(window: _Window) -> TarFile:
    """The state that ``TarInfo`` needs of an archive; nothing is read or written to make it."""
    return TarFile(fileobj=cast("IO[bytes]", window), mode="w", encoding=_ENCODING, errors=_ON_ERROR)


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
