"""A context for a test that calls a transform's function itself."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

import polars as pl

from silversmith.formats import ROW, Reader
from silversmith.formats.table import Table
from silversmith.lookups import Context, LookupMissing
from silversmith.stores import Head

_MODIFIED = datetime(2026, 1, 1, tzinfo=UTC)


def context(
    lookups: Mapping[str, pl.DataFrame] | None = None,
    *,
    key: str = "orders/1.csv",
    etag: str = "0" * 32,
    size: int = 0,
    modified: datetime = _MODIFIED,
) -> Context:
    """What a transform with a second parameter gets: ``orders(rows, context({"lookup/countries.csv": countries}))``.

    Args:
        lookups: their rows by key. A read of another one raises :class:`~silversmith.lookups.LookupMissing`.
        key, etag, size, modified: of the bronze object, see :class:`~silversmith.Context`.
    """
    frames = dict(lookups or {})

    def read(name: str, _: Reader | None) -> Table:
        if name not in frames:
            raise LookupMissing(f"this test has no lookup {name!r}; it has: {', '.join(frames) or 'none'}")
        frame = frames[name].with_row_index(ROW, offset=1)
        return Table(frame.lazy(), "test", frame)

    return Context(Head(key, etag, size, modified), read)
