"""The history of a table, erased: the older versions whose data files and log hold rows that must be forgotten.

Whoever reads the newest version goes on. An older one cannot be opened any more; who had opened it before goes on until
it needs a data file that held such rows, and then fails. The order makes it safe beside committers:

1. List all files of the table.
2. Commit: whatever was made of an older version is refused from now on, compactions too. So a file of the listing that
   is not part of this version never will be.
3. Delete these files: of a table those that hold the rows, change data and the leavings of refused commits among them;
   of a view, whose rows do not say which file they came from, all.
4. Write a checkpoint, and let go of the log before it, which has the smallest and largest values of each data file.

docs/decisions/0169-history-is-cut-at-a-checkpoint.md
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import polars as pl

from silversmith import faults
from silversmith.operations.versions import ErasedHistory, GoldFiles
from silversmith.stores import Head, batched
from silversmith.tables.format import GoldFailed, Refused
from silversmith.tables.spec import FILE

if TYPE_CHECKING:
    from silversmith.tables.delta import DeltaFormat, DeltaSnapshot

#: How often it is begun again because somebody else committed meanwhile.
ATTEMPTS = 20

#: So many data files are looked into at once.
LOOKED_INTO = 200

#: A file of the log that is younger than this is overwritten: somebody may be about to create the next version after
#: an older one, and must find that its place is taken. An older file is deleted.
YOUNG = timedelta(hours=1)

#: The clock of whoever committed last may be so many seconds ahead.
SECONDS_AHEAD = 60

#: The content of a file of the log that is overwritten.
ERASED = b'{"commitInfo":{"operation":"ERASED","operationParameters":{}}}\n'

_LOG = "_delta_log/"
_COMMIT = re.compile(r"_delta_log/(\d{20})\.json\Z")
_CHECKPOINT = re.compile(r"_delta_log/(\d{20})\.checkpoint\b.*\.parquet\Z")


def erase_history(
    name: str,
    files: Collection[str] | None,
    *,
    gold: DeltaFormat,
    place: GoldFiles,
    step: Callable[[str], None] = faults.point,
    now: Callable[[], float] = time.time,
    pause: Callable[[float], None] = time.sleep,
) -> ErasedHistory | None:
    """Erase what the table ``name`` still has of rows that are gone from its newest version. None: there is no table.

    ``files`` are the bronze keys whose rows are gone; None: nobody knows them, as in a view. Killed at any step, it is
    called again. ``now`` in Unix seconds.

    Raises:
        Refused: others committed so often that nothing was done: try again.
        GoldFailed, OSError: gold cannot be read or written.
    """
    erasure = _Erasure(name, gold, place, step, pause, datetime.fromtimestamp(now(), UTC) - YOUNG)
    for attempt in range(ATTEMPTS):
        try:
            return erasure.run(files)
        except Refused:
            if attempt == ATTEMPTS - 1:
                raise
    raise AssertionError("the loop ends by itself")


@dataclass(frozen=True)
class _Erasure:
    """``young``: a file of the log that was written since is overwritten."""

    name: str
    gold: DeltaFormat
    place: GoldFiles
    step: Callable[[str], None]
    pause: Callable[[float], None]
    young: datetime

    def run(self, files: Collection[str] | None) -> ErasedHistory | None:
        snapshot = self.gold.read(self.name)
        if snapshot is None:
            return None
        listed = list_files(self.name, self.place)
        closed = snapshot.closed()
        self.step("erase.closed")
        dead = dead_files(self.name, listed, closed)
        held = list(holding(self.name, dead, files, self.place)) if files is not None else dead
        for path in held:
            self.place.store.delete(f"{self.name}/{path}")
            self.step("erase.data")
        self._checkpoint(closed)
        self.step("erase.checkpoint")
        cut = self._cut_log(listed, closed.version)
        closed.reopened()
        return ErasedHistory(self.name, closed.version, tuple(held), cut)

    def _checkpoint(self, snapshot: DeltaSnapshot) -> None:
        """A checkpoint that names no data file but those of the table. Whoever removed one may have a clock that is
        ahead: the checkpoint names it until that time."""
        for _ in range(SECONDS_AHEAD):
            snapshot.checkpoint()
            body = self.place.store.read(f"{self.name}/{_LOG}{snapshot.version:020}.checkpoint.parquet")
            columns = pl.read_parquet(body) if body is not None else pl.DataFrame()
            if "remove" not in columns.columns or columns["remove"].drop_nulls().is_empty():
                return
            self.pause(1.0)
        raise GoldFailed(
            f"{self.name}: after {SECONDS_AHEAD} seconds a checkpoint still names data files that are gone: is this "
            "machine's clock behind?"
        )

    def _cut_log(self, listed: Mapping[str, Head], version: int) -> int:
        """Let go of the log before a version. How many files that were."""
        cut = 0
        for path, head in listed.items():
            commit = _COMMIT.match(path)
            number = commit or _CHECKPOINT.match(path)
            if not path.startswith(_LOG) or path == f"{_LOG}_last_checkpoint":
                continue
            if number is not None and int(number[1]) >= version:
                continue
            key = f"{self.name}/{path}"
            if commit is None or head.modified <= self.young:
                self.place.store.delete(key)  # also what a commit left that did not come to its end
            elif head.size != len(ERASED):
                self.place.store.put(key, ERASED)
            else:
                continue
            cut += 1
            self.step("erase.log")
        return cut


def list_files(name: str, place: GoldFiles) -> dict[str, Head]:
    """All files of a table, by their paths below its folder."""
    return {head.key.removeprefix(f"{name}/"): head for head in place.store.list(f"{name}/")}


def dead_files(name: str, listed: Mapping[str, Head], snapshot: DeltaSnapshot) -> list[str]:
    """The data files of a listing that are not of this version.

    Raises:
        GoldFailed: one is lacking.
    """
    paths = snapshot.paths
    if lacking := next((path for path in sorted(paths) if path not in listed), None):
        raise GoldFailed(
            f"the table {name} lacks its data file {lacking}, so nothing was deleted: run `silversmith tables rebuild "
            f"{name}`, then this again"
        )
    return [path for path in listed if path not in paths and not path.startswith(_LOG)]


def holding(name: str, paths: Sequence[str], files: Collection[str], place: GoldFiles) -> Iterator[str]:
    """The data files among these that hold rows of some bronze keys, or cannot be read, so that nobody knows."""
    for some in batched(paths, LOOKED_INTO):
        try:
            yield from _with_rows(name, some, files, place)
        except pl.exceptions.PolarsError:
            for path in some:
                try:
                    yield from _with_rows(name, [path], files, place)
                except pl.exceptions.PolarsError:
                    yield path


def _with_rows(name: str, paths: Sequence[str], files: Collection[str], place: GoldFiles) -> list[str]:
    base = f"{place.root.rstrip('/')}/{name}/"
    scan = pl.scan_parquet(
        [base + path for path in paths],
        storage_options=dict(place.options) if place.options else None,
        hive_partitioning=False,
        glob=False,
        extra_columns="ignore",
        missing_columns="insert",
        include_file_paths="__path",
        schema={FILE: pl.String},
    )
    rows = scan.filter(pl.col(FILE).is_in(list(files))).select(pl.col("__path").unique())
    return [path.removeprefix(base) for path in rows.collect(engine="streaming")["__path"].to_list()]
