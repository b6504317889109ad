"""The last files, put together from what happened."""

from __future__ import annotations

from silversmith.operations.target import Hop, News
from silversmith.page.recent import MOST, LastFiles

NAMES = {"shop_orders": "orders"}


def news(number: int, key: str, at: float, room: str, name: str, what: str) -> News:
    return News(number, key, Hop("v", at, room, name, what, {"rows_written": 3, "attempt": 1}))


def way(key: str, first: int = 1) -> list[News]:
    steps = (("bucket", "b", "created"), ("rule", "r", "matched"), ("topic", "t", "published"),
             ("queue", "shop_orders", "queued"), ("function", "shop_orders", "committed"))  # fmt: skip
    return [news(first + at, key, float(at), *step) for at, step in enumerate(steps)]


def test_the_time_by_hop() -> None:
    (found,) = LastFiles().take(way("a"), NAMES)
    assert (found.transform, found.outcome, found.rows, found.total) == ("orders", "committed", 3, 4000.0)
    assert [room for room, _ in found.legs] == ["rule", "topic", "queue", "function"]


def test_redriven_messages_have_only_the_queue_and_the_function() -> None:
    files = LastFiles()
    (found,) = files.take(way("a")[3:], NAMES)
    assert (found.legs, found.total) == ([("function", 1000.0)], None)


def test_they_are_bounded_and_the_newest_come_first() -> None:
    files = LastFiles()
    for number in range(MOST + 10):
        files.take([news(number, f"{number}", 0.0, "function", "shop_orders", "committed")], NAMES)
    assert len(files) == MOST
    assert [seen.number for seen in files.newest(2)] == [MOST + 9, MOST + 8]
    assert [seen.number for seen in files.newest(1, before=MOST)] == [MOST - 1]
    assert [seen.key for seen in files.since(MOST + 8)] == [f"{MOST + 9}"]
    assert files.newest(5, chosen={"outcome": "failed"}) == []
    assert files.keys("9999", 3) == ["9999"]
