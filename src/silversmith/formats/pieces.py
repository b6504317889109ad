"""Frames that are read one after the other: in memory while they are few, in temporary files from then on."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import polars as pl

from silversmith.formats.archives.content import Scratch
from silversmith.formats.table import ROW, Table

#: Frames together are kept in memory up to so many bytes.
IN_MEMORY = 32 * 1024 * 1024


def table_of(frames: Iterable[pl.DataFrame], kind: str, scratch: Scratch, *, typed: bool = False) -> Table:
    """Frames of one schema, at least one of them, as a table with :data:`ROW`, whatever their size together.

    ``typed``: their types are no guess.
    """
    kept: list[pl.DataFrame] = []
    paths: list[Path] = []
    height = size = 0
    for frame in frames:
        numbered = frame.with_row_index(ROW, offset=height + 1).with_columns(pl.col(ROW).cast(pl.UInt64))
        height += frame.height
        size += int(frame.estimated_size())
        kept.append(numbered)
        if size > IN_MEMORY:
            paths.extend(_written(one, scratch) for one in kept if one.height or not paths)
            kept = []
    if not paths:
        whole = pl.concat(kept, how="vertical")
        return Table(whole.lazy(), kind, whole, typed=typed, scratch=scratch)
    rows = pl.concat([pl.scan_ipc(path, glob=False, hive_partitioning=False) for path in paths], how="vertical")
    rows = pl.concat([rows, *(frame.lazy() for frame in kept)], how="vertical")
    return Table(rows, kind, height=height, typed=typed, scratch=scratch)


def _written(frame: pl.DataFrame, scratch: Scratch) -> Path:
    path = scratch.file(".arrow")
    frame.write_ipc(path, compression="lz4")
    return path
