"""Take the screenshots of the monitoring page for README and docs: a small pipeline runs, and Chromium looks at it.

Run by ``make screenshots``. It needs a Chromium on the machine, as the tests of the page do.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Page

IMAGES = Path(__file__).resolve().parents[1] / "docs/images"

PIPELINE = '''
import polars as pl
from silversmith import Contract, Pipeline

pipeline = Pipeline("shop")

order = Contract(
    schema={"id": pl.Int64, "day": pl.Date, "customer": pl.String, "total": pl.Float64},
    required=["id", "day"],
    rules={"total is positive": pl.col("total") > 0},
)


@pipeline.transform("orders/*.csv", contract=order)
def orders(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Orders of all shops, with net totals."""
    return rows.with_columns(net=(pl.col("total") / 1.19).round(2))


@pipeline.transform("returns/*.json", contract=Contract(schema={"order": pl.Int64, "reason": pl.String}))
def returns(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Returned orders."""
    return rows


pipeline.table("orders", of=orders, partition_by=["day"])
'''

CITIES = ("berlin", "paris", "rome", "madrid", "vienna", "oslo", "lisbon", "athens")
CUSTOMERS = ("Ada", "Bob", "Cem", "Dora")

FLAGS = ("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync")


def files() -> dict[str, str]:
    """The files that land, in this order: mostly good ones, some rows that break the contract, two broken files."""
    result = {}
    for day in range(1, 5):
        for number, city in enumerate(CITIES):
            rows = [
                f"{100 * day + 10 * number + row},2026-05-{day:02},{CUSTOMERS[row % 4]},{12.5 * row + 3 * number + 1}"
                for row in range(20)
            ]
            if number % 4 == 3:
                rows[7] = rows[7].rpartition(",")[0] + ",-5"
                rows[9] = rows[9].rpartition(",")[0] + ",far"
            result[f"orders/{city}/2026-05-{day:02}.csv"] = "\n".join(["id,day,customer,total", *rows]) + "\n"
        result[f"returns/2026-05-{day:02}.json"] = f'[{{"order": {100 * day + 3}, "reason": "too small"}}]'
    result["orders/rome/2026-05-05.csv"] = "number,day,customer\n1,2026-05-05,Ada\n"
    result["returns/2026-05-05.json"] = '[{"order": 103, "reason": "too sm'
    return result


def land(lake: Path) -> None:
    """Put the files into bronze, each whole."""
    for key, text in files().items():
        path = lake / "dl-bronze-layer" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.part")
        temporary.write_text(text, "utf-8")
        temporary.rename(path)
        time.sleep(0.15)  # so that the plots have more than one point


def take(url: str) -> None:
    """Look at the page, and keep what it shows."""
    from playwright.sync_api import sync_playwright

    chromium = next((path for name in ("chromium", "chromium-browser") if (path := shutil.which(name))), None)
    if chromium is None:
        sys.exit("There is no Chromium on this machine: apt-get install chromium")
    root = url.partition("/?")[0]
    with tempfile.TemporaryDirectory(dir="/tmp") as short, sync_playwright() as playwright:
        environment: dict[str, str | float | bool] = {**os.environ, "TMPDIR": short}
        browser = playwright.chromium.launch(executable_path=chromium, args=list(FLAGS), env=environment)
        page = browser.new_page(viewport={"width": 1200, "height": 860}, color_scheme="light")
        page.goto(url)
        page.wait_for_timeout(3000)  # for two updates of what is live
        keep(page, "overview")
        page.goto(f"{root}/failures")
        keep(page, "failures")
        page.goto(f"{root}/file?key=orders/madrid/2026-05-01.csv")
        keep(page, "file")
        browser.close()


def keep(page: Page, name: str) -> None:
    page.wait_for_load_state("networkidle") if name != "overview" else None
    page.screenshot(path=IMAGES / f"page-{name}.png")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "pipeline.py").write_text(PIPELINE, "utf-8")
        command = [sys.executable, "-m", "silversmith.cli", "run", "--page", "0", "--workers", "2"]
        with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as engine:
            assert engine.stdout is not None
            try:
                lines = iter(engine.stdout.readline, "")
                url = next(address[0] for line in lines if (address := re.search(r"http://\S+", line)))
                land(Path(folder) / "lake")
                time.sleep(8)  # for the tables to follow
                take(url)
            finally:
                engine.send_signal(signal.SIGTERM)
                engine.wait(30)


if __name__ == "__main__":
    main()
