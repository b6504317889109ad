"""What a contract demands of single cells beyond their type: allowed values, ranges, patterns. Null breaks none."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from silversmith import casting, terms
from silversmith.errors import DefinitionError
from silversmith.formats.table import col, shorten

_SHOWN = 8


@dataclass(frozen=True)
class Demand:
    """``holds`` is true, or null, for a cell that is as it should be; ``text`` follows on the cell that is not."""

    column: str
    holds: pl.Expr
    text: str

    def broken(self) -> pl.Expr:
        return (~self.holds).fill_null(value=False)

    def reason(self, kind: pl.DataType) -> pl.Expr:
        """Text such as ``distance: 9000 is above 5000``."""
        return pl.concat_str(pl.lit(f"{self.column}: "), casting.shown(col(self.column), kind), pl.lit(f" {self.text}"))


def demands(
    schema: Mapping[str, pl.DataType],
    allowed: Mapping[str, Collection[Any]],
    ranges: Mapping[str, tuple[Any, Any]],
    patterns: Mapping[str, str],
) -> tuple[Demand, ...]:
    """The demands of a contract, on columns of its schema.

    Raises:
        DefinitionError: one cannot hold for its column's type.
    """
    found = [_allowed(name, values, schema[name]) for name, values in allowed.items()]
    for name, bounds in ranges.items():
        found += _range(name, bounds, schema[name])
    found += [_pattern(name, pattern, schema[name]) for name, pattern in patterns.items()]
    return tuple(found)


def _allowed(name: str, values: Collection[Any], kind: pl.DataType) -> Demand:
    if isinstance(values, str) or not values:
        raise DefinitionError(f"allowed: {name!r} has {values!r}; give the values, such as ['EWR', 'JFK']")
    among = pl.Series([terms.value("allowed", name, value, kind) for value in values], dtype=kind)
    listed = [_told(value) for value in list(values)[:_SHOWN]]
    more = f" … ({len(values):,} in all)" if len(values) > _SHOWN else ""
    return Demand(name, col(name).is_in(among.implode()), f"is none of {', '.join(listed)}{more}")


def _range(name: str, bounds: tuple[Any, Any], kind: pl.DataType) -> list[Demand]:
    if not isinstance(bounds, tuple | list) or len(bounds) != 2 or all(bound is None for bound in bounds):
        raise DefinitionError(
            f"ranges: {name!r} has {bounds!r}; give the lowest and the highest value, such as (0, 100), "
            "or None for an end that is open"
        )
    if not (kind.is_numeric() or kind.is_temporal()):
        raise DefinitionError(f"ranges: {name!r} is {kind}, which has no range; a rule may compare it")
    low, high = (None if bound is None else terms.value("ranges", name, bound, kind) for bound in bounds)
    if low is not None and high is not None and low > high:
        raise DefinitionError(f"ranges: {name!r} has {bounds!r}: nothing is between these; write the lower one first")
    found = []
    if low is not None:
        found.append(Demand(name, col(name) >= pl.lit(low, dtype=kind), f"is below {_told(low)}"))
    if high is not None:
        found.append(Demand(name, col(name) <= pl.lit(high, dtype=kind), f"is above {_told(high)}"))
    return found


def _pattern(name: str, pattern: str, kind: pl.DataType) -> Demand:
    if kind != pl.String:
        raise DefinitionError(f"patterns: {name!r} is {kind}; only pl.String has patterns")
    if not isinstance(pattern, str):
        raise DefinitionError(f"patterns: {name!r} has {pattern!r}; give a regular expression, such as '[A-Z]{{2}}'")
    holds = col(name).str.contains(f"^(?:{pattern})$")
    try:
        pl.DataFrame({name: [""]}).select(holds)
    except pl.exceptions.PolarsError as error:
        raise DefinitionError(
            f"patterns: {name!r} has {pattern!r}, which is no regular expression as Polars knows them "
            f"(https://docs.rs/regex): {str(error).strip().splitlines()[-1]}"
        ) from None
    return Demand(name, holds, f"does not match {shorten(pattern)}")


def _told(value: Any) -> str:
    return f'"{shorten(value)}"' if isinstance(value, str) else str(value)
