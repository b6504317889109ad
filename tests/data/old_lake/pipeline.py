"""The pipeline of the old lake. Leave it as it is: the fingerprints of the silver in lake.tar.gz are of this code."""

import os
import time

import polars as pl

from silversmith import Context, Contract, Pipeline

pipeline = Pipeline("shop")

order = Contract(
    schema={"id": pl.Int64, "country": pl.String, "total": pl.Float64},
    required=["id"],
    rules={"the total is positive": pl.col("total") > 0},
)


@pipeline.transform("orders/*.csv", contract=order, lookups=["lookup/countries.csv"])
def orders(rows: pl.LazyFrame, context: Context) -> pl.LazyFrame:
    countries = context.read("lookup/countries.csv").lazy()
    return rows.join(countries, on="country", how="left", maintain_order="left")


@pipeline.transform("events/*")
def events(rows: pl.LazyFrame) -> pl.LazyFrame:
    return rows.sort("at")


@pipeline.transform("poison/*", max_receive_count=2)
def poison(rows: pl.LazyFrame) -> pl.LazyFrame:
    if not os.environ.get("OLD_LAKE_MENDED"):
        raise ValueError("the poison is in")
    return rows


@pipeline.transform("slow/*", timeout=60)
def slow(rows: pl.LazyFrame) -> pl.LazyFrame:
    if os.environ.get("OLD_LAKE_SLOW"):
        time.sleep(50)
    return rows
