"""The spill to disk: frames one after the other, in memory while they are few, in temporary files from then on."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import polars as pl

from silversmith.formats.archives.content import Scratch
from silversmith.formats.table import ROW, Table

#: Frames together are kept in memory up to so many bytes.
IN_MEMORY = 32 * 1024 * 1024


class Spill:
    """Frames in the order in which they are added, with ``height`` rows together.

    A column that a frame lacks is null there. Types must not differ between frames.
    """

    def __init__(self, scratch: Scratch, *, in_memory: float = IN_MEMORY, ending: str = ".arrow") -> None:
        self._scratch, self._in_memory, self._ending = scratch, in_memory, ending
        self._frames: list[pl.DataFrame] = []
        self._paths: list[Path] = []
        self._size = 0
        self.height = 0

    def add(self, frame: pl.DataFrame) -> None:
        """Keep a frame. The first one without rows is kept for its columns, later ones are not."""
        if not frame.height and (self._frames or self._paths):
            return
        self.height += frame.height
        self._size += int(frame.estimated_size())
        self._frames.append(frame)
        if self._size > self._in_memory:
            path = self._scratch.file(self._ending)
            self._joined().write_ipc(path, compression="lz4")
            self._paths.append(path)
            self._frames, self._size = [], 0

    def frame(self) -> pl.DataFrame | None:
        """All rows, if they are in memory; None if some are in files, or no frame was added."""
        return None if self._paths or not self._frames else self._joined()

    def rows(self) -> pl.LazyFrame:
        """All rows, wherever they are; at least one frame was added."""
        spilled = [pl.scan_ipc(path, glob=False, hive_partitioning=False) for path in self._paths]
        return pl.concat([*spilled, *(frame.lazy() for frame in self._frames)], how="diagonal")

    def _joined(self) -> pl.DataFrame:
        return self._frames[0] if len(self._frames) == 1 else pl.concat(self._frames, how="diagonal")


def table_of(
    frames: Iterable[pl.DataFrame], kind: str, scratch: Scratch, *, typed: bool = False, in_memory: float = IN_MEMORY
) -> Table:
    """At least one frame, all of the same schema, as a table with :data:`ROW`, whatever their size together.

    ``typed``: their types are not inferred.
    """
    spill = Spill(scratch, in_memory=in_memory)
    for frame in frames:
        numbered = frame.with_row_index(ROW, offset=spill.height + 1)
        spill.add(numbered.with_columns(pl.col(ROW).cast(pl.UInt64)))
    whole = spill.frame()
    rows = spill.rows() if whole is None else whole.lazy()
    return Table(rows, kind, whole, height=spill.height, typed=typed, scratch=scratch)
