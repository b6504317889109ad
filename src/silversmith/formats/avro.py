"""Avro container files, block by block: each block is unpacked here, within limits, and decoded by Polars.

https://avro.apache.org/docs/1.12.0/specification/#object-container-files
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import orjson
import polars as pl
from polars.exceptions import PanicException, PolarsError

from silversmith.errors import DataError
from silversmith.formats import pieces
from silversmith.formats.archives.compression import MOST_WINDOW, errors, zstd_decompressor
from silversmith.formats.archives.content import Content
from silversmith.formats.avro_schema import Prepared, prepare, unsupported
from silversmith.formats.parquet import reason_of
from silversmith.formats.table import Table, checked_names, col, shorten

MAGIC = b"Obj\x01"

#: The longest header and the longest block, packed or not, in bytes. Writers make blocks of some 16 to 64 kilobytes.
LONGEST = 64 * 1024 * 1024

#: How many cells blocks may have that are decoded at once: a few bytes may stand for many of them.
MOST_CELLS = 16_000_000

#: Unpacked bytes of blocks that are decoded at once.
BLOCK = 8 * 1024 * 1024

#: How many entries a header may have; two are needed.
MOST_ENTRIES = 1000

_SYNC = 16


@dataclass(frozen=True)
class Avro:
    """Read as Avro, whatever the name. Such files say all else themselves."""


@dataclass(frozen=True)
class _Header:
    prepared: Prepared
    codec: str
    sync: bytes

    def bytes(self, *, blocks: bool = True) -> bytes:
        """A header for the blocks that Polars gets: unpacked, but for Snappy, which it unpacks itself.

        Without ``blocks`` there is nothing to unpack: Polars panics over a file of Snappy that has none.
        """
        codec = b"snappy" if self.codec == "snappy" and blocks else b"null"
        entries = {b"avro.schema": orjson.dumps(self.prepared.schema), b"avro.codec": codec}
        told = b"".join(_long(len(key)) + key + _long(len(value)) + value for key, value in entries.items())
        return MAGIC + _long(len(entries)) + told + _long(0) + self.sync


def read(content: Content, *, block: int = BLOCK) -> Table:
    """The records of an Avro file as rows.

    Raises:
        DataError: ``EmptyFile``, ``UnreadableAvro``, ``UnsupportedAvro`` for types that no column has, ``TooLarge``.
    """
    if content.size == 0:
        raise DataError("EmptyFile", "the file is empty", hint="put it again with data")
    with content.open() as opened:
        file = _File(opened)
        header = _read_header(file)
        checked_names(header.prepared.names)
        return pieces.table_of(_frames(file, header, block), "avro" + content.packing, content.scratch)


class _File:
    """Avro's few primitive types, read from a file."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def at_end(self) -> bool:
        found = not self._file.read(1)
        if not found:
            self._file.seek(-1, io.SEEK_CUR)
        return found

    def take(self, length: int) -> bytes:
        if length < 0:
            raise unreadable("a length is below zero")
        if length > LONGEST:
            raise _too_large(length)
        found = self._file.read(length)
        if len(found) < length:
            raise unreadable("it ends in the middle")
        return found

    def unsigned(self) -> int:
        """Seven bits a byte, the lowest first."""
        number = 0
        for shift in range(0, 70, 7):
            byte = self.take(1)[0]
            number |= (byte & 127) << shift
            if byte < 128:
                return number
        raise unreadable("a number has more than 64 bits")

    def long(self) -> int:
        """The same with a sign, in the lowest bit."""
        number = self.unsigned()
        return (number >> 1) ^ -(number & 1)

    def text(self) -> bytes:
        return self.take(self.long())


def _long(number: int) -> bytes:
    number = (number << 1) ^ (number >> 63)
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def _read_header(file: _File) -> _Header:
    if file.take(len(MAGIC)) != MAGIC:
        raise unreadable("it does not begin as Avro does")
    entries: dict[bytes, bytes] = {}
    while count := file.long():
        if count < 0:
            count = -count
            file.long()  # how many bytes the entries take
        if count + len(entries) > MOST_ENTRIES:
            raise unreadable("its header has no end")
        for _ in range(count):
            key = file.text()
            entries[key] = file.text()
    sync = file.take(_SYNC)
    try:
        schema = orjson.loads(entries.get(b"avro.schema", b""))
    except orjson.JSONDecodeError as error:
        raise unreadable(f"its schema is not JSON: {error}") from None
    return _Header(prepare(schema), entries.get(b"avro.codec", b"null").decode("utf-8", "replace"), sync)


def _frames(file: _File, header: _Header, size: int) -> Iterator[pl.DataFrame]:
    """Blocks, some at a time, as frames; at least one."""
    prepared = header.prepared
    start = header.bytes()
    held, records, waiting = [start], 0, 0
    yielded = False
    while not file.at_end():
        count, packed = file.long(), file.text()
        if file.take(_SYNC) != header.sync:
            raise unreadable("a block does not end where it says")
        data, length = _unpacked(packed, header.codec)
        if count < 0 or count * prepared.least > length:
            raise unreadable(f"a block says that it has {count:,} records in {length:,} bytes")
        cells = (records + count) * len(prepared.names)
        if count * len(prepared.names) > MOST_CELLS:
            raise _too_large(length)
        if records and (waiting + length > size or cells > MOST_CELLS):
            yield _decoded(held, records, prepared)
            held, records, waiting, yielded = [start], 0, 0, True
        held += [_long(count), _long(len(data)), data, header.sync]
        records += count
        waiting += length
    if records:
        yield _decoded(held, records, prepared)
    elif not yielded:
        yield _decoded([header.bytes(blocks=False)], 0, prepared)


def _decoded(held: list[bytes], records: int, prepared: Prepared) -> pl.DataFrame:
    try:
        frame = pl.read_avro(io.BytesIO(b"".join(held)))
    except (PolarsError, PanicException, OSError, ValueError) as error:
        raise unreadable(reason_of(error)) from None
    if frame.height != records:
        raise unreadable(f"{records:,} records are told, and {frame.height:,} are there")
    return frame.select(_column(name, prepared, frame) for name in prepared.names)


def _column(name: str, prepared: Prepared, frame: pl.DataFrame) -> pl.Expr:
    if name in prepared.nulls:
        return pl.lit(None, dtype=pl.String).alias(name)
    if frame.schema[name] == pl.Categorical:
        return col(name).cast(pl.String)  # so that blocks go together, whichever words they have
    if name not in prepared.enums:
        return col(name)
    words = prepared.enums[name]
    numbers = frame[name].drop_nulls()
    if numbers.len() and (int(numbers.min()) < 0 or int(numbers.max()) >= len(words)):  # type: ignore[arg-type]
        raise unreadable(f'"{shorten(name)}" has a number that stands for none of its words')
    return col(name).replace_strict(range(len(words)), words, return_dtype=pl.String)


def _unpacked(data: bytes, codec: str) -> tuple[bytes, int]:
    """A block for Polars, and how many bytes it has unpacked."""
    if codec == "null":
        return data, len(data)
    if codec == "snappy":
        length = _File(io.BytesIO(data)).unsigned()
        if length > LONGEST:
            raise _too_large(length)
        return data, length
    if codec not in _CODECS:
        known = ", ".join(["null", "snappy", *_CODECS])
        raise unsupported(f"its blocks are compressed with {shorten(codec)}, which is not read; {known} are")
    try:
        undone = _undone(_CODECS[codec](), data)
    except errors() as error:
        raise unreadable(f"a block is damaged: {error}") from None
    return undone, len(undone)


def _undone(decompressor: Any, data: bytes) -> bytes:
    undone: bytes = decompressor.decompress(data, LONGEST + 1)
    if len(undone) > LONGEST:
        raise _too_large(len(undone))
    if not decompressor.eof:
        raise unreadable("a block is damaged: it ends in the middle")
    return undone


def _deflate() -> Any:
    import zlib

    return zlib.decompressobj(-zlib.MAX_WBITS)


def _bzip2() -> Any:
    import bz2

    return bz2.BZ2Decompressor()


def _xz() -> Any:
    import lzma

    return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MOST_WINDOW)


_CODECS = {"deflate": _deflate, "bzip2": _bzip2, "xz": _xz, "zstandard": zstd_decompressor}


def _too_large(length: int) -> DataError:
    return DataError(
        "TooLarge",
        f"a block has {length:,} bytes or more; {LONGEST:,} are read at once",
        hint="write it with smaller blocks",
    )


def unreadable(why: str) -> DataError:
    """The error for what is no whole Avro."""
    return DataError(
        "UnreadableAvro",
        f"the file is not whole Avro: {shorten(why, 200)}",
        hint="it may have been cut off or damaged while it was written or sent: write and put it again",
    )
