"""Numbers with marks between their thousands, without them. What is no such number is left as it is.

The rule is written twice, as those of :mod:`silversmith.formats.infer` are: for cells of a list, and for Polars.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import polars as pl


def pattern(thousands: str, *, decimal_comma: bool) -> str:
    """What a number with marks looks like: groups of three digits after the first one, and decimals after all."""
    mark, point = re.escape(thousands), "," if decimal_comma else r"\."
    return rf"^-?[1-9][0-9]{{0,2}}(?:{mark}[0-9]{{3}})+(?:{point}[0-9]+)?$"


def ungroup(cells: Sequence[str | None], thousands: str, *, decimal_comma: bool) -> list[str | None]:
    """Cells of a column, the numbers among them without marks."""
    shape = re.compile(pattern(thousands, decimal_comma=decimal_comma)[1:-1])
    return [cell.replace(thousands, "") if cell and shape.fullmatch(cell) else cell for cell in cells]


def ungrouped(cells: pl.Expr, thousands: str, *, decimal_comma: bool) -> pl.Expr:
    """The same for a text column."""
    grouped = cells.str.contains(pattern(thousands, decimal_comma=decimal_comma))
    return pl.when(grouped).then(cells.str.replace_all(thousands, "", literal=True)).otherwise(cells)
