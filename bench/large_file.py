"""One large CSV file to Parquet, with a contract of types and three rules, beside the limit and today's tools.

    python -m bench.large_file [--sizes 0.1 1 5] [--runs 3] [--without PEER ...] [--short]

The file is TPC-H's lineitem, by ``tpchgen-cli``, of about so many GB; it is kept under ``build/`` for the next time.
The limit is bare Polars, which checks nothing. Silversmith appears twice: its handler alone, as Lambda runs it, and
``silversmith run`` with its start, its search of the folder and its checksums. CPU seconds are those of all threads and
the start: of two programs on a busy machine they tell more than the clock does. Every run is a process of its own; its
peak memory is that of the process and its children together.

``--short`` takes 0.05 GB, one run, and no Spark.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

from bench.markdown import mebibytes, number, ratio, table
from bench.measure import Contender, Measured, in_turns, machine, run
from bench.peers import PEERS, ROOT, NotAvailable

JOBS = ROOT / "bench/jobs/large_file.py"
FILES = ROOT / "build/lineitem"

#: Lineitem's CSV has so many GB for each unit of TPC-H's scale factor.
GB_OF_ONE = 0.74

PIPELINE = """
import polars as pl
from silversmith import Contract, Pipeline

pipeline = Pipeline("bench")

TYPES = {
    **dict.fromkeys(("l_orderkey", "l_partkey", "l_suppkey", "l_linenumber", "l_quantity"), pl.Int64),
    **dict.fromkeys(("l_extendedprice", "l_discount", "l_tax"), pl.Float64),
    **dict.fromkeys(("l_returnflag", "l_linestatus"), pl.String),
    **dict.fromkeys(("l_shipdate", "l_commitdate", "l_receiptdate"), pl.Date),
    **dict.fromkeys(("l_shipinstruct", "l_shipmode", "l_comment"), pl.String),
}
RULES = {
    "something was ordered": pl.col("l_quantity") > 0,
    "discounts are small": pl.col("l_discount").is_between(0, 0.1),
    "sent before it came": pl.col("l_shipdate") <= pl.col("l_receiptdate"),
}

@pipeline.transform("*.csv", memory=10240, timeout=900, contract=Contract(schema=TYPES, rules=RULES))
def lineitem(rows: pl.LazyFrame) -> pl.LazyFrame:
    return rows
"""


def lineitem(size: float) -> Path:
    """The file of so many GB, made if it is not there yet.

    Raises:
        NotAvailable: ``tpchgen-cli`` cannot be installed.
    """
    path = FILES / f"{size:g}GB" / "lineitem.csv"
    if not path.exists():
        peer = PEERS["tpchgen-cli"]
        peer.install()
        with tempfile.TemporaryDirectory(dir=ROOT / "build") as folder:
            scale = f"{size / GB_OF_ONE:.4f}"
            command = [str(peer.program("tpchgen-cli")), "csv", "-s", scale, "--tables", "lineitem", "-o", folder]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            path.parent.mkdir(parents=True, exist_ok=True)
            (Path(folder) / "lineitem.csv").rename(path)
    return path


def silversmith(source: Path, *, chain: bool) -> Measured:
    """The whole chain until it is idle, or the handler alone. The file is linked into bronze, not copied."""
    with tempfile.TemporaryDirectory(dir=ROOT / "build") as name:
        folder = Path(name)
        bronze = folder / "lake/dl-bronze-layer"
        bronze.mkdir(parents=True)
        (folder / "pipeline.py").write_text(PIPELINE)
        (bronze / source.name).hardlink_to(source)
        if chain:
            command = [sys.executable, "-m", "silversmith.cli", "run", "pipeline.py", "--until-idle", "--workers", "1"]
            measured = run(command, cwd=folder)
        else:
            command = [sys.executable, "-m", "bench.jobs.handle_file", "lake", "pipeline.py", source.name]
            measured = run(command, cwd=folder, environment=_importing())
        if not list((folder / "lake/dl-silver-layer").rglob("*.parquet")):
            raise NotAvailable("made no silver file")
        return measured


def _importing() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def job(name: str, source: Path) -> Measured:
    """One of bench/jobs/large_file.py; Polars runs in this very environment."""
    python, environment = Path(sys.executable), None
    if name in PEERS:
        PEERS[name].install()
        python, environment = PEERS[name].python, PEERS[name].variables()
    with tempfile.TemporaryDirectory(dir=ROOT / "build") as folder:
        return run(
            [python, JOBS, name, source, Path(folder, "lineitem.parquet")], cwd=Path(folder), environment=environment
        )


def contenders(source: Path, without: list[str]) -> list[Contender]:
    """The limit first."""
    ours = [
        Contender("bare Polars, no checks", partial(job, "polars", source)),
        Contender("Silversmith, handler", partial(silversmith, source, chain=False)),
        Contender("Silversmith, whole chain", partial(silversmith, source, chain=True)),
    ]
    names = [name for name in ("duckdb", "pandas", "pyarrow", "pyspark") if name not in without]
    return ours + [Contender(PEERS[name].label, partial(job, name, source)) for name in names]


def show(sides: list[Contender], size: int) -> str:
    """The table. Ratios are of speeds, to the limit, without the start of the program."""
    limit = sides[0].median("working")
    rows = []
    for contender in sides:
        if contender.missing:
            rows.append([contender.label, contender.missing])
            continue
        seconds, working = contender.median("seconds"), contender.median("working")
        speed = f"{size / working / 1e6:,.0f}"
        peak = mebibytes(contender.median("peak"))
        cpu = number(contender.median("cpu"))
        rows.append([contender.label, number(seconds), number(working), cpu, speed, ratio(limit / working), peak])
    return table(["", "s, whole", "s, working", "CPU s, whole", "MB/s", "of the limit", "peak memory"], rows)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=float, nargs="+", default=[0.1, 1, 5], metavar="GB")
    parser.add_argument("--runs", type=int, default=3)
    choice = ["duckdb", "pandas", "pyarrow", "pyspark"]
    parser.add_argument("--without", nargs="*", default=[], choices=choice, metavar="PEER", help=", ".join(choice))
    parser.add_argument("--short", action="store_true")
    options = parser.parse_args(arguments)
    if options.short:
        options.sizes, options.runs, options.without = [0.05], 1, ["pyspark"]
    return options


def main() -> None:
    """A table for each size."""
    options = parse()
    print(f"TPC-H lineitem as CSV to Parquet (zstd), medians of {options.runs} runs\n{machine()}")
    (ROOT / "build").mkdir(exist_ok=True)
    for size in options.sizes:
        try:
            source = lineitem(size)
        except NotAvailable as error:
            raise SystemExit(f"{PEERS['tpchgen-cli'].label}: {error}") from None
        sides = contenders(source, options.without)
        in_turns(sides, options.runs)
        print(f"\n{source.stat().st_size / 1e9:.2f} GB\n\n{show(sides, source.stat().st_size)}", flush=True)
    if options.short:
        shutil.rmtree(FILES / "0.05GB")


if __name__ == "__main__":
    main()
