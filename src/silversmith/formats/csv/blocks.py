"""A CSV file in one pass, block by block: read by Polars where that is proven to be right, else record by record.

Polars reads regular CSV fast, and guesses at the rest: it fills short records up with nulls, and reads misplaced quotes
in its own way. To prove every record regular first costs several times what reading it does. So Polars reads a block
first, and the result counts only if the bytes can mean nothing else:

- Polars fails if a record is too long, if a number is malformed, and if text follows a closing quote.
- A record that is too short, or blank, has null in its last column. If there is such a null, the shape of the block is
  proven from its bytes.
- Quotes must be a pair around each whole field, with none between them: the bytes beside each are compared. Blocks with
  other quotes have their shape proven; Polars guesses at them.
- Polars accepts infinite numbers, and a contract may not: they are looked for. If Polars accepts more texts for a type
  than a contract does, the column is read as text.

Any other block is read as text, in smaller pieces, and an irregular piece record by record. Only that way rejects
anything.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass, replace
from typing import NamedTuple

import polars as pl
from polars.exceptions import PanicException, PolarsError

from silversmith.formats import text
from silversmith.formats.archives.content import Content
from silversmith.formats.csv.dialect import Csv, CsvDialect
from silversmith.formats.csv.records import Header, Malformed, Records, Shape, rows_of, text_columns
from silversmith.formats.table import ROW, Table, col, joined, malformed_frame, row_numbers

#: Bytes read at once: as typed columns, and as text, which takes several times the memory. Each block costs 3 ms.
BLOCK = 4 * 1024 * 1024
TEXT_BLOCK = 1024 * 1024

#: So many bytes are read record by record, if one of their records is irregular.
_PIECE = 256 * 1024

#: The most blocks that are parsed at a time; with fewer cores, two more than Polars has threads: while Python's threads
#: prove and check some, Polars has enough to parse. Some more wait to be taken.
_MOST_WORKERS = 8
_WAITING = 2

#: Bytes at the end of a block in which a line's end is looked for first.
_TAIL = 64 * 1024

#: Bytes whose quotes are compared in one column. Memory for a larger one is mapped anew each time, which costs more.
COMPARED = 256 * 1024

_NEWLINE, _RETURN = ord("\n"), ord("\r")

#: Polars' CSV reader accepts for these types what a contract accepts, or fails.
NATIVE = (pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.UInt8, pl.UInt16, pl.UInt32, pl.UInt64, pl.Float64)

#: Polars drops a byte order mark, and takes the others for zlib's compression; no UTF-8 begins as other compressions
#: do. A blank line before them prevents both. https://www.rfc-editor.org/rfc/rfc1950
_MISREAD = (text.BOM, b"x\x01", b"x\x5e", b"x\x9c", b"x\xda")

#: Takes the typed rows of a block, in any thread, and returns good ones; None if they must be read as text instead.
GoodRows = Callable[[pl.DataFrame], pl.DataFrame | None]


class Part(NamedTuple):
    """The next records of a file: all of them good rows, or all of them text in a table."""

    records: int
    good: pl.DataFrame | None
    table: Table | None


@dataclass(frozen=True)
class CsvStream:
    """A CSV file whose blocks are read as columns of these ``dtypes``."""

    content: Content
    options: Csv
    header: Header
    dtypes: Mapping[str, pl.DataType]
    block: int = BLOCK

    @property
    def format(self) -> str:
        return "csv" + self.content.packing

    def as_text(self) -> CsvStream:
        """The same file with all columns as text."""
        return replace(self, dtypes=dict.fromkeys(self.header.names, pl.String()))

    def parts(self, good_rows: GoodRows) -> Parts:
        """All records in their order. Threads read the first ones when this returns; close it to end them.

        ``good_rows`` is called in those threads, for several blocks at a time.
        """
        return Parts(self, good_rows)

    def tables(self) -> Iterator[Table]:
        """All records as text, in tables with the numbers of their rows.

        Raises:
            DataError: the file cannot be read, or its header does not fit its records.
        """
        number = 1
        with closing(self.as_text().parts(lambda frame: frame)) as parts:
            for part in parts:
                if part.table is not None:
                    yield part.table
                elif part.good is not None:
                    numbers = row_numbers(range(number, number + part.records))
                    yield self.table_of(part.good.with_columns(numbers))
                number += part.records

    def table_of(self, frame: pl.DataFrame, malformed: list[tuple[int, str, str]] | None = None) -> Table:
        """Some of the rows as a table."""
        comma = self.options.decimal_comma
        return Table(frame.lazy(), self.format, frame, malformed_frame(malformed or []), decimal_comma=comma)


class _Block(NamedTuple):
    start: int
    end: int
    good: Future[pl.DataFrame | None]


class Parts:
    """One reading of a stream: an iterator of parts. ``_uncounted`` are blocks whose lines nobody has counted yet.

    Iterating raises DataError if the file cannot be read, or its header does not fit its records. At its end it closes
    itself.
    """

    def __init__(self, stream: CsvStream, good_rows: GoodRows) -> None:
        header = stream.header
        self._stream, self._text, self._good_rows = stream, stream.as_text(), good_rows
        self._data, self._size = stream.content.data, stream.content.size
        self._malformed = Malformed(header, ragged=stream.options.ragged)
        self._shape = Shape(header.dialect, header.width)
        self._line, self._records = header.line, 0
        self._uncounted: list[tuple[int, int]] = []
        self._file = stream.content.open()
        workers = min(pl.thread_pool_size() + 2, _MOST_WORKERS)
        self._pool = ThreadPoolExecutor(workers)
        self._most_blocks = workers + _WAITING
        self._blocks: deque[_Block] = deque()
        self._position = header.body
        self._submit()

    def __iter__(self) -> Parts:
        return self

    def __next__(self) -> Part:
        try:
            return self._next()
        except BaseException:  # StopIteration, too
            self.close()
            raise

    def _next(self) -> Part:
        self._submit()
        if not self._blocks:
            self._malformed.refuse_header(self._records - len(self._malformed.records))
            raise StopIteration
        block = self._blocks.popleft()
        good = block.good.result()
        if good is None:
            return self._read_as_text(block)
        self._records += good.height
        self._uncounted.append((block.start, block.end))
        return Part(good.height, good, None)

    def close(self) -> None:
        """Stop reading."""
        self._drop_blocks()
        self._pool.shutdown()
        self._file.close()

    def _drop_blocks(self) -> None:
        for block in self._blocks:
            block.good.cancel()
        wait(block.good for block in self._blocks)  # they read the file
        self._blocks.clear()

    def _read(self, start: int, end: int) -> bytes:
        """Bytes of the file, for several threads at a time."""
        return self._data[start:end] if self._data is not None else os.pread(self._file.fileno(), end - start, start)

    def _submit(self) -> None:
        """Have threads read the next blocks. Blocks end at line ends; a block within one long line is text."""
        while len(self._blocks) < self._most_blocks and self._position < self._size:
            start = self._position
            end = min(start + self._stream.block, self._size)
            line_end = end if end == self._size else self._line_end(start, end)
            self._position = line_end or end
            good = self._pool.submit(self._read_typed, start, self._position, whole=line_end is not None)
            self._blocks.append(_Block(start, self._position, good))

    def _line_end(self, start: int, end: int) -> int | None:
        """The end of the last line that ends there; None if none does. The threads read the block itself."""
        while start < end:
            begin = max(start, end - _TAIL)
            last = self._read(begin, end).rfind(b"\n")
            if last >= 0:
                return begin + last + 1
            end = begin
        return None

    def _read_typed(self, start: int, end: int, *, whole: bool) -> pl.DataFrame | None:
        frame = frame_of(self._read(start, end), self._stream) if whole else None
        return None if frame is None else self._good_rows(frame)

    def _read_as_text(self, block: _Block) -> Part:
        """The records from the beginning of a block to the end of the record that its last byte is in."""
        for start, end in self._uncounted:
            self._line += text.line_ends(self._read(start, end))
        self._uncounted.clear()
        known, before, position = len(self._malformed.records), self._records, block.start
        frames = []
        while position < block.end:
            frame, position = self._read_piece(position, block.end)
            frames.append(frame)
        if position != block.end:  # its last record ends in a later block: begin new blocks there
            self._drop_blocks()
            self._position = position
        table = self._stream.table_of(pl.concat(frames), self._malformed.records[known:])
        return Part(self._records - before, None, table)

    def _read_piece(self, position: int, until: int) -> tuple[pl.DataFrame, int]:
        """The next records, and the position after them."""
        end = min(position + _PIECE, until)
        data = self._read(position, end)
        cut = self._shape.cut(data, last=end == self._size)
        frame = frame_of(data[:cut], self._text) if cut else None
        if frame is None:
            return self._read_records(position, position + (cut or len(data)))
        numbers = row_numbers(range(self._records + 1, self._records + 1 + frame.height))
        self._records += frame.height
        self._line += text.line_ends(data[:cut])
        return frame.with_columns(numbers), position + cut

    def _read_records(self, position: int, until: int) -> tuple[pl.DataFrame, int]:
        """Read records one by one, up to byte ``until`` at least."""
        self._file.seek(position)
        header = self._stream.header
        records = Records(self._file, header.dialect, line=self._line)
        rows, numbers, self._records = rows_of(records, self._malformed, self._records, until)
        self._line = records.line
        columns = text_columns(header.names, rows, self._stream.options)
        series = [pl.Series(name, cells, dtype=pl.String) for name, cells in columns.items()]
        return joined([*series, row_numbers(numbers)]), records.position


def frame_of(data: bytes, stream: CsvStream) -> pl.DataFrame | None:
    """A block as Polars reads it into the stream's types; None if that may not be right."""
    if b"\0" in data or not _is_utf8(data):
        return None
    dialect, names, options = stream.header.dialect, stream.header.names, stream.options
    quote = dialect.quote if dialect.quote is not None and dialect.quote.encode() in data else None
    misread = data.startswith(_MISREAD)
    trailing = [f"{ROW}{place}" for place in range(dialect.trailing)]
    try:
        frame = pl.read_csv(
            b"\n" + data if misread else data,
            skip_lines=1 if misread else 0,
            has_header=False,
            schema={**stream.dtypes, **dict.fromkeys(trailing, pl.String())},
            separator=dialect.separator,
            quote_char=quote,
            null_values=list(options.null_values) or None,
            glob=False,
        )
    except (PolarsError, PanicException):
        return None
    empty = empty_fields(data, dialect) if quote else 0
    is_doubtful = (
        (dialect.comment or dialect.escape or dialect.padded or empty is None)
        or (trailing or frame.get_column(names[-1]).null_count())
        or (b"\r" in data and data.count(b"\r") != data.count(b"\r\n"))
    )
    if is_doubtful and Shape(dialect, stream.header.width).regular(data) != frame.height:
        return None
    if trailing:
        if options.null_values or any(frame.get_column(name).null_count() < frame.height for name in trailing):
            return None
        frame = frame.drop(trailing)
    if any(_has_infinity(frame.get_column(name)) for name in names if stream.dtypes[name] == pl.Float64):
        return None
    return _without_empty(frame) if empty != 0 else frame


def _is_utf8(data: bytes) -> bool:
    try:
        return data.isascii() or bool(data.decode())
    except UnicodeDecodeError:
        return False


def _has_infinity(floats: pl.Series) -> bool:
    return floats.max() == float("inf") or floats.min() == float("-inf")


def _without_empty(frame: pl.DataFrame) -> pl.DataFrame:
    """The rows with null for an empty cell, which Polars keeps if it is quoted: both ways to write it mean the same."""
    texts = [name for name, dtype in frame.schema.items() if dtype == pl.String]
    empty = [name for name in texts if (frame.get_column(name) == "").any()]
    return frame.with_columns(pl.when(col(name) != "").then(col(name)).alias(name) for name in empty)


def empty_fields(data: bytes, dialect: CsvDialect) -> int | None:
    """The number of empty quoted fields; None unless quotes are pairs around whole fields.

    Polars compares the bytes beside all quotes at once, without Python's lock: twenty times as fast as ``Shape``.
    """
    separator, quote = dialect.separator.encode(), str(dialect.quote).encode()
    if len(separator) != 1 or len(quote) != 1:
        return None
    sides = [_beside(data, start, quote[0]) for start in range(0, len(data), COMPARED)]
    before, after = (pl.concat(columns) for columns in zip(*sides, strict=True))
    if len(before) % 2:
        return None
    is_opening = _column(b"\1\0" * (len(before) // 2)) == 1
    opens = (before == separator[0]) | (before == _NEWLINE) | ~is_opening
    closes = (after == separator[0]) | (after == _NEWLINE) | (after == _RETURN) | is_opening
    return int(((after == quote[0]) & is_opening).sum()) if (opens & closes).all() else None


def _beside(data: bytes, start: int, quote: int) -> tuple[pl.Series, pl.Series]:
    """The bytes before and after each quote of a piece of the data; line ends stand around the data."""
    piece = data[max(0, start - 1) : start + COMPARED + 1]
    piece = piece if start else b"\n" + piece
    column = _column(piece + b"\n" if start + COMPARED >= len(data) else piece)
    quotes = column.slice(1, len(column) - 2) == quote
    return column.head(-2).filter(quotes), column.slice(2).filter(quotes)


def _column(data: bytes) -> pl.Series:
    """Bytes as a column."""
    column: pl.Series = pl.Series([data]).cast(pl.List(pl.UInt8)).item()
    return column
