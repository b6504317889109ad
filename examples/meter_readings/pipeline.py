"""Readings of electricity meters, from binary files that Silversmith does not know, with the customers they are of.

`records.py` reads the format. Whose meter it is says a lookup: a table in bronze, which is read beside each file.
"""

import polars as pl
from records import MeterReadings

from silversmith import Context, Contract, Deployment, Pipeline

pipeline = Pipeline("meter-readings")

deployment = Deployment(
    bronze="meter-readings-bronze",
    silver="meter-readings-silver",
    quarantine="meter-readings-quarantine",
)

METERS = "lookup/meters.csv"

reading = Contract(
    schema={"meter": pl.UInt32, "at": pl.Datetime("us", "UTC"), "watthours": pl.UInt64},
    required=["meter", "at", "watthours"],
    rules={"nobody has tampered with the meter": ~pl.col("tampered")},
    unique=["meter", "at"],
)


@pipeline.transform("meters/*.mtr", contract=reading, reader=MeterReadings(), lookups=[METERS])
def readings(rows: pl.LazyFrame, context: Context) -> pl.LazyFrame:
    """Each reading with its customer and tariff; of a meter that nobody knows, without."""
    meters = context.read(METERS).with_columns(pl.col("meter").cast(pl.UInt32))
    return (
        rows.join(meters, on="meter", how="left", maintain_order="left")
        .with_columns(kilowatthours=pl.col("watthours") / 1000, fetched=pl.lit(context.modified.date()))
        .drop("tampered", "watthours")
        .sort("meter", "at")
    )
