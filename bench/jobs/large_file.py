"""The job of bench/large_file.py as a user of each peer would write it: one CSV file in, one Parquet file out.

    python bench/jobs/large_file.py PEER SOURCE TARGET

All give the same types, and all but ``polars``, the limit, keep only the rows for which three rules hold. Runs in the
peer's own environment, so nothing of Silversmith is imported. The last line is the seconds without the start.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

#: The columns of TPC-H's lineitem. https://www.tpc.org/tpch/
KINDS = {
    **dict.fromkeys(("l_orderkey", "l_partkey", "l_suppkey", "l_linenumber", "l_quantity"), "BIGINT"),
    **dict.fromkeys(("l_extendedprice", "l_discount", "l_tax"), "DOUBLE"),
    **dict.fromkeys(("l_returnflag", "l_linestatus"), "VARCHAR"),
    **dict.fromkeys(("l_shipdate", "l_commitdate", "l_receiptdate"), "DATE"),
    **dict.fromkeys(("l_shipinstruct", "l_shipmode", "l_comment"), "VARCHAR"),
}

RULES = "l_quantity > 0 AND l_discount BETWEEN 0 AND 0.1 AND l_shipdate <= l_receiptdate"

#: Rows that pandas holds at a time.
CHUNK = 200_000


def polars(source: Path, target: Path) -> float:
    """Its streaming engine alone: the limit."""
    import polars as pl

    kinds = {"BIGINT": pl.Int64, "DOUBLE": pl.Float64, "VARCHAR": pl.String, "DATE": pl.Date}
    began = time.perf_counter()
    schema = {name: kinds[kind] for name, kind in KINDS.items()}
    pl.scan_csv(source, schema=schema).sink_parquet(target, compression="zstd")
    return time.perf_counter() - began


def duckdb(source: Path, target: Path) -> float:
    """``COPY``."""
    import duckdb as library

    began = time.perf_counter()
    columns = ", ".join(f"'{name}': '{kind}'" for name, kind in KINDS.items())
    read = f"SELECT * FROM read_csv('{source}', header = true, columns = {{{columns}}}) WHERE {RULES}"
    connection = library.connect()
    connection.execute(f"SET temp_directory = '{target.parent}'")
    connection.execute(f"COPY ({read}) TO '{target}' (FORMAT parquet, COMPRESSION zstd)")
    return time.perf_counter() - began


def pandas(source: Path, target: Path) -> float:
    """In chunks, with pyarrow's Parquet writer."""
    import pandas as pd  # type: ignore[import-not-found, import-untyped, unused-ignore]
    import pyarrow as pa
    from pyarrow import parquet

    began = time.perf_counter()
    dates = [name for name, kind in KINDS.items() if kind == "DATE"]
    kinds = {"BIGINT": "int64", "DOUBLE": "float64", "VARCHAR": "str"}
    types = {name: kinds[kind] for name, kind in KINDS.items() if kind != "DATE"}
    writer = None
    for chunk in pd.read_csv(source, dtype=types, parse_dates=dates, chunksize=CHUNK):
        kept = chunk[
            (chunk.l_quantity > 0) & chunk.l_discount.between(0, 0.1) & (chunk.l_shipdate <= chunk.l_receiptdate)
        ]
        rows = pa.Table.from_pandas(kept, preserve_index=False)
        writer = writer or parquet.ParquetWriter(target, rows.schema, compression="zstd")
        writer.write_table(rows)
    assert writer is not None
    writer.close()
    return time.perf_counter() - began


def pyarrow(source: Path, target: Path) -> float:
    """A dataset's scanner, with the rules as its filter, written batch by batch."""
    import pyarrow as pa
    from pyarrow import csv, dataset, parquet

    began = time.perf_counter()
    kinds = {"BIGINT": pa.int64(), "DOUBLE": pa.float64(), "VARCHAR": pa.string(), "DATE": pa.date32()}
    schema = pa.schema([(name, kinds[kind]) for name, kind in KINDS.items()])
    form = dataset.CsvFileFormat(convert_options=csv.ConvertOptions(column_types=schema))
    field = dataset.field
    rules = (field("l_quantity") > 0) & (field("l_discount") >= 0) & (field("l_discount") <= 0.1)
    rules &= field("l_shipdate") <= field("l_receiptdate")
    with parquet.ParquetWriter(target, schema, compression="zstd") as writer:
        for batch in dataset.dataset(source, schema=schema, format=form).to_batches(filter=rules):
            writer.write_batch(batch)
    return time.perf_counter() - began


def pyspark(source: Path, target: Path) -> float:
    """A data frame on all cores."""
    from pyspark.sql import SparkSession  # type: ignore[import-not-found]

    builder = SparkSession.builder.master("local[*]").config("spark.ui.enabled", "false")
    builder = builder.config("spark.driver.host", "127.0.0.1").config("spark.ui.showConsoleProgress", "false")
    spark = builder.getOrCreate()
    began = time.perf_counter()
    schema = ", ".join(f"{name} {kind.replace('VARCHAR', 'STRING')}" for name, kind in KINDS.items())
    rows = spark.read.csv(str(source), schema=schema, header=True).where(RULES)
    rows.write.option("compression", "zstd").parquet(str(target))
    seconds = time.perf_counter() - began
    spark.stop()
    return seconds


JOBS: dict[str, Callable[[Path, Path], float]] = {
    job.__name__: job for job in (polars, duckdb, pandas, pyarrow, pyspark)
}

if __name__ == "__main__":
    _, name, given_source, given_target = sys.argv
    took = JOBS[name](Path(given_source), Path(given_target))
    print(f"\n{json.dumps({'seconds': took})}")
