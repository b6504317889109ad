"""The cost of Lambda: GB-seconds and dollars for a GB of CSV, and for a million files of 4 KB.

    python -m bench.cost [--files 300] [--size 0.2] [--runs 3] [--wait 15] [--clock 1.0] [--short]

Measured: the CPU seconds of the handler, and its requests to S3, with S3 (moto's) in another process. Computed from
them, for each memory size, is what AWS bills for:

    vCPUs = memory / 1769 MB                  Lambda's share of processors, https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html
    computing = CPU seconds / clock / min(vCPUs, threads)
    duration = computing + requests x wait                                    of a large file, alone in its invocation
    duration = max(n x computing + waiting, rounds x (computing + waiting))   of n small files in one invocation
    GB-seconds = duration x memory / 1024

Small files wait for S3 side by side, as many as the handler has lanes: so there are n / lanes rounds, rounded up, but
computing is one after the other. ``threads`` is 1 for small files, and for a large one as many as kept this machine's
cores busy. ``--wait`` is the milliseconds that S3 takes for a request, ``--clock`` how fast Lambda's processor is, this
machine's being 1: neither can be measured here. Dollars are the list prices for arm64 in docs/deploy.md, of Lambda
alone; S3's requests are a column of their own, and what else a file costs is on that page. ``--short`` takes 50 files,
0.02 GB and one run.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import large_file, small_files
from bench.markdown import number, table
from bench.measure import Measured, machine, progress, run
from bench.peers import ROOT
from bench.s3_server import BUCKETS, client, served
from silversmith.function.handler import IO_THREADS
from silversmith.operations.estimate import ONE_CPU, PRICES

MEMORIES = (512, 1769, 3538)

#: Dollars.
GB_SECOND, INVOCATION = PRICES["gb_second"], PRICES["invocation"] / 1e6
PUT, GET = PRICES["put"] / 1e6, PRICES["get"] / 1e6

#: Messages in one invocation, at the most: a transform's own default.
BATCH = 10


@dataclass(frozen=True)
class Work:
    """The resources of some work: CPU seconds, on how many threads, invocations, and requests of both prices.

    ``files`` in one invocation, of which ``lanes`` wait for S3 at once.
    """

    name: str
    cpu: float
    threads: float
    invocations: float
    puts: float
    gets: float
    files: int = 1
    lanes: int = 1

    def seconds(self, memory: int, wait: float, clock: float) -> float:
        """The time that Lambda bills. ``wait``: seconds for a request."""
        every = self.invocations * self.files
        computing = self.cpu / every / clock / min(memory / ONE_CPU, self.threads)
        waiting = (self.puts + self.gets) / every * wait
        rounds = math.ceil(self.files / self.lanes)
        return self.invocations * max(self.files * computing + waiting, rounds * (computing + waiting))

    def row(self, memory: int, wait: float, clock: float) -> list[str]:
        seconds = self.seconds(memory, wait, clock)
        used = seconds * memory / 1024
        compute = used * GB_SECOND + self.invocations * INVOCATION
        requests = self.puts * PUT + self.gets * GET
        return [self.name, f"{memory:,}", number(seconds), number(used), f"{compute:.4f}", f"{requests:.4f}"]


def handled(pipeline: Path, transform: str, keys: Sequence[str], environment: Mapping[str, str]) -> Measured:
    """One process of bench/jobs/handle_on_s3.py; the first key only warms it up."""
    variables = {**os.environ, **environment, "PYTHONPATH": str(ROOT), "BENCH_TRANSFORM": transform}
    return run(
        [sys.executable, "-m", "bench.jobs.handle_on_s3", pipeline, *keys], cwd=pipeline.parent, environment=variables
    )


def work(
    name: str, runs: Sequence[Measured], times: float, *, threads: float, invocations: float, files: int, lanes: int
) -> Work:
    """Medians of the runs, multiplied by ``times``."""
    cpu, puts, gets = (
        statistics.median(float(run.said.get(what, 0)) for run in runs) * times for what in ("cpu", "puts", "gets")
    )
    return Work(name, cpu, threads, invocations, puts, gets, files, lanes)


def small(folder: Path, files: int, runs: int) -> Work:
    """A million files of 4 KB, from fewer of them."""
    small_files.make_files(folder / "small", files + 1, 4)
    pipeline = folder / "small.py"
    pipeline.write_text(small_files.PIPELINE)
    measured = []
    for turn in range(runs):
        progress(f"small files, run {turn + 1} of {runs}")
        with served() as environment:
            s3 = client(environment["AWS_ENDPOINT_URL"], "s3")
            paths = sorted((folder / "small").iterdir())
            for path in paths:
                s3.put_object(Bucket=BUCKETS["BRONZE"], Key=path.name, Body=path.read_bytes())
            measured.append(handled(pipeline, "rows", [path.name for path in paths], environment))
    return work(
        "1,000,000 files of 4 KB",
        measured,
        1e6 / files,
        threads=1,
        invocations=1e6 / BATCH,
        files=BATCH,
        lanes=IO_THREADS,
    )


def large(folder: Path, size: float, runs: int) -> Work:
    """A GB of lineitem, in files of ``size`` GB."""
    source = large_file.lineitem(size)
    pipeline = folder / "large.py"
    pipeline.write_text(large_file.PIPELINE)
    measured = []
    for turn in range(runs):
        progress(f"large file, run {turn + 1} of {runs}")
        with served() as environment:
            s3 = client(environment["AWS_ENDPOINT_URL"], "s3")
            with source.open() as lines:
                s3.put_object(Bucket=BUCKETS["BRONZE"], Key="warm.csv", Body="".join(next(lines) for _ in range(1000)))
            s3.upload_file(str(source), BUCKETS["BRONZE"], source.name)
            measured.append(handled(pipeline, "lineitem", ["warm.csv", source.name], environment))
    busy = statistics.median(run.said["cpu"] / run.said["seconds"] for run in measured)
    times = 1e9 / source.stat().st_size
    return work(
        f"1 GB of CSV, in files of {size:g} GB",
        measured,
        times,
        threads=max(1.0, busy),
        invocations=times,
        files=1,
        lanes=1,
    )


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=300, help="small files to measure with")
    parser.add_argument("--size", type=float, default=0.2, metavar="GB", help="the large file")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--wait", type=float, default=15, metavar="MS", help="of a request to S3")
    parser.add_argument("--clock", type=float, default=1.0, help="speed of Lambda's processor; this one's is 1")
    parser.add_argument("--short", action="store_true")
    options = parser.parse_args(arguments)
    if options.short:
        options.files, options.size, options.runs = 50, 0.02, 1
    return options


def main() -> None:
    options = parse()
    (ROOT / "build").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=ROOT / "build") as name:
        works = [small(Path(name), options.files, options.runs), large(Path(name), options.size, options.runs)]
    progress("")
    print(f"Lambda's cost, from CPU time (medians of {options.runs} runs); S3 waits {options.wait:g} ms a request")
    print(machine() + "\n")
    for each in works:
        requests = f"{number(each.puts)} PUT, {number(each.gets)} GET or HEAD"
        print(f"{each.name}: {number(each.cpu)} CPU s on {each.threads:.1f} threads, {requests}")
    rows = [each.row(memory, options.wait / 1000, options.clock) for each in works for memory in MEMORIES]
    print("\n" + table(["", "MB", "s", "GB-seconds", "Lambda $", "S3 requests $"], rows))


if __name__ == "__main__":
    main()
