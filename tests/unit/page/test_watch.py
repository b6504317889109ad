"""Looking again and again."""

from __future__ import annotations

import pytest

from silversmith.local.tallies import RELATIVE_ERROR
from silversmith.operations.send import Range, replay
from silversmith.page.live import revision_of
from silversmith.page.recent import Watch
from silversmith.patterns import KeyPattern
from tests.unit.operations.conftest import GOOD
from tests.unit.page.conftest import Visitor


def test_a_look_reports_news(visitor: Visitor) -> None:
    first = visitor.watch.look()
    assert visitor.watch.ask(lambda files, *_: files.newest(5)) == []
    visitor.bench.land("orders/a.csv", text=GOOD)
    visitor.bench.work()
    glance = visitor.watch.look()
    assert (glance.number, glance.problem, glance.no_history) == (first.number + 1, "", "")
    assert glance.status is not None
    assert glance.status.transforms[0].done == 1
    (seen,) = visitor.watch.ask(lambda files, *_: files.newest(5))
    assert (seen.key, seen.outcome) == ("orders/a.csv", "committed")
    visitor.watch.look()
    assert [each.key for each in visitor.watch.ask(lambda files, *_: files.since(0))] == ["orders/a.csv"], (
        "once, however often it looks"
    )


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


def revisions(visitor: Visitor) -> dict[str, str]:
    glance, context = visitor.watch.look(), visitor.context
    urls = (
        "/",
        "/flow",
        "/files",
        "/file?key=orders/a.csv",
        "/file?key=b",
        "/failures",
        "/logs",
        "/patterns",
        "/redrive",
    )
    return {url: revision_of(context, glance, url) for url in urls}


def test_a_view_is_loaded_again_when_what_it_shows_has_changed(visitor: Visitor) -> None:
    before = revisions(visitor)
    assert revisions(visitor) == before, "nothing happened"
    visitor.bench.land("orders/a.csv", text=GOOD)
    visitor.bench.work()
    after = revisions(visitor)
    changed = {url for url in before if before[url] != after[url]}
    assert changed == {"/", "/flow", "/files", "/file?key=orders/a.csv", "/failures"}
    (visitor.bench.folder.logs / "functions.log").write_text("printed\n")
    assert revisions(visitor)["/logs"] != after["/logs"]
    assert after["/patterns"] == after["/redrive"] == "", "forms do not change under one's hands"


@pytest.mark.parametrize(
    "url", ["", "x", "//[", "//", "/file", "/file?key=%ff&key=2", "http://a/files", "/files/\ud800", "/-"]
)
def test_a_url_that_is_no_view_does_no_harm(visitor: Visitor, url: str) -> None:
    assert isinstance(revision_of(visitor.context, visitor.watch.look(), url), str)


def test_whoever_listens_hears_the_end(visitor: Visitor) -> None:
    heard: list[bool] = []
    visitor.watch.subscribe(lambda: heard.append(visitor.watch.ended))
    visitor.watch.stop()
    assert heard == [True]


def test_todays_numbers_are_of_all_files_however_few_hops_the_page_has_read(visitor: Visitor) -> None:
    bench = visitor.bench
    for number in range(6):
        bench.land(f"orders/{number}.csv", text="id,total\n1,5\n2,-5\n")
        bench.now += 2
        bench.work()
    bench.land("orders/bad.csv", text="id\nx\n")
    bench.work()
    late = Watch(visitor.place, clock=lambda: bench.now, back=3)
    late.look()
    assert len(late.ask(lambda files, *_: files.newest(100))) < 6, "the files are those of the last hops"
    of_transform = late.ask(lambda _, history, now: history.of("orders").today(now))
    for today in (of_transform, late.ask(lambda _, history, now: history.all.today(now))):
        assert (today.done, today.partial, today.failed, today.rows, today.rejected) == (6, 6, 1, 6, 6)
        assert today.broken == {"total is positive": 6}
        assert today.latencies.count == 6
        assert today.latencies.quantile(0.5) == pytest.approx(2000, rel=RELATIVE_ERROR)
    bench.now += 86_400
    late.look()
    assert late.ask(lambda _, history, now: history.all.today(now)).done == 0


def test_replayed_files_count_from_then(visitor: Visitor) -> None:
    bench = visitor.bench
    bench.land("orders/a.csv", text=GOOD)
    bench.work()
    bench.now += 3 * 86_400
    matching = Range(KeyPattern.parse("orders/*.csv"))
    with bench.opened() as target:
        assert len(list(replay(bench.pipeline, target, matching, force=bench.now))) == 1
    bench.now += 5
    bench.work()
    visitor.watch.look()
    (ended,) = visitor.watch.ask(lambda files, *_: files.newest(1))
    today = visitor.watch.ask(lambda _, history, now: history.all.today(now))
    assert (ended.outcome, ended.total) == ("committed", 5000)
    assert today.latencies.quantile(0.5) == pytest.approx(5000, rel=RELATIVE_ERROR)
