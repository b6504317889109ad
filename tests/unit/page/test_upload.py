"""Uploads of a browser into bronze, and how they are undone."""

from __future__ import annotations

import os
from typing import Any

import pytest

from silversmith.page import upload
from silversmith.page.upload import Undo, Undos
from tests.unit.operations.conftest import BAD, GOOD, PARTLY
from tests.unit.page.conftest import HOST, Visitor

KEY = "orders/a.csv"


def post(visitor: Visitor, path: str, content: str = "", status: int = 200, **params: Any) -> dict[str, Any]:
    headers = {"origin": HOST, "x-csrf-token": visitor.csrf}
    answer = visitor.client.post(path, params=params, content=content.encode(), headers=headers)
    assert answer.status_code == status, answer.text
    document: dict[str, Any] = answer.json()
    return document


def bronze(visitor: Visitor) -> str | None:
    body = visitor.bench.lake.bronze.read(KEY)
    return None if body is None else body.decode()


def left(visitor: Visitor) -> list[str]:
    lake = visitor.bench.lake
    return [head.key for store in (lake.silver, lake.quarantine) for head in store.list("orders/")]


@pytest.mark.parametrize("text", [GOOD, PARTLY, BAD, "id,total\n666,1\n"])
def test_a_new_file_goes_with_all_that_was_made_of_it(visitor: Visitor, text: str) -> None:
    answer = post(visitor, "/upload", text, key=KEY)
    assert (answer["replaced"], answer["transforms"]) == (False, ["orders"])
    visitor.bench.notice(KEY)
    visitor.bench.work()
    assert left(visitor)
    assert post(visitor, "/undo", number=answer["undo"]) == {"key": KEY, "restored": False}
    assert bronze(visitor) is None
    assert left(visitor) == []
    assert "too old" in post(visitor, "/undo", status=404, number=answer["undo"])["error"], "once"


def test_a_replaced_object_comes_back(visitor: Visitor) -> None:
    visitor.bench.land(KEY, text=GOOD)
    visitor.bench.work()
    answer = post(visitor, "/upload", PARTLY, key=KEY)
    assert (answer["replaced"], bronze(visitor)) == (True, PARTLY)
    assert post(visitor, "/undo", number=answer["undo"]) == {"key": KEY, "restored": True}
    assert bronze(visitor) == GOOD


def test_an_object_that_changed_since_is_left_alone(visitor: Visitor) -> None:
    answer = post(visitor, "/upload", GOOD, key=KEY)
    visitor.bench.lake.bronze.put(KEY, PARTLY.encode())
    assert "has changed since" in post(visitor, "/undo", status=409, number=answer["undo"])["error"]
    assert bronze(visitor) == PARTLY


def test_the_same_bytes_that_somebody_put_again_are_left_alone(visitor: Visitor) -> None:
    visitor.bench.land(KEY, text=PARTLY)
    answer = post(visitor, "/upload", GOOD, key=KEY)
    os.utime(visitor.bench.folder.bucket(visitor.bench.pipeline.bronze) / KEY, (1, 1))
    assert "has changed since" in post(visitor, "/undo", status=409, number=answer["undo"])["error"]
    assert bronze(visitor) == GOOD


def test_silver_of_other_bytes_stays(visitor: Visitor) -> None:
    visitor.bench.land(KEY, text=GOOD)
    visitor.bench.work()
    visitor.bench.lake.bronze.delete(KEY)
    answer = post(visitor, "/upload", PARTLY, key=KEY)
    post(visitor, "/undo", number=answer["undo"])
    assert bronze(visitor) is None
    assert left(visitor) == ["orders/orders/a.csv.parquet"], "made of the earlier file, and not of this one"


def test_undoing_needs_the_token_and_the_own_page(visitor: Visitor) -> None:
    answer = post(visitor, "/upload", GOOD, key=KEY)
    number = {"number": answer["undo"]}
    assert visitor.client.post("/undo", params=number, headers={"origin": HOST}).status_code == 403
    foreign = {"origin": "http://evil.example", "x-csrf-token": visitor.csrf}
    assert visitor.client.post("/undo", params=number, headers=foreign).status_code == 403
    assert visitor.client.get("/undo", params=number).status_code == 405
    assert bronze(visitor) == GOOD
    for nonsense in ("", "x", "-1", "٣", "99999"):
        post(visitor, "/undo", status=404, number=nonsense)


def test_only_so_many_are_remembered(visitor: Visitor) -> None:
    undos, store = Undos(), visitor.bench.lake.bronze
    store.put(KEY, GOOD.encode())
    path, can_undo = undos.keep(store, KEY)
    assert can_undo
    assert path is not None
    assert path.read_text() == GOOD
    first = undos.add(Undo(KEY, "etag", path))
    for _ in range(upload.MOST_UNDONE):
        undos.add(Undo(KEY, "etag", None))
    assert undos.take(first) is None
    assert not path.exists(), "what it kept went with it"
    assert undos.keep(store, "orders/none.csv") == (None, True)
