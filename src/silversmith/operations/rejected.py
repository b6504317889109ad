"""The rejected rows in quarantine: how many of a file there are, and why the first of them."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from silversmith.contract import REASONS, ROW_NUMBER
from silversmith.lineage import Lineage
from silversmith.operations.documents import REJECTED
from silversmith.stores import Source, Store

#: How many rejected rows are shown of a file.
FIRST = 5


@dataclass(frozen=True)
class RejectedRow:
    """A rejected row: its number in the file, from 1 (None where the file does not tell), and what is wrong with it."""

    row: int | None
    reasons: Sequence[str]


@dataclass(frozen=True)
class RejectedFile:
    """The rejected rows of one bronze object. ``at`` in ISO 8601, ``document`` their Parquet file's key in quarantine.

    ``rows`` is how many there are, ``rows_read`` how many the file had in all.
    """

    transform: str
    key: str
    rows: int
    rows_read: int
    at: str
    document: str
    first: Sequence[RejectedRow]


def look(quarantine: Store, document: str, *, most: int = FIRST) -> RejectedFile | None:
    """The rejected rows at this quarantine key; None where there are none. Reads the first ``most`` only."""
    with quarantine.open(document) as source:
        if source is None:
            return None
        first, counted = _read(source, most)
        lineage = Lineage.from_metadata(source.head.metadata)
    if lineage is not None:
        return RejectedFile(
            lineage.transform,
            lineage.bronze_key,
            lineage.rows_rejected,
            lineage.rows_read,
            lineage.committed_at,
            document,
            first,
        )
    transform, _, key = document.removesuffix(REJECTED).partition("/")
    return RejectedFile(transform, key, counted, counted, "", document, first)


def _read(source: Source, most: int) -> tuple[list[RejectedRow], int]:
    """The first rows, and how many there are. A file that is no such Parquet file has none that could be shown."""
    where = io.BytesIO(source.data) if source.data is not None else source.path
    assert where is not None
    try:
        rows = pl.scan_parquet(where)
        count = int(rows.select(pl.len()).collect().item())
        first = rows.select(ROW_NUMBER, REASONS).head(most).collect()
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException):
        return [], 0
    return [RejectedRow(_number(row), _texts(reasons)) for row, reasons in first.iter_rows()], count


def _number(found: object) -> int | None:
    return found if isinstance(found, int) else None


def _texts(found: object) -> list[str]:
    return [str(item) for item in found] if isinstance(found, list) else []
