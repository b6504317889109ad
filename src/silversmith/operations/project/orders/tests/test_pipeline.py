"""What the pipeline makes of files. `pipeline_run` comes with Silversmith."""

from datetime import date
from decimal import Decimal
from pathlib import Path

import polars as pl

from silversmith.testing.plugin import Run

DATA = Path(__file__).parent.parent / "data"


def test_an_order_gets_its_total(pipeline_run: Run) -> None:
    result = pipeline_run({"orders/a.csv": "id,day,customer,quantity,price\n7,2026-01-05,Ada,2,19.90\n"})
    result.assert_silver(
        "orders",
        "orders/a.csv",
        pl.DataFrame(
            {
                "id": [7],
                "day": [date(2026, 1, 5)],
                "customer": ["Ada"],
                "quantity": [2],
                "price": [Decimal("19.90")],
                "total": [Decimal("39.80")],
            }
        ),
        types=False,
    )


def test_the_sample(pipeline_run: Run) -> None:
    result = pipeline_run({"orders/2026-01.csv": DATA / "orders/2026-01.csv"})
    assert result.silver["orders", "orders/2026-01.csv"]["id"].to_list() == [1001, 1002, 1003, 1006]
    result.assert_rejected("orders", "orders/2026-01.csv", {4: '"none" is not Int32', 5: "customer"})


def test_a_file_without_prices_goes_to_quarantine(pipeline_run: Run) -> None:
    result = pipeline_run({"orders/a.csv": "id,day,customer,quantity\n7,2026-01-05,Ada,2\n"})
    result.assert_error("orders", "orders/a.csv", "MissingColumn")
