"""The checksums of a Parquet file's pages, which Polars leaves unread: a file whose bytes have changed is no data.

They are optional, and many writers leave them out; a column chunk without them costs the read of one page header. What
cannot be understood here is left to Polars to refuse.

https://parquet.apache.org/docs/file-format/data-pages/checksumming/
https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift
https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

from silversmith.errors import DataError, Place
from silversmith.formats.archives.content import Content
from silversmith.formats.table import shorten

_MAGIC = b"PAR1"
_PIECE = 1024 * 1024

#: A page header mostly has some dozens of bytes, and a few thousand with statistics of long texts.
_HEADERS = (256, 16 * 1024, 4 * 1024 * 1024)

#: A footer that is larger is of very many columns and row groups: to read it here would take longer than the data.
_LARGEST_FOOTER = 16 * 1024 * 1024

#: How deep structs of Parquet's metadata are nested, with room.
_DEEPEST = 16


class _Chunk(NamedTuple):
    """The pages of one column in one row group: where they begin and end, in bytes."""

    column: str
    start: int
    end: int


def verify(content: Content) -> None:
    """Compare every checksum that there is.

    Raises:
        DataError: ``UnreadableParquet``: a page is not what was written.
    """
    with content.open() as file:
        for chunk in _chunks(file, content.size):
            _verify(file, chunk)


def _chunks(file: BinaryIO, size: int) -> Iterator[_Chunk]:
    file.seek(max(0, size - 8))
    tail = file.read(8)
    length = int.from_bytes(tail[:4], "little")
    if tail[4:] != _MAGIC or length > min(size - 12, _LARGEST_FOOTER):
        return
    file.seek(size - 8 - length)
    try:
        groups = _Thrift(file.read(length)).struct().get(4, [])
        chunks = [_chunk(column[3]) for group in groups for column in group[1]]
        yield from [chunk for chunk in chunks if 0 < chunk.start < chunk.end <= size]
    except (IndexError, KeyError, TypeError, AttributeError, ValueError):
        return


def _chunk(metadata: dict[int, Any]) -> _Chunk:
    """The offset of the dictionary is left out where there is none, or 0."""
    start = min(offset for offset in (metadata.get(11), metadata[9]) if offset)
    return _Chunk(".".join(name.decode("utf-8", "replace") for name in metadata[3]), start, start + metadata[7])


def _verify(file: BinaryIO, chunk: _Chunk) -> None:
    at, number = chunk.start, 0
    while at < chunk.end:
        header = _header(file, at)
        if header is None:
            return
        fields, length = header
        at, number, size, checksum = at + length, number + 1, fields.get(3), fields.get(4)
        if not isinstance(checksum, int) or not isinstance(size, int) or not 0 <= size <= chunk.end - at:
            return
        if _checksum(file, at, size) != checksum & 0xFFFFFFFF:
            raise DataError(
                "UnreadableParquet",
                f'page {number} of the column "{shorten(chunk.column)}", at byte {at:,}, is not what was written: its '
                "checksum is another",
                hint="the file was damaged after it was written: write and put it again",
                place=Place(column=chunk.column),
            )
        at += size


def _header(file: BinaryIO, at: int) -> tuple[dict[int, Any], int] | None:
    """The header of a page, and how many bytes it has."""
    for most in _HEADERS:
        file.seek(at)
        thrift = _Thrift(file.read(most))
        try:
            return thrift.struct(), thrift.at
        except IndexError:
            continue
        except ValueError:
            return None
    return None


def _checksum(file: BinaryIO, at: int, size: int) -> int:
    file.seek(at)
    found = 0
    while size > 0:
        piece = file.read(min(size, _PIECE))
        if not piece:
            break
        found = zlib.crc32(piece, found)
        size -= len(piece)
    return found


class _Thrift:
    """Reads structs of Thrift's compact protocol: their fields by number.

    Raises:
        IndexError: the bytes end too early.
        ValueError: they are no such thing.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.at = 0

    def struct(self, depth: int = 0) -> dict[int, Any]:
        if depth > _DEEPEST:
            raise ValueError("too deep")
        fields: dict[int, Any] = {}
        number = 0
        while head := self._byte():
            number = number + (head >> 4) if head >> 4 else self._integer()
            kind = head & 15
            fields[number] = kind == 1 if kind in {1, 2} else self._value(kind, depth)
        return fields

    def _value(self, kind: int, depth: int) -> Any:
        if kind in {4, 5, 6}:
            return self._integer()
        if kind == 8:
            return self._bytes(self._varint())
        if kind == 12:
            return self.struct(depth + 1)
        if kind in {9, 10}:
            return self._list(depth)
        if kind in {1, 2, 3}:
            return self._byte()
        if kind == 7:
            return self._bytes(8)
        raise ValueError(f"{kind} is no type that Parquet's metadata has")

    def _list(self, depth: int) -> list[Any]:
        head = self._byte()
        length = head >> 4 if head >> 4 < 15 else self._varint()
        return [self._value(head & 15, depth) for _ in range(length)]

    def _byte(self) -> int:
        self.at += 1
        return self._data[self.at - 1]

    def _bytes(self, length: int) -> bytes:
        self.at += length
        if self.at > len(self._data):
            raise IndexError
        return self._data[self.at - length : self.at]

    def _varint(self) -> int:
        """Seven bits a byte, the lowest first; the high bit says that more follow."""
        found, shift = 0, 0
        while True:
            byte = self._byte()
            found |= (byte & 127) << shift
            if byte < 128:
                return found
            shift += 7
            if shift > 63:
                raise ValueError("a number has more than 64 bits")

    def _integer(self) -> int:
        """Zigzag: 0, -1, 1, -2 … are 0, 1, 2, 3 …"""
        number = self._varint()
        return (number >> 1) ^ -(number & 1)
