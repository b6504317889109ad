"""The bytes of an object as readers take them: unpacked, in memory when small, else in a temporary file.

Polars scans a file by its path, and late: so a temporary file has a name, and lives as long as the table does.
"""

from __future__ import annotations

import io
import itertools
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from silversmith.errors import DataError
from silversmith.stores import IN_MEMORY, Source

#: An object may unpack to this many bytes, or to MOST_RATIO times its packed size where that is more. Text seldom
#: packs to less than a fiftieth; a bomb packs to a thousandth.
LEAST_UNPACKED = 256 * 1024 * 1024
MOST_RATIO = 100


_numbers = itertools.count(1)


class Scratch:
    """A folder for temporary files, created with the first one and removed with this object.

    A scan reads its files late, so the table that scans them keeps this object.
    """

    def __init__(self, within: Path | None = None) -> None:
        self._within = within
        self._folder: Path | None = None
        self._finalizer: Callable[[], object] = lambda: None

    def file(self, ending: str) -> Path:
        """The path of a new file, which does not exist yet."""
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="silversmith-", dir=self._within))
            self._finalizer = weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        return self._folder / f"{next(_numbers)}{ending}"

    def remove(self) -> None:
        """Remove the files now."""
        self._finalizer()
        self._folder = None


def unpacked_limit(packed_size: int) -> int:
    """The most bytes that so many compressed ones may unpack to."""
    return max(LEAST_UNPACKED, MOST_RATIO * packed_size)


def damaged(kind: str, what: str, pack: str) -> DataError:
    """The error for a file that is not whole. ``what`` it is instead, and why; ``pack``: how it is made."""
    hint = f"it may have been cut off while it was written or sent: {pack} and put it again"
    return DataError(f"Unreadable{kind}", f"the file is {what}", hint=hint)


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

    def read(self) -> bytes:
        """All bytes. Only for what is known to be small."""
        return self.data if self.data is not None else self._path.read_bytes()


def packed(source: Source, scratch: Scratch) -> Content:
    """The content of an object as it is."""
    path = source.path.absolute() if source.path is not None else None
    return Content(source.head.key, source.data, path, scratch=scratch)


def collect(pieces: Iterable[bytes], scratch: Scratch, most: int, *, used: int = 0) -> Content:
    """Bytes that come in pieces as a content without a name, in memory if they are few, else in a temporary file.

    ``used`` bytes of the ``most`` that there may be came before.

    Raises:
        DataError: ``TooLarge``, or what the pieces raise.
    """
    kept: list[bytes] = []
    path: Path | None = None
    size = used
    with ExitStack() as files:
        write: Callable[[bytes], object] = kept.append
        for piece in pieces:
            size += len(piece)
            if size > most:
                raise DataError(
                    "TooLarge",
                    f"the file unpacks to more than {most:,} bytes, which only harmful archives do",
                    hint="if this is no mistake, put it uncompressed, or in parts",
                )
            if path is None and size > IN_MEMORY:
                path = scratch.file(".unpacked")
                file = files.enter_context(path.open("wb"))
                file.writelines(kept)
                kept, write = [], file.write
            write(piece)
    return Content("", None if path else b"".join(kept), path, scratch=scratch)
