"""The result of every reader: rows, how the file is written, and the records that are no rows."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache

import polars as pl
from polars import selectors

from silversmith.errors import DataError, Place
from silversmith.formats.archives.content import Scratch

#: The column that readers add: the number of the record in its file, from 1 (a header is no record). UInt64.
ROW = "__row__"

#: The columns of :attr:`Table.malformed`.
MALFORMED = {ROW: pl.UInt64, "text": pl.String, "reason": pl.String}

#: The most columns that a text format may have. Beyond it, what looks like names is nearly always data.
MOST_COLUMNS = 20_000

#: Signs that nobody sees: the soft hyphen, spaces of no width, the byte order mark, and those that change direction.
#: The joiners U+200C and U+200D change letters within a word, and are nothing around it.
_INVISIBLE = re.compile("[\u00ad\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff]")
_SPACES = re.compile("[\u00a0\u2007\u202f]")
_ENDS = "".join(map(chr, filter(lambda point: chr(point).isspace(), range(0x3001)))) + "\u200c\u200d"

#: Integers up to this one, and down to its negative, are exact as Float64.
EXACT = 2**53

#: Offending text in errors and reasons is cut after this many characters.
LONGEST_TEXT = 100

#: How many malformed records one file may have, and how many characters of each are kept.
MOST_MALFORMED = 100_000
LONGEST_MALFORMED = 10_000


#: The numbers up to this one are made once.
_FEW = 10_000


@dataclass(frozen=True, eq=False)
class Table:
    """The rows of one bronze object.

    ``rows`` has every column of the data, and :data:`ROW`. ``format`` is the reader's name, with ``+gzip`` if it was
    compressed. ``frame`` holds the same rows if they are in memory already. ``malformed`` holds the records that
    cannot be rows (a CSV record with too many fields), with their text and the reason: they are rejected, never lost.
    ``height`` is the number of rows, known without another pass. ``decimal_comma``: ``1,5`` in a text column means one
    and a half. ``typed``: the file or its reader states the types; they are not inferred. ``dialect`` says how the file
    is written, for people to see. ``row_bytes`` is how many bytes a row takes, where the file says so, else 0.
    ``origins`` finds lines and texts of records again, by their numbers; None: the file is no text, or has no lines.

    Temporary files that ``rows`` reads live as long as this object does: keep it until everything is collected.
    """

    rows: pl.LazyFrame
    format: str
    frame: pl.DataFrame | None = None
    malformed: pl.DataFrame | None = None
    decimal_comma: bool = False
    height: int | None = None
    typed: bool = False
    dialect: Mapping[str, object] = field(default_factory=dict)
    scratch: Scratch | None = field(default=None, repr=False)
    row_bytes: int = 0
    origins: Callable[[Collection[int]], Mapping[int, tuple[int, str]]] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.height is None and self.frame is not None:
            object.__setattr__(self, "height", self.frame.height)

    @property
    def records(self) -> int:
        """The number of records of the file: rows, and malformed ones."""
        assert self.height is not None, "a reader that streams says how many rows there are"
        return self.height + (0 if self.malformed is None else self.malformed.height)

    @property
    def in_memory(self) -> bool:
        """Whether the rows are parsed already: then small steps are faster at once than planned."""
        return self.frame is not None


def function_memory() -> int | None:
    """The memory of this function, on Lambda or here, in bytes; None where no function runs.

    https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html
    """
    return int(os.environ.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "0")) * 1024 * 1024 or None


def col(name: str) -> pl.Expr:
    """The column of exactly that name: ``pl.col`` takes ``*`` and ``^…$`` for patterns, and data has such names."""
    return selectors.by_name(name).as_expr() if name == "*" or name.startswith("^") else pl.col(name)


def shorten(text: str, length: int = LONGEST_TEXT) -> str:
    """Text for an error: cut after ``length`` characters, with an ellipsis where it was."""
    return text if len(text) <= length else text[:length] + "…"


def clean_name(name: str) -> str:
    """A column's name as a person sees it: no blanks around it, no signs of no width, and ordinary spaces."""
    if name.isascii():
        return name.strip()
    return _INVISIBLE.sub("", _SPACES.sub(" ", name)).strip(_ENDS)


def with_clean_names(table: Table, declared: Collection[str]) -> Table:
    """The table with :func:`clean_name` of each column, unless the name as it is is declared, or the clean one is
    another's. What was cleaned stands in the dialect."""
    names = table.rows.collect_schema().names() if table.frame is None else table.frame.columns
    clean = {name: label for name in names if name not in declared and (label := clean_name(name)) != name}
    if not clean:
        return table
    times = Counter([*names, *clean.values()])
    renamed = {name: label for name, label in clean.items() if label and times[label] == 1}
    if not renamed:
        return table
    return replace(
        table,
        rows=table.rows.rename(renamed),
        frame=None if table.frame is None else table.frame.rename(renamed),
        dialect={**table.dialect, "renamed": {label: name for name, label in renamed.items()}},
    )


def checked_names(names: Sequence[str], *, line: int | None = None) -> list[str]:
    """The names of columns, which are unique, few enough, and none of them :data:`ROW`.

    Raises:
        DataError: ``DuplicateColumns``, ``ReservedColumn`` or ``TooManyColumns``.
    """
    if len(names) > MOST_COLUMNS:
        raise DataError(
            "TooManyColumns",
            f"the data has {len(names):,} columns, more than {MOST_COLUMNS:,}",
            hint="a table this wide was usually written sideways, or its keys are data: make them rows",
            place=Place(line=line),
        )
    if len(set(names)) != len(names):
        name = next(name for name, times in Counter(names).items() if times > 1)
        positions = [str(position) for position, same in enumerate(names, 1) if same == name]
        raise DataError(
            "DuplicateColumns",
            f'{len(positions)} columns have the name "{shorten(name)}": numbers {", ".join(positions[:8])}',
            hint="give each column its own name, or name them all in the reader: Csv(columns=[…])",
            place=Place(line=line, column=name),
        )
    if ROW in names:
        raise DataError(
            "ReservedColumn",
            f'a column has the name "{ROW}", which Silversmith keeps the number of the record in',
            hint="rename the column in the data",
            place=Place(line=line, column=ROW),
        )
    return list(names)


def with_fields(table: Table) -> Table:
    """The table, if no column of it has a struct without fields: no Parquet file can hold one.

    Raises:
        DataError: ``EmptyStruct``.
    """
    for name, dtype in table.rows.collect_schema().items():
        if _is_hollow(dtype):
            raise DataError(
                "EmptyStruct",
                f'the column "{shorten(name)}" is {shorten(str(dtype))}: a struct without fields, which Parquet '
                "has not",
                hint="write the file without that column, or with a field in it",
                place=Place(column=name),
            )
    return table


def _is_hollow(dtype: pl.DataType) -> bool:
    if isinstance(dtype, pl.Struct):
        return not dtype.fields or any(_is_hollow(inner.dtype) for inner in dtype.fields)  # type: ignore[arg-type]
    return isinstance(dtype, pl.List | pl.Array) and _is_hollow(dtype.inner)  # type: ignore[arg-type]


def joined(columns: Iterable[pl.Series]) -> pl.DataFrame:
    """Columns, one at least, as a frame: sooner than ``pl.DataFrame``, which takes an empty name for none."""
    first, *others = columns
    return first.to_frame().hstack(others)


def row_numbers(numbers: Sequence[int]) -> pl.Series:
    """The column :data:`ROW` of a frame."""
    if not isinstance(numbers, range):
        return pl.Series(ROW, numbers, dtype=pl.UInt64)
    if numbers.start == 1 and numbers.stop <= _FEW:
        return _first_numbers().head(len(numbers))
    return pl.int_range(numbers.start, numbers.stop, dtype=pl.UInt64, eager=True).alias(ROW)


@cache
def _first_numbers() -> pl.Series:
    """The rows of small files have the same numbers: to make them costs 14 of the 700 us that such a file takes."""
    return row_numbers(range(1, _FEW + 1))


def malformed_frame(records: Sequence[tuple[int, str, str]]) -> pl.DataFrame | None:
    """Records that are no rows as :attr:`Table.malformed`: (number of the record, its text, the reason)."""
    return pl.DataFrame(records, schema=MALFORMED, orient="row") if records else None


def check_malformed(
    malformed: Sequence[tuple[int, str, str]], reason: str, hint: str, place: Place, *, too_long: bool = False
) -> None:
    """Refuse a file with too many malformed records, or too much text of them. ``reason`` is that of the last one.

    Raises:
        DataError: ``TooManyMalformed``.
    """
    if too_long or len(malformed) > MOST_MALFORMED:
        raise DataError(
            "TooManyMalformed",
            f"more than {len(malformed) - 1:,} records are malformed; the last: {reason}",
            hint=hint,
            place=place,
        )
