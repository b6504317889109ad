"""The CPU time of this version of Silversmith beside that of another one, in turns.

    git worktree add --detach ../other COMMIT && make -C ../other setup
    python -m bench.versions ../other [--turns 40] [--only CASE ...] [--short]

CPU time, because it tells more than the clock where other programs are at work. Each version has a process that stays,
with its handler over a lake in memory (``--folder``); both get the same files, one batch after the other, and begin in
turns. The ratio is the other version's time by this one's, the median over all turns: below 1, this version is slower.
A case of small files is a batch of 100 files of 4 KB, with one thread of Polars, as the engine's workers have where
there are as many as CPUs. A case of a large file is one of ``--megabytes``. ``run`` is ``silversmith run`` over 1,500
files with two workers, all processes, with the start. ``json-s3`` is the handler of Lambda with ten files in an
invocation, over the real client, whose requests are answered in the same process. ``patterns`` are 20,000 parsed events
against one exact rule.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path

import polars as pl
import xlsxwriter  # type: ignore[import-untyped]

from bench.markdown import number, ratio, table
from bench.measure import machine, progress
from bench.peers import ROOT
from bench.small_files import make_files

JOB = ROOT / "bench/jobs/serve_batches.py"

PIPELINE = """
import polars as pl
from silversmith import Contract, Pipeline

pipeline = Pipeline("bench")

TYPES = dict(number=pl.Int64, file=pl.Int64, track=pl.String, plays=pl.Int64, score=pl.Float64, day=pl.Date)

@pipeline.transform("*", name="rows", contract=CONTRACT)
def rows(rows: pl.LazyFrame) -> pl.LazyFrame:
    return rows
"""
CONTRACT = 'Contract(schema=TYPES, rules={"plays": pl.col("plays") >= 0, "score": pl.col("score") <= 1})'

PATTERNS = """
import sys, time
from bench.patterns import KINDS, lots
from silversmith.patterns import compile_pattern
events, matches = lots(20_000), compile_pattern(KINDS["exact"]).matches
for line in sys.stdin:
    began = time.process_time()
    for event in events:
        matches(event)
    print(time.process_time() - began, flush=True)
"""

#: Batches before the first that counts.
WARM = 3


@dataclass(frozen=True)
class Case:
    """Files of one kind: how many in a batch, what one holds, the contract in source text, and whether they are on
    S3."""

    label: str
    suffix: str
    files: int
    encode: Callable[[pl.DataFrame], bytes]
    contract: str = "None"
    on_s3: bool = False

    @property
    def is_large(self) -> bool:
        return self.files == 1


def as_json(rows: pl.DataFrame) -> bytes:
    return json.dumps(rows.to_dicts()).encode()


def as_ndjson(rows: pl.DataFrame) -> bytes:
    return rows.write_ndjson().encode()


def as_csv(rows: pl.DataFrame) -> bytes:
    return rows.write_csv().encode()


def as_xlsx(rows: pl.DataFrame) -> bytes:
    file = BytesIO()
    book = xlsxwriter.Workbook(file, {"constant_memory": True})
    sheet = book.add_worksheet()
    for index, row in enumerate([tuple(rows.columns), *rows.rows()]):
        sheet.write_row(index, 0, row)
    book.close()
    return file.getvalue()


CASES = {
    "json": Case("JSON array", ".json", 100, as_json),
    "json-contract": Case("JSON array, contract", ".json", 100, as_json, CONTRACT),
    "ndjson": Case("NDJSON", ".ndjson", 100, as_ndjson),
    "json-s3": Case("JSON array on S3", ".json", 100, as_json, on_s3=True),
    "csv": Case("CSV", ".csv", 100, as_csv),
    "csv-contract": Case("CSV, contract", ".csv", 100, as_csv, CONTRACT),
    "large-csv": Case("large CSV", ".csv", 1, as_csv),
    "large-csv-contract": Case("large CSV, contract", ".csv", 1, as_csv, CONTRACT),
    "large-ndjson": Case("large NDJSON", ".ndjson", 1, as_ndjson),
    "large-json": Case("large JSON array", ".json", 1, as_json),
    "xlsx": Case("xlsx of 20,000 rows", ".xlsx", 1, as_xlsx),
}


def rows(count: int, draw: random.Random) -> pl.DataFrame:
    """Records as bench/small_files.py has them."""
    return pl.DataFrame(
        {
            "number": range(count),
            "file": [draw.randrange(10**4)] * count,
            "track": [f"track {draw.randrange(10**9)}" for _ in range(count)],
            "plays": [draw.randrange(10**6) for _ in range(count)],
            "score": [draw.random() for _ in range(count)],
            "day": ["2026-01-02"] * count,
        }
    )


def bodies(case: Case, megabytes: int) -> list[bytes]:
    """The bytes of each file of a batch."""
    draw = random.Random(7)
    if case.suffix == ".xlsx":
        return [case.encode(rows(20_000, draw))]
    size = megabytes * 1_000_000 if case.is_large else 4096
    count = int(size / (len(case.encode(rows(1000, draw))) / 1000))
    return [case.encode(rows(count, draw)) for _ in range(case.files)]


class Side:
    """A process of one version: it gets lines and answers each with its CPU seconds."""

    def __init__(self, tree: Path, arguments: list[str], folder: Path, environment: dict[str, str]) -> None:
        command = [str(tree / ".venv/bin/python"), *arguments]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, cwd=folder, env=environment, stdin=pipe, stdout=pipe, text=True)

    def ask(self, line: str = "") -> float:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise SystemExit("a version ended before its time: see above")
        return float(answer)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


def handled(case: Case, trees: tuple[Path, Path], folder: Path, options: argparse.Namespace) -> Iterator[list[float]]:
    """The seconds of both versions, turn after turn."""
    contents = bodies(case, options.megabytes)
    environment = {**os.environ, **({} if case.is_large else {"POLARS_MAX_THREADS": "1"})}
    with ExitStack() as stack:
        sides: list[tuple[Path, Side]] = []
        for index, tree in enumerate(trees):
            home = folder / str(index)
            home.mkdir()
            (home / "pipeline.py").write_text(PIPELINE.replace("CONTRACT", case.contract))
            where = ["s3"] if case.on_s3 else []
            side = Side(tree, [str(JOB), "lake", "pipeline.py", *where], home, environment)
            stack.callback(side.close)
            sides.append((home / "lake/dl-bronze-layer", side))
        for turn in range(-WARM, (options.turns + 9) // 10 if case.is_large else options.turns):
            keys = [f"{turn}-{index}{case.suffix}" for index in range(case.files)]
            for bronze, _ in sides:
                bronze.mkdir(parents=True, exist_ok=True)
                for key, body in zip(keys, contents, strict=True):
                    (bronze / key).write_bytes(body)
            line = json.dumps({key: len(body) for key, body in zip(keys, contents, strict=True)})
            seconds = asked([partial(side.ask, line) for _, side in sides], turn)
            for bronze, _ in sides:
                for key in keys:
                    (bronze / key).unlink()
            if turn >= 0:
                yield seconds


def asked(sides: list[Callable[[], float]], turn: int) -> list[float]:
    """Both, the first first in every other turn."""
    seconds = [0.0, 0.0]
    for index in (0, 1) if turn % 2 else (1, 0):
        seconds[index] = sides[index]()
    return seconds


def matched(trees: tuple[Path, Path], folder: Path, options: argparse.Namespace) -> Iterator[list[float]]:
    """The seconds that both versions take to match events."""
    with ExitStack() as stack:
        sides = [Side(tree, ["-c", PATTERNS], folder, {**os.environ, "PYTHONPATH": str(tree)}) for tree in trees]
        for side in sides:
            stack.callback(side.close)
        for turn in range(-WARM, options.turns // 4):
            seconds = asked([side.ask for side in sides], turn)
            if turn >= 0:
                yield seconds


def run(trees: tuple[Path, Path], folder: Path, options: argparse.Namespace) -> Iterator[list[float]]:
    """The seconds of ``silversmith run`` over many files, with all its processes."""
    make_files(folder / "files", 1500, 4)
    for turn in range((options.turns + 9) // 10):
        yield asked([partial(run_once, tree, folder, f"{turn}-{index}") for index, tree in enumerate(trees)], turn)


def run_once(tree: Path, folder: Path, name: str) -> float:
    """The CPU seconds of one run in a new lake."""
    home = folder / name
    (home / "lake").mkdir(parents=True)
    (home / "pipeline.py").write_text(PIPELINE.replace("CONTRACT", "None"))
    (folder / "files").rename(home / "lake/dl-bronze-layer")
    command = [str(tree / ".venv/bin/python"), "-m", "silversmith.cli", "run", "--until-idle", "--workers", "2"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, cwd=home, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    (home / "lake/dl-bronze-layer").rename(folder / "files")
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


@contextmanager
def cases(options: argparse.Namespace) -> Iterator[dict[str, tuple[str, int, Iterator[list[float]]]]]:
    """By name: the label, how many files a turn has, and the turns."""
    trees = (options.other.resolve(), ROOT)
    with tempfile.TemporaryDirectory(dir=options.folder) as name:

        def fresh(what: str) -> Path:
            folder = Path(name) / what
            folder.mkdir()
            return folder

        all_cases = {
            key: (case.label, case.files, handled(case, trees, fresh(key), options)) for key, case in CASES.items()
        }
        all_cases["run"] = ("run, 1,500 JSON files", 1500, run(trees, fresh("run"), options))
        all_cases["patterns"] = ("an exact pattern, 20,000 events", 20_000, matched(trees, fresh("patterns"), options))
        yield {key: case for key, case in all_cases.items() if not options.only or key in options.only}


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("other", type=Path, help="a checkout of the other version, with its .venv")
    parser.add_argument("--turns", type=int, default=40, help="of small files; a tenth as many of large ones and runs")
    parser.add_argument("--megabytes", type=int, default=60)
    parser.add_argument("--folder", type=Path, default=Path("/dev/shm"), help="where the lakes are")
    parser.add_argument("--only", nargs="*", default=[], choices=[*CASES, "run", "patterns"], metavar="CASE")
    parser.add_argument("--short", action="store_true", help="fewer turns, smaller files")
    options = parser.parse_args(arguments)
    if options.short:
        options.turns, options.megabytes = 10, 10
    return options


def main() -> None:
    options = parse()
    lines = []
    with cases(options) as measured:
        for label, files, turns in measured.values():
            progress(label)
            seconds = list(turns)
            theirs, ours = (statistics.median(side) / files * 1e6 for side in zip(*seconds, strict=True))
            quotient = statistics.median(before / after for before, after in seconds)
            lines.append([label, str(len(seconds)), number(theirs), number(ours), ratio(quotient)])
            print(" | ".join(lines[-1]), file=sys.stderr)
    progress("")
    print(f"CPU time of {options.other} and of this version, medians\n{machine()}\n")
    print(table(["", "turns", "other, us a file", "this, us a file", "ratio"], lines))


if __name__ == "__main__":
    main()
