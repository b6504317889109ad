"""A lake, its engine and its page in a real Chromium."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = next((path for name in ("chromium", "chromium-browser") if (path := shutil.which(name))), None)

#: Where screenshots are kept, to be looked at; git ignores it.
SHOTS = Path(__file__).parents[2] / "screenshots"

FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip

PIPELINE = '''
import polars as pl
from pathlib import Path
from silversmith import Contract, Pipeline

pipeline = Pipeline("shop")

@pipeline.transform("orders/*.csv", contract=Contract(
    schema={"id": pl.Int64, "total": pl.Float64}, rules={"total is positive": pl.col("total") > 0},
))
def orders(rows: pl.LazyFrame) -> pl.LazyFrame:
    """What was ordered."""
    print("<b>orders</b> are read")
    return rows

@pipeline.transform("bug/*.csv", max_receive_count=1)
def fragile(rows: pl.LazyFrame) -> pl.LazyFrame:
    if not Path("mended").exists():
        raise KeyError("not mended yet")
    return rows

pipeline.table("orders", of=orders)
'''

#: A key that would be markup, and turn the line around, if it were not shown as text.
HOSTILE = "orders/<img src=x onerror=document.title='owned'>\u202ecsv.csv"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Without a Chromium there is nothing to drive: say so, and how to get one."""
    if CHROMIUM is None:
        reason = "the page was not tested in a browser: no chromium on this machine (apt-get install chromium)"
        for item in items:
            if Path(__file__).parent in item.path.parents:
                item.add_marker(pytest.mark.skip(reason=reason))


@dataclass
class Site:
    """A running engine, its folder, and the URL that it printed."""

    folder: Path
    url: str
    engine: subprocess.Popen[str]

    @property
    def root(self) -> str:
        return self.url.partition("/?")[0]

    def drop(self, key: str, text: str) -> None:
        path = self.folder / "lake/dl-bronze-layer" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@contextmanager
def running(folder: Path) -> Iterator[Site]:
    """An engine over a folder with a pipeline, and its page, while the block lasts."""
    (folder / "pipeline.py").write_text(PIPELINE)
    command = [sys.executable, "-m", "silversmith.cli", "run", "--page", "0", "--workers", "1"]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as engine:
        assert engine.stdout is not None
        line = engine.stdout.readline()
        address = re.search(r"http://\S+", line)
        assert address, line
        with (folder / "out").open("w") as out, subprocess.Popen(["cat"], stdin=engine.stdout, stdout=out):
            yield Site(folder, address[0], engine)
            engine.send_signal(signal.SIGTERM)
            engine.wait(30)


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running(tmp_path_factory.mktemp("site")) as site:
        site.drop("orders/good.csv", "id,total\n1,2.5\n2,3\n")
        site.drop("orders/mixed.csv", "id,total\n1,2.5\n2,-3\nx,1\n")
        site.drop("orders/broken.csv", 'id,total\n1,"2\n')
        site.drop("bug/one.csv", "id\n1\n")
        site.drop(HOSTILE, "id,total\n1,<script>document.title='owned'</script>\n")
        yield site


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    # Chromium makes sockets in its temporary folder, and their paths may have 107 bytes.
    with tempfile.TemporaryDirectory(dir="/tmp") as short, sync_playwright() as playwright:
        environment: dict[str, str | float | bool] = {**os.environ, "TMPDIR": short}
        result = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS), env=environment)
        yield result
        result.close()


@pytest.fixture
def tab(browser: Browser, site: Site, request: pytest.FixtureRequest) -> Iterator[Page]:
    """A tab on the first page. At its end it is photographed; no script failed, and nothing was refused by the CSP."""
    complaints: list[str] = []
    with browser.new_context(viewport={"width": 1280, "height": 900}) as context:
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
        page.goto(site.url)
        yield page
        SHOTS.mkdir(exist_ok=True)
        page.screenshot(path=SHOTS / f"{request.node.name}.png", full_page=True)
    assert [said for said in complaints if "404" not in said] == []
