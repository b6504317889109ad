"""CSV as tables, in two ways: small files by Python's csv module, others by blocks. Nothing is shifted or lost.

Both give the same rows, malformed records and errors: tests compare them. Types are inferred without loss.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import polars as pl
from polars.io.plugins import register_io_source

from silversmith.formats import infer, text
from silversmith.formats.archives.content import Content
from silversmith.formats.csv.blocks import BLOCK, NATIVE, TEXT_BLOCK, CsvStream
from silversmith.formats.csv.dialect import Csv, CsvDialect, dialect_of, settled, with_sep_line
from silversmith.formats.csv.records import (
    Header,
    Malformed,
    Records,
    header_of,
    named,
    origins_of,
    rows_of,
    text_columns,
)
from silversmith.formats.encoding import MARKED, encoding_of_mark, with_encoding
from silversmith.formats.table import ROW, Table, col, joined, malformed_frame, row_numbers

#: Up to this many bytes Python's csv module is done before Polars' has started.
SMALL = 32 * 1024

_SAMPLE = 64 * 1024


def read(
    content: Content, options: Csv, declared: Collection[str], *, small: int = SMALL, block: int = TEXT_BLOCK
) -> Table:
    """The rows of a CSV file.

    Args:
        content: the file.
        options: how it is written.
        declared: the columns that the contract names, with their types if it is a mapping. They stay text, so that the
            contract can show a cell that is not of its type.
        small: up to so many bytes in memory are read at once.
        block: anything else is read by blocks of so many bytes.

    Raises:
        DataError: ``EmptyFile``, ``UnreadableCsv``, ``DuplicateColumns``, ``NotUtf8`` … : the file cannot be read.
    """

    def read_utf8(content: Content) -> Table:
        text.refuse_empty(content)
        stated = with_sep_line(content, options)
        if content.data is not None and len(content.data) <= small:
            return _read_small(content, content.data, stated, declared)
        return _read_large(content, stated, declared, block)

    return with_encoding(content, options.encoding, read_utf8)


def stream_of(
    content: Content, options: Csv, schema: Mapping[str, pl.DataType], block: int = BLOCK
) -> CsvStream | None:
    """A file on disk as a stream of blocks whose columns have the contract's types; None if it needs another way.

    Raises:
        DataError: it has no header.
    """
    if content.path is None or options.comment or options.thousands or options.encoding not in {None, "utf-8"}:
        return None
    if encoding_of_mark(content.head(MARKED)):
        return None
    text.refuse_empty(content)
    options = with_sep_line(content, options)
    header, options = _header(content, options)
    if (
        options.thousands
        or header.dialect.escape
        or header.dialect.padded
        or not all(name in schema for name in header.names)
    ):
        return None
    natives = () if options.decimal_comma else NATIVE
    dtypes = {name: schema[name] if schema[name] in natives else pl.String() for name in header.names}
    return CsvStream(content, options, header, dtypes, block)


def described(stream: CsvStream) -> Table:
    """The table of a stream without its rows: its format, its dialect, and the origins of its records."""
    encoding = text.UTF8 if stream.options.encoding is None else {"encoding": stream.options.encoding}
    return Table(
        pl.LazyFrame(),
        stream.format,
        decimal_comma=stream.options.decimal_comma,
        dialect={**stream.header.describe(), **encoding},
        origins=partial(origins_of, stream.content, stream.header),
    )


def _header(content: Content, options: Csv) -> tuple[Header, Csv]:
    """The header, and the options with what the file's beginning shows of its numbers."""
    sample = content.head(_SAMPLE).removeprefix(text.BOM).decode("utf-8", "replace")
    dialect = dialect_of(content.name, sample, options, is_whole=content.size <= _SAMPLE)
    return header_of(content, dialect, options), settled(options, dialect)


# Small files.


@dataclass(frozen=True)
class _Parsed:
    """The records of a small file, with the numbers of its rows."""

    header: Header
    rows: list[list[str]]
    numbers: Sequence[int]
    malformed: list[tuple[int, str, str]]


def _read_small(content: Content, data: bytes, options: Csv, declared: Collection[str]) -> Table:
    bare = data.removeprefix(text.BOM)
    decoded = text.decode(bare, offset=len(data) - len(bare))
    dialect = dialect_of(content.name, decoded, options, is_whole=True)
    options = settled(options, dialect)
    parsed = _parse(decoded, dialect, options) or _parse_carefully(content, dialect, options)
    names = parsed.header.names
    stays_text = names if options.thousands else declared
    texts = (
        pl.Series(name, cells, dtype=pl.String) for name, cells in text_columns(names, parsed.rows, options).items()
    )
    columns = [
        cells if cells.name in stays_text else infer.column(cells, decimal_comma=options.decimal_comma)
        for cells in texts
    ]
    frame: pl.DataFrame | None = joined([*columns, row_numbers(parsed.numbers)])
    assert frame is not None
    rows = frame.lazy()
    if options.thousands:
        typing = _Typing(names, declared, options)
        typing.add(frame)
        rows, frame = typing.cast(rows, frame)
    return Table(
        rows=rows,
        format="csv" + content.packing,
        frame=frame,
        malformed=malformed_frame(parsed.malformed),
        decimal_comma=options.decimal_comma,
        dialect=parsed.header.describe(),
        origins=lambda numbers: origins_of(content, header_of(content, dialect, options), numbers),
    )


def _parse(decoded: str, dialect: CsvDialect, options: Csv) -> _Parsed | None:
    """All records at once; None if anything is out of the ordinary."""
    if options.skip_lines or options.comment or dialect.escape or dialect.trailing:
        return None
    try:
        rows = list(filter(None, csv.reader(io.StringIO(decoded, newline=""), **dialect.options())))
    except csv.Error:
        return None
    if not rows or len(set(map(len, rows))) > 1:
        return None
    header = named(rows[0], dialect, options, 0, 1, at=1)
    rows = rows[1:] if options.header else rows
    return _Parsed(header, rows, range(1, len(rows) + 1), [])


def _parse_carefully(content: Content, dialect: CsvDialect, options: Csv) -> _Parsed:
    """Record by record, so that the line of each malformed one is known, and the rest is kept."""
    header = header_of(content, dialect, options)
    malformed = Malformed(header, ragged=options.ragged)
    with content.open() as file:
        file.seek(header.body)
        rows, numbers, _ = rows_of(Records(file, dialect, line=header.line), malformed)
    malformed.refuse_header(len(rows))
    return _Parsed(header, rows, numbers, malformed.records)


# All other files.


def _read_large(content: Content, options: Csv, declared: Collection[str], block: int) -> Table:
    """By blocks: the first pass counts the records, infers types and keeps the malformed records; in memory it keeps
    the rows as well.

    A file on disk is read again for each use of its rows.
    """
    header, options = _header(content, options)
    texts = dict.fromkeys(header.names, pl.String())
    stream = CsvStream(content, options, header, texts, block)
    malformed, frames, height = [], [pl.DataFrame(schema={**texts, ROW: pl.UInt64})], 0
    typing = _Typing(header.names, declared, options)
    for part in stream.tables():
        assert part.frame is not None
        height += part.frame.height
        if part.malformed is not None:
            malformed.append(part.malformed)
        if content.data is not None:
            frames.append(part.frame)
        else:
            typing.add(part.frame)
    frame = pl.concat(frames) if content.data is not None else None
    if frame is not None:
        typing.add(frame)
    rows = register_io_source(partial(_frames, stream), schema=frames[0].schema, is_pure=True)
    rows, frame = typing.cast(rows if frame is None else frame.lazy(), frame)
    return Table(
        rows=rows,
        format=stream.format,
        frame=frame,
        malformed=pl.concat(malformed) if malformed else None,
        decimal_comma=options.decimal_comma,
        dialect=header.describe(),
        height=height,
        scratch=content.scratch,
        origins=partial(origins_of, content, header),
    )


def _frames(
    stream: CsvStream, columns: list[str] | None, predicate: pl.Expr | None, most: int | None, _size: int | None
) -> Iterator[pl.DataFrame]:
    """The rows as Polars requests them from a source. ``most`` rows are taken before the predicate is applied."""
    for part in stream.tables():
        assert part.frame is not None
        yield select(part.frame, columns, predicate, most)
        most = None if most is None else max(0, most - part.frame.height)
        if most == 0:
            return


def select(frame: pl.DataFrame, columns: list[str] | None, predicate: pl.Expr | None, most: int | None) -> pl.DataFrame:
    """The rows and columns that Polars requests from a source, of one frame of it."""
    rows = frame if most is None else frame.head(most)
    rows = rows if predicate is None else rows.filter(predicate)
    return rows if columns is None or columns == rows.columns else rows.select(map(col, columns))


class _Typing:
    """Infers the types of undeclared columns, frame by frame; those of numbers without the marks between thousands."""

    def __init__(self, names: Sequence[str], declared: Collection[str], options: Csv) -> None:
        comma, marks = options.decimal_comma, options.thousands
        self._declared, self._comma = declared, comma
        undeclared = [name for name in names if name not in declared]
        self._typing = infer.Typing(undeclared, decimal_comma=comma)
        plain = {name: infer.without_marks(col(name), marks, decimal_comma=comma) for name in names if marks}
        self._plain = {name: cells.alias(name) for name, cells in plain.items()}
        self._undeclared = [self._plain[name] for name in undeclared if marks]

    def add(self, rows: pl.DataFrame) -> None:
        """Look at the next rows."""
        self._typing.add(rows.with_columns(self._undeclared) if self._undeclared else rows)

    def cast(self, rows: pl.LazyFrame, frame: pl.DataFrame | None) -> tuple[pl.LazyFrame, pl.DataFrame | None]:
        """All the rows with their types; ``frame`` holds them, if they are in memory."""
        inferred = self._typing.dtypes()
        declared = self._declared if isinstance(self._declared, Mapping) else {}
        known = {name: inferred.get(name) or declared.get(name) for name in self._plain}
        numbers = [plain for name, plain in self._plain.items() if (dtype := known[name]) and dtype.is_numeric()]
        rows = rows.with_columns(numbers).with_columns(infer.casts(inferred, decimal_comma=self._comma))
        frame = None if frame is None else rows.collect(engine="in-memory")
        return rows if frame is None else frame.lazy(), frame
