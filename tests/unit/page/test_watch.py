"""Looking again and again."""

from __future__ import annotations

from tests.unit.operations.conftest import GOOD
from tests.unit.page.conftest import Visitor


def test_a_look_reports_news(visitor: Visitor) -> None:
    first = visitor.watch.look()
    assert visitor.watch.newest(5) == []
    visitor.bench.land("orders/a.csv", text=GOOD)
    visitor.bench.work()
    glance = visitor.watch.look()
    assert (glance.number, glance.problem, glance.no_history) == (first.number + 1, "", "")
    assert glance.status is not None
    assert glance.status.transforms[0].done == 1
    (seen,) = visitor.watch.newest(5)
    assert (seen.key, seen.outcome) == ("orders/a.csv", "committed")
    visitor.watch.look()
    assert [each.key for each in visitor.watch.since(0)] == ["orders/a.csv"], "once, however often it looks"


def test_subscribers_get_events_until_the_end(visitor: Visitor) -> None:
    heard: list[str] = []
    end_one = visitor.watch.subscribe(lambda: heard.append("one"))
    visitor.watch.subscribe(lambda: heard.append("two"))
    visitor.watch.look()
    end_one()
    end_one()
    visitor.watch.look()
    assert heard == ["one", "two", "two"]


def test_a_look_that_fails_says_why_and_the_next_may_not(visitor: Visitor) -> None:
    visitor.watch.look()
    visitor.bench.journal.close()
    journal = visitor.bench.folder.journal
    kept = {path: path.read_bytes() for path in journal.parent.glob(f"{journal.name}*")}
    journal.write_bytes(b"no journal at all, but long enough to be looked at" * 100)
    assert "cannot be read" in visitor.watch.look().problem
    for path, body in kept.items():
        path.write_bytes(body)
    assert visitor.watch.look().problem == ""


def test_the_thread_looks_by_itself_and_ends(visitor: Visitor) -> None:
    visitor.watch.start()
    assert visitor.watch.recent().number >= 1
    visitor.watch.stop()
    assert visitor.watch.ended
