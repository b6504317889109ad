"""CSV: whose records are proved regular before Polars reads them, and whose types are inferred without loss."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import polars as pl

from silversmith.errors import DataError, Place
from silversmith.formats import infer, origins, text
from silversmith.formats.archives.content import Content
from silversmith.formats.csv_blocks import BLOCK, Proof, Shape, looks_packed, prove
from silversmith.formats.csv_numbers import ungroup, ungrouped
from silversmith.formats.csv_options import Csv
from silversmith.formats.csv_records import Dialect, Malformed, Record, Records
from silversmith.formats.csv_sniff import announced, dialect_of
from silversmith.formats.encoding import in_utf8
from silversmith.formats.table import ROW, Table, checked_names, col, malformed_frame, row_numbers, shorten

#: Up to this many bytes Python's csv module is done before Polars' has started.
SMALL = 32 * 1024

_SAMPLE = 64 * 1024
_WIDE = 40


@dataclass(frozen=True)
class _Parsed:
    """The records of a small file: ``numbers`` says which of the file's each of ``rows`` was."""

    names: list[str]
    rows: list[list[str]]
    numbers: Sequence[int]
    malformed: list[tuple[int, str, str]]


@dataclass(frozen=True)
class Layout:
    """What the first record says: the names, and where the records after it begin."""

    dialect: Dialect
    names: list[str]
    body: int
    line: int


def read(content: Content, options: Csv, wanted: Collection[str], *, small: int = SMALL, block: int = BLOCK) -> Table:
    """The rows of a CSV file. Columns that are ``wanted`` stay text: the contract says what they should be.

    What is in memory and has at most ``small`` bytes is read by Python's csv module, all else by Polars, after the
    proof, ``block`` bytes at a time, that it is regular.

    Raises:
        DataError: ``EmptyFile``, ``UnreadableCsv``, ``DuplicateColumns``, ``NotUtf8`` … : the file cannot be read.
    """
    return in_utf8(content, options.encoding, partial(_read, options=options, wanted=wanted, small=small, block=block))


def _read(content: Content, *, options: Csv, wanted: Collection[str], small: int, block: int) -> Table:
    text.refuse_empty(content)
    options = announced(content, options)
    if content.data is not None and len(content.data) <= small:
        return _read_small(content, content.data, options, wanted)
    return _read_large(content, options, wanted, block)


def _read_small(content: Content, data: bytes, options: Csv, wanted: Collection[str]) -> Table:
    bare = data.removeprefix(text.BOM)
    decoded = text.decode(bare, offset=len(data) - len(bare))
    dialect = dialect_of(content, decoded, options)
    parsed = _parse(decoded, dialect, options) or _parse_carefully(content, dialect, options)
    nulls, counted = {"", *options.null_values}, _counted(wanted)
    cells = zip(*parsed.rows, strict=True) if parsed.rows else [()] * len(parsed.names)
    columns = [
        _column(name, column, nulls, options, keep=name in wanted, counted=name in counted)
        for name, column in zip(parsed.names, cells, strict=True)
    ]
    frame = pl.DataFrame([*columns, row_numbers(parsed.numbers)])
    return Table(
        rows=frame.lazy(),
        format="csv" + content.packing,
        frame=frame,
        malformed=malformed_frame(parsed.malformed),
        decimal_comma=options.decimal_comma,
        dialect=dialect.told(),
        origins=partial(origins_of, content, dialect, options),
    )


def _parse(decoded: str, dialect: Dialect, options: Csv) -> _Parsed | None:
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
    names = _names(rows[0], options, line=1)
    rows = rows[1:] if options.header else rows
    return _Parsed(names, rows, range(1, len(rows) + 1), [])


def _parse_carefully(content: Content, dialect: Dialect, options: Csv) -> _Parsed:
    """Record by record, so that what is malformed is known by its line, and the rest is kept."""
    layout = layout_of(content, dialect, options)
    malformed = Malformed(len(layout.names), ragged=options.ragged)
    rows: list[list[str]] = []
    numbers: list[int] = []
    with content.open() as file:
        file.seek(layout.body)
        for number, record in enumerate(Records(file, dialect, line=layout.line), 1):
            fields = malformed.judge(number, record)
            if fields is not None:
                rows.append(fields)
                numbers.append(number)
    malformed.refuse_header(len(rows))
    return _Parsed(layout.names, rows, numbers, malformed.records)


def _counted(wanted: Collection[str]) -> set[str]:
    """Which of the columns that stay text are to be numbers."""
    return {name for name, kind in wanted.items() if kind.is_numeric()} if isinstance(wanted, Mapping) else set()


def _column(name: str, cells: Sequence[str], nulls: set[str], options: Csv, *, keep: bool, counted: bool) -> pl.Series:
    found: Sequence[str | None] = cells
    if not nulls.isdisjoint(cells):
        found = [None if cell in nulls else cell for cell in cells]
    if options.thousands and (counted or not keep):
        plain = ungroup(found, options.thousands, decimal_comma=options.decimal_comma)
        if keep:
            return pl.Series(name, plain, dtype=pl.String)
        made = infer.column(name, plain, decimal_comma=options.decimal_comma)
        if made.dtype.is_numeric():
            return made
    if keep:
        return pl.Series(name, found, dtype=pl.String)
    return infer.column(name, found, decimal_comma=options.decimal_comma)


def layout_of(content: Content, dialect: Dialect, options: Csv) -> Layout:
    """Read the first record, record by record."""
    with content.open() as file:
        start = len(text.BOM) if file.read(3) == text.BOM else 0
        file.seek(start)
        for _ in range(options.skip_lines):
            file.readline()
        body, line = file.tell(), 1 + options.skip_lines
        records = Records(file, dialect, line=line)
        first = next(iter(records), None)
    if first is None:
        raise DataError(
            "EmptyFile",
            "the file has no record in it, only blank lines, comments or lines to skip",
            hint="look at the reader's skip_lines and comment" if options.skip_lines or options.comment else "",
        )
    if first.fields is None:
        raise _bad_header(first)
    names = _names(first.fields, options, line=first.line)
    return (
        Layout(dialect, names, records.position, records.line) if options.header else Layout(dialect, names, body, line)
    )


def large_layout(content: Content, options: Csv) -> Layout:
    """The layout of a file, whatever its size.

    Raises:
        DataError: its first record is none, or names no columns.
    """
    sample = content.head(_SAMPLE).removeprefix(text.BOM).decode("utf-8", "replace")
    return layout_of(content, dialect_of(content, sample, options), options)


def _bad_header(first: Record) -> DataError:
    return DataError(
        "UnreadableCsv",
        f"the first record cannot be read: {first.problem}",
        hint="mend it, or say how the file is written: Csv(quote=…, separator=…)",
        place=Place(line=first.line, text=shorten(first.text)),
    )


def _names(first: Sequence[str], options: Csv, *, line: int) -> list[str]:
    """The names of the columns; one without a name is called ``column_3``, after its position."""
    if options.columns is not None and len(options.columns) != len(first):
        raise DataError(
            "WrongColumns",
            f"the first record has {len(first)} fields, the reader names {len(options.columns)} columns",
            hint="name as many columns as the file has: Csv(columns=[…])",
            place=Place(line=line, text=shorten(" | ".join(first))),
        )
    given = options.columns if options.columns is not None else first if options.header else [""] * len(first)
    return checked_names([name or f"column_{position}" for position, name in enumerate(given, 1)], line=line)


def _read_large(content: Content, options: Csv, wanted: Collection[str], block: int) -> Table:
    """By Polars, after the proof that all records are regular; in memory where the file is."""
    layout = large_layout(content, options)
    dialect = layout.dialect
    malformed = Malformed(len(layout.names), ragged=options.ragged)
    proof = prove(content, dialect, malformed, body=layout.body, line=layout.line, block=block)
    rows = scan(content, layout, proof, options)
    open_columns = [name for name in layout.names if name not in wanted]
    rows = _without_marks(rows, open_columns, _counted(wanted) & set(layout.names), options)
    frame = None
    if content.data is not None:
        frame = _inferred(rows.collect(engine="in-memory"), open_columns, options)
        rows = frame.lazy()
    elif open_columns:
        found = infer.types(rows, open_columns, decimal_comma=options.decimal_comma)
        rows = rows.with_columns(infer.casts(found, decimal_comma=options.decimal_comma))
    return Table(
        rows=rows,
        format="csv" + content.packing,
        frame=frame,
        malformed=malformed_frame(proof.malformed),
        decimal_comma=options.decimal_comma,
        dialect=dialect.told(),
        height=proof.records - len(proof.malformed),
        scratch=content.scratch,
        origins=partial(origins_of, content, dialect, options),
    )


def origins_of(content: Content, dialect: Dialect, options: Csv, numbers: Collection[int]) -> origins.Origins:
    layout = layout_of(content, dialect, options)
    shape = Shape(dialect, len(layout.names))
    return origins.of_csv(content, shape, dialect, numbers, body=layout.body, line=layout.line)


def _without_marks(rows: pl.LazyFrame, names: list[str], counted: Collection[str], options: Csv) -> pl.LazyFrame:
    """Text columns without marks between thousands: those that are to be numbers, and those that then are."""
    marks, comma = options.thousands, options.decimal_comma
    if not marks:
        return rows
    plain = {name: ungrouped(col(name), marks, decimal_comma=comma).alias(name) for name in [*names, *counted]}
    found = infer.types(rows.with_columns(plain[name] for name in names), names, decimal_comma=comma) if names else {}
    return rows.with_columns(
        plain[name] for name in plain if name in counted or (name in found and found[name].is_numeric())
    )


def _inferred(frame: pl.DataFrame, names: list[str], options: Csv) -> pl.DataFrame:
    """The frame with the types of those columns inferred: by lists where there are many, else by expressions."""
    if len(names) <= _WIDE:
        found = infer.types(frame.lazy(), names, decimal_comma=options.decimal_comma) if names else {}
        return frame.with_columns(infer.casts(found, decimal_comma=options.decimal_comma))
    columns = {cells.name: cells for cells in frame.get_columns()}
    for name in names:
        columns[name] = infer.column(name, columns[name].to_list(), decimal_comma=options.decimal_comma)
    return pl.DataFrame(list(columns.values()))


def scan(content: Content, layout: Layout, proof: Proof, options: Csv) -> pl.LazyFrame:
    """The proved records, all columns text, with their numbers."""
    if proof.records == 0:
        return pl.LazyFrame(schema={**dict.fromkeys(layout.names, pl.String()), ROW: pl.UInt64()})
    rows = pl.scan_csv(**_source(content, layout, proof), **_scan_options(layout, proof, options))
    rows = rows.with_columns(pl.col(ROW).cast(pl.UInt64))
    if proof.malformed:
        placeholders = pl.Series([number for number, _, _ in proof.malformed], dtype=pl.UInt64)
        rows = rows.filter(~pl.col(ROW).is_in(placeholders.implode()))
    if proof.empty_quotes:  # an empty cell is null, quoted or not: CSV has no other way to tell
        rows = rows.with_columns(pl.when(col(name) != "").then(col(name)).alias(name) for name in layout.names)
    return rows


def _scan_options(layout: Layout, proof: Proof, options: Csv) -> Mapping[str, Any]:
    return {
        "has_header": False,
        "new_columns": layout.names,
        "separator": layout.dialect.separator,
        "quote_char": layout.dialect.written_quote if proof.quoted else None,
        "null_values": list(options.null_values) or None,
        "infer_schema": False,
        "glob": False,
        "row_index_name": ROW,
        "row_index_offset": proof.before + 1,
    }


def _source(content: Content, layout: Layout, proof: Proof) -> Mapping[str, Any]:
    """Where Polars shall read: the file after its header, or what was written anew in its place."""
    if proof.rewritten is not None:
        return {"source": proof.rewritten, "skip_lines": 1}
    if content.data is not None:
        body = content.data[layout.body :]
        return {"source": b"\n" + body, "skip_lines": 1} if looks_packed(body) else {"source": body}
    return {"source": content.path, "skip_lines": layout.line - 1}
