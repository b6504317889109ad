"""From a file's landing in bronze to its silver file being there: when nothing else happens, and under load.

    python -m bench.latency [--idle 200] [--burst 1000] [--seconds 20] [--workers 2] [--runs 3] [--short]

``silversmith run`` works in a process of its own, warm. A file lands by a rename, as careful writers do it; from just
before the rename to the moment at which the silver file's name exists is what is measured, by looking for that name
two thousand times a second. Three phases: a burst of files at once tells the peak rate; then files land one at a time,
at moments drawn at random, with nothing else to do; then they land at half of the peak rate, evenly.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from bench.markdown import table
from bench.measure import machine, percentile, progress
from bench.peers import ROOT
from bench.small_files import PIPELINE, make_files

#: How often silver is looked at, in seconds: what is measured is at most so much too long.
LOOK = 0.0005

#: Seconds in which everything that landed must be in silver.
PATIENCE = 120

GOALS = {"idle": (10, 50)}


def started(folder: Path, workers: int, log: BinaryIO) -> subprocess.Popen[bytes]:
    """An engine over the pipeline of a folder."""
    command = [sys.executable, "-m", "silversmith.cli", "run", "pipeline.py", "--no-page", "--workers", str(workers)]
    return subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)


class Lake:
    """A lake with a running engine, and the files that were put into it and are awaited."""

    def __init__(self, folder: Path, workers: int) -> None:
        self.bronze, self.silver = folder / "lake/dl-bronze-layer", folder / "lake/dl-silver-layer/rows"
        self._folder, self._landed = folder, 0
        self._awaited: dict[Path, float] = {}
        self.latencies: list[float] = []
        (folder / "pipeline.py").write_text(PIPELINE)
        make_files(folder / "bodies", 50, 4)
        self._bodies = [path.read_bytes() for path in sorted((folder / "bodies").iterdir())]
        self._log = (folder / "log").open("wb")
        self.engine = started(folder, workers, self._log)

    def land(self) -> None:
        """Move one more file into bronze, with bytes of its own."""
        self._landed += 1
        name = f"{self._landed:07}.json"
        ready = self._folder / name
        ready.write_bytes(b"%s%s" % (self._bodies[self._landed % len(self._bodies)], b" " * (self._landed % 500)))
        self._awaited[self.silver / f"{name}.parquet"] = time.perf_counter()
        ready.rename(self.bronze / name)

    def look(self) -> None:
        """Note the files that have reached silver."""
        there = [path for path in self._awaited if path.exists()]
        now = time.perf_counter()
        self.latencies += [now - self._awaited.pop(path) for path in there]

    def settle(self) -> None:
        """Wait until all is in silver."""
        end = time.monotonic() + PATIENCE
        while self._awaited:
            self.look()
            time.sleep(LOOK)
            if time.monotonic() > end or self.engine.poll() is not None:
                raise SystemExit(f"{len(self._awaited)} files did not come out: {(self._folder / 'log').read_text()}")

    def take(self) -> list[float]:
        """The latencies since the last time, in seconds."""
        latencies, self.latencies = self.latencies, []
        return latencies

    def close(self) -> None:
        self.engine.terminate()
        self.engine.wait(PATIENCE)
        self._log.close()


@contextlib.contextmanager
def running(workers: int) -> Iterator[Lake]:
    """A lake whose engine has started and whose workers are warm."""
    with tempfile.TemporaryDirectory(dir=ROOT / "build") as name:
        lake = Lake(Path(name), workers)
        try:
            while not lake.bronze.exists():
                time.sleep(0.05)
                if lake.engine.poll() is not None:
                    raise SystemExit((Path(name) / "log").read_text())
            for _ in range(20 * workers):
                lake.land()
            lake.settle()
            lake.take()
            yield lake
        finally:
            lake.close()


def peak(lake: Lake, files: int) -> float:
    """Files per second when all come at once."""
    began = time.perf_counter()
    for _ in range(files):
        lake.land()
    lake.settle()
    lake.take()
    return files / (time.perf_counter() - began)


def idle(lake: Lake, files: int) -> list[float]:
    """Land files singly, with pauses of 20 to 60 milliseconds in between."""
    draw = random.Random(11)
    for _ in range(files):
        lake.land()
        lake.settle()
        time.sleep(draw.uniform(0.02, 0.06))
    return lake.take()


def loaded(lake: Lake, rate: float, seconds: float) -> list[float]:
    """Evenly, at so many files per second, whether or not the earlier ones are done."""
    began = time.perf_counter()
    for number in range(max(1, int(rate * seconds))):
        while time.perf_counter() < began + number / rate:
            lake.look()
            time.sleep(LOOK)
        lake.land()
    lake.settle()
    return lake.take()


def row(name: str, runs: list[list[float]]) -> list[str]:
    """Medians of the runs' percentiles, in milliseconds."""
    measures: list[Callable[[list[float]], float]] = [
        lambda values: percentile(values, 0.5),
        lambda values: percentile(values, 0.99),
        max,
    ]
    cells = [f"{statistics.median(measure(values) for values in runs) * 1000:.1f}" for measure in measures]
    goal = "p50 < {} ms, p99 < {} ms".format(*GOALS[name]) if name in GOALS else ""
    return [name, f"{len(runs[0]):,}", *cells, goal]


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--idle", type=int, default=200, help="files that land one at a time")
    parser.add_argument("--burst", type=int, default=1000, help="files that land at once")
    parser.add_argument("--seconds", type=float, default=20, help="how long files land at half of the peak rate")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--short", action="store_true", help="a smaller form of everything")
    options = parser.parse_args(arguments)
    if options.short:
        options.idle, options.burst, options.seconds, options.runs = 100, 200, 5, 1
    return options


def main() -> None:
    options = parse()
    (ROOT / "build").mkdir(exist_ok=True)
    rates, calm, busy = [], [], []
    for turn in range(options.runs):
        progress(f"run {turn + 1} of {options.runs}")
        with running(options.workers) as lake:
            rates.append(peak(lake, options.burst))
            calm.append(idle(lake, options.idle))
            busy.append(loaded(lake, rates[-1] / 2, options.seconds))
    progress("")
    print(
        f"Files of 4 KB, {options.workers} workers, medians of {options.runs} runs; "
        f"peak {statistics.median(rates):.0f} files/s"
    )
    rows = [row("idle", calm), row("half of the peak rate", busy)]
    print(f"{machine()}\n\n{table(['', 'files', 'p50 ms', 'p99 ms', 'most ms', 'goal'], rows)}")


if __name__ == "__main__":
    main()
