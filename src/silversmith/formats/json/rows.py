"""Records parsed from JSON as rows, block by block; and lines of objects read as columns by Polars itself.

Polars reads such lines several times faster than Python makes objects of them. With a schema it refuses whatever does
not fit, apart from five things that it does in silence (measured with Polars 2.1; the tests pin them):

- of a repeated key it keeps one value, and a key that the schema lacks is dropped: the text then has more keys with a
  value than the columns have cells;
- numbers, booleans, lists and objects in a text column become text: the columns then have more texts than the file;
- an integer beyond 2**53 in a column of floats is rounded: the column then has a value of that size;
- half of a surrogate pair becomes NUL: the text is searched for it;
- a repeated key of which one value is null: the lines are read once more, with every null made visible.

The counts may be wrong only in the direction that refuses. Text is counted without being parsed: inside of a string
every quote has a backslash before it, so an unescaped quote begins or ends a string, and one before a colon ends a key
or begins a string that begins with a colon. The second makes a count of keys too high, which no cell can make up for.
"""

from __future__ import annotations

import gc
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf
from typing import Any

import polars as pl
from polars.exceptions import PanicException, PolarsError

from silversmith.errors import DataError, Place
from silversmith.formats import text
from silversmith.formats.archives.content import Content
from silversmith.formats.json.values import (
    BOOLEAN,
    FLOAT,
    NULL,
    SCALARS,
    WORDS,
    Kind,
    as_json,
    column,
    integers,
    join,
    kind_of,
    repeated_key,
    type_of,
)
from silversmith.formats.spill import MOST_CELLS, Spill
from silversmith.formats.table import (
    EXACT,
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


@dataclass(frozen=True)
class Columns:
    """The records of some lines: a column for each of the kinds they were read with, and the kinds they have.

    ``numbers`` says which of the file's records they are, from 1.
    """

    frame: pl.DataFrame
    kinds: Mapping[str, Kind]
    numbers: range


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
            malformed.append((number, shorten(as_json(value), LONGEST_MALFORMED), reason))
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


# Lines of objects as columns, by Polars.

#: Shorter text is read sooner without Polars.
LEAST_BYTES = 16 * 1024

#: After so many blocks in a row that were not exactly columns, the rest of a file is not tried.
_MOST_FAILURES = 3

_BETWEEN = re.compile(rb"\}[ \t\r]*,[ \t\r]*\{")
_BLANKS = (b" ", b"\t", b"\r")
_NULLS = (b'":null', b'": null')
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_PAIR = re.compile(rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}")


@dataclass
class _Tally:
    """Counts of the columns: values of keys, texts, and whether a float may be a rounded integer, or a text a list."""

    values: int = 0
    texts: int = 0
    rounded: bool = False


class ColumnReader:
    """Reads blocks of one file as columns of the kinds known so far, until that has failed too often."""

    def __init__(self, kinds: Mapping[str, Kind], *, least: int = LEAST_BYTES) -> None:
        self._kinds = kinds
        self._least = least
        self._failures = 0

    @property
    def is_idle(self) -> bool:
        """Whether nothing is tried: nothing is known yet, or it has failed too often."""
        return self._failures >= _MOST_FAILURES or not self._kinds

    def read(self, data: bytes, numbers: range) -> Columns | None:
        """As :func:`read_objects`."""
        if self.is_idle or len(data) < self._least:
            return None
        columns = read_objects(data, numbers, self._kinds)
        self._failures = self._failures + 1 if columns is None else 0
        return columns


def elements_as_lines(data: bytes) -> bytes:
    """The elements of an array, without its brackets, as lines of objects, where there can be objects only.

    What stands between the first two is taken to stand between all. A line end that stood in the data becomes a tab:
    both are blanks between values, and both are forbidden within a string. A cut in the wrong place, in a string or a
    list within an object, leaves two lines that are no JSON, and a cut too few leaves one.
    """
    data = data.replace(b"\n", b"\t")
    between = _BETWEEN.search(data)
    return data.replace(between[0], b"}\n{") if between else data


def read_objects(data: bytes, numbers: range, kinds: Mapping[str, Kind]) -> Columns | None:
    """The objects on the lines of ``data``, one for each number, if columns of the known ``kinds`` hold exactly them.

    None: they do not, or it cannot be proved; nothing is known then, not even whether the text is JSON.
    """
    if not kinds or len(numbers) * sum(map(_width, kinds.values())) > MOST_CELLS:
        return None
    counts = _count(data)
    if counts is None:
        return None
    keys, nulls, texts = counts
    frame = _parse(data, {name: type_of(kind) for name, kind in kinds.items()})
    if frame is None or frame.height != len(numbers):
        return None
    tally = _Tally()
    columns = {column.name: _examine(column, tally) for column in frame.get_columns()}
    if tally.rounded or (tally.values, tally.texts) != (keys - nulls, texts):
        return None
    if nulls and not _all_nulls_show(data, frame, kinds, nulls):
        return None
    return Columns(frame, columns, numbers)


def _width(kind: Kind) -> int:
    return 1 + sum(map(_width, kind.fields.values())) + (_width(kind.item) if kind.item else 0)


def _count(data: bytes) -> tuple[int, int, int] | None:
    """The numbers of keys, of keys with null, and of texts that are no keys; None: unknown."""
    escapes = b"\\" in data
    if escapes and not _pairs_are_whole(data):
        return None
    if any(blank in data and blank + b":" in data for blank in _BLANKS):
        data = data.translate(None, b"".join(_BLANKS))
    keys, quotes = data.count(b'":'), data.count(b'"')
    nulls = sum(map(data.count, _NULLS))
    if escapes and b'\\"' in data:
        if b'\\\\":' in data:  # a backslash may end the key, or escape the quote
            return None
        keys -= data.count(b'\\":')
        quotes -= data.count(b'\\"')
        nulls -= sum(data.count(b"\\" + null) for null in _NULLS)
    return keys, nulls, quotes // 2 - keys


def _pairs_are_whole(data: bytes) -> bool:
    """Whether every escaped surrogate is one of a pair. It may err towards False."""
    escaped = len(_SURROGATE.findall(data))
    return not escaped or (b"\\\\u" not in data and escaped == 2 * len(_PAIR.findall(data)))


def _parse(data: bytes, schema: Mapping[str, pl.DataType]) -> pl.DataFrame | None:
    try:
        return pl.read_ndjson(data, schema=dict(schema))
    except (PolarsError, PanicException):
        return None


def _examine(cells: pl.Series, tally: _Tally, *, keyed: bool = True) -> Kind:
    """The kind of some cells, which are the values of keys or the items of lists; the tally grows by them."""
    present = len(cells) - cells.null_count()
    tally.values += present if keyed else 0
    if not present:
        return NULL
    if isinstance(cells.dtype, pl.Struct):
        fields = cells.drop_nulls().struct.unnest().get_columns()
        return Kind("object", fields={field.name: _examine(field, tally) for field in fields})
    if isinstance(cells.dtype, pl.List):
        items = cells.drop_nulls().explode(empty_as_null=False)
        return Kind("list", item=_examine(items, tally, keyed=False))
    return _scalar(cells, present, tally)


def _scalar(cells: pl.Series, present: int, tally: _Tally) -> Kind:
    if cells.dtype == pl.String:
        tally.texts += present
        # a list of one text becomes one text, and counts like one
        tally.rounded = tally.rounded or bool(cells.str.starts_with("[").any())
        return WORDS
    if cells.dtype == pl.Boolean:
        return BOOLEAN
    low, high = cells.min(), cells.max()
    assert isinstance(low, int | float)
    assert isinstance(high, int | float)
    if cells.dtype == pl.Float64:
        tally.rounded = tally.rounded or not -EXACT < low <= high < EXACT
        return FLOAT
    return integers(int(low), int(high))


def _all_nulls_show(data: bytes, frame: pl.DataFrame, kinds: Mapping[str, Kind], nulls: int) -> bool:
    """Whether each null, made a number, becomes one more cell: it would not beside another value of the same key."""
    names: set[str] = set()
    for null in filter(data.__contains__, _NULLS):
        before = data.split(null)[:-1]
        names |= {text_before[text_before.rfind(b'"') + 1 :].decode("utf-8", "replace") for text_before in before}
        data = data.replace(null, null.replace(b"null", b"0"))
    schema = {name: _all_text(type_of(kind)) for name, kind in kinds.items() if names & _names(name, kind)}
    visible = _parse(data, schema) if schema else None
    if visible is None:
        return False
    cells, more = _Tally(), _Tally()
    for name in schema:
        _examine(frame[name], cells)
        _examine(visible[name], more)
    return more.values - cells.values == nulls


def _names(name: str, kind: Kind) -> set[str]:
    """A column's name and those of all fields in it."""
    nested = {**kind.fields, "": kind.item} if kind.item else kind.fields
    return {name}.union(*(_names(inner, item) for inner, item in nested.items() if item))


def _all_text(dtype: pl.DataType) -> pl.DataType:
    """The type with text for all that is neither a list nor an object: text takes any value."""
    if isinstance(dtype, pl.Struct):
        return pl.Struct({field.name: _all_text(field.dtype) for field in dtype.fields})  # type: ignore[arg-type]
    return pl.List(_all_text(dtype.inner)) if isinstance(dtype, pl.List) else pl.String()  # type: ignore[arg-type]
