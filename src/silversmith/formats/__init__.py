"""Readers and the Parquet writer: one file per format, one shape for all.

>>> table = read(source, Csv(separator=";"), wanted={"flight": pl.Int64()})
>>> table.rows    # a pl.LazyFrame with every column of the data, and ROW
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeGuard

# Polars' CSV reader holds many chunks at once: chunks of 1 MiB rather than 16 save hundreds of MiB, at the same speed.
os.environ.setdefault("POLARS_CSV_CHUNK_SIZE", str(1024 * 1024))

import polars as pl
from polars.exceptions import PanicException, PolarsError

from silversmith.errors import DataError
from silversmith.formats import arrow, avro, csv, custom, excel, lines, parquet, union, xml
from silversmith.formats.archives.content import Content, Scratch
from silversmith.formats.archives.members import unpack_all
from silversmith.formats.archives.options import Archive, FileReader
from silversmith.formats.arrow import Arrow
from silversmith.formats.avro import Avro
from silversmith.formats.csv import Csv, CsvStream, stream_of
from silversmith.formats.custom import CustomReader
from silversmith.formats.detect import detect, mismatch
from silversmith.formats.excel import Excel
from silversmith.formats.json import Json, document
from silversmith.formats.json import lines as ndjson
from silversmith.formats.lines import FixedWidth, Lines
from silversmith.formats.parquet import Parquet
from silversmith.formats.table import MALFORMED, ROW, Table, with_fields
from silversmith.formats.writer import (
    all_parquet_bytes,
    count_rows,
    fill_lineage,
    parquet_bytes,
    parquet_sink,
    read_lineage,
    write_parquet,
)
from silversmith.formats.xml import Xml
from silversmith.stores import Source

#: What a transform may say of how its bronze objects are read.
Reader = FileReader | Archive

#: Silversmith's own readers.
CUSTOMARY = (Csv, Json, Parquet, Avro, Arrow, Excel, Xml, FixedWidth, Lines, Archive)

#: What each of ours asks for.
_ASKED: dict[type, str] = {
    Csv: "csv",
    Json: "json",
    Parquet: "parquet",
    Avro: "avro",
    Arrow: "arrow",
    Excel: "excel",
    Xml: "xml",
    FixedWidth: "fixed-width",
    Lines: "lines",
}

_HEAD = 64 * 1024


def read(
    source: Source,
    reader: Reader | None = None,
    *,
    wanted: Mapping[str, pl.DataType] | None = None,
    scratch: Path | None = None,
) -> Table:
    """The rows of a bronze object, in whatever format it is.

    Args:
        source: the object, open.
        reader: how to read it, one of ours or another's; None: found out from its first bytes and its name.
        wanted: the contract's types. Such columns of a CSV file stay text, so that the contract can name the cell that
            is not what it should be; the types of all others are inferred without loss.
        scratch: a folder for temporary files, which are removed with the table; None: the system's.

    Raises:
        DataError: something is wrong with the bytes. It says what, where, and what to do.
        TransformError: a custom reader failed.
    """
    with unpacked(source, reader, scratch=scratch) as opened:
        return opened.table(wanted or {})


@dataclass(frozen=True)
class Unpacked:
    """The contents of a bronze object, which are read one way or another."""

    contents: Sequence[Content]
    reader: Reader | None

    def table(self, wanted: Mapping[str, pl.DataType]) -> Table:
        """As :func:`read`."""
        kind, read_one = partial(_kind, reader=self.reader), partial(_read, reader=self.reader)
        return union.read_all(self.contents, kind, read_one, wanted)

    def stream(self, wanted: Mapping[str, pl.DataType]) -> CsvStream | None:
        """The rows as a stream, if this is one large CSV file that can be one.

        Raises:
            DataError: its beginning cannot be read.
        """
        if len(self.contents) > 1 or self.contents[0].path is None or isinstance(self.reader, FixedWidth):
            return None
        if _kind(self.contents[0], reader=self.reader) != "csv":
            return None
        return stream_of(self.contents[0], self.reader if isinstance(self.reader, Csv) else Csv(), wanted)


@contextmanager
def unpacked(source: Source, reader: Reader | None = None, *, scratch: Path | None = None) -> Iterator[Unpacked]:
    """The contents of a bronze object. After an error within, their temporary files are gone; else they live as long as
    what was made of them.

    Raises:
        DataError: they cannot be had.
    """
    files = Scratch(scratch)
    try:
        archive = reader if isinstance(reader, Archive) else Archive(reader=reader)
        yield Unpacked(unpack_all(source, files, archive.members), archive.reader)
    except BaseException:
        files.remove()
        raise


def _read(content: Content, wanted: Mapping[str, pl.DataType], *, reader: Reader | None) -> Table:
    kind = _kind(content, reader=reader)
    try:
        return _read_as(kind, content, wanted, reader)
    except DataError as error:
        error.format = error.format or kind + content.packing
        raise


def _read_as(kind: str, content: Content, wanted: Mapping[str, pl.DataType], reader: Reader | None) -> Table:
    if _is_custom(reader):
        return custom.read(content, reader)
    if kind in _ALONE:
        return with_fields(_ALONE[kind](content))
    if kind == "ndjson":
        return ndjson.read(content, wanted)
    if kind == "excel":
        return excel.read(content, reader if isinstance(reader, Excel) else Excel())
    return _read_text(kind, content, wanted, reader)


#: Formats that say all themselves.
_ALONE: dict[str, Callable[[Content], Table]] = {"avro": avro.read, "arrow": arrow.read, "parquet": parquet.read}


def _read_text(kind: str, content: Content, wanted: Mapping[str, pl.DataType], reader: Reader | None) -> Table:
    if isinstance(reader, FixedWidth):
        return lines.read_fixed_width(content, reader, wanted)
    if kind == "csv":
        return csv.read(content, reader if isinstance(reader, Csv) else Csv(), wanted)
    if kind == "json":
        return document.read(content, reader if isinstance(reader, Json) else Json(), wanted)
    if kind == "xml":
        return xml.read(content, reader if isinstance(reader, Xml) else Xml(), wanted)
    return lines.read_lines(content, reader if isinstance(reader, Lines) else Lines(), wanted)


def _is_custom(reader: Reader | None) -> TypeGuard[CustomReader]:
    return reader is not None and type(reader) not in _ASKED


def _kind(content: Content, *, reader: Reader | None) -> str:
    """The format of a content. A workbook is known for one already, from what its archive holds."""
    if _is_custom(reader):
        return reader.name
    asked = _ASKED[type(reader)] if reader is not None else None
    if content.kind:
        if asked not in {None, "excel"}:
            raise mismatch("an Office document")
        return "excel"
    by_line = reader.lines if isinstance(reader, Json) else None
    return detect(content.name, content.head(_HEAD), asked=asked, lines=by_line)


@contextmanager
def reading_errors(table: Table) -> Iterator[None]:
    """Around the collecting of anything made of a table: tells errors of its bytes from errors of the user's code.

    Damage in the middle of a file shows only when its rows are collected, together with what was made of them. When
    that fails, the rows are read once more, alone: if this fails too, the data is at fault, else the error goes on.

    Raises:
        DataError: ``UnreadableParquet``, or the like for other formats.
    """
    try:
        yield
    except (PolarsError, PanicException, OSError) as error:
        fault = None if table.in_memory else _fault(table)
        if fault is None:
            raise
        raise fault from error


def _fault(table: Table) -> DataError | None:
    """What is wrong with the rows of a table; None if all can be read."""
    kind = table.format.partition("+")[0].capitalize()
    try:
        read = sum(batch.height for batch in table.rows.collect_batches(engine="streaming"))
    except (PolarsError, PanicException) as error:
        return parquet.fault_of(error, kind)
    if read == table.height:
        return None
    return DataError(
        f"Unreadable{kind}",  # how batches end when a thread has panicked
        f"the file cannot be read to its end: only {read:,} of its {table.height:,} rows are there",
        hint="it may have been damaged while it was written or sent: write and put it again",
    )


__all__ = [
    "CUSTOMARY",
    "MALFORMED",
    "ROW",
    "Archive",
    "Arrow",
    "Avro",
    "Csv",
    "CsvStream",
    "CustomReader",
    "Excel",
    "FixedWidth",
    "Json",
    "Lines",
    "Parquet",
    "Reader",
    "Table",
    "Unpacked",
    "Xml",
    "all_parquet_bytes",
    "count_rows",
    "fill_lineage",
    "parquet_bytes",
    "parquet_sink",
    "read",
    "read_lineage",
    "reading_errors",
    "unpacked",
    "write_parquet",
]
