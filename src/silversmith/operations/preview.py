"""The first rows of an object of silver or quarantine, as texts, and all that transforms made of one file."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from silversmith.contract import REASONS, ROW_NUMBER
from silversmith.lineage import rejected_key, silver_key
from silversmith.operations import Record
from silversmith.operations.target import Target
from silversmith.pipeline import Pipeline
from silversmith.stores import Store

#: The limits of a preview: rows, columns, and characters of a cell.
ROWS, COLUMNS, CELL = 20, 40, 200

#: A larger object is not fetched for a preview, in bytes.
LARGEST = 256 * 1024 * 1024


@dataclass(frozen=True)
class Preview:
    """The first rows. ``kinds`` are the columns' types; a cell that is None is a null. ``problem``: why there are no
    rows. ``columns_in_all`` and ``rows_in_all`` count what the object has."""

    columns: Sequence[str] = ()
    kinds: Sequence[str] = ()
    rows: Sequence[Sequence[str | None]] = ()
    columns_in_all: int = 0
    rows_in_all: int = 0
    problem: str = ""


def preview(store: Store, key: str, *, most: int = ROWS) -> Preview | None:
    """The first ``most`` rows of an object; None where there is no such object."""
    head = store.head(key)
    if head is None:
        return None
    if head.size > LARGEST:
        return Preview(problem=f"it has {head.size:,} bytes: too large to look into from here")
    with store.open(key) as source:
        if source is None:
            return None
        file = io.BytesIO(source.data) if source.data is not None else source.path
        assert file is not None
        try:
            return _read(pl.scan_parquet(file), most)
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
            return Preview(problem=f"it cannot be read as Parquet: {error}")


def _read(rows: pl.LazyFrame, most: int) -> Preview:
    schema = rows.collect_schema()
    names = sorted(schema.names(), key=lambda name: name not in {ROW_NUMBER, REASONS})  # why comes first
    shown = names[:COLUMNS]
    first = rows.select(shown).head(most).collect()
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


@dataclass(frozen=True)
class FilePreview(Record):
    """The result of a file in one transform: its rows in silver, and those that were rejected. None: there are none."""

    transform: str
    silver: Preview | None
    rejected: Preview | None


def previews(
    key: str, pipeline: Pipeline, target: Target, *, transform: str | None = None, most: int = ROWS
) -> list[FilePreview]:
    """The results of a file in the transforms that made something of it.

    Args:
        key: in bronze.
        pipeline: its transforms.
        target: where it runs.
        transform: only this one.
        most: so many rows of each.

    Raises:
        DefinitionError: the pipeline has no such transform.
    """
    chosen = pipeline.transforms if transform is None else (pipeline.find(transform),)
    lake = target.lake
    results = [
        FilePreview(
            each.name,
            preview(lake.silver, silver_key(each.name, key), most=most),
            preview(lake.quarantine, rejected_key(each.name, key), most=most),
        )
        for each in chosen
    ]
    return [each for each in results if each.silver is not None or each.rejected is not None]
