"""The first rows of a Parquet object, as texts."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from silversmith.contract import REASONS, ROW_NUMBER
from silversmith.stores import Store

#: So much is shown: rows, columns, and characters of a cell.
ROWS, COLUMNS, CELL = 20, 40, 200

#: A larger object is not fetched only to look at it, in bytes.
LARGEST = 256 * 1024 * 1024


@dataclass(frozen=True)
class Preview:
    """The first rows. ``kinds`` are the columns' types; a cell that is None is a null. ``problem``: why there are none.

    ``columns_in_all`` and ``rows_in_all`` count what there is.
    """

    columns: Sequence[str]
    kinds: Sequence[str]
    rows: Sequence[Sequence[str | None]]
    columns_in_all: int
    rows_in_all: int
    problem: str = ""


def preview(store: Store, key: str) -> Preview | None:
    """None where there is no such object."""
    head = store.head(key)
    if head is None:
        return None
    if head.size > LARGEST:
        return _none(f"it has {head.size:,} bytes: too large to look into from here")
    with store.open(key) as source:
        if source is None:
            return None
        where = io.BytesIO(source.data) if source.data is not None else source.path
        assert where is not None
        try:
            return _read(pl.scan_parquet(where))
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
            return _none(f"it cannot be read as Parquet: {error}")


def _read(rows: pl.LazyFrame) -> Preview:
    schema = rows.collect_schema()
    names = sorted(schema.names(), key=lambda name: name not in {ROW_NUMBER, REASONS})  # why comes first
    shown = names[:COLUMNS]
    first = rows.select(shown).head(ROWS).collect()
    return Preview(
        columns=shown,
        kinds=[str(schema[name]) for name in shown],
        rows=[[cell(value) for value in row] for row in first.rows()],
        columns_in_all=len(names),
        rows_in_all=int(rows.select(pl.len()).collect().item()),
    )


def cell(value: Any) -> str | None:
    """A value as a text, cut short."""
    if value is None:
        return None
    is_texts = isinstance(value, list) and all(isinstance(item, str) for item in value)
    text = "; ".join(value) if is_texts else str(value)
    return text if len(text) <= CELL else text[: CELL - 1] + "…"


def _none(problem: str) -> Preview:
    return Preview([], [], [], 0, 0, problem)
