"""The last files, put together from what happened."""

from __future__ import annotations

from dataclasses import replace

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
    (file,) = LastFiles().take(way("a"), NAMES)
    assert (file.transform, file.outcome, file.rows, file.total) == ("orders", "committed", 3, 4000.0)
    assert [room for room, _ in file.legs] == ["rule", "topic", "queue", "function"]


def test_redriven_messages_have_only_the_queue_and_the_function() -> None:
    files = LastFiles()
    (file,) = files.take(way("a")[3:], NAMES)
    assert (file.legs, file.total) == ([("function", 1000.0)], None)


def test_resent_files_begin_when_they_were_sent() -> None:
    """Not when it first landed, days before."""
    files = LastFiles()
    files.take(way("a"), NAMES)
    again = News(9, "a", Hop("v", 90_000.0, "operations", "redrive", "redriven", {"to": "shop_orders"}))
    (ended,) = files.take([again, news(10, "a", 90_002.0, "function", "shop_orders", "committed")], NAMES)
    assert (ended.legs, ended.total) == ([("function", 2000.0)], 2000.0)


def test_what_the_queue_takes_at_the_moment_of_sending_again_is_the_same_message() -> None:
    """As ``replay`` and ``reconcile`` do it. A later event of the version is another one."""
    files = LastFiles()
    files.take(way("a"), NAMES)
    again = News(9, "a", Hop("v", 90_000.0, "operations", "replay", "replayed", {"to": "shop_orders"}))
    queued = news(10, "a", 90_000.0, "queue", "shop_orders", "queued")
    (ended,) = files.take([again, queued, news(11, "a", 90_002.0, "function", "shop_orders", "committed")], NAMES)
    assert ended.total == 2000.0
    later = news(12, "a", 90_003.0, "queue", "shop_orders", "queued")
    (ended,) = files.take([later, news(13, "a", 90_004.0, "function", "shop_orders", "committed")], NAMES)
    assert ended.total == 90_004_000.0


def test_events_resent_to_a_rule_begin_there() -> None:
    files = LastFiles()
    files.take(way("a")[:1], NAMES)
    again = News(9, "a", Hop("v", 500.0, "operations", "redrive", "redriven", {"to": "bus"}))
    rest = [News(at + 10, each.key, replace(each.hop, at=each.hop.at + 500)) for at, each in enumerate(way("a")[1:])]
    (ended,) = files.take([again, *rest], NAMES)
    assert ended.total == 4000.0


def test_the_wait_in_the_queue_is_apart() -> None:
    *before, last = way("a")
    waited = replace(last, hop=replace(last.hop, detail={"queued": 0.75}))
    (ended,) = LastFiles().take([*before, waited], NAMES)
    assert ended.legs[-2:] == [("wait", 750.0), ("function", 250.0)]
    assert ended.total == 4000.0


def states(files: LastFiles) -> dict[str, str]:
    return {event.key: event.state for event in files.files()}


def test_a_file_has_the_state_that_the_newest_of_it_left() -> None:
    files = LastFiles()
    files.take([news(1, "a", 1.0, "function", "shop_orders", "quarantined")], NAMES)
    assert states(files) == {"a": "quarantined"}
    files.take([news(2, "a", 2.0, "queue", "shop_orders", "queued")], NAMES)
    assert states(files) == {"a": "waiting"}
    files.take([news(3, "a", 3.0, "function", "shop_orders", "committed")], NAMES)
    assert states(files) == {"a": "silver"}, "corrected"
    assert [event.outcome for event in files.newest(9)] == ["committed", "quarantined"], "what happened stays"


def test_a_file_of_which_rows_were_rejected_is_partial_and_stays_so_when_nothing_is_done() -> None:
    files = LastFiles()
    detail = {"rows_written": 1, "rows_rejected": 2, "rows_read": 3, "broken": {"positive": 2}}
    files.take([News(1, "a", Hop("v", 1.0, "function", "shop_orders", "committed", detail))], NAMES)
    assert states(files) == {"a": "partial"}
    files.take([news(2, "a", 2.0, "queue", "shop_orders", "queued")], NAMES)
    files.take([news(3, "a", 3.0, "function", "shop_orders", "duplicate")], NAMES)
    (event,) = files.files()
    assert (event.state, event.rows, event.rejected) == ("partial", 1, 2)
    assert files.files({"state": "partial"}) == [event]
    assert files.files({"state": "silver"}) == []


def test_a_failed_file_is_tried_again_until_it_is_dead() -> None:
    files = LastFiles()
    files.take([news(1, "a", 1.0, "function", "shop_orders", "failed")], NAMES)
    assert states(files) == {"a": "retrying"}
    files.take([news(2, "a", 2.0, "queue", "shop_orders", "dead")], NAMES)
    assert states(files) == {"a": "dead"}
    files.take([News(3, "a", Hop("v", 3.0, "operations", "redrive", "redriven", {"to": "shop_orders"}))], NAMES)
    assert states(files) == {"a": "waiting"}
    assert files.newest_of("a", ["orders"]) == files.number == 3


def test_a_file_whose_bronze_object_was_deleted() -> None:
    files = LastFiles()
    files.take(way("a"), NAMES)
    files.take([news(8, "a", 8.0, "bucket", "b", "deleted"), news(9, "other", 8.0, "bucket", "b", "deleted")], NAMES)
    assert states(files) == {"a": "gone"}
    files.take(way("a", first=10), NAMES)
    assert states(files) == {"a": "silver"}, "it is back"


def test_details_that_are_not_what_they_should_be_do_no_harm() -> None:
    strange = {"rows_written": "x", "rows_rejected": True, "broken": ["a"], "queued": "soon", "error": 5, "size": None}
    (event,) = LastFiles().take([News(1, "a", Hop("v", 1.0, "function", "f", "committed", strange))], {})
    assert (event.rows, event.rejected, event.code) == (None, None, "")


def test_they_are_bounded_and_the_newest_come_first() -> None:
    files = LastFiles()
    for number in range(MOST + 10):
        files.take([news(number, f"{number}", 0.0, "function", "shop_orders", "committed")], NAMES)
    assert len(files) == MOST == len(files.files())
    assert [seen.number for seen in files.newest(2)] == [MOST + 9, MOST + 8]
    assert [seen.key for seen in files.since(MOST + 8)] == [f"{MOST + 9}"]
    assert files.files({"state": "dead"}) == []
    assert files.keys("9999", 3) == ["9999"]
