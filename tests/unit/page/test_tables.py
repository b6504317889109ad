"""The tables and views of gold on the page."""

from __future__ import annotations

import html
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from silversmith.local.lake import LakeFolder
from silversmith.operations.preview import CELL, COLUMNS
from silversmith.operations.text import iso
from silversmith.page.application import application
from silversmith.page.backend import LocalBackend
from silversmith.page.context import link
from silversmith.page.recent import Watch
from silversmith.page.transforms import ROWS
from silversmith.tables.views import refresh
from tests.unit.page.conftest import HOST, TOKEN, Visitor
from tests.unit.tables.kit import GoldBench, nothing
from tests.unit.tables.test_views import views

DAILY = "select day, sum(total) as total from orders group by day"

PIPELINE = f"""
from silversmith import Pipeline

pipeline = Pipeline("shop", silver="silver", gold="gold")

@pipeline.transform("orders/*.csv")
def orders(rows):
    return rows

pipeline.table("orders", of=orders)
pipeline.view("daily", "{DAILY}", by=["day"])
"""

HOSTILE = "<img src=x onerror=alert(1)>\u202e"


@pytest.fixture
def bench(tmp_path: Path) -> GoldBench:
    return GoldBench(tmp_path / "lake")


@pytest.fixture
def client(tmp_path: Path, bench: GoldBench) -> Iterator[TestClient]:
    (tmp_path / "pipeline.py").write_text(PIPELINE)
    backend = LocalBackend(LakeFolder(bench.root), str(tmp_path / "pipeline.py"))
    app = application(backend, Watch(backend), token=TOKEN, cookie="c")
    with TestClient(app, base_url=HOST, follow_redirects=False) as client:
        client.cookies.set("c", TOKEN)
        yield client


def get(client: TestClient, path: str, status: int = 200) -> str:
    answer = client.get(path)
    assert answer.status_code == status, answer.text
    return answer.text


def test_rows_files_version_and_commit_of_each(client: TestClient, bench: GoldBench) -> None:
    bench.bring(bench.put("orders/a.csv", {"day": ["mo", "tu"], "total": [1, 2]}))
    bench.bring(bench.put("orders/b.csv", {"day": ["mo"], "total": [5]}))
    shown = get(client, "/tables")
    orders, daily = shown.partition("<tbody>")[2].split("</tr>")[:2]
    snapshot = bench.snapshot()
    assert '<a href="/tables/orders">orders</a>' in orders
    rows, files, _, version = re.findall(r'<td class="n" data-of="\w+">([^<]*)<', orders)
    assert (rows, files, version) == ("3", "2", str(snapshot.version))
    assert (iso(snapshot.committed) or "never") in orders
    assert "view" in daily
    assert "nothing yet" in daily


def test_the_flow_goes_on_to_the_tables(tmp_path: Path, bench: GoldBench) -> None:
    (tmp_path / "pipeline.py").write_text(PIPELINE)
    bench.bring(bench.put("orders/a.csv", {"day": ["mo", "tu"], "total": [1, 2]}))
    backend = LocalBackend(LakeFolder(bench.root), str(tmp_path / "pipeline.py"))
    watch = Watch(backend)
    watch.look()
    client = TestClient(application(backend, watch, token=TOKEN, cookie="c"), base_url=HOST)
    client.cookies.set("c", TOKEN)
    picture = get(client, "/flow").partition('<svg class="flow"')[2].partition("</svg>")[0]
    assert '<a href="/tables">' in picture
    assert 'data-live="@gold.rows">2<' in picture
    assert "orders, daily" in picture


def test_the_first_rows_link_to_the_files_they_came_from(client: TestClient, bench: GoldBench) -> None:
    bench.bring(
        bench.put("orders/a.csv", {"day": ["mo", "tu"], "total": [1, None]}),
        bench.put("orders/b.csv", {"day": ["mo"], "total": [5]}),
    )
    shown = get(client, "/tables/orders")
    assert shown.count('<a href="/file?key=orders%2Fa.csv">orders/a.csv</a>') == 2
    assert shown.count('<a href="/file?key=orders%2Fb.csv">orders/b.csv</a>') == 1
    assert "<i>null</i>" in shown
    assert "Rows: 3 of 3 rows" in shown
    assert '<a href="/transforms/orders">' in shown


def test_a_view_with_its_query(client: TestClient, bench: GoldBench) -> None:
    bench.bring(bench.put("orders/a.csv", {"day": ["mo", "mo"], "total": [30, 12]}))
    refresh(views(("daily", DAILY, ["day"])).views, bench.gold, step=nothing)
    shown = get(client, "/tables/daily")
    assert '<td class="short">42</td>' in shown
    assert DAILY in shown
    assert '<a href="/tables/orders">orders</a>' in shown


def test_no_more_than_the_first_rows_and_columns(client: TestClient, bench: GoldBench) -> None:
    wide = {f"c{number}": [number] * (ROWS + 1) for number in range(COLUMNS)}
    bench.bring(bench.put("orders/a.csv", wide))
    shown = get(client, "/tables/orders")
    assert f"Rows: {ROWS} of {ROWS + 1} rows, {COLUMNS} of {COLUMNS + 2} columns" in shown
    assert shown.count(">orders/a.csv</a>") == ROWS


def test_keys_and_cells_are_text_and_a_long_key_is_linked_whole(client: TestClient, bench: GoldBench) -> None:
    key = f"orders/{HOSTILE}{'x' * CELL}.csv"
    bench.bring(bench.put(key, {"note": [HOSTILE]}))
    shown = get(client, "/tables/orders")
    assert "<img" not in shown
    assert "\u202e" not in shown
    assert "&lt;img src=x onerror=alert(1)&gt;\\u202e</td>" in shown
    assert html.escape(link("/file", key=key)) in shown


def test_a_table_without_rows_yet_and_one_that_there_is_not(client: TestClient) -> None:
    assert "nothing of it yet" in get(client, "/tables/orders")
    assert "There is no such page" in get(client, "/tables/customers", 404)


def test_unreadable_gold_is_reported(client: TestClient, bench: GoldBench) -> None:
    bench.bring(bench.put("orders/a.csv", {"day": ["mo"]}))
    for path in (bench.root / "gold/orders/_delta_log").glob("*.json"):
        path.write_text("{")
    assert "Not possible" in get(client, "/tables", 400)


def test_a_pipeline_without_tables_has_no_such_part(visitor: Visitor) -> None:
    assert "/tables" not in visitor.get("/")
    assert "There is no such page" in visitor.get("/tables", 404)
    assert "There is no such page" in visitor.get("/tables/orders", 404)


#: Asks for pages where the packages of tables are not installed, and prints the answers' status and text.
WITHOUT_PACKAGES = """
import sys
sys.modules |= {name: None for name in ("deltalake", "arro3", "arro3.core", "arro3.io", "sqlglot")}
from pathlib import Path
from starlette.testclient import TestClient
from silversmith.local.lake import LakeFolder
from silversmith.page.application import application
from silversmith.page.backend import LocalBackend
from silversmith.page.recent import Watch
backend = LocalBackend(LakeFolder(Path("lake")), "pipeline.py")
with TestClient(application(backend, Watch(backend), token="t", cookie="c"), base_url="http://127.0.0.1") as client:
    client.cookies.set("c", "t")
    for path in sys.argv[1:]:
        answer = client.get(path)
        print(answer.status_code, answer.text)
"""


def ask_without_packages(folder: Path, definition: str, *paths: str) -> str:
    (folder / "pipeline.py").write_text(definition)
    command = [sys.executable, "-c", WITHOUT_PACKAGES, *paths]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.full
def test_without_tables_their_packages_are_not_needed(tmp_path: Path) -> None:
    definition = PIPELINE.partition("pipeline.table(")[0]
    shown = ask_without_packages(tmp_path, definition, "/", "/transforms", "/transforms/orders")
    assert shown.count("200 <!doctype html>") == 3


@pytest.mark.full
def test_with_tables_the_page_says_how_to_install_their_packages(tmp_path: Path) -> None:
    definition = PIPELINE.partition("pipeline.view(")[0]
    shown = html.unescape(ask_without_packages(tmp_path, definition, "/", "/tables"))
    assert shown.startswith("200 <!doctype html>")
    assert "400 <!doctype html>" in shown
    assert "pip install 'silversmith[tables]'" in shown
