"""Lines of JSON objects as columns, read by Polars, and taken only where counts prove that every value arrived.

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

import re
from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl
from polars.exceptions import PanicException, PolarsError

from silversmith.formats.json.kinds import BOOLEAN, FLOAT, NULL, WORDS, Kind, integers, type_of
from silversmith.formats.table import EXACT

#: How many cells the lines may make. Text of a few megabytes has far fewer values: the rest would be nulls.
MOST_CELLS = 20_000_000

#: Shorter text is read sooner without Polars.
LEAST_BYTES = 16 * 1024

#: After so many blocks in a row that were not exactly columns, the rest of a file is not tried.
_MOST_FAILURES = 3

_BETWEEN = re.compile(rb"\}[ \t\r]*,[ \t\r]*\{")
_BLANKS = (b" ", b"\t", b"\r")
_NULLS = (b'":null', b'": null')
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_PAIR = re.compile(rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}")


@dataclass(frozen=True)
class Columns:
    """The records of some lines: a column for each of the kinds they were read with, and the kinds they have.

    ``numbers`` says which of the file's records they are, from 1.
    """

    frame: pl.DataFrame
    kinds: Mapping[str, Kind]
    numbers: range


@dataclass
class _Tally:
    """Counts of the columns: values of keys, texts, and whether a float may be an integer that was rounded."""

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
    nulls = sum(data.count(text) for text in _NULLS)
    if escapes and b'\\"' in data:
        if b'\\\\":' in data:  # a backslash may end the key, or escape the quote
            return None
        keys -= data.count(b'\\":')
        quotes -= data.count(b'\\"')
        nulls -= sum(data.count(b"\\" + text) for text in _NULLS)
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
    for text in filter(data.__contains__, _NULLS):
        before = data.split(text)[:-1]
        names |= {text_before[text_before.rfind(b'"') + 1 :].decode("utf-8", "replace") for text_before in before}
        data = data.replace(text, text.replace(b"null", b"0"))
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
