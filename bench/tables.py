"""What tables cost, and what they give: rows that become visible, scans, and commits as a table grows.

    python -m bench.tables [--files 10000] [--batch 1000] [--sizes 1000 10000 100000] [--commits 20] [--runs 3]
                           [--short]

Three measurements, one after the other in each run:

- Silver's files into one table, a commit a batch: Silversmith's committer, beside Oxbow's way (append only, each batch
  of files read and appended through deltalake, without a look at what the table has already).
- A scan of the table beside a scan of silver's files, both by Polars: the sum of one column.
- The cost of a commit that corrects one file, in tables that were made of so many files.

The times are of one process and without the engine around it. Peers that need their own environment are not in here.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import polars as pl
from deltalake import write_deltalake

from bench.markdown import number, ratio, table
from bench.measure import machine, progress
from bench.peers import ROOT
from silversmith.stores import batched
from silversmith.tables.commit import bring
from silversmith.tables.delta import DeltaFormat
from silversmith.tables.spec import TableSpec
from tests.unit.tables.kit import GoldBench, nothing

#: The rows of one file.
ROWS = 20

SPEC = TableSpec("orders", "orders")


def make_silver(bench: GoldBench, files: int) -> list[str]:
    """Silver as the function writes it; returns its keys."""
    return [bench.put(f"{index:06d}.csv", rows(index)) for index in range(files)]


def rows(index: int) -> pl.DataFrame:
    return pl.DataFrame(
        {"file": [index] * ROWS, "number": range(ROWS), "name": [f"track {index * ROWS + row}" for row in range(ROWS)]}
    )


def committed(bench: GoldBench, keys: Sequence[str], batch: int) -> float:
    """The seconds in which Silversmith's committer takes the files, so many in a batch."""
    began = time.perf_counter()
    for some in batched(keys, batch):
        bring(SPEC, some, silver=bench.silver, gold=bench.gold, step=nothing)
    return time.perf_counter() - began


def appended(bench: GoldBench, keys: Sequence[str], batch: int) -> float:
    """The same by one append a batch."""
    target = bench.root / "appended"
    began = time.perf_counter()
    for some in batched(keys, batch):
        frame = pl.concat(pl.read_parquet(bench.root / "silver" / key) for key in some)
        write_deltalake(target, frame, mode="append")
    return time.perf_counter() - began


def scanned(bench: GoldBench) -> tuple[float, float]:
    """The seconds of a scan of silver's files, and of the table."""
    frames: list[Callable[[], pl.LazyFrame]] = [
        lambda: pl.scan_parquet(bench.root / "silver/orders/**/*.parquet"),
        lambda: pl.scan_delta(bench.gold.location("orders")),
    ]
    seconds = []
    for frame in frames:
        for _ in range(2):  # the first one imports what the scan needs
            began = time.perf_counter()
            frame().select(pl.col("number").sum()).collect()
        seconds.append(time.perf_counter() - began)
    return seconds[0], seconds[1]


def corrected(root: Path, size: int, commits: int) -> float:
    """The median seconds of a commit that corrects one file, in a table of so many files."""
    bench = GoldBench(root)
    key = bench.put("000000.csv", rows(0))
    others = pl.concat(rows(index).with_columns(_file=pl.lit(f"{index:06d}.csv")) for index in range(1, size))
    bench.bring(key)
    columns = bench.snapshot().columns
    frame = others.with_columns(_etag=pl.lit("e")).select(list(columns))
    write_deltalake(bench.gold.location("orders"), frame, mode="append")
    seconds = []
    for commit in range(commits):
        bench.put("000000.csv", rows(commit))
        began = time.perf_counter()
        bring(SPEC, [key], silver=bench.silver, gold=DeltaFormat(root / "gold", scratch=root), step=nothing)
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--batch", type=int, default=1_000)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--commits", type=int, default=20)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--short", action="store_true")
    options = parser.parse_args(arguments)
    if options.short:
        options.files, options.batch, options.runs = min(options.files, 300), min(options.batch, 100), 1
        options.sizes, options.commits = [100, 1_000], min(options.commits, 5)
    return options


def main() -> None:
    """Measure, and print medians."""
    options = parse()
    (ROOT / "build").mkdir(exist_ok=True)
    taken: dict[str, list[float]] = {"Silversmith": [], "append only": [], "silver": [], "table": []}
    commits: dict[int, list[float]] = {size: [] for size in options.sizes}
    with tempfile.TemporaryDirectory(dir=ROOT / "build") as folder:
        for turn in range(options.runs):
            progress(f"run {turn + 1} of {options.runs}")
            bench = GoldBench(Path(folder) / str(turn))
            keys = make_silver(bench, options.files)
            taken["append only"].append(appended(bench, keys, options.batch))
            taken["Silversmith"].append(committed(bench, keys, options.batch))
            for name, seconds in zip(("silver", "table"), scanned(bench), strict=True):
                taken[name].append(seconds)
            for size in options.sizes:
                commits[size].append(corrected(Path(folder) / f"{turn}-{size}", size, options.commits))
    medians = {name: statistics.median(seconds) for name, seconds in taken.items()}
    print(f"{options.files:,} files of {ROWS} rows, {options.batch:,} in a commit, medians of {options.runs} runs")
    print(f"{machine()}\n")
    sides = [
        (name, number(medians[name]), number(options.files / medians[name])) for name in ("Silversmith", "append only")
    ]
    print(table(["into a table", "s", "files/s"], sides), end="\n\n")
    scans = [
        (name, number(1000 * medians[name]), ratio(medians["silver"] / medians[name])) for name in ("silver", "table")
    ]
    print(table(["scan", "ms", "speed"], scans), end="\n\n")
    sizes = [(f"{size:,}", number(1000 * statistics.median(seconds))) for size, seconds in commits.items()]
    print(table(["files in the table", "ms a commit"], sizes))


if __name__ == "__main__":
    main()
