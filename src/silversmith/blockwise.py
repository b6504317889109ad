"""A large CSV file held against a contract in one pass: the good rows as a plan, and what was seen of the others."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
from polars.io.plugins import register_io_source

from silversmith.contract import Contract
from silversmith.contract.rowwise import Rowwise
from silversmith.formats.archives.content import Scratch
from silversmith.formats.csv import Part, Stream
from silversmith.formats.spill import IN_MEMORY
from silversmith.formats.table import col


@dataclass
class Reading:
    """One pass over a stream, and what was seen on it: complete after :meth:`finish`. ``rejected`` are rows, kept in
    memory up to ``in_memory`` bytes of them; ``careful`` are blocks that had to be read the careful way.

    The user's plan may read some of the good rows, all of them, or all of them twice: the first reading is the pass
    that counts, :meth:`finish` ends it, and any other reading is for the rows alone.
    """

    stream: Stream
    rowwise: Rowwise
    scratch: Scratch
    in_memory: int = IN_MEMORY
    records: int = 0
    rejected: int = 0
    newest: list[pl.DataFrame] = field(default_factory=list)
    careful: int = 0
    _parts: Generator[Part] | None = None
    _begun: bool = False
    _failure: BaseException | None = None
    _turn: threading.Lock = field(default_factory=threading.Lock)
    _kept: list[pl.DataFrame] = field(default_factory=list)
    _size: int = 0
    _paths: list[Path] = field(default_factory=list)

    def begin(self) -> None:
        """Read the first rows, in other threads, while it is found out what is to be done with them."""
        with self._turn:
            self._begun_parts()

    def _begun_parts(self) -> Generator[Part]:
        if self._parts is None:
            self._parts = self.stream.parts(self.rowwise.judge)
        return self._parts

    def good(self) -> pl.LazyFrame:
        """The good rows. Its pass raises what :meth:`silversmith.formats.csv.Stream.parts` does."""
        return register_io_source(self._read, schema=self.rowwise.schema, is_pure=True)

    def finish(self) -> None:
        """Read what the plan has not.

        Raises:
            DataError, polars.exceptions.PolarsError: a reading of the pass that counts has failed.
        """
        for _ in self._counted():
            pass
        if self._failure is not None:
            raise self._failure

    def newest_values(self) -> dict[str, Any] | None:
        """The greatest value of each column that must be fresh; None where none must."""
        if not self.rowwise.contract.expectations.fresh:
            return None
        return pl.concat(self.newest).max().row(0, named=True) if self.newest else {}

    def rejected_rows(self) -> pl.LazyFrame | None:
        """The rejected rows in the order of the file; None where there are none."""
        if not self.rejected:
            return None
        written = [pl.scan_ipc(path, glob=False, hive_partitioning=False) for path in self._paths]
        return pl.concat([*written, *(frame.lazy() for frame in self._kept)], how="diagonal")

    def close(self) -> None:
        """Stop reading."""
        with self._turn:
            if self._parts is not None:
                self._parts.close()

    def _read(
        self, columns: list[str] | None, predicate: pl.Expr | None, most: int | None, _size: int | None
    ) -> Iterator[pl.DataFrame]:
        """What Polars asks of a source. ``most`` rows are taken before the predicate is."""
        with self._turn:
            first, self._begun = not self._begun, True
        for frame in self._counted() if first else self._again():
            rows = frame if most is None else frame.head(most)
            most = None if most is None else most - rows.height
            rows = rows if predicate is None else rows.filter(predicate)
            yield rows if columns is None or columns == rows.columns else rows.select(map(col, columns))
            if most == 0:
                return

    def _counted(self) -> Iterator[pl.DataFrame]:
        """The good rows of the pass that counts, from where it is."""
        while (good := self._next()) is not None:
            yield good

    def _next(self) -> pl.DataFrame | None:
        """The next good rows of that pass; None at its end. A plan that has enough may be here still, in a thread of
        Polars', when :meth:`finish` comes for the rest."""
        with self._turn:
            try:
                part = next(self._begun_parts(), None)
                if part is None:
                    return None
                good, rejected = self._divided(part)
            except BaseException as error:
                self._failure = error  # whoever asked may be gone, and the pass looks as if it had come to its end
                raise
            self.records += part.records
            self.careful += part.judged is None
            if rejected is not None:
                self._keep(rejected)
            fresh = self.rowwise.contract.expectations.newest()
            if fresh:
                self.newest.append(good.select(fresh))
            return good

    def _again(self) -> Iterator[pl.DataFrame]:
        for part in self.stream.parts(self.rowwise.judge):
            yield self._divided(part)[0]

    def _divided(self, part: Part) -> tuple[pl.DataFrame, pl.DataFrame | None]:
        if part.judged is not None:
            return part.judged, None
        assert part.table is not None, "a part is typed rows or text"
        return self.rowwise.split(part.table)

    def _keep(self, rejected: pl.DataFrame) -> None:
        """Rejected rows are kept in memory while they are few."""
        self.rejected += rejected.height
        self._kept.append(rejected)
        self._size += int(rejected.estimated_size())
        if self._size > self.in_memory:
            path = self.scratch.file(".rejected.arrow")
            pl.concat(self._kept, how="diagonal").write_ipc(path, compression="lz4")
            self._paths.append(path)
            self._kept, self._size = [], 0


def reading(stream: Stream, contract: Contract, scratch: Scratch) -> Reading | None:
    """A reading that has not begun; None where the contract has to see all rows at once.

    Raises:
        DataError: the columns and the contract do not go together.
    """
    found = contract.by_row(stream.dtypes, decimal_comma=stream.options.decimal_comma)
    return None if found is None else Reading(stream, found, scratch)
