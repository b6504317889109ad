"""Many small files through the whole local chain, beside a bare loop that only reads with Polars and writes Parquet.

    python bench/small_files.py [--files 2000] [--kilobytes 4] [--workers 2] [--rounds 3]

Both sides use the same number of processes and end when the last Parquet file is there. The chain is timed by
``silversmith run --until-idle`` itself: its start, the import of Polars in every worker, and the final search of the
bucket included; a second figure leaves out the start, as a running engine would. The bare loop's second variant syncs
every file to disk as the chain does; it is the limit of what a durable chain could reach.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from multiprocessing.pool import Pool
from pathlib import Path

PIPELINE = """
import polars as pl
from silversmith import Contract, Pipeline

pipeline = Pipeline("bench")

@pipeline.transform("*.json")
def rows(rows: pl.LazyFrame) -> pl.LazyFrame:
    return rows
"""


def make_files(folder: Path, number: int, kilobytes: int) -> None:
    """JSON arrays of flat records, about this large each, all different."""
    draw = random.Random(7)
    folder.mkdir(parents=True)
    for index in range(number):
        records: list[dict[str, object]] = []
        size = 0
        while size < kilobytes * 1024:
            record = {
                "id": len(records),
                "file": index,
                "track": f"track {draw.randrange(10**9)}",
                "plays": draw.randrange(10**6),
                "score": draw.random(),
                "day": "2026-01-02",
            }
            size += len(json.dumps(record)) + 2
            records.append(record)
        (folder / f"{index:06d}.json").write_text(json.dumps(records))


def convert(paths: tuple[Path, Path, bool]) -> None:
    """The bare loop's body: what any framework must at least do."""
    import polars as pl

    source, target, sync = paths
    frame = pl.read_json(source)
    if not sync:
        frame.write_parquet(target, compression="zstd")
        return
    temporary = target.with_suffix(".tmp")
    with temporary.open("wb") as file:
        frame.write_parquet(file, compression="zstd")
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(target)
    folder = os.open(target.parent, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)


def bare_loop(pool: Pool, source: Path, target: Path, *, sync: bool) -> float:
    """Seconds for all files in the processes of a pool that are warm already."""
    target.mkdir(parents=True)
    work = [(path, target / f"{path.name}.parquet", sync) for path in sorted(source.iterdir())]
    began = time.perf_counter()
    pool.map(convert, work, chunksize=10)
    return time.perf_counter() - began


def chain(source: Path, folder: Path, workers: int) -> tuple[float, float]:
    """Seconds for ``run --until-idle``: in all, and between the first and the last commit."""
    lake = folder / "lake"
    (lake / "dl-bronze-layer").parent.mkdir(parents=True)
    source.rename(lake / "dl-bronze-layer")
    (folder / "pipeline.py").write_text(PIPELINE)
    command = [sys.executable, "-m", "silversmith.cli", "run", "pipeline.py", "--until-idle", "--workers", str(workers)]
    began = time.perf_counter()
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    total = time.perf_counter() - began
    times = sorted(path.stat().st_mtime for path in (lake / "dl-silver-layer").rglob("*.parquet"))
    (lake / "dl-bronze-layer").rename(source)
    return total, times[-1] - times[0]


def main() -> None:
    """Measure in turns, so that a noisy machine disturbs all alike, and print medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--kilobytes", type=int, default=4)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    seconds: dict[str, list[float]] = {
        "bare loop": [],
        "bare loop, synced": [],
        "chain, whole run": [],
        "chain, running": [],
    }
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as name:
        folder = Path(name)
        make_files(folder / "source", options.files, options.kilobytes)
        with multiprocessing.get_context("spawn").Pool(options.workers) as pool:
            bare_loop(pool, folder / "source", folder / "warm", sync=False)
            for turn in range(options.rounds):
                seconds["bare loop"].append(bare_loop(pool, folder / "source", folder / f"bare-{turn}", sync=False))
                synced = bare_loop(pool, folder / "source", folder / f"synced-{turn}", sync=True)
                seconds["bare loop, synced"].append(synced)
                whole, running = chain(folder / "source", folder / f"chain-{turn}", options.workers)
                seconds["chain, whole run"].append(whole)
                seconds["chain, running"].append(running)
    print(f"{options.files} JSON files of {options.kilobytes} KB, {options.workers} processes, {options.rounds} rounds")
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, {platform.machine()}")
    best = statistics.median(seconds["bare loop, synced"])
    print(f"{'':20}{'files/s':>10}{'of synced':>12}")
    for label, found in seconds.items():
        median = statistics.median(found)
        print(f"{label:20}{options.files / median:10.0f}{best / median:11.0%}")


if __name__ == "__main__":
    main()
