"""The cost of tables, and their benefit.

    python -m bench.tables [chain] [load] [scan] [grow] [fresh] [kills] [--files 10000] [--runs 3] [--short] …

Without a name all of them, one after the other, their contenders in turns:

- chain: ``silversmith run --until-idle`` over JSON files, to silver alone, with a table, and with a table and a view;
  beside dlt, which loads the same files into a Delta table.
- load: silver's files into one table, a commit a batch, and upkeep after each: Silversmith's committer beside Oxbow's
  way (append only, each batch of files read and appended through deltalake, without a look at what the table has). Of
  Silversmith's commits also what the first and the last hundred cost.
- scan: a sum over one column of the table beside the same of silver's files, both by Polars.
- grow: a commit of ten new files, of one correction and of ten that lie anywhere, in tables of so many files.
- fresh: from a file's landing to its row being visible, in a running engine, by its rate.
- kills: the table function is killed at random moments, over and over, and told its messages again; then rows that were
  acknowledged and are lost, or there twice.

The clock says little where others use the machine: so the CPU time, of a process and its children, stands beside it.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

import polars as pl
from deltalake import DeltaTable, write_deltalake

from bench.latency import started
from bench.markdown import number, ratio, table
from bench.measure import Contender, Measured, in_turns, machine, percentile, progress, run
from bench.peers import PEERS, ROOT
from bench.small_files import PIPELINE, fresh, job, make_files
from silversmith.stores import batched
from silversmith.tables.commit import bring
from silversmith.tables.delta import DeltaFormat
from silversmith.tables.spec import TableSpec
from silversmith.tables.upkeep import keep
from tests.unit.tables.kit import GoldBench, nothing

#: The rows of one file of silver.
ROWS = 20

SPEC = TableSpec("orders", "orders")

#: What a pipeline declares beside its transform.
DECLARED = {
    "silver alone": "",
    "with a table": 'pipeline.table("rows", of=rows)\n',
    "with a table and a view": (
        'pipeline.table("rows", of=rows)\n'
        'pipeline.view("days", "select day, sum(plays) as plays from rows group by day", by=["day"])\n'
    ),
}

#: Seconds in which everything that landed must be in the table.
PATIENCE = 300

KILLED = ROOT / "bench/jobs/commit_killed.py"


def rows(index: int) -> pl.DataFrame:
    return pl.DataFrame(
        {"file": [index] * ROWS, "number": range(ROWS), "name": [f"track {index * ROWS + row}" for row in range(ROWS)]}
    )


def file(index: int) -> str:
    return f"{index:07d}.csv"


def make_silver(bench: GoldBench, files: int) -> list[str]:
    """Silver as the function writes it; returns its keys."""
    return [bench.put(file(index), rows(index)) for index in range(files)]


def measured(work: Callable[[], object]) -> tuple[float, float]:
    """The seconds of CPU and by the clock."""
    began, used = time.perf_counter(), time.process_time()
    work()
    return time.process_time() - used, time.perf_counter() - began


# -- chain


def chain(source: Path, declared: str, workers: int) -> Measured:
    """``silversmith run --until-idle`` over a lake whose bronze bucket holds the files already."""
    folder = fresh(source)
    lake = folder / "lake"
    lake.mkdir()
    source.rename(lake / "dl-bronze-layer")
    try:
        (folder / "pipeline.py").write_text(PIPELINE + declared)
        command = [sys.executable, "-m", "silversmith.cli", "run", "pipeline.py", "--until-idle"]
        return run([*command, "--workers", str(workers)], cwd=folder)
    finally:
        (lake / "dl-bronze-layer").rename(source)


def show_chain(options: argparse.Namespace, folder: Path) -> str:
    source = folder / "source"
    make_files(source, options.files, options.kilobytes)
    contenders = [Contender(name, partial(chain, source, text, options.workers)) for name, text in DECLARED.items()]
    if "dlt" not in options.without:
        label = f"{PEERS['dlt_delta'].label}, to Delta"
        contenders.append(Contender(label, partial(job, "dlt_delta", source, options.workers)))
    in_turns(contenders, options.runs)
    base = contenders[0]
    lines = []
    for contender in contenders:
        if contender.missing:
            lines.append([contender.label, contender.missing])
            continue
        cells = [contender.median(what) for what in ("cpu", "seconds")]
        shares = [value / base.median(what) for value, what in zip(cells, ("cpu", "seconds"), strict=True)]
        lines.append([contender.label, *map(number, cells), *(f"{share:.2f}" for share in shares)])
    heading = f"{options.files:,} JSON files of {options.kilobytes} KB, {options.workers} workers, the whole run"
    return f"{heading}\n\n{table(['', 's CPU', 's', 'CPU, to silver alone', 'clock'], lines)}"


# -- load and scan


def committed(bench: GoldBench, keys: Sequence[str], batch: int) -> list[tuple[float, float]]:
    """The cost of each commit by Silversmith's committer, with so many files in each."""

    def commit(some: list[str]) -> None:
        bring(SPEC, some, silver=bench.silver, gold=bench.gold, step=nothing)
        keep(SPEC.name, bench.gold, now=time.time(), step=nothing)

    return [measured(partial(commit, some)) for some in batched(keys, batch)]


def appended(bench: GoldBench, keys: Sequence[str], batch: int) -> list[tuple[float, float]]:
    """The same by one append a batch."""

    def append(some: list[str]) -> None:
        frame = pl.concat(pl.read_parquet(bench.root / "silver" / key) for key in some)
        write_deltalake(bench.root / "appended", frame, mode="append")

    return [measured(partial(append, some)) for some in batched(keys, batch)]


def show_load(options: argparse.Namespace, folder: Path) -> str:
    taken: dict[str, list[tuple[float, float]]] = {"append only": [], "Silversmith": []}
    many: list[list[float]] = []
    for turn in range(options.runs):
        progress(f"load, run {turn + 1} of {options.runs}")
        bench = GoldBench(folder / f"load-{turn}")
        keys = make_silver(bench, options.files)
        for name, work in (("append only", appended), ("Silversmith", committed)):
            costs = work(bench, keys, options.batch)
            taken[name].append((sum(cpu for cpu, _ in costs), sum(clock for _, clock in costs)))
        again = GoldBench(folder / f"many-{turn}")
        again.silver = bench.silver
        many.append([cpu for cpu, _ in committed(again, keys, max(1, options.files // options.versions))])
    lines = [
        (name, *(number(statistics.median(each)) for each in zip(*costs, strict=True))) for name, costs in taken.items()
    ]
    share = min(100, options.versions // 2)
    first, last = (
        statistics.median(sum(costs[part]) for costs in many) for part in (slice(share), slice(-share, None))
    )
    title = f"{options.files:,} files of silver, {ROWS} rows each, {options.batch:,} in a commit, upkeep included"
    commits = [(f"the first {share}", number(first), ""), (f"the last {share}", number(last), f"{last / first:.2f}")]
    heading = f"{options.versions} commits of {max(1, options.files // options.versions)} files, upkeep included"
    return (
        f"{title}\n\n{table(['into a table', 's CPU', 's'], lines)}\n\n"
        f"{heading}\n\n{table(['commits', 's CPU', 'to the first'], commits)}"
    )


def show_scan(options: argparse.Namespace, folder: Path) -> str:
    bench = GoldBench(folder / "scan")
    committed(bench, make_silver(bench, options.files), options.batch)
    frames: dict[str, Callable[[], pl.LazyFrame]] = {
        "silver's files": lambda: pl.scan_parquet(bench.root / "silver/orders/**/*.parquet"),
        "the table": lambda: pl.scan_delta(bench.gold.location("orders")),
    }

    def scan(name: str) -> None:
        frames[name]().select(pl.col("number").sum()).collect()

    costs: dict[str, list[tuple[float, float]]] = {name: [] for name in frames}
    for turn in range(options.runs + 1):  # the first one imports what the scan needs
        for name in frames:
            cost = measured(partial(scan, name))
            costs[name] += [cost] if turn else []
    medians = {
        name: [1000 * statistics.median(each) for each in zip(*some, strict=True)] for name, some in costs.items()
    }
    base = medians["silver's files"]
    lines = [
        [name, *map(number, cells), ratio(base[0] / cells[0]), ratio(base[1] / cells[1])]
        for name, cells in medians.items()
    ]
    title = f"the sum of a column of {options.files:,} files of {ROWS} rows"
    return f"{title}\n\n{table(['a scan of', 'ms CPU', 'ms', 'speed by CPU', 'by the clock'], lines)}"


# -- grow


def grown(root: Path, size: int) -> GoldBench:
    """A table of so many files, that came a thousand at a time and were looked after."""
    bench = GoldBench(root)
    bench.bring(bench.put(file(0), rows(0)))
    columns = list(bench.snapshot().columns)
    for first in range(1, size, 1_000):
        last = min(size, first + 1_000)
        index = pl.int_range(first * ROWS, last * ROWS, eager=True)
        frame = pl.DataFrame(
            {
                "_file": (index // ROWS).cast(pl.String).str.zfill(7) + ".csv",
                "_etag": pl.repeat("e", len(index), eager=True),
                "file": index // ROWS,
                "number": index % ROWS,
                "name": "track " + index.cast(pl.String),
            }
        )
        write_deltalake(bench.gold.location("orders"), frame.select(columns), mode="append")
        keep("orders", bench.gold, now=0.0, step=nothing)
    return bench


def commits(bench: GoldBench, size: int, times: int) -> dict[str, list[tuple[float, float]]]:
    """The cost of commits in such a table, so many of each kind."""
    draw = random.Random(size)
    kinds: dict[str, Callable[[int], Iterable[int]]] = {
        "10 new files": lambda turn: range(size + 10 * turn, size + 10 * turn + 10),
        "1 correction": lambda _: [draw.randrange(size)],
        "10 corrections": lambda _: draw.sample(range(size), min(size, 10)),
    }
    costs: dict[str, list[tuple[float, float]]] = {kind: [] for kind in kinds}
    for turn in range(times):
        for kind, indices in kinds.items():
            keys = [bench.put(file(index), rows(index + turn + 1)) for index in indices(turn)]
            gold = DeltaFormat(bench.root / "gold", scratch=bench.root)
            work = partial(bring, SPEC, keys, silver=bench.silver, gold=gold, step=nothing)
            costs[kind].append(measured(work))
    return costs


def show_grow(options: argparse.Namespace, folder: Path) -> str:
    lines: dict[str, list[str]] = {}
    for size in options.sizes:
        progress(f"grow, a table of {size:,} files")
        for kind, costs in commits(grown(folder / f"grow-{size}", size), size, options.commits).items():
            cpu, clock = (1000 * statistics.median(each) for each in zip(*costs, strict=True))
            lines.setdefault(kind, [kind]).append(f"{number(cpu)} / {number(clock)}")
    shown = table(["a commit of", *(f"{size:,} files" for size in options.sizes)], [*lines.values()])
    return f"ms of CPU / by the clock, medians of {options.commits}\n\n{shown}"


# -- fresh


class Lake:
    """A lake with a running engine, and when files landed there."""

    def __init__(self, folder: Path, workers: int) -> None:
        self.bronze, self.gold = folder / "lake/dl-bronze-layer", folder / "lake/dl-gold-layer/rows"
        self._folder, self.landed = folder, dict[str, float]()
        (folder / "pipeline.py").write_text(PIPELINE + DECLARED["with a table"])
        make_files(folder / "bodies", 50, 4)
        self._bodies = [path.read_bytes() for path in sorted((folder / "bodies").iterdir())]
        self._log = (folder / "log").open("wb")
        self.engine = started(folder, workers, self._log)
        while not self.bronze.exists():
            time.sleep(0.05)
            self._require_running()

    def _require_running(self) -> None:
        if self.engine.poll() is not None:
            raise SystemExit((self._folder / "log").read_text())

    def land(self) -> str:
        """Move one more file into bronze, with bytes of its own; its key."""
        name = f"{len(self.landed) + 1:07}.json"
        ready = self._folder / name
        ready.write_bytes(b"%s%s" % (self._bodies[len(self.landed) % 50], b" " * (len(self.landed) % 500)))
        self.landed[name] = time.time()
        ready.rename(self.bronze / name)
        return name

    def settle(self) -> None:
        """Wait until the table has every file."""
        end = time.monotonic() + PATIENCE
        while len(self.visible()) < len(self.landed):
            time.sleep(0.05)
            self._require_running()
            if time.monotonic() > end:
                raise SystemExit(f"{len(self.landed) - len(self.visible())} files did not come out")

    def visible(self) -> dict[str, float]:
        """When each file's rows became visible: the time at which the version's entry in the log was there."""
        if not (self.gold / "_delta_log").exists():
            return {}
        changes = DeltaTable(self.gold).load_cdf(starting_version=0, columns=["_file", "_commit_version"])
        versions = pl.DataFrame(changes.read_all()).group_by("_file").agg(pl.col("_commit_version").min())
        return {
            name: (self.gold / "_delta_log" / f"{version:020}.json").stat().st_mtime
            for name, version in versions.rows()
        }

    def close(self) -> None:
        self.engine.terminate()
        self.engine.wait(PATIENCE)
        self._log.close()


#: The phases, each with its seconds at most and its files in a second.
RATES = (("warm", 3.0, 20), ("idle", 600.0, 2), ("loaded", 600.0, 50))


def show_fresh(options: argparse.Namespace, folder: Path) -> str:
    phases: dict[str, list[list[float]]] = {}
    for turn in range(options.runs):
        progress(f"fresh, run {turn + 1} of {options.runs}")
        place = folder / f"fresh-{turn}"
        place.mkdir()
        lake = Lake(place, options.workers)
        try:
            for name, seconds, rate in RATES:
                keys, began = [], time.perf_counter()
                for index in range(int(min(seconds, options.seconds) * rate)):
                    time.sleep(max(0.0, began + index / rate - time.perf_counter()))
                    keys.append(lake.land())
                lake.settle()
                visible = lake.visible()
                phases.setdefault(name, []).append([visible[key] - lake.landed[key] for key in keys])
        finally:
            lake.close()
    names = {"idle": "2 files a second", "loaded": "50 files a second"}
    lines = []
    for name, label in names.items():
        runs = phases[name]
        parts: list[Callable[[list[float]], float]] = [
            partial(percentile, share=0.5),
            partial(percentile, share=0.99),
            max,
        ]
        lines.append(
            [label, f"{len(runs[0]):,}", *(number(1000 * statistics.median(map(part, runs))) for part in parts)]
        )
    return f"from landing to visible\n\n{table(['', 'files', 'p50 ms', 'p99 ms', 'most ms'], lines)}"


# -- kills


def show_kills(options: argparse.Namespace, folder: Path) -> str:
    """The process works on rounds of files, and says each that it has acknowledged. After all kills one last process
    is told every message again, as SQS would."""
    root = folder / "kills"
    root.mkdir()
    draw, acknowledged, killed = random.Random(3), dict[str, int](), 0
    progress_of = root / "acknowledged"
    while killed < options.kills:
        progress(f"kills: {killed} of {options.kills}")
        written = progress_of.stat().st_size if progress_of.exists() else 0
        process = subprocess.Popen([sys.executable, KILLED, root, str(killed)], cwd=ROOT)
        while not progress_of.exists() or progress_of.stat().st_size <= written:
            time.sleep(0.01)
        time.sleep(draw.uniform(0.1, 2))
        if process.poll() is not None:
            raise SystemExit(f"the process ended by itself: {process.returncode}")
        process.kill()
        process.wait()
        killed += 1
    for line in progress_of.read_text().splitlines():
        if line.endswith("}"):  # the last line before a kill may be cut off
            acknowledged |= json.loads(line)
    lost, doubled = differences(root, acknowledged, is_exact=False)
    subprocess.run([sys.executable, KILLED, root, "last"], cwd=ROOT, check=True)
    silver = {path.name.removesuffix(".parquet"): path for path in (root / "silver/orders").glob("*.parquet")}
    newest = {name: int(pl.read_parquet(path)["number"][0]) for name, path in silver.items()}
    after = differences(root, newest, is_exact=True)
    lines = [
        ["acknowledged files", f"{len(acknowledged):,}", f"{lost:,}", f"{doubled:,}"],
        ["all of silver, after the last process", f"{len(newest):,}", *(f"{each:,}" for each in after)],
    ]
    return f"{killed} kills of the table function\n\n{table(['', 'files', 'lost', 'with rows twice'], lines)}"


def differences(root: Path, expected: Mapping[str, int], *, is_exact: bool) -> tuple[int, int]:
    """How many files are not in the table in their expected version or a newer one, and how many have rows twice."""
    by_file = (
        pl.read_delta(str(root / "gold/orders"))
        .group_by("_file")
        .agg(pl.col("number").min(), pl.len(), pl.col("number").n_unique().alias("kinds"), pl.col("row").n_unique())
    )
    there = {name: (newest, rows, kinds, distinct) for name, newest, rows, kinds, distinct in by_file.rows()}
    lost = doubled = 0
    for name, number_ in expected.items():
        newest, rows_, kinds, distinct = there.get(name, (-1, 0, 0, 0))
        lost += newest != number_ if is_exact else newest < number_
        doubled += rows_ != distinct or kinds > 1
    return lost, doubled


PARTS: dict[str, Callable[[argparse.Namespace, Path], str]] = {
    "chain": show_chain,
    "load": show_load,
    "scan": show_scan,
    "grow": show_grow,
    "fresh": show_fresh,
    "kills": show_kills,
}


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--files", type=int, default=10_000, help="of chain, load and scan")
    parser.add_argument("--kilobytes", type=int, default=4, help="of chain")
    parser.add_argument("--workers", type=int, default=2, help="of chain and fresh")
    parser.add_argument("--batch", type=int, default=1_000, help="of load")
    parser.add_argument("--versions", type=int, default=500, help="of load: so many commits, the first beside the last")
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000, 10_000, 100_000], help="of grow")
    parser.add_argument("--commits", type=int, default=10, help="of grow")
    parser.add_argument("--seconds", type=float, default=20, help="of fresh")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--without", nargs="*", default=[], choices=["dlt"], metavar="PEER")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--short", action="store_true", help="a smaller form of everything")
    options = parser.parse_args(arguments)
    if unknown := [part for part in options.parts if part not in PARTS]:
        parser.error(f"there is no part {unknown[0]}; there are: {', '.join(PARTS)}")
    if options.short:
        options.files, options.batch, options.runs = min(options.files, 300), min(options.batch, 100), 1
        options.sizes, options.commits, options.versions = [100, 1_000], min(options.commits, 3), 20
        options.seconds, options.kills, options.without = min(options.seconds, 3), min(options.kills, 4), ["dlt"]
    return options


def main() -> None:
    """Measure, and print medians."""
    options = parse()
    (ROOT / "build").mkdir(exist_ok=True)
    print(f"{machine()}; medians of {options.runs} runs\n")
    for name in options.parts or PARTS:
        with tempfile.TemporaryDirectory(dir=ROOT / "build") as folder:
            shown = PARTS[name](options, Path(folder))
        progress("")
        print(f"{shown}\n", flush=True)


if __name__ == "__main__":
    main()
