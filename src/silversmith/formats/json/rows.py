"""Records parsed from JSON as rows, block by block."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf
from typing import Any

import polars as pl

from silversmith.errors import DataError, Place
from silversmith.formats import text
from silversmith.formats.archives.content import Content
from silversmith.formats.json.columns import MOST_CELLS, Columns
from silversmith.formats.json.kinds import NULL, SCALARS, Kind, column, join, kind_of, type_of
from silversmith.formats.json.parse import render, repeated_key
from silversmith.formats.spill import Spill
from silversmith.formats.table import (
    LONGEST_MALFORMED,
    ROW,
    Table,
    check_malformed,
    checked_names,
    col,
    joined,
    malformed_frame,
    row_numbers,
    shorten,
)

#: A record that is no object becomes a row with this one column; so do records that all are empty objects.
VALUE = "value"


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
    if not doubtful and set(map(type, values)) == {dict}:
        return Block(values, range(first, first + len(values)), [])
    records: list[dict[str, Any]] = []
    numbers: list[int] = []
    malformed: list[tuple[int, str, str]] = []
    for number, value in enumerate(values, first):
        key = repeated_key(value) if doubtful else None
        if key is None:
            records.append(value if type(value) is dict else {VALUE: value})
            numbers.append(number)
        else:
            reason = f'the key "{shorten(key)}" stands twice in one object'
            malformed.append((number, shorten(render(value), LONGEST_MALFORMED), reason))
    return Block(records, numbers, malformed)


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


#: Makes the blocks of a file, from its beginning each time it is called. It may look at the kinds that columns have so
#: far, which grow with each block that is taken.
Blocks = Callable[[Mapping[str, Kind]], Iterable[Block | Columns]]


def table_of(
    blocks: Blocks, content: Content, schema: Mapping[str, pl.DataType], layout: str, name: str = "json"
) -> Table:
    """The records of a file as a table, with :data:`ROW`. Without records it has the columns of ``schema``.

    Of a file that is not in memory only one block is. Every block has the types that keep all values so far. If a later
    block needs other types (text, for words among numbers), all are read once more, with the types known.
    """
    kinds: dict[str, Kind] = {}
    with _no_collection():
        spill, malformed, dtypes = _spilled(blocks, kinds, content)
        if dtypes is None:
            spill, malformed, dtypes = _spilled(blocks, kinds, content)
    names = [*(kinds or [VALUE]), ROW]
    frame = spill.frame() if spill.height else pl.DataFrame(schema={**schema, ROW: pl.UInt64()})
    rows = spill.rows() if frame is None else frame.lazy()
    if spill.height and (frame is None or frame.columns != names):
        nulls = [pl.lit(None, pl.String).alias(name) for name in names[:-1] if name not in (dtypes or ())]
        rows = rows.with_columns(nulls).select(list(map(col, names)))
        frame = None if frame is None else rows.collect()
    return Table(
        rows if frame is None else frame.lazy(),
        name + content.packing,
        frame,
        malformed_frame(malformed),
        height=spill.height,
        dialect={**text.UTF8, "layout": layout},
        scratch=content.scratch,
    )


def _spilled(
    blocks: Blocks, kinds: dict[str, Kind], content: Content
) -> tuple[Spill, list[tuple[int, str, str]], dict[str, pl.DataType] | None]:
    """The rows of all blocks, the records that are none, and the types of the columns; None if they differ between
    blocks."""
    spill = Spill(content.scratch, in_memory=0 if content.data is None else inf)
    malformed: list[tuple[int, str, str]] = []
    dtypes: dict[str, pl.DataType] = {}
    differ = False
    for block in blocks(kinds):
        if isinstance(block, Block):
            malformed += block.malformed
            if malformed:
                number, record, reason = malformed[-1]
                check_malformed(
                    malformed,
                    reason,
                    "correct the program that writes the file",
                    Place(row=number, text=shorten(record)),
                )
        if block.numbers:
            frame = frame_of(block, kinds)
            schema = dict(zip(frame.columns[:-1], frame.dtypes, strict=False))
            differ = differ or any(dtypes[name] != schema[name] for name in dtypes.keys() & schema.keys())
            dtypes |= schema
            spill.add(frame)
    return spill, malformed, None if differ else dtypes


def frame_of(block: Block | Columns, kinds: dict[str, Kind]) -> pl.DataFrame:
    """The records of a block as rows, with :data:`ROW`, and types that keep its values and those of the ``kinds`` so
    far, which grow. Columns that have had nothing but nulls are left out.

    Raises:
        DataError: ``TooManyColumns``, ``ReservedColumn``.
    """
    columns = {} if isinstance(block, Columns) else _columns(block.records)
    own = block.kinds if isinstance(block, Columns) else {name: kind_of(cells) for name, cells in columns.items()}
    for name, kind in own.items():
        kinds[name] = join(kinds.get(name, NULL), kind)
    checked_names(list(kinds))
    numbers = row_numbers(block.numbers)
    if isinstance(block, Block) and own and SCALARS.issuperset([kinds[name].name for name in own]):
        # Polars takes objects as they are in half the time of columns, whose values it may have to be given converted.
        return pl.from_dicts(block.records, schema={name: type_of(kinds[name]) for name in own}).hstack([numbers])
    series = [
        block.frame[name] if isinstance(block, Columns) else column(name, columns[name], kinds[name])
        for name in own
        if kinds[name] is not NULL
    ]
    return joined([*series, numbers])


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
