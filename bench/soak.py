"""A lake over a long time: many small files, then days of more of them, and whether anything grows that should not.

    python -m bench.soak [--files 100000] [--hours 24] [--days 20] [--workers 2]

First so many files of 100 bytes are put through the whole chain. Then a clock set by hand lets hours pass: in every
five minutes of them some files arrive and some change; after that, days pass in which little happens, so that what is
older than the journal keeps it goes. While that runs, the table grows by a row now and then: the memory of the engine
and of its workers, the size of the journal, and what a put, a receive (with its delete) and a trace take.

Exit code 1 if a file is missing in silver, or if the second half of the time took a tenth more memory than the first.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psutil

from silversmith.local.clock import Clock
from silversmith.local.engine import Engine
from silversmith.local.journal import Journal
from silversmith.local.lake import LakeFolder
from silversmith.local.post import Post
from silversmith.local.progress import Progress
from silversmith.local.queue import Queue, Settings
from silversmith.operations.local import open_lake
from silversmith.operations.trace import trace
from silversmith.pipeline import Pipeline, load

PIPELINE = """
from silversmith import Pipeline

pipeline = Pipeline("soak")

@pipeline.transform("*.json")
def rows(rows):
    return rows
"""

#: A queue of our own in the engine's journal: its messages lie among all the others.
PROBE = Settings("probe", "arn:aws:sqs:us-east-1:000000000000:probe", visibility_timeout=30)

#: Files that arrive in five minutes of simulated time, and how many of them are new.
ARRIVE, NEW = 20, 5

HEAD = ("simulated", "files", "engine MB", "workers MB", "journal MB", "put ms", "receive ms", "trace ms", "files/s")


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
        self.memory: list[float] = []
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
        """One after the other: each is called with the progress, several times a second, until it says that it is
        done."""
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
        self.memory.append(engine + sum(workers))
        journal = sum(path.stat().st_size for path in self.lake.journal.parent.glob("journal.db*")) / 1e6
        put, receive, traced = (
            1000 * statistics.median(found()) for found in (self._puts, self._receives, self._traces)
        )
        now, done = time.monotonic(), progress.done
        rate = (done - self._done[1]) / max(now - self._done[0], 1e-9)
        self._done = (now, done)
        simulated = f"{self.passed / 3600:.1f} h"
        numbers = (engine, sum(workers), journal, put, receive, traced, rate)
        print(f"{simulated:>10} {self.written:>10,}", *(f"{number:>11,.2f}" for number in numbers), flush=True)

    def _puts(self) -> list[float]:
        store = self.lake.store("dl-bronze-layer", foreign_writers=True)
        return [_timed(lambda: store.put("probe.txt", os.urandom(100))) for _ in range(20)]

    def _receives(self) -> list[float]:
        with closing(Journal(self.lake.journal)) as journal:
            queue = Queue(journal, PROBE)
            return [_timed(lambda: _send_and_receive(journal, queue)) for _ in range(20)]

    def _traces(self) -> list[float]:
        with open_lake(self.lake, self.pipeline) as target:
            keys = [f"{number % 100:02}/{number}.json" for number in range(0, self.written, max(1, self.written // 20))]
            return [_timed(lambda key=key: trace(key, self.pipeline, target)) for key in keys]  # type: ignore[misc]


def _send_and_receive(journal: Journal, queue: Queue) -> None:
    with journal.transaction():
        queue.accept([Post(0, "", PROBE.arn, "", "probe", "v", b"{}", 0.0)], 0.0)
    (message,) = queue.receive(1, 1.0)
    queue.delete([message.receipt])


def _timed(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def first_many(soak: Soak, files: int) -> Callable[[Progress], bool]:
    """Drop the files, and wait until all are done, with some ten rows of the table on the way."""
    for number in range(files):
        soak.drop(number, 0)
    shown = 0

    def turn(progress: Progress) -> bool:
        nonlocal shown
        if progress.done * 10 // files > shown:
            shown = progress.done * 10 // files
            soak.row(progress)
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


def _steps(hours: float, days: float) -> Iterator[tuple[float, int]]:
    """How much time passes at once, in seconds, and how many files arrive then."""
    yield from [(300.0, ARRIVE)] * int(hours * 12)
    yield from [(7200.0, 1)] * int(days * 12)


def complete(soak: Soak) -> bool:
    silver = count_silver(soak.lake.bucket("dl-silver-layer"))
    print(f"{soak.written:,} files in bronze, {silver:,} in silver")
    return silver == soak.written


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
            soak.run(first_many(soak, options.files), then_time(soak, options.hours, options.days))
        finally:
            soak.engine.close()
        half = len(soak.memory) // 2
        before, after = max(soak.memory[:half]), max(soak.memory[half:])
        print(f"memory at most: {before:.0f} MB in the first half, {after:.0f} MB in the second")
        return 0 if complete(soak) and after <= before * 1.1 else 1


if __name__ == "__main__":
    raise SystemExit(main())
