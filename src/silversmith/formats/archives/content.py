"""The bytes of an object as readers want them: unpacked, in memory when small, else in a file."""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO

from silversmith.errors import DataError
from silversmith.formats.archives.compression import compression_of, stripped
from silversmith.formats.archives.scratch import Scratch
from silversmith.stores import IN_MEMORY, Source

#: What is unpacked may grow to this many bytes, or to MOST_RATIO times its packed size where that is more. Text seldom
#: packs to less than a fiftieth; a bomb packs to a thousandth.
LEAST_UNPACKED = 256 * 1024 * 1024
MOST_RATIO = 100


def unpacked_limit(packed_size: int) -> int:
    """How many bytes may come out of so many."""
    return max(LEAST_UNPACKED, MOST_RATIO * packed_size)


@dataclass(frozen=True)
class Content:
    """``data`` or ``path``, never both. ``name`` is the key without ``.gz``; ``packing`` is ``+gzip`` or empty.

    ``kind`` is the format where unpacking has shown it already. ``member`` is the name within an archive.
    """

    name: str
    data: bytes | None
    path: Path | None
    packing: str = ""
    kind: str = ""
    member: str = ""
    scratch: Scratch = field(default_factory=Scratch, repr=False)

    @property
    def size(self) -> int:
        """In bytes."""
        return len(self.data) if self.data is not None else self._path.stat().st_size

    @property
    def _path(self) -> Path:
        assert self.path is not None
        return self.path

    def open(self) -> BinaryIO:
        """The bytes as a file at its beginning."""
        return io.BytesIO(self.data) if self.data is not None else self._path.open("rb")

    def head(self, length: int) -> bytes:
        """The first bytes, at most ``length``."""
        if self.data is not None:
            return self.data[:length]
        with self._path.open("rb") as file:
            return file.read(length)

    def tail(self, length: int) -> bytes:
        """The last bytes, at most ``length``."""
        if self.data is not None:
            return self.data[-length:]
        with self._path.open("rb") as file:
            file.seek(max(0, self.size - length))
            return file.read(length)

    def read(self) -> bytes:
        """All bytes. Only for what is known to be small."""
        return self.data if self.data is not None else self._path.read_bytes()


def packed(source: Source, scratch: Scratch) -> Content:
    """The content of an object as it is."""
    path = source.path.absolute() if source.path is not None else None
    return Content(source.head.key, source.data, path, scratch=scratch)


def unpack(source: Source, scratch: Scratch) -> Content:
    """The content of an object, without its compression.

    Raises:
        DataError: ``UnreadableGzip`` and the like, or ``TooLarge`` for what unpacks to more than a hundred times its
            size.
    """
    content = packed(source, scratch)
    compression = compression_of(content)
    if compression is None:
        return replace(content, name=stripped(content.name))
    with content.open() as file:
        return collect(compression.pieces(file), content, name=stripped(content.name), packing="+" + compression.name)


def collect(pieces: Iterable[bytes], of: Content, *, name: str, packing: str, used: int = 0) -> Content:
    """What is unpacked of a content, ``used`` bytes having been unpacked of it before.

    Raises:
        DataError: ``TooLarge``, or what the pieces raise.
    """
    collected = Collected(of.scratch, unpacked_limit(of.size), used)
    try:
        for piece in pieces:
            collected.add(piece)
        return replace(collected.content(), name=name, packing=packing)
    finally:
        collected.close()


class Collected:
    """Bytes that come in pieces: kept in memory while they are few, in a temporary file from then on."""

    def __init__(self, scratch: Scratch, most: int, used: int = 0) -> None:
        self._scratch = scratch
        self._most = most
        self._size = used
        self._pieces: list[bytes] = []
        self._path: Path | None = None
        self._file: BinaryIO | None = None

    def add(self, piece: bytes) -> None:
        """Raises DataError ``TooLarge`` when there are too many."""
        self._size += len(piece)
        if self._size > self._most:
            raise DataError(
                "TooLarge",
                f"the file unpacks to more than {self._most:,} bytes; so much packs to so little in bombs only",
                hint="if this is no mistake, put it uncompressed, or in parts",
            )
        if self._file is None and self._size > IN_MEMORY:
            self._path = self._scratch.file(".unpacked")
            self._file = self._path.open("wb")
            self._file.write(b"".join(self._pieces))
            self._pieces.clear()
        if self._file is not None:
            self._file.write(piece)
        else:
            self._pieces.append(piece)

    def content(self) -> Content:
        """All of it, without a name."""
        self.close()
        if self._path is not None:
            return Content("", None, self._path, scratch=self._scratch)
        return Content("", b"".join(self._pieces), None, scratch=self._scratch)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
