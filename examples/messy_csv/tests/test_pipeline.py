"""Messy files in, tidy rows out; and of what is too messy, why."""

from datetime import date
from decimal import Decimal
from pathlib import Path

import polars as pl

from silversmith.testing.plugin import Run

DATA = Path(__file__).parent.parent / "data"
SALES = "tills/2026-01-31.csv"


def test_sales_of_a_till(pipeline_run: Run) -> None:
    result = pipeline_run({SALES: DATA / SALES})
    result.assert_silver(
        "sales",
        SALES,
        pl.DataFrame(
            {
                "day": [date(2026, 1, 31)] * 5,
                "till": [1, 1, 2, 2, 3],
                "article": ["Müsli, geröstet", 'Käse "Bergblume"', "Brötchen", "Brötchen", "Öl"],
                "pieces": [2, 1, 12, -3, 1],
                "price": [Decimal("4.95"), Decimal("12.50"), Decimal("0.45"), Decimal("0.45"), None],
                "total": [Decimal("9.90"), Decimal("12.50"), Decimal("5.40"), Decimal("-1.35"), None],
            }
        ),
        types=False,
    )
    result.assert_rejected("sales", SALES, {5: "31.1.26", 7: '"viele" is not Int32'})
    assert result.lineage["sales", SALES].rows_dropped == 1


def test_a_day_that_there_is_not_rejects_its_row_and_not_the_file(pipeline_run: Run) -> None:
    header = "a title\n\nDatum;Kasse;Artikel;Menge;Preis;Bediener\n"
    rows = "28.02.2026;1;Salz;1;0,50;MK\n31.02.2026;1;Salz;1;0,50;MK\n"
    result = pipeline_run({SALES: (header + rows).encode("cp1252")})
    assert result.silver["sales", SALES]["day"].to_list() == [date(2026, 2, 28)]
    result.assert_rejected("sales", SALES, {2: '"31.02.2026" is not Date'})


def test_a_list_with_old_names_and_thousands(pipeline_run: Run) -> None:
    result = pipeline_run({"suppliers/north.csv": DATA / "suppliers/north.csv"})
    result.assert_silver(
        "offers",
        "suppliers/north.csv",
        pl.DataFrame(
            {
                "sku": ["KAE-0001", "NUS-0007"],
                "name": ["Cheese from the hills", "Walnuts"],
                "price": [1250.0, 18.4],
                "currency": ["EUR", "EUR"],
                "in_stock": [True, False],
            }
        ),
    )
    result.assert_rejected("offers", "suppliers/north.csv", {3: "an earlier row has the same", 4: "OEL-12"})


def test_records_that_end_early_get_the_defaults(pipeline_run: Run) -> None:
    result = pipeline_run({"suppliers/south.csv": DATA / "suppliers/south.csv"})
    offers = result.silver["offers", "suppliers/south.csv"]
    assert offers.rows() == [
        ("BRO-0100", "Bread rolls", 0.31, "EUR", True),
        ("BRO-0101", "Rye bread", 2.10, "EUR", False),
    ]
    result.assert_rejected("offers", "suppliers/south.csv", {3: "price", 4: "CHF"})


def test_what_is_no_list_goes_to_quarantine(pipeline_run: Run) -> None:
    result = pipeline_run({"suppliers/letter.csv": DATA / "suppliers/letter.csv"})
    result.assert_error("offers", "suppliers/letter.csv", "MissingColumn")
