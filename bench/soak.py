"""A lake over a long time: many small files, then days of more of them, and whether anything grows that should not.

    python -m bench.soak [--files 100000] [--hours 24] [--days 20] [--workers 2]

First so many files of 100 bytes are put through the whole chain, a tenth at a time. Then a clock set by hand lets hours
pass: in every five minutes of them some files arrive and some change; after that, days pass in which little happens, so
that what is older than the journal keeps it goes. While that runs, the table grows by a row now and then: the memory of
the engine and of its workers, the size of the journal, and what a put, a receive (with its delete) and a trace take,
beside a bare write of as many bytes. At the end the journal gets a few minutes to catch up with what became too old.

Exit code 1 if a file is missing in silver, if the last half of the rows has a tenth more memory than the first, if the
journal is larger at the end than a tenth more than it was when the files were done, or if a receive, a trace, or a put
beside a bare write to the disk takes three times as long in the last rows as in the first.
"""

from __future__ import annotations

import argparse
import os
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import psutil

from silversmith.local import stack as stacks
from silversmith.local.engine import Clock, Engine, Progress
from silversmith.local.journal import FREE_PAGES, FREE_SHARE, KEPT_SECONDS, Journal
from silversmith.local.lake import LakeFolder
from silversmith.local.services import ServiceMessage
from silversmith.local.services.queue import QueueService
from silversmith.operations.local import open_lake
from silversmith.operations.reports import trace
from silversmith.pipeline import Pipeline, load

PIPELINE = """
from silversmith import Pipeline

pipeline = Pipeline("soak")

@pipeline.transform("*.json")
def rows(rows):
    return rows
"""

#: A queue of our own in the engine's journal: its messages lie among all the others.
PROBE = stacks.QueueResource("probe", "arn:aws:sqs:us-east-1:000000000000:probe", visibility_timeout=30)

#: How long the journal may take at the end to get small again, in seconds.
PATIENCE = 600.0

#: Files that arrive in five minutes of simulated time, and how many of them are new.
ARRIVE, NEW = 20, 5

HEAD = (
    "simulated",
    "files",
    "engine MB",
    "workers MB",
    "journal MB",
    "put ms",
    "bare ms",
    "receive ms",
    "trace ms",
    "files/s",
)


class Row(NamedTuple):
    """The numbers of a row that are judged: seconds that have passed, sizes in MB, times in milliseconds."""

    passed: float
    memory: float
    journal: float
    put: float
    bare: float
    receive: float
    trace: float


class Soak:
    """A lake, an engine over it, and a clock that is set by hand."""

    def __init__(self, folder: Path, workers: int) -> None:
        (folder / "pipeline.py").write_text(PIPELINE)
        self.lake = LakeFolder(folder / "lake")
        self.bronze = self.lake.bucket("dl-bronze-layer")
        self.bronze.mkdir(parents=True)
        self.target = str(folder / "pipeline.py")
        self.pipeline: Pipeline = load(self.target)
        self.passed = 0.0
        self.written = 0
        self.rows: list[Row] = []
        clock = Clock(lambda: time.time() + self.passed, lambda: time.monotonic() + self.passed)
        self.engine = Engine(self.lake, self.pipeline, target=self.target, workers=workers, clock=clock)
        self._done = (time.monotonic(), 0)

    def drop(self, number: int, value: int) -> Path:
        path = self.bronze / f"{number % 100:02}" / f"{number}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f'[{{"id": {number}, "value": {value}, "text": "{"x" * 60}"}}]')
        self.written = max(self.written, number + 1)
        return path

    def run(self, *turns: Callable[[Progress], bool]) -> None:
        """Run the turns one after the other: call each with the progress, several times a second, until it returns that
        it is done."""
        left = list(turns)

        def tick(progress: Progress) -> None:
            if left and left[0](progress):
                del left[0]

        self.engine.run(until_idle=False, stopped=lambda: not left, tick=tick)

    def row(self, progress: Progress) -> None:
        """Measure, and print."""
        process = psutil.Process()
        engine = process.memory_info().rss / 1e6
        workers = [child.memory_info().rss / 1e6 for child in process.children()]
        memory = engine + sum(workers)
        journal = sum(path.stat().st_size for path in self.lake.journal.parent.glob("journal.db*")) / 1e6
        put, bare, receive, traced = (
            1000 * statistics.median(measure()) for measure in (self._puts, self._bare, self._receives, self._traces)
        )
        self.rows.append(Row(self.passed, memory, journal, put, bare, receive, traced))
        now, done = time.monotonic(), progress.done
        rate = (done - self._done[1]) / max(now - self._done[0], 1e-9)
        self._done = (now, done)
        simulated = f"{self.passed / 3600:.1f} h"
        numbers = (engine, sum(workers), journal, put, bare, receive, traced, rate)
        print(f"{simulated:>10} {self.written:>10,}", *(f"{number:>11,.2f}" for number in numbers), flush=True)

    def _puts(self) -> list[float]:
        store = self.lake.store("dl-bronze-layer", foreign_writers=True)
        return [_timed(lambda: store.put("probe.txt", os.urandom(100))) for _ in range(20)]

    def _bare(self) -> list[float]:
        """The disk's own time for the same bytes at that moment, the measure of a put."""
        path = self.lake.path / "bare.txt"
        return [_timed(lambda: _write_to_disk(path, os.urandom(100))) for _ in range(20)]

    def _receives(self) -> list[float]:
        with closing(Journal(self.lake.journal)) as journal:
            queue = QueueService(journal, PROBE)
            return [_timed(lambda: _send_and_receive(journal, queue)) for _ in range(20)]

    def _traces(self) -> list[float]:
        with open_lake(self.lake, self.pipeline) as target:
            keys = [f"{number % 100:02}/{number}.json" for number in range(0, self.written, max(1, self.written // 20))]
            return [_timed(lambda key=key: trace(key, self.pipeline, target)) for key in keys]  # type: ignore[misc]


def _write_to_disk(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _send_and_receive(journal: Journal, queue: QueueService) -> None:
    with journal.transaction():
        queue.accept([ServiceMessage("", PROBE.arn, "", "probe", "v", b"{}", 0.0)], 0.0)
    (message,) = queue.receive(1, 1.0)
    queue.delete([message.receipt])


def _timed(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def first_many(soak: Soak, files: int) -> Callable[[Progress], bool]:
    """Drop the files in ten parts, each when the one before is done; a row of the table for each: so the rows show
    what a put, a receive and a trace take beside how much is stored."""
    part = max(1, files // 10)

    def turn(progress: Progress) -> bool:
        if progress.done < soak.written:
            return False
        if soak.written:
            soak.row(progress)
        for number in range(soak.written, min(files, soak.written + part)):
            soak.drop(number, 0)
        return progress.done >= files

    return turn


def then_time(soak: Soak, hours: float, days: float) -> Callable[[Progress], bool]:
    """Let time pass, a step for each turn of the engine that finds nothing to do."""
    steps = _steps(hours, days)
    shown = 0.0

    def turn(progress: Progress) -> bool:
        nonlocal shown
        if progress.waiting or progress.in_flight:
            return False
        if soak.passed - shown >= (hours + days * 24) * 3600 / 24:
            shown = soak.passed
            soak.row(progress)
        step = next(steps, None)
        if step is None:
            return True
        seconds, arrive = step
        soak.passed += seconds
        for place in range(arrive):
            soak.drop(soak.written if place < NEW else (place * 7919) % soak.written, int(soak.passed))
        return False

    return turn


def then_compaction(soak: Soak) -> Callable[[Progress], bool]:
    """Wait until the journal has removed what it need not keep, and given back the room; but not for ever."""
    patience = 0.0

    def turn(progress: Progress) -> bool:
        nonlocal patience
        patience = patience or time.monotonic() + PATIENCE
        if not _is_compact(soak) and time.monotonic() < patience:
            return False
        soak.row(progress)
        return True

    return turn


def _is_compact(soak: Soak) -> bool:
    with closing(sqlite3.connect(soak.lake.journal)) as journal:
        oldest = journal.execute("SELECT at FROM hops ORDER BY id LIMIT 1").fetchone()
        total, free = (journal.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count"))
    is_old = oldest is not None and oldest[0] < time.time() + soak.passed - KEPT_SECONDS - 60
    return not is_old and free <= max(FREE_PAGES, total * FREE_SHARE)


def _steps(hours: float, days: float) -> Iterator[tuple[float, int]]:
    """Steps: the seconds that pass at once, and the number of files that arrive then."""
    yield from [(300.0, ARRIVE)] * int(hours * 12)
    yield from [(7200.0, 1)] * int(days * 12)


def complete(soak: Soak) -> bool:
    silver = count_silver(soak.lake.bucket("dl-silver-layer"))
    print(f"{soak.written:,} files in bronze, {silver:,} in silver")
    return silver == soak.written


def flat(rows: Sequence[Row]) -> bool:
    """Whether nothing grew that should not; prints the numbers behind the verdict."""
    half, few = len(rows) // 2, max(1, len(rows) // 5)
    memory = [max(row.memory for row in part) for part in (rows[:half], rows[half:])]
    print(f"memory at most: {memory[0]:.0f} MB in the first half of the rows, {memory[1]:.0f} MB in the second")
    filled = max(row.journal for row in rows if not row.passed)
    print(f"journal: {filled:.0f} MB when the files were done, {rows[-1].journal:.0f} MB at the end")
    verdicts = [memory[1] <= memory[0] * 1.1, rows[-1].journal <= filled * 1.1]
    costs: dict[str, Callable[[Row], float]] = {
        "put, in writes to the disk": lambda row: row.put / row.bare,
        "receive, in ms": lambda row: row.receive,
        "trace, in ms": lambda row: row.trace,
    }
    for name, cost in costs.items():
        first, last = (statistics.median(map(cost, part)) for part in (rows[:few], rows[-few:]))
        print(f"{name}: {first:.2f} in the first rows, {last:.2f} in the last")
        verdicts.append(last <= first * 3)
    return all(verdicts)


def count_silver(folder: Path) -> int:
    return sum(1 for _ in folder.rglob("*.json.parquet"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--hours", type=float, default=24)
    parser.add_argument("--days", type=float, default=20)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    print(*(f"{name:>11}" for name in HEAD))
    with tempfile.TemporaryDirectory() as folder:
        soak = Soak(Path(folder), options.workers)
        try:
            soak.run(
                first_many(soak, options.files), then_time(soak, options.hours, options.days), then_compaction(soak)
            )
        finally:
            soak.engine.close()
        return 0 if all([complete(soak), flat(soak.rows)]) else 1


if __name__ == "__main__":
    raise SystemExit(main())
