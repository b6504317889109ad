"""CSV files as tables, in two ways: small ones by Python's csv module, all others by blocks.

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
from silversmith.formats.csv.dialect import Csv, CsvDialect, announced, dialect_of
from silversmith.formats.csv.records import Header, Malformed, Records, Shape, header_of, names_of, rows_of
from silversmith.formats.encoding import in_utf8
from silversmith.formats.origins import LONGEST, Origins
from silversmith.formats.table import ROW, Table, col, malformed_frame, row_numbers, shorten

#: Up to this many bytes Python's csv module is done before Polars' has started.
SMALL = 32 * 1024

_SAMPLE = 64 * 1024
_WIDE = 40
_ORIGINS = 256 * 1024


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
    one_way = partial(_read, options=options, declared=declared, small=small, block=block)
    return in_utf8(content, options.encoding, one_way)


def _read(content: Content, *, options: Csv, declared: Collection[str], small: int, block: int) -> Table:
    text.refuse_empty(content)
    options = announced(content, options)
    if content.data is not None and len(content.data) <= small:
        return _read_small(content, content.data, options, declared)
    return _read_large(content, options, declared, block)


def stream_of(
    content: Content, options: Csv, schema: Mapping[str, pl.DataType], block: int = BLOCK
) -> CsvStream | None:
    """A file on disk as a stream of blocks whose columns have the contract's types; None where it cannot be one.

    Raises:
        DataError: it has no header.
    """
    if content.path is None or options.comment or options.thousands or options.encoding not in {None, "utf-8"}:
        return None
    text.refuse_empty(content)
    options = announced(content, options)
    header = _header(content, options)
    if header.dialect.escape or header.dialect.padded or not all(name in schema for name in header.names):
        return None
    dtypes = {name: _read_as(schema[name], options) for name in header.names}
    return CsvStream(content, options, header, dtypes, block)


def _read_as(dtype: pl.DataType, options: Csv) -> pl.DataType:
    return dtype if dtype in NATIVE and not options.decimal_comma else pl.String()


def described(stream: CsvStream) -> Table:
    """The table of a stream without its rows: its format, its dialect, and the places of its records."""
    encoding = text.UTF8 if stream.options.encoding is None else {"encoding": stream.options.encoding}
    return Table(
        pl.LazyFrame(),
        stream.format,
        decimal_comma=stream.options.decimal_comma,
        dialect={**stream.header.dialect.describe(), **encoding},
        origins=partial(origins_of, stream.content, stream.header),
    )


def _header(content: Content, options: Csv) -> Header:
    sample = content.head(_SAMPLE).removeprefix(text.BOM).decode("utf-8", "replace")
    dialect = dialect_of(content.name, sample, options, is_whole=content.size <= _SAMPLE)
    return header_of(content, dialect, options)


# Small files.


@dataclass(frozen=True)
class _Parsed:
    """The records of a small file: ``numbers`` are those of ``rows`` in the file."""

    names: list[str]
    rows: list[list[str]]
    numbers: Sequence[int]
    malformed: list[tuple[int, str, str]]


def _read_small(content: Content, data: bytes, options: Csv, declared: Collection[str]) -> Table:
    bare = data.removeprefix(text.BOM)
    decoded = text.decode(bare, offset=len(data) - len(bare))
    dialect = dialect_of(content.name, decoded, options, is_whole=True)
    parsed = _parse(decoded, dialect, options) or _parse_carefully(content, dialect, options)
    nulls, counted = {"", *options.null_values}, _numeric(declared)
    cells = zip(*parsed.rows, strict=True) if parsed.rows else [()] * len(parsed.names)
    columns = [
        _column(name, column, nulls, options, keep=name in declared, counted=name in counted)
        for name, column in zip(parsed.names, cells, strict=True)
    ]
    frame = pl.DataFrame([*columns, row_numbers(parsed.numbers)])
    return Table(
        rows=frame.lazy(),
        format="csv" + content.packing,
        frame=frame,
        malformed=malformed_frame(parsed.malformed),
        decimal_comma=options.decimal_comma,
        dialect=dialect.describe(),
        origins=partial(_origins_of_small, content, dialect, options),
    )


def _parse(decoded: str, dialect: CsvDialect, options: Csv) -> _Parsed | None:
    """All records at once; None where anything is out of the ordinary."""
    if options.skip_lines or options.comment or dialect.escape:
        return None
    try:
        rows = list(csv.reader(io.StringIO(decoded, newline=""), **dialect.options()))
    except csv.Error:
        return None
    rows = [row for row in rows if row] if [] in rows else rows
    if not rows or len(set(map(len, rows))) > 1:
        return None
    names = names_of(rows[0], options, line=1)
    rows = rows[1:] if options.header else rows
    return _Parsed(names, rows, range(1, len(rows) + 1), [])


def _parse_carefully(content: Content, dialect: CsvDialect, options: Csv) -> _Parsed:
    """Record by record, so that each malformed one is known by its line, and the rest is kept."""
    header = header_of(content, dialect, options)
    malformed = Malformed(len(header.names), ragged=options.ragged)
    with content.open() as file:
        file.seek(header.body)
        rows, numbers, _ = rows_of(Records(file, dialect, line=header.line), malformed)
    malformed.refuse_header(len(rows))
    return _Parsed(header.names, rows, numbers, malformed.records)


def _numeric(declared: Collection[str]) -> set[str]:
    """The columns that stay text and are to be numbers."""
    return {name for name, dtype in declared.items() if dtype.is_numeric()} if isinstance(declared, Mapping) else set()


def _column(name: str, cells: Sequence[str], nulls: set[str], options: Csv, *, keep: bool, counted: bool) -> pl.Series:
    texts: Sequence[str | None] = cells
    if not nulls.isdisjoint(cells):
        texts = [None if cell in nulls else cell for cell in cells]
    if options.thousands and (counted or not keep):
        plain = infer.ungroup(texts, options.thousands, decimal_comma=options.decimal_comma)
        if keep:
            return pl.Series(name, plain, dtype=pl.String)
        numbers = infer.column(name, plain, decimal_comma=options.decimal_comma)
        if numbers.dtype.is_numeric():
            return numbers
    if keep:
        return pl.Series(name, texts, dtype=pl.String)
    return infer.column(name, texts, decimal_comma=options.decimal_comma)


# All other files.


def _read_large(content: Content, options: Csv, declared: Collection[str], block: int) -> Table:
    """By blocks: the first pass counts the records and keeps the malformed ones; in memory it keeps the rows as well.

    A file on disk is read again for each use of its rows.
    """
    header = _header(content, options)
    texts = dict.fromkeys(header.names, pl.String())
    stream = CsvStream(content, options, header, texts, block)
    malformed, frames, height = [], [pl.DataFrame(schema={**texts, ROW: pl.UInt64})], 0
    for part in stream.texts():
        assert part.frame is not None
        height += part.frame.height
        if part.malformed is not None:
            malformed.append(part.malformed)
        if content.data is not None:
            frames.append(part.frame)
    if content.data is not None:
        rows = pl.concat(frames).lazy()
    else:
        rows = register_io_source(partial(_frames, stream), schema=frames[0].schema, is_pure=True)
    undeclared = [name for name in header.names if name not in declared]
    rows = _ungrouped(rows, undeclared, _numeric(declared) & set(header.names), options)
    frame = None
    if content.data is not None:
        frame = _inferred(rows.collect(engine="in-memory"), undeclared, options)
        rows = frame.lazy()
    elif undeclared:
        dtypes = infer.types(rows, undeclared, decimal_comma=options.decimal_comma)
        rows = rows.with_columns(infer.casts(dtypes, decimal_comma=options.decimal_comma))
    return Table(
        rows=rows,
        format=stream.format,
        frame=frame,
        malformed=pl.concat(malformed) if malformed else None,
        decimal_comma=options.decimal_comma,
        dialect=header.dialect.describe(),
        height=height,
        scratch=content.scratch,
        origins=partial(origins_of, content, header),
    )


def _frames(
    stream: CsvStream, columns: list[str] | None, predicate: pl.Expr | None, most: int | None, _size: int | None
) -> Iterator[pl.DataFrame]:
    """The rows as Polars asks a source for them. ``most`` rows are taken before the predicate is."""
    for part in stream.texts():
        assert part.frame is not None
        yield chosen(part.frame, columns, predicate, most)
        most = None if most is None else max(0, most - part.frame.height)
        if most == 0:
            return


def chosen(frame: pl.DataFrame, columns: list[str] | None, predicate: pl.Expr | None, most: int | None) -> pl.DataFrame:
    """The rows and columns that Polars asks a source for, of one frame of it."""
    rows = frame if most is None else frame.head(most)
    rows = rows if predicate is None else rows.filter(predicate)
    return rows if columns is None or columns == rows.columns else rows.select(map(col, columns))


def _ungrouped(rows: pl.LazyFrame, names: list[str], counted: Collection[str], options: Csv) -> pl.LazyFrame:
    """Text columns without marks between thousands: those that are to be numbers, and those that then are."""
    marks, comma = options.thousands, options.decimal_comma
    if not marks:
        return rows
    plain = {name: infer.ungrouped(col(name), marks, decimal_comma=comma).alias(name) for name in [*names, *counted]}
    dtypes = infer.types(rows.with_columns(plain[name] for name in names), names, decimal_comma=comma) if names else {}
    return rows.with_columns(
        plain[name] for name in plain if name in counted or (name in dtypes and dtypes[name].is_numeric())
    )


def _inferred(frame: pl.DataFrame, names: list[str], options: Csv) -> pl.DataFrame:
    """The frame with the types of those columns inferred: by lists where there are many, else by expressions."""
    if len(names) <= _WIDE:
        dtypes = infer.types(frame.lazy(), names, decimal_comma=options.decimal_comma) if names else {}
        return frame.with_columns(infer.casts(dtypes, decimal_comma=options.decimal_comma))
    columns = {cells.name: cells for cells in frame.get_columns()}
    for name in names:
        columns[name] = infer.column(name, columns[name].to_list(), decimal_comma=options.decimal_comma)
    return pl.DataFrame(list(columns.values()))


# The places of records, for the few that a contract rejects.


def _origins_of_small(content: Content, dialect: CsvDialect, options: Csv, numbers: Collection[int]) -> Origins:
    return origins_of(content, header_of(content, dialect, options), numbers)


def origins_of(content: Content, header: Header, numbers: Collection[int], *, size: int = _ORIGINS) -> Origins:
    """The lines and texts of records, by their numbers. Regular blocks without any of them are only counted."""
    origins: dict[int, tuple[int, str]] = {}
    shape, body, line, passed = Shape(header.dialect, len(header.names)), header.body, header.line, 0
    remaining = sorted(numbers, reverse=True)
    with content.open() as file:
        while remaining:
            file.seek(body)
            block = file.read(size)
            if not block:
                break
            cut = shape.cut(block, last=len(block) < size)
            records = shape.regular(block[:cut]) if cut else None
            if records is not None and passed + records < remaining[-1]:
                passed, body, line = passed + records, body + cut, line + text.line_ends(block[:cut])
                continue
            file.seek(body)
            reader = Records(file, header.dialect, line=line)
            for record in reader:
                passed += 1
                if remaining and passed == remaining[-1]:
                    origins[remaining.pop()] = (record.line, shorten(record.text, LONGEST))
                if reader.position >= body + (cut or len(block)):
                    break
            body, line = reader.position, reader.line
    return origins
