"""Every flight that left New York in 2013, with its weather, planes and airports: real files, in four formats."""

import polars as pl

from silversmith import Contract, Csv, Pipeline

pipeline = Pipeline("flights")

with_na = Csv(null_values=("NA",))

flight = Contract(
    schema={
        "year": pl.Int16,
        "month": pl.Int8,
        "day": pl.Int8,
        "carrier": pl.String,
        "flight": pl.Int32,
        "tailnum": pl.String,
        "origin": pl.String,
        "dest": pl.String,
        "dep_delay": pl.Int32,
        "arr_delay": pl.Int32,
        "air_time": pl.Int32,
        "distance": pl.Int32,
        "time_hour": pl.Datetime("us", "UTC"),
    },
    rules={
        "distance is positive": pl.col("distance") > 0,
        "leaves from New York": pl.col("origin").is_in(["EWR", "JFK", "LGA"]),
    },
    required=("carrier", "flight", "origin", "dest"),
    on_extra_column="drop",
)


@pipeline.transform("flights/*.csv", contract=flight, reader=with_na)
def flights(rows: pl.LazyFrame) -> pl.LazyFrame:
    """One row a flight, with its speed in miles an hour."""
    return rows.with_columns(speed=pl.col("distance") / (pl.col("air_time") / 60))


# A second transform on the same files: each file becomes one silver object of each.
pipeline.sql(
    "flights/*.csv",
    """
    select carrier, count(*) as flights, avg(arr_delay) as mean_delay
    from rows group by carrier order by carrier
    """,
    name="delays",
    contract=flight,
    reader=with_na,
)


@pipeline.transform(
    "weather/*.ndjson",
    contract=Contract(
        schema={"origin": pl.String, "time_hour": pl.Datetime("us", "UTC"), "temp": pl.Float64},
        rules={"temperature in Fahrenheit": pl.col("temp").is_between(-60, 140)},
    ),
)
def weather(rows: pl.LazyFrame) -> pl.LazyFrame:
    """One row an hour and airport."""
    return rows.with_columns(celsius=(pl.col("temp") - 32) / 1.8)


@pipeline.transform("airports/*.json")
def airports(rows: pl.LazyFrame) -> pl.LazyFrame:
    """One row an airport."""
    return rows.select("faa", "name", "lat", "lon", "tzone")


@pipeline.transform("planes/*.parquet")
def planes(rows: pl.LazyFrame) -> pl.LazyFrame:
    """One row a plane that is still built by somebody we know."""
    return rows.filter(pl.col("manufacturer").is_not_null())


# Gold: every flight in one table, and a table that follows it. A corrected month changes only its carriers' rows.
pipeline.table("flights", of=flights, sort_by=["carrier"])
pipeline.view(
    "carriers",
    """
    select carrier, count(*) as flights, round(avg(arr_delay), 1) as mean_delay
    from flights group by carrier
    """,
    by=["carrier"],
)
