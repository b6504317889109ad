"""Many small JSON files to Parquet: the whole local chain, the limit, and what people use today.

    python -m bench.small_files [--files 10000] [--kilobytes 4] [--workers 2] [--runs 3] [--without PEER ...] [--short]

The limit is a bare loop in as many processes that reads with Polars and writes Parquet, and its durable form, which
syncs every file to disk and renames it, as the chain does; this also with one thread of Polars in each process, as the
chain's workers have it where there are as many as CPUs. Two speeds are shown: of the whole program, with its start,
the import of its libraries and the search of the folder; and of its work alone, once it runs. For the chain that is
from the first commit to the last; for the others what the job itself measures. CPU time is that of all processes with
the start: on a busy machine it tells more than the clock does. MiniStack's chain is measured with the server and the
function warm. Whether the peers sync anything to disk is theirs: none is told to. Pathway writes what a function of
its user writes, so it is there twice: as is, and with a function that is as durable as the loop.

``--short`` takes 300 files, one run, and neither MiniStack nor Spark.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from bench import ministack
from bench.markdown import mebibytes, number, ratio, table
from bench.measure import Contender, Measured, in_turns, machine, run
from bench.peers import PEERS, ROOT

JOBS = ROOT / "bench/jobs/small_files.py"

#: MiniStack is slow enough for a part of the files to tell its speed.
MINISTACK_FILES = 300

PIPELINE = """
import polars as pl
from silversmith import Contract, Pipeline

pipeline = Pipeline("bench")

@pipeline.transform("*.json")
def rows(rows: pl.LazyFrame) -> pl.LazyFrame:
    return rows
"""


def make_files(folder: Path, count: int, kilobytes: int) -> None:
    """JSON arrays of flat records, about this large each, all different."""
    draw = random.Random(7)
    folder.mkdir(parents=True)
    for index in range(count):
        records: list[dict[str, object]] = []
        size = 0
        while size < kilobytes * 1024:
            record = {
                "number": len(records),
                "file": index,
                "track": f"track {draw.randrange(10**9)}",
                "plays": draw.randrange(10**6),
                "score": draw.random(),
                "day": "2026-01-02",
            }
            size += len(json.dumps(record)) + 2
            records.append(record)
        (folder / f"{index:06d}.json").write_text(json.dumps(records))


def chain(source: Path, workers: int) -> Measured:
    """``silversmith run --until-idle`` over a lake whose bronze bucket holds the files already."""
    folder = fresh(source)
    lake = folder / "lake"
    lake.mkdir()
    source.rename(lake / "dl-bronze-layer")
    try:
        (folder / "pipeline.py").write_text(PIPELINE)
        command = [sys.executable, "-m", "silversmith.cli", "run", "pipeline.py", "--until-idle"]
        measured = run([*command, "--workers", str(workers)], cwd=folder)
        times = sorted(path.stat().st_mtime for path in (lake / "dl-silver-layer").rglob("*.parquet"))
    finally:
        (lake / "dl-bronze-layer").rename(source)
    return Measured(measured.seconds, times[-1] - times[0], measured.peak, measured.cpu)


def fresh(source: Path) -> Path:
    """A new folder beside the source. It stays until all is measured: ext4 gives the inodes of deleted files to others
    only after some minutes, and to look past them would slow down whoever is next."""
    return Path(tempfile.mkdtemp(dir=source.parent))


def job(name: str, source: Path, workers: int, *, peer: str | None = None, **more: str) -> Measured:
    """One of bench/jobs/small_files.py. ``peer``: in whose environment, if it is not named like the job; those that
    are no peers run in this very environment."""
    folder = fresh(source)
    python, environment = Path(sys.executable), None
    if (of := PEERS.get(peer or name)) is not None:
        of.install()
        python, environment = of.python, of.variables()
    command: list[str | Path] = [python, JOBS, name, source, folder / "target", str(workers)]
    return run(command, cwd=folder, environment={**(environment or os.environ), **more})


def contenders(source: Path, some: Path, options: argparse.Namespace) -> list[tuple[Contender, int]]:
    """Everyone, with how many files they get."""
    count, workers = options.files, options.workers
    sides: list[tuple[str, str, Callable[[], Measured], int]] = [
        ("bare_synced", "bare loop, durable", partial(job, "bare_synced", source, workers), count),
        ("bare", "bare loop", partial(job, "bare", source, workers), count),
        (
            "bare_synced",
            "bare loop, durable, 1 thread",
            partial(job, "bare_synced", source, workers, POLARS_MAX_THREADS="1"),
            count,
        ),
        ("silversmith", "Silversmith", partial(chain, source, workers), count),
    ]
    sides += [
        (name, PEERS[name].label, partial(job, name, source, workers), count) for name in ("pyspark", "dlt", "pathway")
    ]
    durable = partial(job, "pathway_synced", source, workers, peer="pathway")
    sides.append(("pathway", f"{PEERS['pathway'].label}, durable", durable, count))
    few = min(count, MINISTACK_FILES)
    for function in ministack.FUNCTIONS:
        label = f"{PEERS['ministack'].label}, {function}"
        sides.append(("ministack", label, partial(ministack.chain, function, some, workers), few))
    return [(Contender(label, once), files) for name, label, once, files in sides if name not in options.without]


def show(sides: list[tuple[Contender, int]]) -> str:
    """The table. Ratios are to the durable bare loop, by the speed of the work alone."""
    limit = sides[0][1] / sides[0][0].median("working")
    rows = []
    for contender, files in sides:
        if contender.missing:
            rows.append([contender.label, contender.missing])
            continue
        whole, working = (files / contender.median(what) for what in ("seconds", "working"))
        peak, cpu = mebibytes(contender.median("peak")), f"{contender.median('cpu') / files * 1e6:,.0f}"
        rows.append([contender.label, f"{files:,}", number(whole), number(working), ratio(working / limit), cpu, peak])
    header = ["", "files", "files/s, whole", "files/s, working", "of the limit", "CPU us a file", "peak memory"]
    return table(header, rows)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--kilobytes", type=int, default=4)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--runs", type=int, default=3)
    choice = ["pyspark", "dlt", "pathway", "ministack"]
    parser.add_argument("--without", nargs="*", default=[], choices=choice, metavar="PEER", help=", ".join(choice))
    parser.add_argument("--short", action="store_true")
    options = parser.parse_args(arguments)
    if options.short:
        options.files, options.runs, options.without = min(options.files, 300), 1, ["pyspark", "ministack"]
    return options


def main() -> None:
    """Measure in turns, and print medians."""
    options = parse()
    (ROOT / "build").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=ROOT / "build") as name:
        source, some = Path(name) / "source", Path(name) / "some"
        make_files(source, options.files, options.kilobytes)
        make_files(some, min(options.files, MINISTACK_FILES), options.kilobytes)
        sides = contenders(source, some, options)
        in_turns([contender for contender, _ in sides], options.runs)
    print(
        f"{options.files:,} JSON files of {options.kilobytes} KB, {options.workers} processes, "
        f"medians of {options.runs} runs"
    )
    print(f"{machine()}\n\n{show(sides)}")


if __name__ == "__main__":
    main()
