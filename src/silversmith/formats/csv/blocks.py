"""A CSV file in one pass, block by block: read by Polars where that is proved to be right, else record by record.

Polars reads regular CSV fast, and guesses at the rest: it fills short records up with nulls, and reads quotes that
stand where they do not belong in its own way. To prove every record regular first costs several times what reading it
does. So a block is read first, and believed only where nothing else can be meant:

- Polars fails where a record is too long, where a number is none, and where text follows a closing quote.
- A record that is too short, or blank, has null in its last column. Where there is such a null, the shape of the block
  is proved from its bytes.
- Quotes are a pair around each whole field, with none between them: the bytes beside each are looked at. Other quotes
  are proved with the shape of the block; Polars guesses at them.
- Polars takes infinite numbers, and a contract may not: they are looked for. A type of which Polars takes more texts
  than a contract does is read as text.

A block that is not believed is read as text, in smaller pieces, and a piece that is not regular record by record. Only
that way rejects anything.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from itertools import islice
from typing import NamedTuple, cast

import polars as pl
from polars.exceptions import PanicException, PolarsError

from silversmith.formats import text
from silversmith.formats.archives.content import Content
from silversmith.formats.csv.dialect import Csv, CsvDialect
from silversmith.formats.csv.records import Header, Malformed, Records, Shape, rows_of
from silversmith.formats.table import Table, col, malformed_frame, row_numbers

#: Bytes read at once: as typed columns, and as text, which takes several times the memory. A block costs 3 ms besides.
BLOCK = 4 * 1024 * 1024
TEXT_BLOCK = 1024 * 1024

#: So many bytes are read record by record, if one of their records is irregular.
_PIECE = 256 * 1024

#: How many blocks are parsed at a time at most, else two more than Polars has threads: while some are proved and judged
#: in Python's threads, there is enough to parse for Polars'. And how many wait to be taken besides.
_MOST_WORKERS = 8
_WAITING = 2

#: Bytes at the end of a block in which a line's end is looked for first.
_LOOK = 64 * 1024

#: Bytes whose quotes are looked at in one column.
_COMPARED = 256 * 1024

_NEWLINE, _RETURN = ord("\n"), ord("\r")

#: Types whose text Polars' CSV reader takes as a contract does, or fails.
NATIVE = (pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.UInt8, pl.UInt16, pl.UInt32, pl.UInt64, pl.Float64)

#: Beginnings of text that Polars drops (a byte order mark) or takes for zlib's compression; other compressions begin as
#: no UTF-8 does. A blank line before them keeps Polars from that. https://www.rfc-editor.org/rfc/rfc1950
_MISREAD = (text.BOM, b"x\x01", b"x\x5e", b"x\x9c", b"x\xda")

#: Makes something of the rows of a block, in any thread: None where they have to be looked at as text.
Judge = Callable[[pl.DataFrame], pl.DataFrame | None]


class Part(NamedTuple):
    """The next records of a file: either ``judged``, or in a table, all of them as text."""

    records: int
    judged: pl.DataFrame | None
    table: Table | None


@dataclass(frozen=True)
class CsvStream:
    """A CSV file whose blocks are read as columns of these ``dtypes``, by their names."""

    content: Content
    options: Csv
    header: Header
    dtypes: Mapping[str, pl.DataType]
    block: int = BLOCK

    @property
    def format(self) -> str:
        return "csv" + self.content.packing

    def parts(self, judge: Judge) -> Generator[Part]:
        """All records in their order; the first of them are being read when this returns.

        ``judge`` is called in other threads, for several blocks at a time.

        Raises:
            DataError: the file cannot be read, or its header is none. From the generator.
        """
        parts = self._parts(judge)
        next(parts)  # a generator that has begun lets go of its threads when it is closed
        return cast("Generator[Part]", parts)

    def texts(self) -> Iterator[Table]:
        """All records as text, in tables with the numbers of their rows.

        Raises:
            DataError: as :meth:`parts`.
        """
        number = 1
        plain = replace(self, dtypes=dict.fromkeys(self.header.names, pl.String()))
        for part in plain.parts(_unchanged):
            if part.judged is None:
                assert part.table is not None, "a part is judged or text"
                yield part.table
            else:
                rows = part.judged.with_columns(row_numbers(range(number, number + part.records)))
                yield self.table_of(rows)
            number += part.records

    def table_of(self, frame: pl.DataFrame, malformed: list[tuple[int, str, str]] | None = None) -> Table:
        """Some of the rows as a table."""
        comma = self.options.decimal_comma
        return Table(frame.lazy(), self.format, frame, malformed_frame(malformed or []), decimal_comma=comma)

    def _parts(self, judge: Judge) -> Generator[Part | None]:
        """None once the first blocks are being read, then the parts."""
        with (
            closing(_Bytes(self.content)) as source,
            ThreadPoolExecutor(min(pl.thread_pool_size() + 2, _MOST_WORKERS)) as pool,
            closing(_Ahead(source, pool, partial(_judged, self, judge), self.header.body, self.block)) as blocks,
        ):
            yield None
            yield from _Pass(self, source, blocks).run()


def _unchanged(frame: pl.DataFrame) -> pl.DataFrame:
    return frame


def _judged(
    stream: CsvStream, judge: Judge, source: _Bytes, start: int, end: int, *, whole: bool
) -> pl.DataFrame | None:
    """A block as the judge answers; None where it has to be read as text."""
    frame = frame_of(source.read(start, end), stream) if whole else None
    return None if frame is None else judge(frame)


class _Bytes:
    """The bytes of a content at any place, for several threads at a time."""

    def __init__(self, content: Content) -> None:
        self._data = content.data
        self.file = content.open()
        self.size = content.size

    def read(self, start: int, end: int) -> bytes:
        return self._data[start:end] if self._data is not None else os.pread(self.file.fileno(), end - start, start)

    def close(self) -> None:
        self.file.close()


class _Block(NamedTuple):
    start: int
    end: int
    judged: Future[pl.DataFrame | None]


class _Ahead:
    """The blocks of a file from a position on, read and judged in threads while those before them are taken."""

    def __init__(
        self,
        source: _Bytes,
        pool: ThreadPoolExecutor,
        work: Callable[..., pl.DataFrame | None],
        start: int,
        size: int,
    ) -> None:
        self._source, self._pool, self._work, self._size = source, pool, work, size
        self._waiting: deque[_Block] = deque()
        self._spans = _spans(source, start, size)
        self._fill()

    def __iter__(self) -> Iterator[_Block]:
        while self._waiting:
            yield self._waiting.popleft()
            self._fill()

    def _fill(self) -> None:
        for start, end, whole in islice(self._spans, self._pool._max_workers + _WAITING - len(self._waiting)):
            self._waiting.append(
                _Block(start, end, self._pool.submit(self._work, self._source, start, end, whole=whole))
            )

    def begin_anew(self, position: int) -> None:
        """Go on with the blocks from there."""
        self.close()
        self._spans = _spans(self._source, position, self._size)
        self._fill()

    def close(self) -> None:
        for block in self._waiting:
            block.judged.cancel()
        wait(block.judged for block in self._waiting)  # they read the file
        self._waiting.clear()


def _spans(source: _Bytes, position: int, size: int) -> Iterator[tuple[int, int, bool]]:
    """Where blocks begin and end that end where lines do; and whether this one does, for there are long lines.

    Only their ends are looked at here: blocks are read by the threads that parse them.
    """
    while position + size < source.size:
        end = _line_end(source, position, position + size)
        yield position, end or position + size, end is not None
        position = end or position + size
    if position < source.size:
        yield position, source.size, True


def _line_end(source: _Bytes, start: int, end: int) -> int | None:
    """The end of the last line that ends there; None where none does."""
    while start < end:
        begin = max(start, end - _LOOK)
        last = source.read(begin, end).rfind(b"\n")
        if last >= 0:
            return begin + last + 1
        end = begin
    return None


@dataclass
class _Pass:
    """One reading of a stream. ``uncounted`` are the blocks whose line ends nobody has needed to know so far."""

    stream: CsvStream
    source: _Bytes
    blocks: _Ahead
    records: int = 0
    uncounted: list[tuple[int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        header = self.stream.header
        self.line = header.line
        self.malformed = Malformed(len(header.names), ragged=self.stream.options.ragged)
        self.shape = Shape(header.dialect, len(header.names))
        self.plain = replace(self.stream, dtypes=dict.fromkeys(header.names, pl.String()))

    def run(self) -> Iterator[Part]:
        for block in self.blocks:
            judged = block.judged.result()
            if judged is not None:
                self.records += judged.height
                self.uncounted.append((block.start, block.end))
                yield Part(judged.height, judged, None)
            else:
                yield self._as_text(block)
        self.malformed.refuse_header(self.records - len(self.malformed.records))

    def _as_text(self, block: _Block) -> Part:
        """The records from the beginning of a block to the end of the one that its last byte is in."""
        for start, end in self.uncounted:
            self.line += text.line_ends(self.source.read(start, end))
        self.uncounted.clear()
        known, before, position = len(self.malformed.records), self.records, block.start
        frames = []
        while position < block.end:
            frame, position = self._piece(position, block.end)
            frames.append(frame)
        if position != block.end:  # its last record ends in another block than it seemed to
            self.blocks.begin_anew(position)
        table = self.stream.table_of(pl.concat(frames), self.malformed.records[known:])
        return Part(self.records - before, None, table)

    def _piece(self, position: int, until: int) -> tuple[pl.DataFrame, int]:
        """The next records, and where those after them begin."""
        end = min(position + _PIECE, until)
        data = self.source.read(position, end)
        cut = self.shape.cut(data, last=end == self.source.size)
        frame = frame_of(data[:cut], self.plain) if cut else None
        if frame is None:
            return self._records(position, position + (cut or len(data)))
        numbers = row_numbers(range(self.records + 1, self.records + 1 + frame.height))
        self.records += frame.height
        self.line += text.line_ends(data[:cut])
        return frame.with_columns(numbers), position + cut

    def _records(self, position: int, until: int) -> tuple[pl.DataFrame, int]:
        """The records from there up to a byte at least, one by one."""
        self.source.file.seek(position)
        header = self.stream.header
        records = Records(self.source.file, header.dialect, line=self.line)
        rows, numbers, self.records = rows_of(records, self.malformed, self.records, until)
        self.line = records.line
        nulls = {"", *self.stream.options.null_values}
        cells = zip(*rows, strict=True) if rows else [()] * len(header.names)
        columns = [
            pl.Series(name, [None if cell in nulls else cell for cell in column], dtype=pl.String)
            for name, column in zip(header.names, cells, strict=True)
        ]
        return pl.DataFrame([*columns, row_numbers(numbers)]), records.position


def frame_of(data: bytes, stream: CsvStream) -> pl.DataFrame | None:
    """A block as Polars reads it into the stream's types; None where that may not be right."""
    if b"\0" in data or not (data.isascii() or _is_utf8(data)):
        return None
    dialect, names, options = stream.header.dialect, stream.header.names, stream.options
    quoted = dialect.quote is not None and dialect.quote.encode() in data
    misread = data.startswith(_MISREAD)
    try:
        frame = pl.read_csv(
            b"\n" + data if misread else data,
            skip_lines=1 if misread else 0,
            has_header=False,
            schema=stream.dtypes,
            separator=dialect.separator,
            quote_char=dialect.quote if quoted else None,
            null_values=list(options.null_values) or None,
            glob=False,
        )
    except (PolarsError, PanicException):
        return None
    quotes = quotes_of(data, dialect) if quoted else _Quotes(paired=True, hollow=False)
    doubtful = (
        (dialect.comment or dialect.escape or dialect.padded or not quotes.paired)
        or frame.get_column(names[-1]).null_count()
        or (b"\r" in data and data.count(b"\r") != data.count(b"\r\n"))
    )
    if doubtful and Shape(dialect, len(names)).regular(data) != frame.height:
        return None
    if any(_has_infinity(frame.get_column(name)) for name in names if stream.dtypes[name] == pl.Float64):
        return None
    return _without_empty(frame) if quotes.hollow else frame


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _has_infinity(floats: pl.Series) -> bool:
    return floats.max() == float("inf") or floats.min() == float("-inf")


def _without_empty(frame: pl.DataFrame) -> pl.DataFrame:
    """The rows with null for an empty cell: quoted or not, CSV has no other way to write it."""
    texts = [name for name, dtype in frame.schema.items() if dtype == pl.String]
    empty = [name for name in texts if (frame.get_column(name) == "").any()]
    return frame.with_columns(pl.when(col(name) != "").then(col(name)).alias(name) for name in empty)


class _Quotes(NamedTuple):
    """The quotes of a block: ``paired``, nowhere but around whole fields; ``hollow``, some around nothing."""

    paired: bool
    hollow: bool = True


def quotes_of(data: bytes, dialect: CsvDialect) -> _Quotes:
    """Paired where each odd one is where a field begins, each even one where it ends.

    The bytes beside all quotes are compared at once, with no lock of Python's held. They become columns in pieces:
    memory for a large one is mapped anew each time, which costs more than the pieces do.
    """
    separator, quote = dialect.separator.encode(), str(dialect.quote).encode()
    if len(separator) != 1 or len(quote) != 1:
        return _Quotes(paired=False)
    sides = [_beside(data, start, quote[0]) for start in range(0, len(data), _COMPARED)]
    before, after = pl.concat([one for one, _ in sides]), pl.concat([other for _, other in sides])
    if len(before) % 2:
        return _Quotes(paired=False)
    opening = _alternating(1 << len(before).bit_length()).head(len(before))
    opens = (before == separator[0]) | (before == _NEWLINE) | ~opening
    closes = (after == separator[0]) | (after == _NEWLINE) | (after == _RETURN) | opening
    return _Quotes(bool((opens & closes).all()), bool(((after == quote[0]) & opening).any()))


def _beside(data: bytes, start: int, quote: int) -> tuple[pl.Series, pl.Series]:
    """The bytes before and after each quote of a piece of the data, which stands between line ends."""
    piece = data[max(0, start - 1) : start + _COMPARED + 1]
    piece = piece if start else b"\n" + piece
    piece = piece + b"\n" if start + _COMPARED >= len(data) else piece
    column = pl.Series([piece]).cast(pl.List(pl.UInt8)).item()
    quotes = column.slice(1, len(column) - 2) == quote
    return column.head(-2).filter(quotes), column.slice(2).filter(quotes)


@lru_cache(2)
def _alternating(count: int) -> pl.Series:
    """True, false, true, and so on."""
    return pl.int_range(count, eager=True) % 2 == 0
