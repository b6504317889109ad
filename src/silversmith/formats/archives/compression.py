"""Compressions: the bytes they begin with, the endings of names, and how to decompress a file, a piece at a time."""

from __future__ import annotations

import bz2
import gzip
import lzma
import sys
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, BinaryIO

from silversmith.errors import DataError
from silversmith.formats.archives.content import damaged

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_PIECE = 1024 * 1024

#: Memory for the dictionary of an xz or Zstandard stream, in bytes: what the highest usual levels of either need.
MOST_WINDOW = 128 * 1024 * 1024


#: The errors of decompressors.
ERRORS = (OSError, EOFError, zlib.error, lzma.LZMAError, zstd.ZstdError)


@dataclass(frozen=True)
class Compression:
    """One way to compress. ``endings`` of names, in lower case, and what replaces each; ``magics``: the first bytes."""

    name: str
    endings: dict[str, str]
    magics: tuple[bytes, ...]
    undo: Callable[[BinaryIO], Iterator[bytes]]

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
        except ERRORS as error:
            raise self.unreadable(str(error)) from None

    def unreadable(self, why: str) -> DataError:
        """The error for a file that is not whole."""
        return damaged(self.name.capitalize(), f"not whole {self.name}: {why}", "compress")


def _gzip(file: BinaryIO) -> Iterator[bytes]:
    with gzip.GzipFile(fileobj=file, mode="rb") as stream:
        while piece := stream.read(_PIECE):
            yield piece


def xz_decompressor() -> Any:
    """For one stream, with a dictionary of at most :data:`MOST_WINDOW`."""
    return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MOST_WINDOW)


def zstd_decompressor() -> Any:
    """For one stream, with a window of at most :data:`MOST_WINDOW`."""
    window = {int(zstd.DecompressionParameter.window_log_max): MOST_WINDOW.bit_length() - 1}
    return zstd.ZstdDecompressor(options=window)


def _streams(file: BinaryIO, begin: Callable[[], Any], padding: bytes = b"") -> Iterator[bytes]:
    """Decompress stream after stream until the file ends; ``padding`` may stand after each. ``begin`` makes one of the
    decompressors of ``bz2``, ``lzma`` and ``compression.zstd``, which have the same interface."""
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
        data = stream.unused_data.lstrip(padding) if padding else stream.unused_data
        while not data and (more := file.read(_PIECE)):
            data = more.lstrip(padding) if padding else more


COMPRESSIONS = (
    Compression("gzip", {".gz": "", ".gzip": "", ".tgz": ".tar"}, (b"\x1f\x8b",), _gzip),
    # a stream of Zstandard may begin with a frame to skip, as those of several threads do
    Compression(
        "zstd",
        {".zst": "", ".zstd": "", ".tzst": ".tar"},
        (b"\x28\xb5\x2f\xfd", b"\x50\x2a\x4d\x18"),
        partial(_streams, begin=zstd_decompressor),
    ),
    Compression(
        "bzip2",
        {".bz2": "", ".bz": "", ".tbz2": ".tar", ".tbz": ".tar"},
        tuple(b"BZh%d%b" % (level, first) for level in range(1, 10) for first in (b"1AY&SY", b"\x17rE8P\x90")),
        partial(_streams, begin=bz2.BZ2Decompressor),
    ),
    Compression(
        "xz", {".xz": "", ".txz": ".tar"}, (b"\xfd7zXZ\x00",), partial(_streams, begin=xz_decompressor, padding=b"\0")
    ),
)

_BY_ENDING = {ending: compression for compression in COMPRESSIONS for ending in compression.endings}

#: The first bytes of formats that are no text, and that no compression has.
_PLAIN = (b"PAR1", b"Obj\x01", b"ARROW1", b"PK\x03\x04", b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")

#: Bytes of text, in whatever encoding: no control characters but blanks.
_TEXT = bytes(byte for byte in range(256) if byte >= 0x20 or byte in b"\t\n\f\r")


def compression_of(head: bytes, name: str) -> Compression | None:
    """The compression of a file, by its first 16 bytes; None: there is none. The bytes decide, not the name: some
    programs unpack an object with ``Content-Encoding: gzip`` on the way, and others compress it once more.

    Raises:
        DataError: ``UnreadableGzip`` and the like: its name says that it is compressed, and the bytes are neither that
            nor text.
    """
    for compression in COMPRESSIONS:
        if head.startswith(compression.magics):
            return compression
    named = _BY_ENDING.get(_ending(name))
    if head and named is not None and not _is_plain(head, named):
        raise named.unreadable(f"it does not begin as {named.name} does")
    return None


def _is_plain(head: bytes, named: Compression) -> bool:
    """Whether the first bytes are of a file that is not compressed; too few of them are of one that was cut off."""
    is_cut_off = any(magic.startswith(head) for magic in named.magics)
    return not is_cut_off and (head.startswith(_PLAIN) or not head.translate(None, _TEXT))


def stripped(name: str) -> str:
    """A name without the ending that says how it is compressed."""
    ending = _ending(name)
    compression = _BY_ENDING.get(ending)
    return name if compression is None else name[: -len(ending)] + compression.endings[ending]


def _ending(name: str) -> str:
    return name[name.rfind(".") :].lower()
