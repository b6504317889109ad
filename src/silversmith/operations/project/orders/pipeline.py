"""Orders as CSV files: what lands under orders/ becomes one silver object a file, and all of it one table.

Tables and views need more packages: pip install 'silversmith[tables]'
"""

import polars as pl

from silversmith import Contract, Deployment, Pipeline

pipeline = Pipeline("my-project")

# For AWS alone, where the names of buckets are unique among all accounts.
deployment = Deployment(
    bronze="my-project-bronze",
    silver="my-project-silver",
    quarantine="my-project-quarantine",
    gold="my-project-gold",
)

order = Contract(
    schema={
        "id": pl.Int64,
        "day": pl.Date,
        "customer": pl.String,
        "quantity": pl.Int32,
        "price": pl.Decimal(12, 2),
    },
    required=["id", "day", "customer"],
    unique=["id"],
    ranges={"quantity": (1, 1000)},
    rules={"the price is positive": pl.col("price") > 0},
)


@pipeline.transform("orders/*.csv", contract=order)
def orders(rows: pl.LazyFrame) -> pl.LazyFrame:
    """One row an order, with its total."""
    return rows.with_columns(total=pl.col("quantity") * pl.col("price"))


pipeline.table("orders", of=orders)

pipeline.view("daily", "select day, sum(total) as total, count(*) as orders from orders group by day", by=["day"])
