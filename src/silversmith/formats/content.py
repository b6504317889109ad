"""The bytes of an object as readers want them: unpacked, in memory when small, else in a file."""

from __future__ import annotations

import gzip
import io
import zlib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, BinaryIO, cast

from silversmith.errors import DataError
from silversmith.formats.scratch import Scratch
from silversmith.stores import IN_MEMORY, Source

#: What is unpacked may grow to this many bytes, or to MOST_RATIO times its packed size where that is more. Text seldom
#: packs to less than a fiftieth; a bomb packs to a thousandth.
LEAST_UNPACKED = 256 * 1024 * 1024
MOST_RATIO = 100

_PIECE = 1024 * 1024
_GZIP = b"\x1f\x8b"


@dataclass(frozen=True)
class Content:
    """``data`` or ``path``, never both. ``name`` is the key without ``.gz``; ``packing`` is ``+gzip`` or empty."""

    name: str
    data: bytes | None
    path: Path | None
    packing: str = ""
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


def unpack(source: Source, scratch: Scratch) -> Content:
    """The content of an object, without its compression.

    Raises:
        DataError: ``UnreadableGzip``, or ``TooLarge`` for what unpacks to more than a hundred times its size.
    """
    path = source.path.absolute() if source.path is not None else None
    packed = Content(source.head.key, source.data, path, scratch=scratch)
    named = source.head.key.lower().endswith(".gz")
    if packed.head(2) != _GZIP:
        if named and packed.size:
            raise _unreadable("it does not begin as gzip does")
        return replace(packed, name=source.head.key[:-3]) if named else packed
    name = source.head.key[:-3] if named else source.head.key
    with packed.open() as file:
        unpacked = _gunzip(file, packed.size, scratch)
    return replace(unpacked, name=name, packing="+gzip")


def _gunzip(file: BinaryIO, packed: int, scratch: Scratch) -> Content:
    most = max(LEAST_UNPACKED, MOST_RATIO * packed)
    collected = Collected(scratch, most)
    try:
        with gzip.GzipFile(fileobj=cast("IO[bytes]", file), mode="rb") as stream:
            while piece := stream.read(_PIECE):
                collected.add(piece)
        return collected.content()
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise _unreadable(str(error)) from None
    finally:
        collected.close()


def _unreadable(why: str) -> DataError:
    return DataError(
        "UnreadableGzip",
        f"the file is not whole gzip: {why}",
        hint="it may have been cut off while it was written or sent: compress and put it again",
    )


class Collected:
    """Bytes that come in pieces: kept in memory while they are few, in a temporary file from then on."""

    def __init__(self, scratch: Scratch, most: int) -> None:
        self._scratch = scratch
        self._most = most
        self._size = 0
        self._pieces: list[bytes] = []
        self._path: Path | None = None
        self._file: BinaryIO | None = None

    def add(self, piece: bytes) -> None:
        """Raises DataError ``TooLarge`` when there are too many."""
        self._size += len(piece)
        if self._size > self._most:
            raise DataError(
                "TooLarge",
                f"the file unpacks to more than {self._most:,} bytes, {MOST_RATIO} times its size",
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
