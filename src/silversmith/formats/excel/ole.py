"""Compound files, in which Office kept its documents before 2007: a small file system, of which one file is wanted.

https://learn.microsoft.com/en-us/openspecs/windows_protocols/ms-cfb/
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterator

from silversmith.formats.excel.ooxml import unreadable

MAGIC = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"

_END, _MOST_SECTOR = 0xFFFFFFFE, 0xFFFFFFFA
_ENTRY = 128
_STREAM, _ROOT = 2, 5


class Compound:
    """A compound file in memory.

    Raises:
        DataError: ``UnreadableExcel``.
    """

    def __init__(self, data: bytes) -> None:
        if len(data) < 512 or not data.startswith(MAGIC):
            raise unreadable("it is no compound file")
        self._data = data
        self._shift, mini_shift = struct.unpack_from("<HH", data, 30)
        if self._shift not in {9, 12} or mini_shift != 6:
            raise unreadable("its sectors have an unknown size")
        directory, self._cutoff, mini_start, _, more, number = struct.unpack_from("<I4xIIIII", data, 48)
        self._table = self._allocation(list(struct.unpack_from("<109I", data, 76)), more, number)
        self._small = self._numbers(b"".join(self._chain(mini_start))) if mini_start <= _MOST_SECTOR else array("I")
        self._entries = b"".join(self._chain(directory))
        self._mini = b""
        for name, kind, start, _ in self._files():
            if kind == _ROOT and start <= _MOST_SECTOR:
                self._mini = b"".join(self._chain(start))
                del name
                break

    def _sector(self, number: int) -> bytes:
        begin = (number + 1) << self._shift
        found = self._data[begin : begin + (1 << self._shift)]
        if not found:
            raise unreadable("it ends in the middle, or points beyond its end")
        return found

    def _numbers(self, data: bytes) -> array[int]:
        numbers = array("I")
        numbers.frombytes(data[: len(data) // 4 * 4])
        return numbers

    def _allocation(self, sectors: list[int], more: int, number: int) -> array[int]:
        """The table of which sector follows which; its own sectors are listed in the header and in a chain after it."""
        most = len(self._data) >> self._shift
        while more <= _MOST_SECTOR and number:
            following = self._numbers(self._sector(more))
            sectors += following[:-1]
            more, number = following[-1], number - 1
            if len(sectors) > 2 * most + 512:
                raise unreadable("its table of sectors has no end")
        return self._numbers(b"".join(self._sector(one) for one in sectors if one <= _MOST_SECTOR))

    def _chain(self, start: int) -> Iterator[bytes]:
        sector, passed = start, 0
        while sector != _END:
            passed += 1
            if sector >= len(self._table) or passed > len(self._table):
                raise unreadable("a chain of sectors has no end")
            yield self._sector(sector)
            sector = self._table[sector]

    def _small_chain(self, start: int) -> Iterator[bytes]:
        sector, passed = start, 0
        while sector != _END:
            passed += 1
            if sector >= len(self._small) or passed > len(self._small):
                raise unreadable("a chain of sectors has no end")
            yield self._mini[sector * 64 : sector * 64 + 64]
            sector = self._small[sector]

    def _files(self) -> Iterator[tuple[str, int, int, int]]:
        """Name, kind, first sector and size of each entry."""
        for at in range(0, len(self._entries) - _ENTRY + 1, _ENTRY):
            length, kind = struct.unpack_from("<HB", self._entries, at + 64)
            start, size = struct.unpack_from("<II", self._entries, at + 116)
            name = self._entries[at : at + max(0, min(length, 64) - 2)].decode("utf-16-le", "replace")
            yield name, kind, start, size

    def stream(self, *names: str) -> bytes | None:
        """The file of the first of these names that there is."""
        files = {name: (start, size) for name, kind, start, size in self._files() if kind == _STREAM}
        for name in names:
            if name in files:
                start, size = files[name]
                chain = self._small_chain(start) if size < self._cutoff else self._chain(start)
                found = b"".join(chain)[:size]
                if len(found) < size:
                    raise unreadable(f"{name} ends in the middle")
                return found
        return None
