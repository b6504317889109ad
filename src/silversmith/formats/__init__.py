"""Readers and the Parquet writer: one module per format, one result for all.

>>> table = read(source, Csv(separator=";"), declared={"flight": pl.Int64()})
>>> table.rows    # a pl.LazyFrame with every column of the data, and ROW
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeGuard

# Polars' CSV reader holds many chunks at once: chunks of 1 MiB rather than 16 save hundreds of MiB, at the same speed.
os.environ.setdefault("POLARS_CSV_CHUNK_SIZE", str(1024 * 1024))
# And its Parquet reader would decode many row groups ahead.
os.environ.setdefault("POLARS_ROW_GROUP_PREFETCH_SIZE", "2")

import polars as pl
from polars.exceptions import PanicException, PolarsError

from silversmith.errors import DataError, DefinitionError
from silversmith.formats import arrow, avro, csv, custom, excel, json, lines, parquet, regex, union, xml
from silversmith.formats.archives.content import Content, Scratch
from silversmith.formats.archives.members import unpack_all
from silversmith.formats.arrow import Arrow
from silversmith.formats.avro import Avro
from silversmith.formats.csv import stream_of
from silversmith.formats.csv.blocks import CsvStream
from silversmith.formats.csv.dialect import Csv
from silversmith.formats.custom import CustomReader
from silversmith.formats.detect import detect, mismatch
from silversmith.formats.encoding import with_mark
from silversmith.formats.excel import Excel
from silversmith.formats.json import Json
from silversmith.formats.lines import FixedWidth, Lines
from silversmith.formats.parquet import Parquet
from silversmith.formats.regex import Fields, Regex
from silversmith.formats.table import MALFORMED, ROW, Table, with_clean_names, with_fields
from silversmith.formats.xml import Xml
from silversmith.keypatterns import InvalidPattern, KeyPattern
from silversmith.stores import Source

#: How one file is read.
FileReader = Csv | Json | Parquet | Avro | Arrow | Excel | Xml | FixedWidth | Lines | Regex | Fields | CustomReader


@dataclass(frozen=True)
class Archive:
    """How to read archives (zip, tar): which members, and each of them how.

    Args:
        members: a pattern of names, where ``*`` is any run of characters; other members are not read. None: all.
        reader: how to read each member, such as ``Csv(separator=";")``; None: inferred from its bytes and its name.

    Raises:
        DefinitionError: a value cannot be.
    """

    members: str | None = None
    reader: FileReader | None = None

    def __post_init__(self) -> None:
        if isinstance(self.reader, Archive):
            raise DefinitionError("Archive(reader=Archive(…)): archives in archives are not read")
        if self.reader is not None and not isinstance(self.reader, FileReader):
            raise DefinitionError(f"Archive(reader={self.reader!r}): give a reader, such as Csv()")
        if self.members is not None:
            try:
                KeyPattern.parse(self.members)
            except (InvalidPattern, TypeError, AttributeError) as error:
                raise DefinitionError(f"Archive(members={self.members!r}): {error}") from None


#: How the objects of a transform are read.
Reader = FileReader | Archive

#: Silversmith's own readers of files, and the formats that they expect.
_EXPECTED: dict[type, str] = {
    Csv: "csv",
    Json: "json",
    Parquet: "parquet",
    Avro: "avro",
    Arrow: "arrow",
    Excel: "excel",
    Xml: "xml",
    FixedWidth: "fixed-width",
    Lines: "lines",
    Regex: "regex",
    Fields: "fields",
}

#: Silversmith's own readers.
OWN_READERS = (*_EXPECTED, Archive)

#: How each format is read, with its reader, or the one below, and the columns that stay text.
_READ: dict[str, Callable[[Content, Any, Mapping[str, pl.DataType]], Table]] = {
    "csv": csv.read,
    "json": lambda content, options, declared: with_clean_names(
        with_mark(content, lambda utf8: json.read(utf8, options, declared)), declared
    ),
    "ndjson": lambda content, options, declared: with_clean_names(
        with_mark(content, lambda utf8: json.read_lines(utf8, declared, options.selection)), declared
    ),
    "parquet": lambda content, options, _: with_fields(parquet.read(content, options)),
    "avro": lambda content, *_: with_fields(avro.read(content)),
    "arrow": lambda content, *_: with_fields(arrow.read(content)),
    "excel": lambda content, options, _: excel.read(content, options),
    "xml": xml.read,
    "fixed-width": lines.read_fixed_width,
    "lines": lambda content, options, _: lines.read_lines(content, options),
    "regex": regex.read,
    "fields": regex.read,
}

#: The readers of formats that are detected, where the transform has none.
_DETECTED: dict[str, FileReader] = {
    "ndjson": Json(),
    **{_EXPECTED[reader]: reader() for reader in (Csv, Json, Parquet, Avro, Arrow, Excel, Xml, Lines)},
}

_HEAD = 64 * 1024


def read(
    source: Source,
    reader: Reader | None = None,
    *,
    declared: Mapping[str, pl.DataType] | None = None,
    scratch: Path | None = None,
) -> Table:
    """The rows of a bronze object, in whatever format it is.

    Args:
        source: the object, open.
        reader: how to read it; None: detected from its first bytes and its name.
        declared: the contract's types. Such columns of a text format stay text, so that the contract can name a cell
            that is not of its type; the types of all others are inferred without loss.
        scratch: a folder for temporary files, which are removed with the table; None: the system's.

    Raises:
        DataError: something is wrong with the bytes. It says what, where, and what to do.
        TransformError: a custom reader failed.
    """
    with unpacked(source, reader, scratch=scratch) as opened:
        return opened.table(declared if isinstance(declared, dict) else dict(declared or {}))


@dataclass(frozen=True)
class Unpacked:
    """The contents of a bronze object, and how to read them."""

    contents: Sequence[Content]
    reader: Reader | None

    def table(self, declared: dict[str, pl.DataType]) -> Table:
        """As :func:`read`."""
        kind, read_content = partial(_kind, reader=self.reader), partial(_read, reader=self.reader)
        return union.read_all(self.contents, kind, read_content, declared)

    def stream(self, declared: Mapping[str, pl.DataType]) -> CsvStream | None:
        """The rows as a stream; None unless this is one large CSV file that can be a stream.

        Raises:
            DataError: its beginning cannot be read.
        """
        content, *others = self.contents
        if others or content.path is None or _kind(content, reader=self.reader) != "csv":
            return None
        return stream_of(content, self.reader if isinstance(self.reader, Csv) else Csv(), declared)


@contextmanager
def unpacked(source: Source, reader: Reader | None = None, *, scratch: Path | None = None) -> Iterator[Unpacked]:
    """The contents of a bronze object. After an error inside the block their temporary files are removed; else they
    live as long as the tables of these contents.

    Raises:
        DataError: the object cannot be unpacked.
    """
    files = Scratch(scratch)
    try:
        members, of_each = (reader.members, reader.reader) if isinstance(reader, Archive) else (None, reader)
        yield Unpacked(unpack_all(source, files, members), of_each)
    except BaseException:
        files.remove()
        raise


def _read(content: Content, declared: Mapping[str, pl.DataType], *, reader: Reader | None) -> Table:
    kind = _kind(content, reader=reader)
    try:
        if _is_custom(reader):
            return custom.read(content, reader)
        if not getattr(reader, "infer", True):
            declared = _AllText(declared)
        try:
            return _READ[kind](content, reader or _DETECTED[kind], declared)
        except DataError:
            if reader is not None or kind != "ndjson" or not content.name.lower().endswith(".log"):
                raise
            # a log whose first lines are JSON, and others are not
            return lines.read_lines(content, Lines())
    except DataError as error:
        error.format = error.format or kind + content.packing
        raise


class _AllText(dict[str, pl.DataType]):
    """Declared columns where every other one stays text, too."""

    def __contains__(self, _: object) -> bool:
        return True


def _is_custom(reader: Reader | None) -> TypeGuard[CustomReader]:
    return reader is not None and type(reader) not in _EXPECTED


def _kind(content: Content, *, reader: Reader | None) -> str:
    """The format of a content. Unpacking has recognized a workbook already: it is an archive."""
    if _is_custom(reader):
        return reader.name
    expected = _EXPECTED[type(reader)] if reader is not None else None
    if content.kind:
        if expected not in {None, "excel"}:
            raise mismatch("an Office document")
        return "excel"
    by_line = reader.lines if isinstance(reader, Json) else None
    return detect(content.name, content.head(_HEAD), expected=expected, lines=by_line)


@contextmanager
def reading_errors(table: Table) -> Iterator[None]:
    """Tell errors of a table's bytes from errors of the user's code, while a plan over the table is collected.

    Damage in the middle of a file shows only when the plan is collected. When that fails, the rows alone are read once
    more: if this fails too, the data is at fault, else the error goes on.

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
    """The error in the rows of a table; None if all can be read."""
    kind = table.format.partition("+")[0].capitalize()
    try:
        height = sum(batch.height for batch in table.rows.collect_batches(engine="streaming"))
    except (PolarsError, PanicException) as error:
        return parquet.fault_of(error, kind)
    if height == table.height:
        return None
    return DataError(
        f"Unreadable{kind}",  # batches end early when a thread has panicked
        f"the file cannot be read to its end: only {height:,} of its {table.height:,} rows are there",
        hint="it may have been damaged while it was written or sent: write and put it again",
    )


__all__ = [
    "MALFORMED",
    "OWN_READERS",
    "ROW",
    "Archive",
    "Arrow",
    "Avro",
    "Csv",
    "CsvStream",
    "CustomReader",
    "Excel",
    "Fields",
    "FixedWidth",
    "Json",
    "Lines",
    "Parquet",
    "Reader",
    "Regex",
    "Table",
    "Unpacked",
    "Xml",
    "read",
    "reading_errors",
    "unpacked",
]
