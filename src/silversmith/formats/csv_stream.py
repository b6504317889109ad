"""A large CSV file in one pass, block by block: typed by Polars' reader where that is proved to be right, else as text.

To read cells as text, to prove them regular and to cast them costs several times what reading them as numbers does. So
a block is read as what the contract wants first, and that is believed only where nothing else can be meant:

- Polars fails where a record is too long, where a number is none, and where text follows a closing quote.
- A record that is too short, or blank, has null in its last column. Where there is such a null, the shape of the block
  is proved as that of any other is, from its bytes.
- Quotes are a pair around each whole field, with none between them: what is beside each is looked at. Other quotes are
  proved with the shape of the block; Polars guesses at them.
- What Polars takes for a number and a contract may not, an infinite one, is looked for; types of which it takes more
  than a contract does are read as text.

What is not believed is read by the careful way, which is the only one that rejects anything.
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
from typing import BinaryIO, NamedTuple, cast

import polars as pl
from polars.exceptions import PanicException, PolarsError

from silversmith.formats import csv, text
from silversmith.formats.archives.content import Content
from silversmith.formats.byte_column import byte_column
from silversmith.formats.csv_blocks import Proof, Shape, looks_packed, prove_some
from silversmith.formats.csv_options import Csv
from silversmith.formats.csv_records import Dialect, Malformed
from silversmith.formats.csv_sniff import announced
from silversmith.formats.table import Table, col, malformed_frame

#: Bytes read at once. Every irregular record makes this many be read the careful way; a block costs some 3 ms besides.
BLOCK = 4 * 1024 * 1024

#: How many blocks are parsed at a time at most, else two more than Polars has threads: while some are proved and judged
#: in Python's threads, there is enough to parse for Polars'. And how many wait to be taken besides.
_MOST_WORKERS = 8
_WAITING = 2

#: Bytes at the end of a block in which a line's end is looked for first.
_LOOK = 64 * 1024

_NEWLINE, _RETURN = ord("\n"), ord("\r")

#: Types whose text Polars' CSV reader takes as a contract does, or fails.
NATIVE = (pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.UInt8, pl.UInt16, pl.UInt32, pl.UInt64, pl.Float64)

#: What is made of typed rows, in any thread: None where they have to be looked at as text.
Judge = Callable[[pl.DataFrame], pl.DataFrame | None]


class Unusual(Exception):
    """The file cannot be read block by block: the careful way says why, or reads it."""


class Part(NamedTuple):
    """The next records of a file: what the judge made of them, or else all of them as text."""

    records: int
    judged: pl.DataFrame | None
    table: Table | None


class _Block(NamedTuple):
    start: int
    end: int
    judged: Future[pl.DataFrame | None]


@dataclass(frozen=True)
class Stream:
    """A CSV file on disk, all of whose columns are of known types. ``kinds`` are those that its blocks are read as."""

    content: Content
    options: Csv
    layout: csv.Layout
    kinds: Mapping[str, pl.DataType]
    block: int = BLOCK

    @property
    def format(self) -> str:
        return "csv" + self.content.packing

    @property
    def table(self) -> Table:
        """The file without its rows: what else is to be told of it."""
        dialect = self.layout.dialect
        encoding = text.UTF8 if self.options.encoding is None else {"encoding": self.options.encoding}
        return Table(
            pl.LazyFrame(),
            self.format,
            decimal_comma=self.options.decimal_comma,
            dialect={**dialect.told(), **encoding},
            origins=partial(csv.origins_of, self.content, dialect, self.options),
        )

    def parts(self, judge: Judge) -> Generator[Part]:
        """All records in their order; the first of them are being read when this returns. ``judge`` is called in other
        threads, for several blocks at a time.

        Raises:
            Unusual, DataError: this file is to be read the careful way. From the generator.
        """
        parts = self._parts(judge)
        next(parts)  # what a generator that has begun holds is let go of when it is closed
        return cast("Generator[Part]", parts)

    def _parts(self, judge: Judge) -> Generator[Part | None]:
        """None once the first blocks are being read, then the parts."""
        work = partial(_judged, self, judge)
        reading = _Pass(self, Malformed(len(self.layout.names), ragged=self.options.ragged))
        with (
            self.content.open() as file,
            ThreadPoolExecutor(_workers()) as pool,
            closing(_Ahead(file.fileno(), pool, work, self.layout.body, self.block)) as blocks,
        ):
            yield None
            yield from reading.run(file, blocks)


def stream_of(content: Content, options: Csv, wanted: Mapping[str, pl.DataType], block: int = BLOCK) -> Stream | None:
    """The file as a stream; None where it cannot be one.

    Raises:
        DataError: its first record is none.
    """
    if content.path is None or options.comment or options.thousands or options.encoding not in {None, "utf-8"}:
        return None
    text.refuse_empty(content)
    options = announced(content, options)
    layout = csv.large_layout(content, options)
    if layout.dialect.escape or layout.dialect.padded or not all(name in wanted for name in layout.names):
        return None
    kinds = {name: _kind(wanted[name], options) for name in layout.names}
    return Stream(content, options, layout, kinds, block)


def _workers() -> int:
    return min(pl.thread_pool_size() + 2, _MOST_WORKERS)


def _kind(wanted: pl.DataType, options: Csv) -> pl.DataType:
    return wanted if wanted in NATIVE and not options.decimal_comma else pl.String()


class _Ahead:
    """The blocks of a file from a position on, read and judged while those before them are looked at."""

    def __init__(
        self, file: int, pool: ThreadPoolExecutor, work: Callable[..., pl.DataFrame | None], start: int, size: int
    ) -> None:
        self._file, self._pool, self._work, self._size = file, pool, work, size
        self._waiting: deque[_Block] = deque()
        self._lines = _lines(file, start, size)
        self._fill()

    def __iter__(self) -> Iterator[_Block]:
        while self._waiting:
            yield self._waiting.popleft()
            self._fill()

    def _fill(self) -> None:
        for start, end, whole in islice(self._lines, _workers() + _WAITING - len(self._waiting)):
            self._waiting.append(_Block(start, end, self._pool.submit(self._work, self._file, start, end, whole=whole)))

    def begin_anew(self, position: int) -> None:
        """Go on with the blocks from there."""
        self.close()
        self._lines = _lines(self._file, position, self._size)

    def close(self) -> None:
        for block in self._waiting:
            block.judged.cancel()
        wait(block.judged for block in self._waiting)  # they read the file
        self._waiting.clear()


def _judged(stream: Stream, judge: Judge, file: int, start: int, end: int, *, whole: bool) -> pl.DataFrame | None:
    """What the judge makes of a block; None where it has to be read the careful way."""
    frame = typed(os.pread(file, end - start, start), stream) if whole else None
    return None if frame is None else judge(frame)


@dataclass
class _Pass:
    """One reading of a stream. ``uncounted`` are the blocks whose line ends nobody has needed to know so far."""

    stream: Stream
    malformed: Malformed
    records: int = 0
    line: int = 0
    uncounted: list[tuple[int, int]] = field(default_factory=list)

    def run(self, file: BinaryIO, blocks: _Ahead) -> Iterator[Part]:
        self.line = self.stream.layout.line
        for block in blocks:
            judged = block.judged.result()
            if judged is not None:
                self.records += judged.height
                self.uncounted.append((block.start, block.end))
                yield Part(judged.height, judged, None)
                continue
            proof, table = self._carefully(file, block)
            self.records += proof.records
            self.line = proof.line
            if proof.end != block.end:  # its last record ends in another block than it seemed to
                blocks.begin_anew(proof.end)
            yield Part(proof.records, None, table)
        self.malformed.refuse_header(self.records - len(self.malformed.records))

    def _carefully(self, file: BinaryIO, block: _Block) -> tuple[Proof, Table]:
        """A block as text, proved or put right."""
        stream, layout = self.stream, self.stream.layout
        for start, end in self.uncounted:
            file.seek(start)
            self.line += text.line_ends(file.read(end - start))
        self.uncounted.clear()
        proof = prove_some(
            file,
            layout.dialect,
            self.malformed,
            start=block.start,
            until=block.end,
            line=self.line,
            before=self.records,
        )
        file.seek(block.start)
        content = Content("", file.read(proof.end - block.start), None)
        if content.head(len(text.BOM)) == text.BOM:
            raise Unusual
        frame = csv.scan(content, replace(layout, body=0), proof, stream.options).collect(engine="in-memory")
        malformed = malformed_frame(proof.malformed)
        table = Table(frame.lazy(), stream.format, frame, malformed, decimal_comma=stream.options.decimal_comma)
        return proof, table


def _lines(file: int, position: int, size: int) -> Iterator[tuple[int, int, bool]]:
    """Where blocks begin and end that end where lines do; and whether this one does, for there are long lines.

    Only their ends are looked at here: blocks are read by those who parse them, at the same time.
    """
    last = os.fstat(file).st_size
    while position + size < last:
        end = _line_end(file, position, position + size)
        yield position, end or position + size, end is not None
        position = end or position + size
    if position < last:
        yield position, last, True


def _line_end(file: int, start: int, end: int) -> int | None:
    """The end of the last line that ends there; None where none does."""
    while start < end:
        begin = max(start, end - _LOOK)
        found = os.pread(file, end - begin, begin).rfind(b"\n")
        if found >= 0:
            return begin + found + 1
        end = begin
    return None


def typed(data: bytes, stream: Stream) -> pl.DataFrame | None:
    """A block as Polars reads it into the stream's types; None where that may not be what it says.

    Raises:
        Unusual: it has bytes that no text in UTF-8 has, or begins with a byte order mark.
    """
    if b"\0" in data or not (data.isascii() or _is_utf8(data)):
        raise Unusual
    if b"\r" in data and data.count(b"\r") != data.count(b"\r\n"):
        return None
    if data.startswith(text.BOM):
        raise Unusual  # it is a record's, not the file's, and Polars would drop it
    if looks_packed(data):
        return None
    dialect, names = stream.layout.dialect, stream.layout.names
    quoted = dialect.quote is not None and dialect.quote.encode() in data
    try:
        frame = pl.read_csv(
            data,
            has_header=False,
            schema=stream.kinds,
            separator=dialect.separator,
            quote_char=dialect.quote if quoted else None,
            null_values=list(stream.options.null_values) or None,
            glob=False,
        )
    except (PolarsError, PanicException):
        return None
    quotes = quotes_of(data, dialect) if quoted else _Quotes(paired=True, hollow=False)
    doubtful = frame.get_column(names[-1]).null_count() or not quotes.paired
    if doubtful and Shape(dialect, len(names)).regular(data) != frame.height:
        return None
    if any(_has_infinity(frame.get_column(name)) for name in names if stream.kinds[name] == pl.Float64):
        return None
    return _without_empty(frame) if quotes.hollow else frame


def _has_infinity(floats: pl.Series) -> bool:
    return floats.max() == float("inf") or floats.min() == float("-inf")


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _texts(frame: pl.DataFrame) -> list[str]:
    return [name for name, kind in frame.schema.items() if kind == pl.String]


class _Quotes(NamedTuple):
    """What the quotes of a block are: ``paired``, nowhere but around whole fields; ``hollow``, some with nothing
    between them."""

    paired: bool
    hollow: bool = True


def quotes_of(data: bytes, dialect: Dialect) -> _Quotes:
    """Paired where each odd one is where a field begins, each even one where it ends. All bytes are compared at once,
    with no lock of Python's held, and with as few calls of Polars' engine as can be: each costs as much as a MB."""
    separator, quote = dialect.separator.encode(), str(dialect.quote).encode()
    if len(separator) != 1 or len(quote) != 1:
        return _Quotes(paired=False)
    bytes_of = byte_column(data)
    quotes = bytes_of == quote[0]
    before = _with_edge(bytes_of.head(-1).filter(quotes.slice(1)), first=bool(quotes[0]))
    after = _with_edge(bytes_of.slice(1).filter(quotes.head(-1)), last=bool(quotes[-1]))
    if len(before) % 2:
        return _Quotes(paired=False)
    opening = _alternating(1 << len(before).bit_length()).head(len(before))
    opens = (before == separator[0]) | (before == _NEWLINE) | ~opening
    closes = (after == separator[0]) | (after == _NEWLINE) | (after == _RETURN) | opening
    return _Quotes(bool((opens & closes).all()), bool(((after == quote[0]) & opening).any()))


def _with_edge(neighbours: pl.Series, *, first: bool = False, last: bool = False) -> pl.Series:
    """The neighbours of quotes, with line ends for those that lie beyond the data."""
    edge = pl.Series([_NEWLINE], dtype=pl.UInt8)
    parts = [*[edge] * first, neighbours, *[edge] * last]
    return pl.concat(parts) if len(parts) > 1 else neighbours


@lru_cache(2)
def _alternating(count: int) -> pl.Series:
    """True, false, true, and so on."""
    return pl.int_range(count, eager=True) % 2 == 0


def _without_empty(frame: pl.DataFrame) -> pl.DataFrame:
    """The rows with null for an empty cell: quoted or not, CSV has no other way to tell."""
    empty = [name for name in _texts(frame) if (frame.get_column(name) == "").any()]
    return frame.with_columns(pl.when(col(name) != "").then(col(name)).alias(name) for name in empty)
