"""Every page over a lake in which everything happened."""

from __future__ import annotations

import html
import re

import pytest

from tests.unit.operations.conftest import BAD, GOOD, HARMFUL, PARTLY
from tests.unit.page.conftest import HOST, Visitor

HOSTILE = "orders/<script>alert(1)</script>\u202e\x1b.csv"


def everything(visitor: Visitor) -> None:
    bench = visitor.bench
    bench.land("orders/good.csv", text=GOOD)
    bench.land("orders/partly.csv", text=PARTLY)
    bench.land("orders/bad.csv", HOSTILE, text=BAD)
    bench.land("orders/harmful.csv", text=HARMFUL)
    bench.work()


def test_a_lake_where_nothing_happened(visitor: Visitor) -> None:
    assert "All is well" in visitor.get("/")
    assert "Nothing failed" in visitor.get("/failures")
    assert "no engine runs" in visitor.get("/")


def test_the_overview_shows_what_happened(visitor: Visitor) -> None:
    everything(visitor)
    text = html.unescape(visitor.get("/"))
    assert "2 files in quarantine and 1 message in dead-letter queues: they need you." in text
    assert "MissingColumn" in text
    assert "pipeline.py:10 in orders(): RuntimeError: 666 is no order" in text
    assert "/redrive?transform=orders&error=MissingColumn&where=quarantine" in text
    assert re.search(r"total is positive <b>20 %</b>", text), "one of the five rows that were read"
    assert re.search(r"column total <b>20 %</b>", text)
    assert "orders/partly.csv" in text


def test_the_flow_tells_what_happened(visitor: Visitor) -> None:
    everything(visitor)
    text = visitor.get("/flow")
    assert '<tspan data-live="orders.done">2</tspan>' in text
    assert '<tspan data-live="orders.dead">1</tspan>' in text
    assert '<tspan data-live="orders.quarantined">2</tspan>' in text
    assert "orders/partly.csv" in text


@pytest.mark.parametrize("path", ["/", "/flow", "/files", "/failures", "/search?q=orders/", "/redrive"])
def test_a_hostile_key_is_text(visitor: Visitor, path: str) -> None:
    everything(visitor)
    text = visitor.get(path)
    assert "&lt;script&gt;alert(1)&lt;/script&gt;\\u202e\\x1b.csv" in text
    assert "<script>alert" not in text
    assert "\u202e" not in text
    assert "\x1b" not in text


def test_a_hostile_file_has_its_story(visitor: Visitor) -> None:
    everything(visitor)
    answer = visitor.client.get("/file", params={"key": HOSTILE})
    assert answer.status_code == 200
    assert "MissingColumn" in answer.text
    assert "<script>alert" not in answer.text


def test_a_story_has_silver_rejected_rows_and_hops(visitor: Visitor) -> None:
    everything(visitor)
    text = html.unescape(visitor.get("/file?key=orders/partly.csv"))
    assert "Rejected rows: 2 of 2 rows" in text
    assert "total is positive" in text
    assert "Silver rows: 1 of 1 row" in text
    assert "committed" in text
    assert "Nothing is known" in visitor.get("/file?key=orders/none.csv", 404)


def test_search(visitor: Visitor) -> None:
    everything(visitor)
    visitor.get("/search?q=orders/good.csv", 303)
    assert "orders/good.csv" in visitor.get("/search?q=orders/g")
    assert "No key in bronze" in visitor.get("/search?q=zzzzzz")
    assert "1,024" in visitor.get("/search?q=" + "a" * 1100)


def test_files_are_filtered_and_come_in_pieces(visitor: Visitor) -> None:
    everything(visitor)
    text = visitor.get("/files?state=quarantined&q=bad")
    assert "orders/bad.csv" in text
    assert "orders/good.csv" not in text
    assert "orders/partly.csv" in visitor.get("/files?state=partial")
    assert "<html" not in visitor.get("/files?piece=1&skip=1")
    assert "orders/good.csv" not in visitor.get("/files?skip=99")
    assert "orders/good.csv" in visitor.get("/files?skip=nonsense&sort=nonsense")


@pytest.mark.parametrize(
    ("sort", "first"),
    [("key", "bad"), ("-key", "partly"), ("rows", "good"), ("-rows", "partly"), ("size", "partly"), ("-size", "bad")],
)
def test_files_are_sorted(visitor: Visitor, sort: str, first: str) -> None:
    everything(visitor)
    text = visitor.get(f"/files?sort={sort}&q=orders/&transform=orders")
    keys = re.findall(r'data-id="orders/orders/(\w+).csv"', text)
    assert keys[0] == first, keys
    assert f'aria-sort="{"ascending" if sort in {"key", "-rows", "-size"} else "descending"}"' in text


def test_a_corrected_file_is_no_longer_quarantined(visitor: Visitor) -> None:
    visitor.bench.land("orders/a.csv", text=BAD)
    visitor.bench.work()
    assert "orders/a.csv" in visitor.get("/files?state=quarantined")
    visitor.bench.now += 5
    visitor.bench.land("orders/a.csv", text=GOOD)
    visitor.bench.work()
    assert "orders/a.csv" not in visitor.get("/files?state=quarantined")
    assert "orders/a.csv" in visitor.get("/files?state=silver")


def test_failures_are_grouped_and_redriven_only_with_the_form(visitor: Visitor) -> None:
    everything(visitor)
    text = visitor.get("/failures")
    assert "MissingColumn" in text
    assert "666 is no order" in text
    asked = visitor.get("/redrive?transform=orders&error=TransformError")
    assert "orders/harmful.csv" in asked
    assert "orders/bad.csv" not in asked
    assert visitor.bench.depth("shop_orders") == 0, "asking does nothing"
    visitor.post("/redrive", 403, csrf="wrong", transform="orders", error="TransformError")
    visitor.post("/redrive", 403, origin="http://evil.example", transform="orders", error="TransformError")
    assert visitor.bench.depth("shop_orders") == 0
    visitor.post("/redrive", transform="orders", error="TransformError")
    assert visitor.bench.depth("shop_orders") == 1


def test_one_file_is_redriven(visitor: Visitor) -> None:
    everything(visitor)
    visitor.post("/redrive", transform="orders", key=HOSTILE)
    assert visitor.bench.depth("shop_orders") == 1


def test_transforms(visitor: Visitor) -> None:
    everything(visitor)
    assert "orders/*.csv" in visitor.get("/transforms")
    text = html.unescape(visitor.get("/transforms/orders"))
    assert '"""What was ordered."""' in text
    assert "total is positive" in text
    assert "+ id: Int64" in text
    assert "select id from rows" in visitor.get("/transforms/ids")
    visitor.get("/transforms/none", 404)


def test_patterns(visitor: Visitor) -> None:
    assert "takes it" in visitor.post("/patterns", 200, text="orders/a.csv")
    assert "does not begin with sql/" in visitor.post("/patterns", 200, text="orders/a.csv")
    assert "no S3 event" in visitor.post("/patterns", 200, text="{}")


def test_upload(visitor: Visitor) -> None:
    key = "orders/new é<b>.csv"
    answer = visitor.client.post(
        "/upload",
        params={"key": key},
        content=b"id,total\n1,1\n",
        headers={"origin": HOST, "x-csrf-token": visitor.csrf},
    )
    assert answer.json()["transforms"] == ["orders"]
    assert visitor.bench.lake.bronze.read(key) == b"id,total\n1,1\n"


@pytest.mark.parametrize("key", ["../../out.csv", "/etc/x", "a\0b", "x" * 1024])
def test_no_key_escapes_the_bucket(visitor: Visitor, key: str) -> None:
    headers = {"origin": HOST, "x-csrf-token": visitor.csrf}
    answer = visitor.client.post("/upload", params={"key": key}, content=b"x", headers=headers)
    assert answer.status_code == 200
    assert visitor.bench.lake.bronze.read(key) == b"x"
    bucket = visitor.bench.folder.bucket("dl-bronze-layer")
    assert [path for path in visitor.bench.folder.path.parent.rglob("*out.csv*") if bucket not in path.parents] == []


def test_an_upload_needs_a_key_and_the_token(visitor: Visitor) -> None:
    headers = {"origin": HOST, "x-csrf-token": visitor.csrf}
    assert visitor.client.post("/upload", params={"key": ""}, content=b"x", headers=headers).status_code == 400
    assert (
        visitor.client.post("/upload", params={"key": "a"}, content=b"x", headers={"origin": HOST}).status_code == 403
    )


def test_a_form_that_is_too_long_is_refused(visitor: Visitor) -> None:
    visitor.post("/patterns", 413, text="x" * 1_100_000)


def test_only_what_is_static_is_served(visitor: Visitor) -> None:
    assert visitor.client.get("/static/page.css").headers["content-type"] == "text/css; charset=utf-8"
    visitor.get("/static/nothing", 404)
    visitor.get("/static/..%2fauth.py", 404)


def test_unreadable_state_is_reported(visitor: Visitor) -> None:
    visitor.bench.journal.close()
    visitor.bench.folder.journal.write_bytes(b"no journal at all, but long enough to be looked at" * 100)
    visitor.get("/")
    assert "cannot be read" in visitor.watch.glance.problem
    assert "cannot be read" in visitor.get("/failures", 400)


def test_an_error_code_leads_to_its_explanation(visitor: Visitor) -> None:
    visitor.bench.land("orders/bad.csv", text="total\n1\n")
    visitor.bench.work()
    for path in ("/", "/failures", "/file?key=orders/bad.csv"):
        assert 'href="/explain/MissingColumn"' in visitor.get(path), path
    text = visitor.get("/explain/MissingColumn")
    assert "What to do" in text
    assert "docs/errors/MissingColumn.md" in text
    visitor.get("/explain/NoSuchCode", 404)
