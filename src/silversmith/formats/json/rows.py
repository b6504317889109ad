"""Records parsed from JSON as rows: in memory at once, or block by block through temporary files."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from silversmith.errors import DataError, Place
from silversmith.formats.archives.content import Scratch
from silversmith.formats.json.columns import MOST_CELLS, Columns
from silversmith.formats.json.kinds import NULL, Kind, column, is_plain, join, kind_of, type_of
from silversmith.formats.json.parse import render, repeated_key
from silversmith.formats.table import ROW, Table, checked_names, malformed_frame, row_numbers, shorten

#: A record that is no object becomes a row with this one column; so do records that all are empty objects.
VALUE = "value"

#: Up to so many cells records are faster taken as they are than column by column.
FEW_CELLS = 2000

_LONGEST_MALFORMED = 10_000
_MOST_MALFORMED = 100_000


@dataclass(frozen=True)
class Block:
    """Some records of a file, in order. ``numbers`` says which of the file's they are, from 1."""

    records: Sequence[dict[str, Any]]
    numbers: Sequence[int]
    malformed: list[tuple[int, str, str]]


def block_of(values: Sequence[Any], first: int, *, doubtful: bool) -> Block:
    """Parsed records, the first of which is number ``first``, as a block.

    Those with a repeated key (looked for where the text is ``doubtful``) are malformed.
    """
    numbers: Sequence[int] = range(first, first + len(values))
    malformed: list[tuple[int, str, str]] = []
    if doubtful:
        keys = [repeated_key(value) for value in values]
        malformed = [
            (number, shorten(render(value), _LONGEST_MALFORMED), f'the key "{shorten(key)}" stands twice in one object')
            for number, value, key in zip(numbers, values, keys, strict=True)
            if key is not None
        ]
        numbers = [number for number, key in zip(numbers, keys, strict=True) if key is None]
        values = [value for value, key in zip(values, keys, strict=True) if key is None]
    if set(map(type, values)) - {dict}:
        values = [value if type(value) is dict else {VALUE: value} for value in values]
    return Block(values, numbers, malformed)


def _columns(records: Sequence[dict[str, Any]]) -> dict[str, Sequence[Any]]:
    """The records' values by key; None where a record does not have the key."""
    shapes = set(map(tuple, records))
    if len(shapes) == 1:
        (names,) = shapes
        return dict(zip(names, zip(*map(dict.values, records), strict=True), strict=True))
    names = tuple(dict.fromkeys(name for shape in dict.fromkeys(map(tuple, records)) for name in shape))
    checked_names(names)
    if len(names) * len(records) > MOST_CELLS:
        raise DataError(
            "TooManyColumns",
            f"{len(records):,} records have {len(names):,} different keys: a table of them would be nearly empty",
            hint="where keys are data, put a list of objects instead of one object",
        )
    return {name: [record.get(name) for record in records] for name in names}


def kinds_of(block: Block) -> dict[str, Kind]:
    """The kinds of a block's columns."""
    return {name: kind_of(values) for name, values in _columns(block.records).items()}


def frame_of(block: Block | Columns, schema: Mapping[str, pl.DataType], *, few: int = FEW_CELLS) -> pl.DataFrame:
    """All records of a small file as rows, with :data:`ROW`. No records at all have the columns of ``schema``.

    Up to ``few`` cells are taken record by record; what comes of it is the same.
    """
    if isinstance(block, Columns):
        return block.frame.insert_column(block.frame.width, row_numbers(block.numbers))
    if not block.records:
        return pl.DataFrame(schema={**schema, ROW: pl.UInt64()})
    columns = _columns(block.records) or {VALUE: [None] * len(block.records)}
    checked_names(list(columns))
    kinds = {name: kind_of(values) for name, values in columns.items()}
    if len(columns) * len(block.records) <= few and all(map(is_plain, kinds.values())):
        types = {name: type_of(kind) for name, kind in kinds.items()}
        return pl.from_dicts(block.records, schema=types).insert_column(len(types), row_numbers(block.numbers))
    series = [column(name, values, kinds[name]) for name, values in columns.items()]
    series.append(row_numbers(block.numbers))
    # an empty name would be taken for none where there is a list of columns; a list is faster
    return pl.DataFrame(series) if "" not in columns else pl.DataFrame({one.name: one for one in series})


#: Makes the blocks of a file, from its beginning each time it is called. It may look at the kinds that columns have so
#: far, which grow with each block that is taken.
Blocks = Callable[[Mapping[str, Kind]], Iterable[Block | Columns]]


def scan(
    format: str,  # noqa: A002
    blocks: Blocks,
    schema: Mapping[str, pl.DataType],
    scratch: Scratch,
) -> Table:
    """The records of a large file as a table, with memory for one block at a time. Without records it has ``schema``.

    Every block is written as columns of the kinds seen so far. Only when a later block has a kind that an earlier
    piece cannot be read as (words among numbers), all are read once more, with all kinds known.
    """
    spill = Spill(scratch)
    malformed: list[tuple[int, str, str]] = []
    with _no_collection():
        for block in blocks(spill.kinds):
            if isinstance(block, Block):
                _note(malformed, block)
            spill.append(block)
        if not spill.is_exact():
            spill.clear()
            for block in blocks(spill.kinds):
                spill.append(block)
    rows = spill.rows() if spill.height else pl.LazyFrame(schema={**schema, ROW: pl.UInt64()})
    return Table(rows, format, malformed=malformed_frame(malformed), height=spill.height, scratch=scratch)


@contextmanager
def _no_collection() -> Iterator[None]:
    """Records are many small objects without cycles: Python's collector would take half the time, and find nothing."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _note(malformed: list[tuple[int, str, str]], block: Block) -> None:
    malformed.extend(block.malformed)
    if len(malformed) > _MOST_MALFORMED:
        number, text, reason = malformed[-1]
        raise DataError(
            "TooManyMalformed",
            f"more than {_MOST_MALFORMED:,} records are malformed; the last: {reason}",
            hint="mend what writes the file",
            place=Place(row=number, text=shorten(text)),
        )


@dataclass(frozen=True)
class _Piece:
    """One block's rows in a temporary file, and the kinds of its columns; those of nothing but nulls are left out.

    In the file columns are named by their position: Arrow files do not keep every name that JSON may have.
    """

    path: Path
    kinds: Mapping[str, Kind]


class Spill:
    """Rows of blocks in temporary files, whose columns grow with the blocks: append them, then scan them all."""

    def __init__(self, scratch: Scratch) -> None:
        self._scratch = scratch
        self._pieces: list[_Piece] = []
        #: The kinds that keep every value appended so far, by column.
        self.kinds: dict[str, Kind] = {}
        #: How many rows were appended.
        self.height = 0

    def append(self, block: Block | Columns) -> None:
        """Write one block, whose row numbers follow those before.

        Raises:
            DataError: ``TooManyColumns``, ``ReservedColumn``.
        """
        if not block.numbers:
            return
        columns = {} if isinstance(block, Columns) else _columns(block.records)
        kinds = block.kinds if isinstance(block, Columns) else {name: kind_of(cells) for name, cells in columns.items()}
        for name, kind in kinds.items():
            self.kinds[name] = join(self.kinds.get(name, NULL), kind)
        checked_names(list(self.kinds))
        kinds = {name: self.kinds[name] for name in kinds if self.kinds[name] != NULL}
        if isinstance(block, Columns):
            series = [block.frame[name].alias(str(position)) for position, name in enumerate(kinds)]
        else:
            series = [column(str(position), columns[name], kind) for position, (name, kind) in enumerate(kinds.items())]
        frame = pl.DataFrame([*series, row_numbers(block.numbers)])
        path = self._scratch.file(".arrow")
        frame.write_ipc(path, compression="lz4")
        self._pieces.append(_Piece(path, kinds))
        self.height += frame.height

    def is_exact(self) -> bool:
        """Whether every piece can be read as the kinds of all without loss."""
        return all(_fits(piece, self.kinds) for piece in self._pieces)

    def clear(self) -> None:
        """Remove the rows; the kinds stay known, so that what is appended next is written as them."""
        for piece in self._pieces:
            piece.path.unlink()
        self._pieces, self.height = [], 0

    def rows(self) -> pl.LazyFrame:
        """All rows, at least one, with :data:`ROW`."""
        kinds = self.kinds or {VALUE: NULL}
        return pl.concat([_read(piece, kinds) for piece in self._pieces], how="vertical")


def _fits(piece: _Piece, kinds: Mapping[str, Kind]) -> bool:
    """Whether the piece can be read as the kinds without loss; the join has proved that numbers can."""
    numbers = (pl.Int64(), pl.UInt64(), pl.Float64())
    return all(
        type_of(kind) == type_of(kinds[name]) or (type_of(kind) in numbers and type_of(kinds[name]) in numbers)
        for name, kind in piece.kinds.items()
    )


def _read(piece: _Piece, kinds: Mapping[str, Kind]) -> pl.LazyFrame:
    places = {name: pl.col(str(place)) for place, name in enumerate(piece.kinds)}
    columns = [places.get(name, pl.lit(None)).cast(type_of(kind)).alias(name) for name, kind in kinds.items()]
    return pl.scan_ipc(piece.path, glob=False, hive_partitioning=False).select([*columns, pl.col(ROW)])
