"""Avro container files, block by block: each block is unpacked here, within limits, and decoded by Polars.

https://avro.apache.org/docs/1.12.0/specification/#object-container-files
"""

from __future__ import annotations

import bz2
import io
import os
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

import orjson
import polars as pl
from polars.exceptions import PanicException, PolarsError

from silversmith.errors import DataError
from silversmith.formats import spill
from silversmith.formats.archives.compression import ERRORS, xz_decompressor, zstd_decompressor
from silversmith.formats.archives.content import Content
from silversmith.formats.parquet import not_whole, reason_of
from silversmith.formats.table import MOST_COLUMNS, Table, checked_names, col, shorten

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

#: How deep types may be nested, and how many there may be once every name is spelled out.
MOST_DEPTH = 64
MOST_TYPES = 2 * MOST_COLUMNS

_PRIMITIVES = frozenset({"null", "boolean", "int", "long", "float", "double", "bytes", "string"})

#: The most digits and the most bytes of a decimal number that a column holds.
_MOST_DIGITS, _MOST_DECIMAL_BYTES = 38, 16


@dataclass(frozen=True)
class Avro:
    """Read as Avro, whatever the name. Such files say all else themselves."""


@dataclass(frozen=True)
class _Header:
    """``columns`` are the types of all columns, spelled out."""

    columns: Mapping[str, Any]
    codec: str
    sync: bytes

    @property
    def schema(self) -> dict[str, Any]:
        """For Polars. It leaves out columns of nulls, which take no bytes."""
        fields = [{"name": name, "type": _decoded_as(kind)} for name, kind in self.columns.items() if kind != "null"]
        return {"type": "record", "name": "record", "fields": fields}

    def bytes(self, *, blocks: bool = True) -> bytes:
        """A header for the blocks that Polars gets: unpacked, but for Snappy, which it unpacks itself.

        Without ``blocks`` there is nothing to unpack: Polars panics over a file of Snappy that has none.
        """
        codec = b"snappy" if self.codec == "snappy" and blocks else b"null"
        entries = {b"avro.schema": orjson.dumps(self.schema), b"avro.codec": codec}
        entries_bytes = b"".join(_long(len(key)) + key + _long(len(value)) + value for key, value in entries.items())
        return MAGIC + _long(len(entries)) + entries_bytes + _long(0) + self.sync


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
        return spill.table_of(_frames(file, header, block), "avro" + content.packing, content.scratch)


class _File:
    """Avro's few primitive types, read from a file."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def at_end(self) -> bool:
        is_end = not self._file.read(1)
        if not is_end:
            self._file.seek(-1, io.SEEK_CUR)
        return is_end

    def take(self, length: int) -> bytes:
        if length < 0:
            raise _unreadable("a length is below zero")
        if length > LONGEST:
            raise _too_large(length)
        data = self._file.read(length)
        if len(data) < length:
            raise _unreadable("it ends in the middle")
        return data

    def unsigned(self) -> int:
        """Seven bits a byte, the lowest first."""
        number = 0
        for shift in range(0, 70, 7):
            byte = self.take(1)[0]
            number |= (byte & 127) << shift
            if byte < 128:
                return number
        raise _unreadable("a number has more than 64 bits")

    def long(self) -> int:
        """An :meth:`unsigned` number with its sign in the lowest bit."""
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
        raise _unreadable("it does not begin as Avro does")
    entries: dict[bytes, bytes] = {}
    while count := file.long():
        if count < 0:
            count = -count
            file.long()  # how many bytes the entries take
        if count + len(entries) > MOST_ENTRIES:
            raise _unreadable("its header has no end")
        for _ in range(count):
            key = file.text()
            entries[key] = file.text()
    sync = file.take(_SYNC)
    try:
        schema = orjson.loads(entries.get(b"avro.schema", b""))
    except orjson.JSONDecodeError as error:
        raise _unreadable(f"its schema is not JSON: {error}") from None
    return _header(schema, entries.get(b"avro.codec", b"null").decode("utf-8", "replace"), sync)


def _frames(file: _File, header: _Header, size: int) -> Iterator[pl.DataFrame]:
    """Blocks, some at a time, as frames; at least one."""
    width, mark = len(header.columns), _Mark(header)
    pending: list[bytes] = []
    records, waiting, yielded = 0, 0, False
    while not file.at_end():
        count, packed = file.long(), file.text()
        if file.take(_SYNC) != header.sync:
            raise _unreadable("a block does not end where it says")
        data, length = _unpacked(packed, header.codec)
        if not 0 <= count <= length:  # each record takes a byte or more
            raise _unreadable(f"a block says that it has {count:,} records in {length:,} bytes")
        if count * width > MOST_CELLS:
            raise _too_large(length)
        if records and (waiting + length > size or (records + count) * width > MOST_CELLS):
            yield _decoded(pending, records, header, mark)
            pending, records, waiting, yielded = [], 0, 0, True
        pending += [_long(count), _long(len(data)), data, header.sync] if header.codec == "snappy" else [data]
        records += count
        waiting += length
    if pending or not yielded:
        yield _decoded(pending, records, header, mark)


def _decoded(pending: list[bytes], records: int, header: _Header, mark: _Mark) -> pl.DataFrame:
    """The records of blocks. Those that are unpacked become one, with a mark as its last record: where that is not the
    last one that is read, a block has more in it than its records, or less."""
    if header.codec == "snappy":
        frame = _polars([header.bytes(blocks=bool(records)), *pending])
        is_whole = frame.height == records
    else:
        body = b"".join([*pending, mark.bytes])
        frame = _polars([header.bytes(), _long(records + 1), _long(len(body)), body, header.sync])
        is_whole = frame.height == records + 1 and frame.tail(1).equals(mark.row)
        frame = frame.head(records)
    if not is_whole:
        raise _unreadable(f"its blocks say that they have {records:,} records, and there is more in them, or less")
    return frame.select(_column(name, kind, frame) for name, kind in header.columns.items())


def _polars(parts: list[bytes]) -> pl.DataFrame:
    try:
        return pl.read_avro(io.BytesIO(b"".join(parts)))
    except (PolarsError, PanicException, OSError, ValueError) as error:
        raise _unreadable(reason_of(error)) from None


class _Mark:
    """A record that no file has: its bytes, and the row that Polars makes of them."""

    def __init__(self, header: _Header) -> None:
        self._nonce = os.urandom(16)
        self.bytes = self._encoded(header.schema)
        self.row = pl.DataFrame()
        if header.codec != "snappy":
            self.row = _polars([header.bytes(), _long(1), _long(len(self.bytes)), self.bytes, header.sync])

    def _encoded(self, kind: Any) -> bytes:
        if isinstance(kind, list):
            place = next(place for place, choice in enumerate(kind) if choice != "null")
            return _long(place) + self._encoded(kind[place])
        details = kind if isinstance(kind, dict) else {"type": kind}
        if details["type"] == "record":
            return b"".join(self._encoded(field["type"]) for field in details["fields"])
        if details["type"] == "array":
            return _long(1) + self._encoded(details["items"]) + _long(0)
        is_plain = "logicalType" not in details
        number = int.from_bytes(self._nonce[:3], "little") if is_plain else 1
        data = self._nonce.hex().encode() if is_plain else b"\1"
        size = details.get("size", 0)
        return {
            "int": _long(number),
            "long": _long(number),
            "float": struct.pack("<f", number),
            "double": struct.pack("<d", number),
            "boolean": b"\1",
            "fixed": data[:size].ljust(size, b"\1") if is_plain else bytes(size),
        }.get(details["type"], _long(len(data)) + data)


def _column(name: str, kind: Any, frame: pl.DataFrame) -> pl.Expr:
    if kind == "null":
        return pl.lit(None, dtype=pl.String).alias(name)
    if nanoseconds := _time_of(kind):
        if not frame[name].drop_nulls().is_between(0, _DAY // nanoseconds, closed="left").all():
            raise _unsupported(f'"{shorten(name)}" has times of day that are not between 00:00 and 24:00')
        return (col(name).cast(pl.Int64) * nanoseconds).cast(pl.Time)
    if words := _symbols_of(kind):
        if not frame[name].drop_nulls().is_between(0, len(words) - 1).all():
            raise _unreadable(f'"{shorten(name)}" has a number that stands for none of its words')
        return col(name).replace_strict(range(len(words)), words, return_dtype=pl.String)
    return col(name)


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
        raise _unsupported(f"its blocks are compressed with {shorten(codec)}, which is not read; {known} are")
    decompressor = _CODECS[codec]()
    try:
        unpacked: bytes = decompressor.decompress(data, LONGEST + 1)
    except ERRORS as error:
        raise _unreadable(f"a block is damaged: {error}") from None
    if len(unpacked) > LONGEST:
        raise _too_large(len(unpacked))
    if not decompressor.eof:
        raise _unreadable("a block is damaged: it ends in the middle")
    return unpacked, len(unpacked)


_CODECS: dict[str, Callable[[], Any]] = {
    "deflate": lambda: zlib.decompressobj(-zlib.MAX_WBITS),
    "bzip2": bz2.BZ2Decompressor,
    "xz": xz_decompressor,
    "zstandard": zstd_decompressor,
}


def _too_large(length: int) -> DataError:
    return DataError(
        "TooLarge",
        f"a block has {length:,} bytes or more; {LONGEST:,} are read at once",
        hint="write it with smaller blocks",
    )


def _unreadable(why: str) -> DataError:
    return not_whole("Avro", why)


# Schemas as Polars can decode them: the same bytes, in words that it knows. A map has the bytes of an array of its
# entries, and an enum those of an int. Nothing within another type takes no bytes: a few could stand for any number.


def _header(schema: object, codec: str, sync: bytes) -> _Header:
    if not isinstance(schema, dict) or schema.get("type") != "record":
        raise _unsupported("it is not of records")
    types = _Types({_full_name(schema, ""): None})
    try:
        names = checked_names(_texts([field["name"] for field in schema["fields"]]))
        kinds = [types.spell(field["type"], schema.get("namespace", ""), 2) for field in schema["fields"]]
    except (KeyError, TypeError) as error:
        raise _unsupported(f"it is no schema of Avro: {shorten(str(error))}") from None
    if all(kind == "null" for kind in kinds):
        raise _unsupported("its records have no fields")
    return _Header(dict(zip(names, kinds, strict=True)), codec, sync)


def _symbols_of(spelled: Any) -> list[str]:
    """The symbols of an enum, or of an enum or null; empty for other types."""
    kinds = spelled if isinstance(spelled, list) else [spelled]
    return next((kind["symbols"] for kind in kinds if isinstance(kind, dict) and kind["type"] == "enum"), [])


#: Nanoseconds of a day, and of what the two types of times of day count.
_DAY = 86_400 * 10**9
_TIMES = {"time-millis": 10**6, "time-micros": 10**3}


def _time_of(spelled: Any) -> int:
    """The nanoseconds that a time of day, or one or null, counts; 0 for other types."""
    kinds = spelled if isinstance(spelled, list) else [spelled]
    return next((_TIMES.get(str(kind.get("logicalType")), 0) for kind in kinds if isinstance(kind, dict)), 0)


def _decoded_as(spelled: Any) -> Any:
    """The type that Polars decodes: of an enum its number, and of a time of day, too, as it makes null of what is no
    time."""
    if isinstance(spelled, list):
        return [_decoded_as(kind) for kind in spelled]
    if _symbols_of(spelled):
        return "int"
    return spelled["type"] if _time_of(spelled) else spelled


@dataclass
class _Types:
    """Spells types out. ``named`` holds the types that have names; None while one is being spelled out itself."""

    named: dict[str, Any]
    count: int = 0

    def spell(self, kind: object, namespace: str, depth: int) -> Any:  # noqa: PLR0911 -- one for each kind of type
        """A type for Polars."""
        self.count += 1
        if depth > MOST_DEPTH or self.count > MOST_TYPES:
            raise _unsupported("its types are nested too deep, or too many")
        if isinstance(kind, str):
            return self._by_name(kind, namespace, depth)
        if isinstance(kind, list):
            return self._union(kind, namespace, depth)
        if not isinstance(kind, dict):
            raise _unsupported(f"{shorten(repr(kind))} is no type")
        name = kind.get("type")
        if isinstance(name, dict | list):
            return self.spell(name, namespace, depth + 1)
        if name == "array":
            return {"type": "array", "items": self._nested(kind.get("items"), namespace, depth)}
        if name == "map":
            value = {"name": "value", "type": self._nested(kind.get("values"), namespace, depth)}
            entry = {"type": "record", "name": "entry", "fields": [{"name": "key", "type": "string"}, value]}
            return {"type": "array", "items": entry}
        if name in {"record", "enum", "fixed"}:
            return self._defined(kind, namespace, depth)
        if name not in _PRIMITIVES:
            return self._by_name(str(name), namespace, depth)
        _check_decimal(kind, 0)
        return _kept(kind) if "logicalType" in kind else name

    def _nested(self, kind: object, namespace: str, depth: int) -> Any:
        """A type within another. Polars decodes enums only as columns, and times of day are checked only there."""
        spelled = self.spell(kind, namespace, depth + 1)
        if _symbols_of(spelled):
            raise _unsupported("it has an enum within a list or a record")
        if _time_of(spelled):
            raise _unsupported("it has times of day within a list or a record: they cannot be proved to be kept")
        if spelled == "null":
            raise _unsupported("it has lists or records of what takes no bytes")
        return spelled

    def _by_name(self, name: str, namespace: str, depth: int) -> Any:
        if name in _PRIMITIVES:
            return name
        full = name if "." in name or not namespace else f"{namespace}.{name}"
        definition = self.named.get(full, self.named.get(name, ...))
        if definition is ...:
            raise _unsupported(f'it names a type "{shorten(name)}" that it does not define')
        if definition is None:
            raise _unsupported(f'its type "{shorten(name)}" holds itself, which no column can')
        return self._defined(definition, namespace, depth)

    def _defined(self, kind: dict[str, Any], namespace: str, depth: int) -> Any:
        full = _full_name(kind, namespace)
        self.named[full] = None if kind["type"] == "record" else kind
        if kind["type"] == "fixed":
            return _fixed(kind)
        if kind["type"] == "enum":
            if not _texts(kind["symbols"]):
                raise _unsupported("an enum has no symbols")
            return {"type": "enum", "symbols": kind["symbols"]}
        inner = full.rpartition(".")[0]
        names = _texts([field["name"] for field in kind["fields"]])
        kinds = [self._nested(field["type"], inner, depth) for field in kind["fields"]]
        if not names:
            raise _unsupported("it has a record without fields")
        self.named[full] = kind
        fields = [{"name": name, "type": spelled} for name, spelled in zip(names, kinds, strict=True)]
        return {"type": "record", "name": "r", "fields": fields}

    def _union(self, kinds: list[Any], namespace: str, depth: int) -> Any:
        others = [kind for kind in kinds if kind != "null"]
        if len(kinds) == 1:
            # one type alone still writes its number, a zero, before the value
            raise _unsupported("it has a union of one type")
        if len(kinds) != 2 or len(others) != 1:
            raise _unsupported(f"it has a union of {len(kinds)} types; only null and one other make a column")
        spelled = self.spell(others[0], namespace, depth + 1)
        return [spelled if kind != "null" else kind for kind in kinds]


def _fixed(kind: Mapping[str, Any]) -> Any:
    size = kind.get("size")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 < size < 2**31:
        raise _unsupported(f'the size of "{shorten(str(kind.get("name")))}" is no number of bytes')
    if kind.get("logicalType") == "duration":
        raise _unsupported("durations of months, days and milliseconds are no column type")
    _check_decimal(kind, size)
    return {**_kept(kind), "name": "f"}


def _kept(kind: Mapping[str, Any]) -> dict[str, Any]:
    return {key: kind[key] for key in ("type", "size", "logicalType", "precision", "scale") if key in kind}


def _check_decimal(kind: Mapping[str, Any], size: int) -> None:
    if kind.get("logicalType") != "decimal":
        return
    precision, scale = kind.get("precision"), kind.get("scale", 0)
    if not (isinstance(precision, int) and isinstance(scale, int) and 1 <= precision <= _MOST_DIGITS >= scale >= 0):
        raise _unsupported(f"decimals have {precision!r} digits; a column holds {_MOST_DIGITS}")
    if size > _MOST_DECIMAL_BYTES:
        raise _unsupported(f"decimals have {size} bytes; a column holds {_MOST_DECIMAL_BYTES}")


def _texts(values: Any) -> list[str]:
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise TypeError(f"{values!r} are no names")
    return values


def _full_name(kind: Mapping[str, Any], namespace: str) -> str:
    name, own = str(kind.get("name", "")), kind.get("namespace", namespace)
    return name if "." in name or not own else f"{own}.{name}"


def _unsupported(why: str) -> DataError:
    return DataError(
        "UnsupportedAvro",
        f"the file's schema cannot be a table: {why}",
        hint="write records of plain types, with unions only of null and one other; or put it as NDJSON",
    )
