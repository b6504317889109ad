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
from silversmith.formats.json.kinds import NULL, Kind, column, is_plain, join, kind_of, type_of
from silversmith.formats.json.parse import render, repeated_key
from silversmith.formats.table import ROW, Table, checked_names, malformed_frame, row_numbers, shorten

#: A record that is no object becomes a row with this one column; so do records that all are empty objects.
VALUE = "value"

#: How many cells a block of records may make. Text of a few megabytes has far fewer values: the rest would be nulls.
MOST_CELLS = 20_000_000

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


def frame_of(block: Block, wanted: Mapping[str, pl.DataType], *, few: int = FEW_CELLS) -> pl.DataFrame:
    """All records of a small file as rows, with :data:`ROW`. No records at all have the ``wanted`` columns.

    Up to ``few`` cells are taken record by record; what comes of it is the same.
    """
    if not block.records:
        return pl.DataFrame(schema={**wanted, ROW: pl.UInt64()})
    columns = _columns(block.records) or {VALUE: [None] * len(block.records)}
    checked_names(list(columns))
    kinds = {name: kind_of(values) for name, values in columns.items()}
    if len(columns) * len(block.records) <= few and all(map(is_plain, kinds.values())):
        schema = {name: type_of(kind) for name, kind in kinds.items()}
        return pl.from_dicts(block.records, schema=schema).insert_column(len(schema), row_numbers(block.numbers))
    made = [column(name, values, kinds[name]) for name, values in columns.items()]
    made.append(row_numbers(block.numbers))
    # an empty name would be taken for none where there is a list of columns; a list is faster
    return pl.DataFrame(made) if "" not in columns else pl.DataFrame({one.name: one for one in made})


@dataclass(frozen=True)
class _Piece:
    """One block's rows in a temporary file, and the kinds of its columns; those of nothing but nulls are left out.

    In the file columns are named by their place: Arrow files do not keep every name that JSON may have.
    """

    path: Path
    height: int
    kinds: Mapping[str, Kind]


def scan(
    format: str,  # noqa: A002
    blocks: Callable[[], Iterable[Block]],
    wanted: Mapping[str, pl.DataType],
    scratch: Scratch,
) -> Table:
    """The records of a large file as a table, with memory for one block at a time.

    Every block is written as columns of the kinds seen so far. Only when a later block has a kind that an earlier
    piece cannot be read as (words among numbers), all are read once more, with all kinds known.
    """
    kinds: dict[str, Kind] = {}
    malformed: list[tuple[int, str, str]] = []
    with _no_collection():
        pieces = list(_write(_noted(blocks(), malformed), kinds, scratch))
        if not all(_fits(piece, kinds) for piece in pieces):
            for piece in pieces:
                piece.path.unlink()
            pieces = list(_write(blocks(), kinds, scratch))
    checked_names(list(kinds))
    if pieces and not kinds:
        kinds[VALUE] = NULL
    rows = pl.LazyFrame(schema={**wanted, ROW: pl.UInt64()})
    if pieces:
        rows = pl.concat([_read(piece, kinds) for piece in pieces], how="vertical")
    height = sum(piece.height for piece in pieces)
    return Table(rows, format, malformed=malformed_frame(malformed), height=height, scratch=scratch)


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


def _noted(blocks: Iterable[Block], malformed: list[tuple[int, str, str]]) -> Iterator[Block]:
    for block in blocks:
        malformed.extend(block.malformed)
        if len(malformed) > _MOST_MALFORMED:
            number, text, reason = malformed[-1]
            raise DataError(
                "TooManyMalformed",
                f"more than {_MOST_MALFORMED:,} records are malformed; the last: {reason}",
                hint="mend what writes the file",
                place=Place(row=number, text=shorten(text)),
            )
        yield block


def _write(blocks: Iterable[Block], kinds: dict[str, Kind], scratch: Scratch) -> Iterator[_Piece]:
    """Write blocks as pieces; ``kinds`` grows to what keeps all of them."""
    for block in blocks:
        if not block.records:
            continue
        columns = _columns(block.records)
        for name, values in columns.items():
            kinds[name] = join(kinds.get(name, NULL), kind_of(values))
        checked_names(list(kinds))
        held = {name: kinds[name] for name in columns if kinds[name] != NULL}
        made = [column(str(place), columns[name], kind) for place, (name, kind) in enumerate(held.items())]
        path = scratch.file(".arrow")
        frame = pl.DataFrame([*made, row_numbers(block.numbers)])
        frame.write_ipc(path, compression="lz4")
        yield _Piece(path, frame.height, held)


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
