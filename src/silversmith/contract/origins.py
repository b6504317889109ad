"""Rejected rows with the line that they begin on and their text, as far as the file is text and can be asked."""

from __future__ import annotations

import polars as pl

from silversmith.contract.layout import LINE, REASONS, ROW_NUMBER, TEXT
from silversmith.formats.table import Table, col

#: Of so many rejected rows of a file, the first ones, line and text are told; the others have nulls there.
MOST = 100_000

#: How much text that may be in all, in characters.
MOST_TEXT = 64 * 1024 * 1024


def with_origins(rejected: pl.LazyFrame, table: Table, most: int = MOST) -> pl.LazyFrame:
    """Rejected rows of a table, with the columns ``line`` and ``text``; as they are where nobody can tell."""
    if table.origins is None:
        return rejected
    names = rejected.collect_schema().names()
    first = rejected.select(pl.col(ROW_NUMBER).bottom_k(most)).collect(engine="streaming").to_series().to_list()
    found = table.origins(first)
    numbers, lines, texts, length = [], [], [], 0
    for number, (line, text) in sorted(found.items()):
        length += len(text)
        if length > MOST_TEXT:
            break
        numbers.append(number)
        lines.append(line)
        texts.append(text)
    known = pl.col(TEXT) if TEXT in names else pl.lit(None, dtype=pl.String)
    said = {
        LINE: _looked_up(numbers, pl.Series(lines, dtype=pl.UInt64)),
        TEXT: pl.coalesce(_looked_up(numbers, pl.Series(texts, dtype=pl.String)), known),
    }
    others = [col(name) for name in names if name not in {ROW_NUMBER, REASONS, TEXT}]
    return rejected.select(pl.col(ROW_NUMBER), said[LINE].alias(LINE), *others, pl.col(REASONS), said[TEXT].alias(TEXT))


def _looked_up(numbers: list[int], values: pl.Series) -> pl.Expr:
    if not numbers:
        return pl.lit(None, dtype=values.dtype)
    keys = pl.Series(numbers, dtype=pl.UInt64)
    return pl.col(ROW_NUMBER).replace_strict(keys, values, default=None, return_dtype=values.dtype)
