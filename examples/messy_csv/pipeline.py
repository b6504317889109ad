"""CSV exports as shops get them: each system has its own idea of CSV, and none of them is tidy.

The tills write as Excel does in Germany: semicolons, decimal commas, Windows-1252, a title above the header, days as
31.01.2026. The suppliers' lists have comments, columns under old names, prices with thousands, and rows that are there
twice.
"""

import polars as pl

from silversmith import Contract, Csv, Deployment, Pipeline

pipeline = Pipeline("messy-csv")

deployment = Deployment(
    bronze="messy-csv-bronze",
    silver="messy-csv-silver",
    quarantine="messy-csv-quarantine",
)

till = Contract(
    schema={
        "day": pl.Date,
        "till": pl.Int16,
        "article": pl.String,
        "pieces": pl.Int32,
        "price": pl.Decimal(10, 2),
    },
    rename={"Datum": "day", "Kasse": "till", "Artikel": "article", "Menge": "pieces", "Preis": "price"},
    required=["day", "till", "article", "pieces"],
    formats={"day": "%d.%m.%Y"},
    drop={"totals": pl.col("article").str.starts_with("Summe")},
    ranges={"pieces": (-100, 1000)},  # what is brought back counts less than nothing
    on_extra_column="drop",
    max_rejected=0.5,
)


@pipeline.transform(
    "tills/*.csv",
    contract=till,
    reader=Csv(separator=";", decimal_comma=True, encoding="cp1252", skip_lines=2, null_values=("k.A.",)),
)
def sales(rows: pl.LazyFrame) -> pl.LazyFrame:
    """One row a sale, without the lines that add up the others."""
    return rows.with_columns(total=pl.col("pieces") * pl.col("price"))


offer = Contract(
    schema={
        "sku": pl.String,
        "name": pl.String,
        "price": pl.Float64,
        "currency": pl.String,
        "in_stock": pl.Boolean,
    },
    rename={"Item No": "sku", "Unit Price": "price"},  # as the lists called them before 2026
    defaults={"currency": "EUR", "in_stock": False},
    on_missing_column="fill",
    on_extra_column="drop",
    required=["sku", "name", "price"],
    unique=["sku"],
    allowed={"currency": ["EUR", "USD", "GBP"]},
    patterns={"sku": "[A-Z]{3}-[0-9]{4}"},
    ranges={"price": (0, None)},
)


@pipeline.transform(
    "suppliers/*.csv", contract=offer, reader=Csv(comment="#", ragged=True, thousands=",", null_values=("", "-"))
)
def offers(rows: pl.LazyFrame) -> pl.LazyFrame:
    """One row an article that is offered."""
    return rows.with_columns(pl.col("name").str.strip_chars().str.replace_all(r"\s+", " "))
