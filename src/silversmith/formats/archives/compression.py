"""Compressions: the bytes they begin with, the endings of names, and how to decompress a file, a piece at a time."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, Protocol

from silversmith.errors import DataError

_PIECE = 1024 * 1024

#: Memory for the dictionary of an xz or Zstandard stream, in bytes: what the highest usual levels of either need.
MOST_WINDOW = 128 * 1024 * 1024


class _Decompressor(Protocol):
    """The interface that ``bz2``, ``lzma`` and ``compression.zstd`` share: one stream, decompressed in pieces."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


@dataclass(frozen=True)
class Compression:
    """One way to compress. ``endings`` of names, in lower case, and what replaces each; ``magics``: the first bytes."""

    name: str
    endings: dict[str, str]
    magics: tuple[bytes, ...]
    undo: Callable[[BinaryIO], Iterator[bytes]]

    def stripped(self, name: str) -> str | None:
        """A name without the ending that says it is compressed so; None where it does not say."""
        for ending, rest in self.endings.items():
            if name.lower().endswith(ending):
                return name[: -len(ending)] + rest
        return None

    def pieces(self, file: BinaryIO) -> Iterator[bytes]:
        """The decompressed bytes, in pieces of bounded size. Several streams, one after the other, are one.

        Raises:
            DataError: ``UnreadableGzip`` and the like.
        """
        try:
            yield from self.undo(file)
        except OSError as error:
            if error.errno is not None:  # the system is at fault, not the bytes
                raise
            raise self.unreadable(str(error)) from None
        except errors() as error:
            raise self.unreadable(str(error)) from None

    def unreadable(self, why: str) -> DataError:
        """The error for a file that is not whole."""
        return DataError(
            f"Unreadable{self.name.capitalize()}",
            f"the file is not whole {self.name}: {why}",
            hint="it may have been cut off while it was written or sent: compress and put it again",
        )


def errors() -> tuple[type[BaseException], ...]:
    """The errors of decompressors."""
    import lzma
    import zlib

    zstd = sys.modules.get("compression.zstd") or sys.modules.get("backports.zstd")
    return (OSError, EOFError, zlib.error, lzma.LZMAError, *([zstd.ZstdError] if zstd else []))


def _gzip(file: BinaryIO) -> Iterator[bytes]:
    import gzip

    with gzip.GzipFile(fileobj=file, mode="rb") as stream:
        while piece := stream.read(_PIECE):
            yield piece


def _bzip2(file: BinaryIO) -> Iterator[bytes]:
    import bz2

    return _streams(file, bz2.BZ2Decompressor)


def _xz(file: BinaryIO) -> Iterator[bytes]:
    import lzma

    return _streams(file, lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MOST_WINDOW), padding=b"\0")


def _zstd(file: BinaryIO) -> Iterator[bytes]:
    return _streams(file, zstd_decompressor)


def zstd_decompressor() -> Any:
    """The standard library's, or before Python 3.14 its backport. It refuses windows over :data:`MOST_WINDOW`."""
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd

    window = {int(zstd.DecompressionParameter.window_log_max): MOST_WINDOW.bit_length() - 1}
    return zstd.ZstdDecompressor(options=window)


def _streams(file: BinaryIO, begin: Callable[[], _Decompressor], padding: bytes = b"") -> Iterator[bytes]:
    """One stream after the other until the file ends; ``padding`` may stand after each."""
    data = file.read(_PIECE)
    while data:
        stream = begin()
        while not stream.eof:
            if stream.needs_input and not data:
                data = file.read(_PIECE)
                if not data:
                    raise EOFError("it ends in the middle")
            yield stream.decompress(data, _PIECE)
            data = b""
        data = (stream.unused_data or file.read(_PIECE)).lstrip(padding) if padding else stream.unused_data
        while padding and not data and (more := file.read(_PIECE)):
            data = more.lstrip(padding)
        data = data or file.read(_PIECE)


COMPRESSIONS = (
    Compression("gzip", {".gz": "", ".gzip": "", ".tgz": ".tar"}, (b"\x1f\x8b",), _gzip),
    # a stream of Zstandard may begin with a frame to skip, as those of several threads do
    Compression("zstd", {".zst": "", ".zstd": "", ".tzst": ".tar"}, (b"\x28\xb5\x2f\xfd", b"\x50\x2a\x4d\x18"), _zstd),
    Compression(
        "bzip2",
        {".bz2": "", ".bz": "", ".tbz2": ".tar", ".tbz": ".tar"},
        tuple(b"BZh%d%b" % (level, first) for level in range(1, 10) for first in (b"1AY&SY", b"\x17rE8P\x90")),
        _bzip2,
    ),
    Compression("xz", {".xz": "", ".txz": ".tar"}, (b"\xfd7zXZ\x00",), _xz),
)


def compression_of(head: bytes, name: str) -> Compression | None:
    """How a file is compressed, by its first 16 bytes; None: not at all.

    Raises:
        DataError: ``UnreadableGzip`` and the like: its name says that it is compressed, and it is not.
    """
    compression = next((one for one in COMPRESSIONS if head.startswith(one.magics)), None)
    if compression is None and head and _is_called_so(name):
        for one in COMPRESSIONS:
            if one.stripped(name) is not None:
                raise one.unreadable(f"it does not begin as {one.name} does")
    return compression


def stripped(name: str) -> str:
    """A name without the ending that says how it is compressed."""
    if not _is_called_so(name):
        return name
    return next((rest for one in COMPRESSIONS if (rest := one.stripped(name)) is not None), name)


_ENDINGS = tuple(ending for one in COMPRESSIONS for ending in one.endings)


def _is_called_so(name: str) -> bool:
    """Whether a name says that its content is compressed."""
    return name.lower().endswith(_ENDINGS)
