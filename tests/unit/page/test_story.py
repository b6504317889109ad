"""A file's lines around its error, its download, and its replay."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from silversmith.page.files import AROUND, LINE, raw_lines
from tests.unit.operations.conftest import GOOD
from tests.unit.page.conftest import HOST, Visitor

TORN = 'id,total\n1,2\n2,3\n3,"4\n4,5\n'


def land(visitor: Visitor, key: str, text: str) -> None:
    visitor.bench.land(key, text=text)
    visitor.bench.work()


def test_the_lines_around_the_error(visitor: Visitor) -> None:
    land(visitor, "orders/torn.csv", TORN)
    text = visitor.get("/file?key=orders/torn.csv")
    assert '<span class="wrong"><b>4</b>3,&#34;4</span>' in text
    assert "<b>1</b>id,total" in text


def test_the_lines_are_those_of_the_file_that_failed(visitor: Visitor) -> None:
    land(visitor, "orders/torn.csv", TORN)
    path = visitor.bench.folder.bucket("dl-bronze-layer") / "orders/torn.csv"
    path.write_text("another file\n" * 9)
    assert 'class="wrong"' not in visitor.get("/file?key=orders/torn.csv")


@given(st.binary(max_size=300), st.integers(1, 12))
def test_any_bytes_give_lines_or_none(content: bytes, wrong: int) -> None:
    lines = raw_lines(io.BytesIO(content), wrong)
    assert len(lines) <= 2 * AROUND + 1
    assert all(len(line.text) <= LINE for line in lines)
    assert [line.number for line in lines if line.is_wrong] == ([wrong] if lines else [])
    assert [line.number for line in lines] == sorted(line.number for line in lines)


def test_a_line_of_any_length_costs_little() -> None:
    (line,) = raw_lines(io.BytesIO(b"x" * 1_000_000), 1)
    assert line.text == "x" * (LINE - 1) + "…"


@pytest.mark.parametrize("key", ["orders/a b.csv", 'orders/"quoted"; é\r\n\u202e.csv'])
def test_a_download_is_saved_and_never_shown(visitor: Visitor, key: str) -> None:
    visitor.bench.lake.bronze.put(key, GOOD.encode())
    answer = visitor.client.get("/download", params={"key": key})
    assert (answer.status_code, answer.content) == (200, GOOD.encode())
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-disposition"].startswith("attachment; filename*=UTF-8''")
    assert "sandbox" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_a_large_download_comes_from_the_file(visitor: Visitor) -> None:
    body = bytes(range(256)) * 40_000
    visitor.bench.lake.bronze.put("orders/large.bin", body)
    assert visitor.client.get("/download", params={"key": "orders/large.bin"}).content == body


def test_there_is_nothing_to_download(visitor: Visitor) -> None:
    visitor.get("/download", 404)
    visitor.get("/download?key=orders/none.csv", 404)
    visitor.client.cookies.clear()
    visitor.get("/download?key=orders/none.csv", 403)


def test_a_file_is_replayed_only_with_the_form(visitor: Visitor) -> None:
    land(visitor, "orders/a.csv", GOOD)
    assert "Make silver again?" in visitor.get("/replay?key=orders/a.csv&transform=orders")
    assert visitor.bench.depth("shop_orders") == 0, "asking does nothing"
    visitor.post("/replay", 403, csrf="wrong", key="orders/a.csv", transform="orders")
    visitor.post("/replay", 403, origin="http://evil.example", key="orders/a.csv", transform="orders")
    visitor.post("/replay", 404, key="orders/a.csv", transform="ids")
    visitor.post("/replay", 404, key="", transform="orders")
    assert visitor.bench.depth("shop_orders") == 0
    before = visitor.bench.lineage("orders", "orders/a.csv").committed_at
    visitor.bench.now += 60
    visitor.post("/replay", key="orders/a.csv", transform="orders")
    visitor.bench.work()
    assert visitor.bench.lineage("orders", "orders/a.csv").committed_at > before
    answer = visitor.client.post(
        "/replay", data={"csrf": visitor.csrf, "key": "orders/a.csv", "transform": "orders"}, headers={"origin": HOST}
    )
    assert answer.headers["location"] == "/file?key=orders%2Fa.csv&sent=1"
