"""A cold start on Lambda: import, first invocation and size of the bundle, beside the least that anybody could do.

    python -m bench.handler_start [--runs 5] [--short]

The bundle is unpacked as Lambda has it and booted by AWS's own runtime client, on Lambda's Python if there is one here;
S3 and SQS are moto's, in a process of its own. The least is a function of ten lines with ``import polars, boto3`` that
reads a CSV file from S3 and puts a Parquet file. A bundle has no ``.pyc`` files (docs/decisions/0022), so neither has
what it is compared with; below the same with them. "First" is from the start of the process to the answer, "second"
is the next invocation, warm. "Restored" is the first invocation of a process that was ready before: so much is left
where Lambda starts from a snapshot, or keeps environments warm; in CPU time, which neighbours change little.
``--short`` takes one run.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from bench.booted import Unpacked, runtime_api, unpack
from bench.markdown import mebibytes, ratio, table
from bench.measure import machine, progress
from bench.messages import batch
from bench.peers import ROOT, NotAvailable
from bench.s3_server import BUCKETS, client, served

GOAL = 1.3

PIPELINE = """
import polars as pl
from silversmith import Contract, Pipeline

pipeline = Pipeline("bench")

@pipeline.transform("*.csv", contract=Contract(schema={"item": pl.String, "price": pl.Int64}))
def sales(rows: pl.LazyFrame) -> pl.LazyFrame:
    return rows
"""

LEAST = """
import io, json, os
import boto3, polars

s3 = boto3.client("s3")

def handler(event, context):
    for record in event["Records"]:
        key = json.loads(record["body"])["detail"]["object"]["key"]
        body = s3.get_object(Bucket=os.environ["SILVERSMITH_BRONZE"], Key=key)["Body"].read()
        target = io.BytesIO()
        polars.read_csv(body).write_parquet(target)
        s3.put_object(Bucket=os.environ["SILVERSMITH_SILVER"], Key=key + ".parquet", Body=target.getvalue())
    return {"batchItemFailures": []}
"""

#: The sides of the comparison: what is imported, and which handler is booted.
SIDES = {
    "least: polars, boto3": ("polars, boto3", "least.handler"),
    "Silversmith": ("silversmith.function.handler, boto3", "silversmith.function.handler.handler"),
    "Silversmith, kept warm": ("silversmith.function.handler, boto3", "silversmith.function.handler.handler"),
}

#: The environment of a side beside what all have.
ENVIRONMENTS = {"Silversmith, kept warm": {"AWS_LAMBDA_INITIALIZATION_TYPE": "provisioned-concurrency"}}


@dataclass
class Side:
    """Seconds of every run."""

    imports: list[float] = field(default_factory=list)
    first: list[float] = field(default_factory=list)
    second: list[float] = field(default_factory=list)
    whole_cpu: list[float] = field(default_factory=list)
    restored_cpu: list[float] = field(default_factory=list)


class Cpu:
    """The seconds of CPU that a process has used."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)

    def seconds(self) -> float:
        times = self._process.cpu_times()
        return float(times.user + times.system)


def boot(unpacked: Unpacked, handler: str, environment: Mapping[str, str], side: Side) -> None:
    """A new environment, and two invocations of it.

    Raises:
        NotAvailable: the function failed, or did not answer.
    """
    s3 = client(environment["AWS_ENDPOINT_URL"], "s3")
    for name in ("first.csv", "second.csv"):
        s3.put_object(Bucket=BUCKETS["BRONZE"], Key=name, Body=f"item,price\n{handler},{time.time_ns()}\n".encode())
    with runtime_api() as api:
        began = time.perf_counter()
        process = unpacked.start(
            "-m", "awslambdaric", handler,
            AWS_LAMBDA_RUNTIME_API=api.address,
            AWS_LAMBDA_FUNCTION_NAME="bench",
            AWS_LAMBDA_FUNCTION_VERSION="$LATEST",
            AWS_LAMBDA_FUNCTION_MEMORY_SIZE="512",
            AWS_LAMBDA_LOG_GROUP_NAME="g",
            AWS_LAMBDA_LOG_STREAM_NAME="s",
            SILVERSMITH_PIPELINE="pipeline:pipeline",
            SILVERSMITH_TRANSFORM="sales",
            **environment,
        )  # fmt: skip
        cpu = Cpu(process.pid)
        try:
            api.wait_until_ready()
            ready = cpu.seconds()
            for name, seconds in (("first.csv", side.first), ("second.csv", side.second)):
                answer = api.invoke(batch(BUCKETS["BRONZE"], [name]))
                seconds.append(time.perf_counter() - began)
                if seconds is side.first:
                    side.whole_cpu.append(cpu.seconds())
                    side.restored_cpu.append(side.whole_cpu[-1] - ready)
                if '"itemIdentifier"' in answer:
                    raise NotAvailable(f"{handler} reported {answer}")
                began = time.perf_counter()
        finally:
            process.kill()
            process.communicate()


def measure(unpacked: Unpacked, runs: int) -> dict[str, Side]:
    """All sides in turns; a first import of each, which finds nothing in the file cache, does not count."""
    sides = {name: Side() for name in SIDES}
    with served() as environment:
        for turn in range(runs + 1):
            for name, (modules, handler) in SIDES.items():
                progress(f"run {turn} of {runs}: {name}")
                seconds = unpacked.import_seconds(modules)
                if turn:
                    sides[name].imports.append(seconds)
                    boot(unpacked, handler, environment | ENVIRONMENTS.get(name, {}), sides[name])
    progress("")
    return sides


def show(form: str, sides: Mapping[str, Side]) -> list[list[str]]:
    """Medians in milliseconds; ratios are to the least."""
    least = next(iter(sides.values()))
    rows = []
    for name, side in sides.items():
        row = [f"{name}, {form}"]
        for mine, limit in ((side.imports, least.imports), (side.first, least.first), (side.second, least.second)):
            row += [f"{statistics.median(mine) * 1000:,.0f}", ratio(statistics.median(mine) / statistics.median(limit))]
        whole, restored = statistics.median(side.whole_cpu), statistics.median(side.restored_cpu)
        rows.append([*row, f"{whole * 1000:,.0f}", f"{restored * 1000:,.0f}", f"{1 - restored / whole:.0%}"])
    return rows


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--short", action="store_true")
    options = parser.parse_args(arguments)
    if options.short:
        options.runs = 1
    return options


def main() -> None:
    options = parse()
    (ROOT / "build").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=ROOT / "build") as name:
        progress("making the bundle")
        unpacked = unpack(Path(name), PIPELINE)
        (unpacked.task / "least.py").write_text(LEAST)
        rows = show("as bundled", measure(unpacked, options.runs))
        rows += show("with .pyc", measure(unpacked.compiled(Path(name) / "compiled"), options.runs))
        sizes = f"{mebibytes(unpacked.unzipped)} unzipped (limit 250 MiB), {mebibytes(unpacked.zipped)} zipped"
        version = Path(unpacked.python).name
    print(f"Cold start under awslambdaric, {version}, medians of {options.runs} runs; goal: import at most {GOAL} x")
    print(f"The bundle: {sizes}\n{machine()}\n")
    print(table(["", "import ms", "", "first ms", "", "second ms", "", "CPU ms", "restored", "saved"], rows))


if __name__ == "__main__":
    main()
