"""The job of bench/small_files.py as a user of each peer would write it: JSON files in, Parquet out.

    python bench/jobs/small_files.py PEER SOURCE TARGET PROCESSES

Runs in the peer's own environment, so nothing of Silversmith is imported. The last line is the seconds without start.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

SCHEMA = "number bigint, file bigint, track string, plays bigint, score double, day string"


def bare(source: Path, target: Path, processes: int) -> float:
    """The least that any framework must do, with Polars: the limit."""
    return _loop(source, target, processes, sync=False)


def bare_synced(source: Path, target: Path, processes: int) -> float:
    """The same, every file synced to disk and renamed into place: the limit for durable work."""
    return _loop(source, target, processes, sync=True)


def _loop(source: Path, target: Path, processes: int, *, sync: bool) -> float:
    target.mkdir()
    work = [(path, target / f"{path.name}.parquet", sync) for path in sorted(source.iterdir())]
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        pool.map(_convert, [(work[0][0], target / f"warm-{number}", False) for number in range(4 * processes)], 1)
        began = time.perf_counter()
        pool.map(_convert, work, chunksize=10)
        return time.perf_counter() - began


def _convert(paths: tuple[Path, Path, bool]) -> None:
    import polars as pl

    source, target, sync = paths
    frame = pl.read_json(source)
    if not sync:
        frame.write_parquet(target, compression="zstd")
        return
    with _durably(target) as file:
        frame.write_parquet(file, compression="zstd")


@contextmanager
def _durably(target: Path) -> Iterator[BinaryIO]:
    """A file that is there whole or not at all, and once it is there stays."""
    temporary = target.with_suffix(".tmp")
    with temporary.open("wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(target)
    folder = os.open(target.parent, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)


def pyspark(source: Path, target: Path, processes: int) -> float:
    """Structured streaming's file source to its Parquet sink, until nothing is left."""
    from pyspark.sql import SparkSession  # type: ignore[import-not-found]

    builder = SparkSession.builder.master(f"local[{processes}]").config("spark.ui.enabled", "false")
    builder = builder.config("spark.driver.host", "127.0.0.1").config("spark.ui.showConsoleProgress", "false")
    # Else it starts a job of one task a file only to look at how large each is.
    builder = builder.config("spark.sql.sources.parallelPartitionDiscovery.threshold", "1000000")
    spark = builder.getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    began = time.perf_counter()
    rows = (
        spark.readStream.schema(SCHEMA)
        .option("multiLine", "true")
        .option("maxFilesPerTrigger", "1000")
        .json(str(source))
    )
    rows.writeStream.format("parquet").option("checkpointLocation", f"{target}-checkpoint").option(
        "path", str(target)
    ).trigger(availableNow=True).start().awaitTermination()
    seconds = time.perf_counter() - began
    spark.stop()
    return seconds


def dlt(source: Path, target: Path, processes: int) -> float:
    """Its filesystem source to its filesystem destination, as Parquet; its own settings else."""
    return _dlt(source, target, processes, loader_file_format="parquet")


def dlt_delta(source: Path, target: Path, processes: int) -> float:
    """The same to a Delta table."""
    return _dlt(source, target, processes, table_format="delta")


def _dlt(source: Path, target: Path, processes: int, **options: Any) -> float:
    import dlt as library  # type: ignore[import-not-found]
    from dlt.sources.filesystem import filesystem  # type: ignore[import-not-found]

    @library.transformer(name="rows")  # type: ignore[untyped-decorator]
    def rows(files: Any) -> Iterator[Any]:
        for file in files:
            yield json.loads(file.read_bytes())

    os.environ["NORMALIZE__WORKERS"] = str(processes)
    began = time.perf_counter()
    pipeline = library.pipeline(
        "bench",
        pipelines_dir=f"{target}-pipelines",
        destination=library.destinations.filesystem(bucket_url=target.as_uri()),
        dataset_name="silver",
    )
    pipeline.run(filesystem(bucket_url=source.as_uri(), file_glob="*.json") | rows, **options)
    return time.perf_counter() - began


def pathway(source: Path, target: Path, processes: int) -> float:
    """Its file reader, and a function that writes one Parquet file for each: its own writer, Delta Lake's, asks for a
    licence. It has one thread here: more are set by its launcher, which starts the whole program several times."""
    del processes
    return _pathway(source, target, sync=False)


def pathway_synced(source: Path, target: Path, processes: int) -> float:
    """The same with a function that writes as the durable loop does."""
    del processes
    return _pathway(source, target, sync=True)


def _pathway(source: Path, target: Path, *, sync: bool) -> float:
    import pathway as pw  # type: ignore[import-not-found]
    import pyarrow as pa
    from pyarrow import parquet

    target.mkdir()

    def convert(data: bytes, metadata: Any) -> int:
        name = Path(metadata["path"].as_str()).name
        rows = pa.Table.from_pylist(json.loads(data))
        path = target / f"{name}.parquet"
        with _durably(path) if sync else path.open("wb") as file:
            parquet.write_table(rows, file, compression="zstd")
        return int(rows.num_rows)

    began = time.perf_counter()
    files = pw.io.fs.read(str(source), format="binary", mode="static", with_metadata=True)
    pw.io.null.write(files.select(rows=pw.udf(convert, return_type=int)(pw.this.data, pw.this._metadata)))
    pw.run(monitoring_level=pw.MonitoringLevel.NONE)
    return time.perf_counter() - began


JOBS: dict[str, Callable[[Path, Path, int], float]] = {
    "bare": bare,
    "bare_synced": bare_synced,
    "pyspark": pyspark,
    "dlt": dlt,
    "dlt_delta": dlt_delta,
    "pathway": pathway,
    "pathway_synced": pathway_synced,
}

if __name__ == "__main__":
    _, job, given_source, given_target, given_processes = sys.argv
    took = JOBS[job](Path(given_source), Path(given_target), int(given_processes))
    print(f"\n{json.dumps({'seconds': took})}")
