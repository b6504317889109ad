"""Compaction: what it removes, what it leaves, and that one step is never a long one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from silversmith.local import stack as stacks
from silversmith.local.journal import LATER, SEARCH, SOON, Compaction, Journal
from silversmith.local.services import ServiceMessage, hop_row, write
from silversmith.local.services.queue import QueueService, expire
from tests.examples import examples

DAY = 86_400.0


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with closing(Journal(tmp_path / "journal.db")) as journal:
        yield journal


def hops(journal: Journal, *keys: str, at: float) -> None:
    with journal.transaction():
        rows = [hop_row(key, "v", at=at, room="bucket", name="b", what="created") for key in keys]
        write(journal, hops=rows)


def trace(journal: Journal, key: str) -> list[float]:
    return [row[3] for row in journal.rows("hops", key=key)]


def run(compaction: Compaction, now: float) -> float:
    """Steps until nothing is left to do. Returns when that was."""
    while compaction.step(now):
        now += SOON
    return now


def test_hops_end_with_their_time(journal: Journal) -> None:
    compaction = Compaction(journal, bucket="b", expire=expire, seconds=14 * DAY, most=10)
    for day in range(30):
        hops(journal, *["k"] * 5, at=day * DAY)
    run(compaction, 29.5 * DAY)
    assert set(trace(journal, "k")) == {day * DAY for day in range(16, 30)}


def test_the_newest_hops_of_a_key_are_kept(journal: Journal) -> None:
    compaction = Compaction(journal, bucket="b", expire=expire, hops=7, most=10)
    for minute in range(40):
        hops(journal, "hot", f"cold-{minute}", at=minute)
    now = run(compaction, 100)
    assert trace(journal, "hot") == list(range(33, 40))
    assert all(trace(journal, f"cold-{minute}") == [minute] for minute in range(40))
    hops(journal, "hot", at=200)
    run(compaction, now + LATER)
    assert trace(journal, "hot") == [*range(34, 40), 200]


@given(st.lists(st.lists(st.sampled_from("abc"), max_size=12), max_size=8), st.integers(1, 9), st.integers(1, 15))
@settings(max_examples=examples(40), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_key_has_its_newest_hops_and_no_more(journal: Journal, rounds: list[list[str]], keep: int, most: int) -> None:
    run(Compaction(journal, bucket="b", expire=expire, seconds=-DAY, most=10**9), 0)
    compaction = Compaction(journal, bucket="b", expire=expire, hops=keep, most=most)
    written = Counter[str]()
    now = 0.0
    for keys in rounds:
        hops(journal, *keys, at=now)
        written.update(keys)
        now = run(compaction, now) + LATER
        for key in "abc":
            assert len(trace(journal, key)) == min(keep, written[key])


def test_it_goes_on_after_all_hops_were_removed_and_their_numbers_restart(journal: Journal) -> None:
    compaction = Compaction(journal, bucket="b", expire=expire, seconds=DAY, hops=2)
    hops(journal, *["a"] * 50, at=0)
    now = run(compaction, 0)
    now = run(compaction, now + 2 * DAY)
    assert trace(journal, "a") == []
    hops(journal, *["b"] * 70, at=now)
    run(compaction, now + LATER)
    assert len(trace(journal, "b")) == 2


def test_messages_expire_in_every_queue_also_in_forgotten_ones(journal: Journal) -> None:
    with journal.transaction():
        for name, retention in (("short", 60.0), ("long", 10 * DAY)):
            room = QueueService(journal, stacks.QueueResource(name, f"arn:{name}", retention=retention))
            room.accept([ServiceMessage("", "", "", f"{name}-{n}", "v", b"", 0.0) for n in range(25)], 0.0)
    compaction = Compaction(journal, bucket="b", expire=expire, most=10)
    run(compaction, 61)
    assert journal.rows("queues_in_use") == [("arn:long",)]
    assert journal.counter("expired") == 25
    assert [row[6] for row in journal.rows("hops", key="short-3")] == ["queued", "expired"]


def outcome(journal: Journal, key: str, at: float) -> None:
    values = {"transform": "t", "key": key, "version": "v", "verdict": "gone", "at": at, "detail": "{}"}
    journal.change("put_outcome", **values)


def know(journal: Journal, key: str) -> None:
    values = {"identity": "i", "etag": "e", "version": "v", "sequencer": "s", "size": 1}
    journal.change("put_object", bucket="b", key=key, **values)


@given(st.dictionaries(st.integers(0, 60), st.booleans(), max_size=40), st.sets(st.integers(0, 60)), st.integers(1, 50))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_old_outcomes_of_objects_that_are_gone_are_forgotten(
    journal: Journal, outcomes: dict[int, bool], known: set[int], most: int
) -> None:
    for number in range(61):
        journal.change("forget_outcome", transform="t", key=f"{number}")
        journal.change("forget_object", bucket="b", key=f"{number}")
    for number, old in outcomes.items():
        outcome(journal, f"{number}", at=0 if old else 20 * DAY)
    for number in known:
        know(journal, f"{number}")
    run(Compaction(journal, bucket="b", expire=expire, seconds=14 * DAY, most=most), 20 * DAY)
    left = {number for number in outcomes if journal.row("outcome", transform="t", key=f"{number}")}
    assert left == {number for number, old in outcomes.items() if not old or number in known}


def test_the_search_for_what_is_gone_is_made_once_an_hour(journal: Journal) -> None:
    steps = list[float]()
    now = 0.0

    def sweep() -> bool:
        steps.append(now)
        return len(steps) % 3 != 0

    compaction = Compaction(journal, bucket="b", expire=expire, sweep=sweep)
    assert compaction.step(now), "there is more to sweep"
    assert compaction.step(now + SOON / 2), "but not yet"
    assert steps == [0]
    for _ in range(2):
        now += SOON
        compaction.step(now)
    assert steps == [0, SOON, 2 * SOON]
    while now < SEARCH - LATER:
        now += LATER
        assert not compaction.step(now)
    assert len(steps) == 3
    now += 2 * LATER
    assert compaction.step(now)
    assert len(steps) == 4


def test_a_clock_that_is_set_back_stops_nothing(journal: Journal) -> None:
    compaction = Compaction(journal, bucket="b", expire=expire, hops=1)
    run(compaction, 10 * DAY)
    hops(journal, *["k"] * 5, at=0)
    run(compaction, 0)
    assert len(trace(journal, "k")) == 1


def test_one_step_looks_at_a_bounded_number_of_rows(journal: Journal) -> None:
    hops(journal, *["hot"] * 1000, at=0)
    compaction = Compaction(journal, bucket="b", expire=expire, seconds=DAY, hops=1, most=100)
    left = 1000
    for step in range(3):
        compaction.step(2 * DAY + step)
        removed = left - len(trace(journal, "hot"))
        assert 100 <= removed <= 200, "by age and by number, each as many as may be"
        left -= removed


def test_the_file_gets_smaller(journal: Journal) -> None:
    for day in range(10):
        hops(journal, *[f"{day}-{number}" for number in range(10_000)], at=day * DAY)
    before = journal.pages()[0]
    compaction = Compaction(journal, bucket="b", expire=expire, seconds=2 * DAY, most=20_000)
    now = run(compaction, 10 * DAY)
    for _ in range(3):
        now = run(compaction, now + LATER)
    total, free = journal.pages()
    assert total < before / 2
    assert free <= max(1024, total / 4)
    assert len(trace(journal, "9-5")) == 1
