"""Tar archives, read as a stream: member by member, with memory for one piece.

The standard library's ``tarfile`` reads extended headers of any size into memory, so they are read here.
https://pubs.opengroup.org/onlinepubs/9799919799/utilities/pax.html
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from silversmith.errors import DataError
from silversmith.formats.table import shorten

BLOCK = 512
_PIECE = 1024 * 1024

#: Extended headers hold long names and a few numbers: in bytes, far less than this.
MOST_HEADER = 1024 * 1024

#: Kinds of members: files, folders, headers of the archive or of the next member, and what holds no data of its own.
_FILES, _FOLDER = b"0\0 7", b"5"
_LONG_NAME, _LONG_LINK, _EXTENDED, _GLOBAL = b"L", b"K", b"x", b"g"
_OTHERS = {b"1": "a hard link", b"2": "a symbolic link", b"3": "a device", b"4": "a device", b"6": "a pipe"}


class Stream:
    """Bytes that come in pieces, read in the lengths that are wanted."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._held = b""
        self._at = 0

    def peek(self, length: int) -> bytes:
        """The next bytes, which stay; fewer only at the end."""
        while len(self._held) - self._at < length:
            piece = next(self._pieces, None)
            if piece is None:
                break
            self._held, self._at = self._held[self._at :] + piece, 0
        return self._held[self._at : self._at + length]

    def read(self, length: int) -> bytes:
        """The next bytes; fewer only at the end."""
        found = self.peek(length)
        self._at += len(found)
        return found

    def rest(self) -> Iterator[bytes]:
        """All that is left, in the pieces in which it comes."""
        held, self._held, self._at = self._held[self._at :], b"", 0
        if held:
            yield held
        yield from self._pieces


@dataclass(frozen=True)
class Member:
    """One member: a file unless ``folder``. Sizes in bytes."""

    name: str
    size: int
    folder: bool


def is_tar(head: bytes, name: str) -> bool:
    """Whether the first bytes are a header. Archives of before 1988 have no magic, so that their name must say it."""
    if len(head) < BLOCK or not _sums_up(head[:BLOCK]):
        return False
    return head[257:262] == b"ustar" or name.lower().endswith(".tar")


def members(stream: Stream) -> Iterator[tuple[Member, Iterator[bytes]]]:
    """The members and what is in each, in pieces, which must be taken before the next member is.

    Raises:
        DataError: ``UnreadableTar``.
    """
    name, size = "", None
    while header := _header(stream):
        kind = header[156:157]
        length = _number(header[124:136])
        if kind in {_LONG_NAME, _LONG_LINK, _EXTENDED, _GLOBAL}:
            extended = _extension(stream, length)
            if kind == _LONG_NAME:
                name = _text(extended.rstrip(b"\0"))
            elif kind == _EXTENDED:
                found = _records(extended)
                name = found.get("path", name)
                size = _size(found)
            continue
        length = length if size is None else size
        named = name or _name(header)
        name, size = "", None
        if kind not in _FILES and kind != _FOLDER:
            what = _OTHERS.get(kind, f"of the kind {kind!r}")
            raise _unreadable(f'the member "{shorten(named)}" is {what}, which has no data in it')
        yield Member(named, length, folder=kind == _FOLDER or named.endswith("/")), _data(stream, length)


def _header(stream: Stream) -> bytes:
    """The next header; empty at the end, which is a block of zeros."""
    header = stream.read(BLOCK)
    if not header:
        raise _unreadable("it has no end mark")
    if not header.strip(b"\0"):
        return b""
    if len(header) < BLOCK or not _sums_up(header):
        raise _unreadable("a member's header is damaged")
    return header


def _sums_up(header: bytes) -> bool:
    """The checksum is the sum of the header's bytes, with blanks in the place of the checksum."""
    try:
        told = int(header[148:156].strip(b" \0") or b"-1", 8)
    except ValueError:
        return False
    return told == sum(header[:148]) + 8 * ord(" ") + sum(header[156:])


def _number(field: bytes) -> int:
    """Octal text, or where that is too short a binary number after a byte with the highest bit set."""
    try:
        number = int.from_bytes(field[1:], "big") if field[:1] == b"\x80" else int(field.strip(b" \0") or b"0", 8)
    except ValueError:
        raise _unreadable("a member's size is no number") from None
    if number < 0:
        raise _unreadable("a member's size is below zero")
    return number


def _name(header: bytes) -> str:
    name, prefix = header[:100].partition(b"\0")[0], header[345:500].partition(b"\0")[0]
    return _text(prefix + b"/" + name if prefix and header[257:263] == b"ustar\0" else name)


def _text(name: bytes) -> str:
    return name.decode("utf-8", "backslashreplace")


def _extension(stream: Stream, length: int) -> bytes:
    if length > MOST_HEADER:
        raise _unreadable(f"an extended header has {length:,} bytes")
    return b"".join(_data(stream, length))


def _records(extended: bytes) -> dict[str, str]:
    """Records of ``length key=value``, a line each."""
    found = {}
    while extended.strip(b"\0"):
        digits, _, _ = extended.partition(b" ")
        if not digits.isdigit() or len(digits) > 7 or not len(digits) < int(digits) <= len(extended):
            raise _unreadable("an extended header is damaged")
        key, _, value = extended[len(digits) + 1 : int(digits)].removesuffix(b"\n").partition(b"=")
        found[_text(key)] = _text(value)
        extended = extended[int(digits) :]
    if any(key.startswith("GNU.sparse") for key in found):
        raise _unreadable("a member is sparse: its holes are left out")
    return found


def _size(found: dict[str, str]) -> int | None:
    size = found.get("size", "")
    if size and not (size.isascii() and size.isdigit() and len(size) < 20):
        raise _unreadable("a member's size is no number")
    return int(size) if size else None


def _data(stream: Stream, length: int) -> Iterator[bytes]:
    left = length
    while left:
        piece = stream.read(min(left, _PIECE))
        if not piece:
            raise _unreadable("it ends in the middle of a member")
        left -= len(piece)
        yield piece
    stream.read(-length % BLOCK)


def _unreadable(why: str) -> DataError:
    return DataError(
        "UnreadableTar",
        f"the file is no whole tar archive: {why}",
        hint="it may have been cut off while it was written or sent: pack and put it again",
    )
