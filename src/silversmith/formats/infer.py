"""The types of text columns, inferred without loss: a column is no text only if every cell comes back as it was.

So "00501" stays text, 12 becomes an integer, and one "n/a" far down a column of numbers leaves all of it text rather
than making a null of it. The rules are written twice: over lists of cells, for small files, where starting Polars costs
more than the work; and as Polars expressions, for large ones. Contracts cast with the same parsers of days and times.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from functools import partial
from typing import NamedTuple

import polars as pl

from silversmith.formats.table import col, joined

UTC = pl.Datetime("us", "UTC")
NAIVE = pl.Datetime("us")

#: What a column can be besides text, in the order in which it is tried.
TYPES: tuple[pl.DataType, ...] = (pl.Int64(), pl.Float64(), pl.Boolean(), pl.Date(), NAIVE, UTC)

#: A day, and a time of the day with a number of fractional digits, as the regular expressions of Python and Polars.
DATE = r"(?:000[1-9]|00[1-9][0-9]|0[1-9][0-9]{2}|[1-9][0-9]{3})-[0-9]{2}-[0-9]{2}"
CLOCK = r"(?:[01][0-9]|2[0-3]):[0-5][0-9](?::[0-5][0-9](?:\.[0-9]{1,%s})?)?"

DATE_PATTERN = f"^{DATE}$"
_FLOAT_PATTERN = r"^-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-][0-9]+)?$"
_NAIVE_PATTERN = f"^{DATE}[T ]{CLOCK % 6}$"
_UTC_PATTERN = f"^{DATE}[T ]{CLOCK % 6}(?:Z|\\+00:00)$"

#: Words for true and false: a column keeps to one way of writing them, or stays text.
BOOLEANS = (("true", "false"), ("True", "False"), ("TRUE", "FALSE"))

#: Cells up to this long, without an exponent, have at most 15 digits, which a Float64 always gives back.
_SURE_DIGITS = 15

_SAMPLE = 1000

#: Polars takes quadratic time to plan for many columns: a wide table is proven so many columns at a time, or by lists.
_AT_ONCE = 100
_WIDE = 40

#: Up to so many cells, lists are typed sooner than Polars has started.
_FEW_CELLS = 5_000


def typed(
    rows: pl.LazyFrame, frame: pl.DataFrame | None, names: Sequence[str], *, decimal_comma: bool = False
) -> tuple[pl.LazyFrame, pl.DataFrame | None]:
    """The rows with the types of these text columns inferred. ``frame`` holds the same rows, if they are in memory."""
    if not names:
        return rows, frame
    if frame is not None and (frame.height * len(names) <= _FEW_CELLS or len(names) > _WIDE):
        columns = {cells.name: cells for cells in frame.get_columns()}
        columns |= {name: column(columns[name], decimal_comma=decimal_comma) for name in names}
        frame = joined(columns.values())
        return frame.lazy(), frame
    dtypes = types(rows, names, decimal_comma=decimal_comma)
    rows = rows.with_columns(casts(dtypes, decimal_comma=decimal_comma))
    frame = None if frame is None else rows.collect(engine="in-memory")
    return rows if frame is None else frame.lazy(), frame


# Small files: over lists.


def column(texts: pl.Series, *, decimal_comma: bool = False) -> pl.Series:
    """Text as a column of the type that keeps every cell. Same rules as :func:`types`.

    It keeps to lists and direct casts: a Polars expression would cost more than all the rest for a small file.
    """
    cells = [cell for cell in texts.to_list() if cell is not None]
    first = cells[0][:1] if cells else ""
    if first and first in "-0123456789":
        floats: _Parser = partial(_floats, cells=cells, decimal_comma=decimal_comma)
        values = (parse(texts) for parse in (_integers, floats, *_TIME_PARSERS))
        return next((column for column in values if column is not None), texts)
    if first and first in "tfTF" and any(set(cells) <= set(words) for words in BOOLEANS):
        return pl.Series(texts.name, [None if cell is None else cell[0] in "tT" for cell in texts], dtype=pl.Boolean)
    return texts


def _integers(texts: pl.Series) -> pl.Series | None:
    integers = texts.cast(pl.Int64, strict=False)
    return integers if integers.cast(pl.String).equals(texts) else None


def _floats(texts: pl.Series, cells: list[str], *, decimal_comma: bool) -> pl.Series | None:
    """Text as floats; None if one of the ``cells``, which are those that are not null, is none, or more exact."""
    if decimal_comma:
        if any("." in cell for cell in cells):
            return None
        cells = [cell.replace(",", ".") for cell in cells]
        texts = texts.str.replace(",", ".", literal=True)
    if not all(map(re.compile(_FLOAT_PATTERN).fullmatch, cells)):
        return None
    floats = texts.cast(pl.Float64)
    if floats.cast(pl.String).equals(texts):
        return floats
    unsure = [cell for cell in cells if len(cell) > _SURE_DIGITS or "e" in cell or "E" in cell]
    return floats if all(digits(cell) == digits(repr(float(cell))) for cell in unsure) else None


def digits(number: str) -> str:
    """The significant digits of a number, which a float must give back. ``-0.0120e5`` has ``12``."""
    return re.sub(r"[eE].*|[-.]", "", number).strip("0")


def dates(texts: pl.Series) -> pl.Series | None:
    """Text as days; None if a cell is no day as we write it: Python reads other forms of ISO 8601, too."""
    try:
        days = [None if cell is None else date.fromisoformat(cell) for cell in texts.to_list()]
    except ValueError:
        return None
    column = pl.Series(texts.name, days, dtype=pl.Date)
    return column if column.cast(pl.String).equals(texts) else None


def times(texts: pl.Series, pattern: str = _NAIVE_PATTERN, dtype: pl.DataType = NAIVE) -> pl.Series | None:
    """Text as times; None if a cell is none."""
    cells, matches = texts.to_list(), re.compile(pattern).fullmatch
    if not all(cell is None or matches(cell) for cell in cells):
        return None
    try:
        moments = [None if cell is None else datetime.fromisoformat(cell) for cell in cells]
    except ValueError:
        return None
    return pl.Series(texts.name, moments, dtype=dtype)


_Parser = Callable[[pl.Series], pl.Series | None]
_TIME_PARSERS: tuple[_Parser, ...] = (dates, times, partial(times, pattern=_UTC_PATTERN, dtype=UTC))


# Large files: as expressions.


class _Candidate(NamedTuple):
    """A type that a column may have.

    ``proof`` makes an expression of its cells that are not null: whether all of them are of the type. Where a frame
    answers no, ``last_proof``, which takes longer, has the last word, if there is one.
    """

    dtype: pl.DataType
    proof: Callable[[pl.Expr], pl.Expr]
    last_proof: Callable[[pl.Expr], pl.Expr] | None = None


def types(rows: pl.LazyFrame, names: Sequence[str], *, decimal_comma: bool = False) -> dict[str, pl.DataType]:
    """The types of text columns that are anything but text, in one streaming pass over all rows."""
    typing = Typing(names, decimal_comma=decimal_comma)
    for frame in rows.select(list(map(col, names))).collect_batches(engine="streaming"):
        typing.add(frame)
    return typing.dtypes()


class Typing:
    """Infers the types of text columns, frame by frame.

    The first rows show which types to prove for each column; a column that is text there is not looked at again.

    Args:
        names: of the columns.
        decimal_comma: ``1,5`` means one and a half.
    """

    def __init__(self, names: Sequence[str], *, decimal_comma: bool = False) -> None:
        self._decimal_comma = decimal_comma
        self._possible: dict[str, list[_Candidate]] | None = None
        self._names = names
        self._with_values: set[str] = set()

    def add(self, rows: pl.DataFrame) -> None:
        """Look at the next rows."""
        if self._possible is None:
            sample = rows.head(_SAMPLE)
            self._possible = {name: self._candidates(sample.get_column(name)) for name in self._names}
        columns = [cells for cells in rows.get_columns() if self._possible.get(cells.name)]
        for start in range(0, len(columns), _AT_ONCE):
            self._prove(joined(columns[start : start + _AT_ONCE]))

    def dtypes(self) -> dict[str, pl.DataType]:
        """The types of all columns that are anything but text in the rows so far."""
        return {
            name: candidates[0].dtype
            for name, candidates in (self._possible or {}).items()
            if candidates and name in self._with_values
        }

    def _prove(self, rows: pl.DataFrame) -> None:
        """Drop the candidates that a cell disproves."""
        assert self._possible is not None
        possible = {name: self._possible[name] for name in rows.columns}
        answers = iter(_answers(rows, [(name, each.proof) for name, some in possible.items() for each in some]))
        proven = {name: [next(answers) for _ in some] for name, some in possible.items()}
        doubtful = []
        for name, some in possible.items():
            if [each.dtype for each in some] == _NUMBERS:
                proven[name][1] &= proven[name][0]  # short integers are floats
            doubtful += [
                (name, place, each.last_proof)
                for place, each in enumerate(some)
                if each.last_proof and not proven[name][place]
            ]
        last_answers = _answers(rows, [(name, proof) for name, _, proof in doubtful])
        for (name, place, _), answer in zip(doubtful, last_answers, strict=True):
            proven[name][place] = answer
        for name, some in possible.items():
            left = [each for each, is_proven in zip(some, proven[name], strict=True) if is_proven]
            if left and left[0].proof is _are_short:  # these are integers no more
                left = self._candidates_of(pl.Float64())
            self._possible[name] = left
        self._with_values |= {cells.name for cells in rows.get_columns() if cells.null_count() < len(cells)}

    def _candidates(self, sample: pl.Series) -> list[_Candidate]:
        dtype = column(sample, decimal_comma=self._decimal_comma).dtype
        if sample.null_count() == len(sample):
            return [candidate for dtype in TYPES for candidate in self._candidates_of(dtype)]
        if dtype == pl.Int64():
            last = partial(_all_are_floats, decimal_comma=self._decimal_comma)
            return [*self._candidates_of(pl.Int64()), _Candidate(pl.Float64(), _are_short, last)]
        return self._candidates_of(dtype) if dtype != pl.String() else []

    def _candidates_of(self, dtype: pl.DataType) -> list[_Candidate]:
        """Each way to write the type: a column keeps to one of them."""
        proofs: list[Callable[[pl.Expr], pl.Expr]]
        if dtype == pl.Float64():
            sure = partial(_are_sure_floats, decimal_comma=self._decimal_comma)
            return [_Candidate(dtype, sure, partial(_all_are_floats, decimal_comma=self._decimal_comma))]
        if dtype == pl.Int64():
            proofs = [lambda cells: cells.cast(pl.Int64, strict=False).cast(pl.String).eq_missing(cells).all()]
        elif dtype == pl.Boolean():
            proofs = [partial(_all_are_words, words=words) for words in BOOLEANS]
        elif dtype == pl.Date():
            proofs = [lambda cells: (cells.str.contains(DATE_PATTERN) & parse_date(cells).is_not_null()).all()]
        else:
            pattern, zone = (_NAIVE_PATTERN, None) if dtype == NAIVE else (_UTC_PATTERN, "UTC")
            proofs = [lambda cells: (cells.str.contains(pattern) & parse_time(cells, "us", zone).is_not_null()).all()]
        return [_Candidate(dtype, proof) for proof in proofs]


#: The candidates of a column whose first cells are integers.
_NUMBERS = [pl.Int64(), pl.Float64()]


def _answers(rows: pl.DataFrame, proofs: Sequence[tuple[str, Callable[[pl.Expr], pl.Expr]]]) -> list[bool]:
    expressions = [proof(col(name).drop_nulls()).alias(f"{place}") for place, (name, proof) in enumerate(proofs)]
    return list(rows.select(expressions).row(0)) if expressions else []


def _are_short(cells: pl.Expr) -> pl.Expr:
    return (cells.str.len_bytes() <= _SURE_DIGITS).all()


def _all_are_words(cells: pl.Expr, words: Sequence[str]) -> pl.Expr:
    return cells.is_in(words).all()


def _are_sure_floats(cells: pl.Expr, *, decimal_comma: bool) -> pl.Expr:
    """Whether all are floats that are short, or written as Polars writes them."""
    plain = with_point(cells) if decimal_comma else cells
    is_short = (plain.str.len_bytes() <= _SURE_DIGITS) & ~plain.str.contains("[eE]")
    is_same = plain.cast(pl.Float64, strict=False).cast(pl.String).eq_missing(plain)
    return (plain.str.contains(_FLOAT_PATTERN).fill_null(value=False) & (is_short | is_same)).all()


def _all_are_floats(cells: pl.Expr, *, decimal_comma: bool) -> pl.Expr:
    plain = with_point(cells) if decimal_comma else cells
    unsure = plain.filter((plain.str.len_bytes() > _SURE_DIGITS) | plain.str.contains("[eE]"))
    back = unsure.cast(pl.Float64, strict=False).cast(pl.String)
    return (
        plain.str.contains(_FLOAT_PATTERN).fill_null(value=False).all()
        & _digits(unsure).eq_missing(_digits(back)).all()
    )


def _digits(numbers: pl.Expr) -> pl.Expr:
    return numbers.str.replace_all(r"[eE].*|[-.]", "").str.strip_chars("0")


def with_point(cells: pl.Expr) -> pl.Expr:
    """Numbers with a decimal point in place of the comma; null if there is a point already."""
    return pl.when(~cells.str.contains(".", literal=True)).then(cells.str.replace(",", ".", literal=True))


def parse_date(cells: pl.Expr) -> pl.Expr:
    """Text of :data:`DATE_PATTERN` as dates; null if there is no such day."""
    return cells.str.to_date("%Y-%m-%d", strict=False, cache=False)


def parse_time(cells: pl.Expr, unit: str, zone: str | None) -> pl.Expr:
    """ISO 8601 text as times; null if it is none. With a ``zone``, text must end with an offset or ``Z``.

    Seconds may be left out; a space may stand for the T.
    """
    spaced = cells.str.replace("T", " ", literal=True)
    ending = "" if zone is None else "%#z"
    spaced = spaced.str.replace(r"^([0-9-]+ [0-9]{2}:[0-9]{2})($|[Z+-])", "${1}:00${2}")
    return spaced.str.to_datetime(
        f"%Y-%m-%d %H:%M:%S%.f{ending}",
        strict=False,
        time_unit=unit,  # type: ignore[arg-type]
        time_zone=zone,
    )


def casts(dtypes: Mapping[str, pl.DataType], *, decimal_comma: bool = False) -> list[pl.Expr]:
    """The expressions that cast text columns to the types that :func:`types` returns."""
    return [_cast(col(name), dtype, decimal_comma=decimal_comma) for name, dtype in dtypes.items()]


def _cast(cells: pl.Expr, dtype: pl.DataType, *, decimal_comma: bool) -> pl.Expr:
    if dtype == pl.Boolean():
        return cells.is_in([words[0] for words in BOOLEANS])
    if dtype == pl.Date():
        return parse_date(cells)
    if dtype in (NAIVE, UTC):
        return parse_time(cells, "us", "UTC" if dtype == UTC else None)
    return (with_point(cells) if decimal_comma else cells).cast(dtype)


def without_marks(cells: pl.Expr, thousands: str, *, decimal_comma: bool) -> pl.Expr:
    """Text without the marks between groups of three digits, if it is a number with such groups."""
    point = "," if decimal_comma else r"\."
    grouped = rf"^-?[1-9][0-9]{{0,2}}(?:{re.escape(thousands)}[0-9]{{3}})+(?:{point}[0-9]+)?$"
    return (
        pl.when(cells.str.contains(grouped)).then(cells.str.replace_all(thousands, "", literal=True)).otherwise(cells)
    )
