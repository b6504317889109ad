"""The notation of the days and times of a column: formats such as ``%d.%m.%Y``, read exactly.

Polars' own parser takes more than a format says: ``31.01.26`` as a day of the year 26, ``130`` as 13:00. So a regular
expression, made of the same format, shows that each part has as many digits as it should have.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from silversmith.errors import DefinitionError

#: The directives, as Python's strptime has them: what each is, and the text that it takes. ``%b`` knows English only.
#: https://docs.rs/chrono/latest/chrono/format/strftime/index.html
_NUMBERS = {"d": "day", "m": "month", "H": "hour", "I": "hour of 12", "M": "minute", "S": "second"}
_OTHERS = {
    "Y": ("year", "[0-9]{4}"),
    "y": ("year", "[0-9]{2}"),
    "j": ("day of the year", "[0-9]{3}"),
    "b": ("month", "[A-Za-z]{3}"),
    "B": ("month", "[A-Za-z]+"),
    "a": ("weekday", "[A-Za-z]{3}"),
    "A": ("weekday", "[A-Za-z]+"),
    "p": ("half", "[AaPp][Mm]"),
    "z": ("offset", "(?:Z|[+-][0-9]{2}:?[0-9]{2})"),
    "f": ("fraction", ""),
}
_SHORT = {"F": "%Y-%m-%d", "T": "%H:%M:%S", "R": "%H:%M"}
_KNOWN = " ".join(f"%{sign}" for sign in (*_NUMBERS, *_OTHERS, *_SHORT))
_CLOCK = {"hour", "hour of 12", "minute", "second", "half", "fraction", "offset"}
_FRACTIONS = {"ms": 3, "us": 6, "ns": 9}


@dataclass(frozen=True)
class TimeFormat:
    """One format: ``pattern`` is the shape of its texts, ``directives`` are Polars', ``parts`` what it tells."""

    text: str
    pattern: str
    directives: str
    parts: frozenset[str]


@dataclass(frozen=True)
class Notation:
    """The formats of one column, of which the first that fits a cell is taken."""

    formats: tuple[TimeFormat, ...]

    def __str__(self) -> str:
        return " or ".join(each.text for each in self.formats)

    def parse(self, text: pl.Expr, target: pl.DataType) -> pl.Expr:
        """Text as days or times; null where no format fits, or there is no such day."""
        return pl.coalesce(_parsed(text, each, target) for each in self.formats)

    def written(self, values: pl.Expr) -> pl.Expr:
        """Days or times as text in the first format."""
        return values.dt.to_string(self.formats[0].text)


def _parsed(text: pl.Expr, written: TimeFormat, target: pl.DataType) -> pl.Expr:
    shaped = pl.when(text.str.contains(written.pattern)).then(text)
    directives = written.directives
    if target == pl.Time:
        return shaped.str.to_time(directives, strict=False, cache=False)
    if target == pl.Date and not written.parts & _CLOCK:
        return shaped.str.to_date(directives, strict=False, cache=False)
    unit, zone = (target.time_unit, target.time_zone) if isinstance(target, pl.Datetime) else ("us", None)
    if "offset" in written.parts:
        moment = shaped.str.to_datetime(directives, strict=False, cache=False, time_unit=unit, time_zone="UTC")
        return moment.dt.convert_time_zone(zone or "UTC")
    local = shaped.str.to_datetime(directives, strict=False, cache=False, time_unit=unit)
    if target == pl.Date:
        return pl.when(local == local.dt.truncate("1d")).then(local.dt.date())
    return local if zone is None else local.dt.replace_time_zone(zone, ambiguous="null", non_existent="null")


def notations(columns: Mapping[str, Any], dtypes: Mapping[str, pl.DataType]) -> dict[str, Notation]:
    """By column, how it is written.

    Raises:
        DefinitionError: a format cannot be read, or says too little or too much for the column's type.
    """
    return {name: _notation(name, written, dtypes[name]) for name, written in columns.items()}


def _notation(name: str, written: Any, dtype: pl.DataType) -> Notation:
    if dtype.base_type() not in (pl.Date, pl.Datetime, pl.Time):
        raise DefinitionError(f"formats: {name!r} is {dtype}; only pl.Date, pl.Datetime and pl.Time have formats")
    texts = [written] if isinstance(written, str) else written
    if not isinstance(texts, Sequence) or not texts or not all(isinstance(text, str) for text in texts):
        raise DefinitionError(f"formats: {name!r} has {written!r}; give a format such as '%d.%m.%Y', or a list of them")
    unit = dtype.time_unit if isinstance(dtype, pl.Datetime) else "ns"
    formats = tuple(_format(name, text, _FRACTIONS[unit]) for text in texts)
    for each in formats:
        if problem := _problem(each.parts, dtype):
            raise DefinitionError(f"formats: {name!r} is {dtype}, and {each.text!r} {problem}")
    return Notation(formats)


def _format(name: str, text: str, digits: int) -> TimeFormat:
    expanded = re.sub("%([FTR])", lambda short: _SHORT[short[1]], text)
    pieces = re.findall(r"%.?|[^%]+", expanded, re.DOTALL)
    pattern, directives, parts = "", "", []
    for place, piece in enumerate(pieces):
        sign = piece[1:]
        if piece[0] != "%" or sign == "%":
            pattern += re.escape("%" if sign == "%" else piece)
            directives += piece
        elif sign in _NUMBERS:
            beside = pieces[max(0, place - 1) : place] + pieces[place + 1 : place + 2]
            pattern += "[0-9]{2}" if any(map(_is_digits, beside)) else "[0-9]{1,2}"
            directives += piece
            parts.append(_NUMBERS[sign])
        elif sign in _OTHERS:
            part, shape = _OTHERS[sign]
            if sign == "f" and not directives.endswith("."):
                raise DefinitionError(f"formats: {name!r} has {text!r}; a fraction follows a point: %S.%f")
            pattern += f"[0-9]{{1,{digits}}}0*" if sign == "f" else shape
            directives = f"{directives[:-1]}%.f" if sign == "f" else directives + ("%#z" if sign == "z" else piece)
            parts.append(part)
        else:
            raise DefinitionError(f"formats: {name!r} has {text!r} with {piece!r}; there are {_KNOWN} and %%")
    twice = next((part for part in parts if parts.count(part) > 1), None)
    if twice is not None:
        raise DefinitionError(f"formats: {name!r} has {text!r}, which names the {twice} twice")
    return TimeFormat(text, f"^{pattern}$", directives, frozenset(parts))


def _is_digits(piece: str) -> bool:
    return piece[0] == "%" and (piece[1:] in _NUMBERS or piece[1:] in {"Y", "y", "j"})


def _problem(parts: frozenset[str], dtype: pl.DataType) -> str:
    """Why a format cannot be one of the type; empty if it can."""
    missing = [part for part in ("year", "month", "day") if part not in parts]
    if dtype != pl.Time and missing and not {"year", "day of the year"} <= parts:
        return f"tells no {' and no '.join(missing)}"
    clock = parts & _CLOCK
    is_hour = "hour" in parts or {"hour of 12", "half"} <= parts
    if (clock or dtype == pl.Time) and not (is_hour and "minute" in parts):
        return "tells no hour and minute: %H:%M, or %I:%M %p"
    if dtype == pl.Time and parts - _CLOCK:
        return "tells a day, which no time of the day has; make the column pl.Datetime"
    if "offset" in parts and not (isinstance(dtype, pl.Datetime) and dtype.time_zone):
        return "has an offset (%z), which only a type with a zone can hold: pl.Datetime('us', 'UTC')"
    return ""
