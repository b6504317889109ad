"""The courier: from hop to hop, what becomes of a refusal, and what chaos does on the way."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import orjson
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from silversmith.local import stack as stacks
from silversmith.local.chaos import Chaos, Rates
from silversmith.local.courier import Courier
from silversmith.local.journal import Journal
from silversmith.local.post import Accepted, Post, Refused, send_on, write
from silversmith.local.queue import Queue

EXAMPLES = itertools.count()


@dataclass
class Station:
    """A room that passes on what it gets, refuses some of it, or breaks."""

    journal: Journal
    name: str
    next: str = ""
    refuses: Callable[[Post], str | None] = lambda _: None
    breaks: bool = False
    got: list[str] = field(default_factory=list)

    def accept(self, posts: Sequence[Post], now: float) -> Accepted:
        if self.breaks:
            raise OSError("disk full")
        refused = [Refused(post, reason) for post in posts if (reason := self.refuses(post))]
        taken = [post for post in posts if post not in [item.post for item in refused]]
        self.got += [post.key for post in taken]
        onward = [
            send_on(post, source=self.name, target=self.next, delivery=f"to-{self.next}", now=now) for post in taken
        ]
        return Accepted(refused, onward if self.next else [])


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with closing(Journal(tmp_path / "journal.db")) as journal:
        yield journal


def post(journal: Journal, *keys: str, target: str = "a", due: float = 0, delivery: str = "to-a") -> None:
    posts = [Post(0, "start", target, delivery, key, "v", b"{}", 0) for key in keys]
    rows = [send_on(post, source="start", target=target, delivery=delivery, now=due) for post in posts]
    with journal.transaction():
        write(journal, posts=rows)


def on_the_way(journal: Journal) -> int:
    return int(journal.rows("on_the_way")[0][0])


def test_all_hops_are_made_in_one_delivery_in_order(journal: Journal) -> None:
    a, b = Station(journal, "a", next="b"), Station(journal, "b")
    courier = Courier(journal, rooms={"a": ("", a), "b": ("", b)}, dead_letters={}, most=3)
    keys = [f"{number:02}" for number in range(10)]
    post(journal, *keys)
    assert courier.deliver(0) == 20
    assert (a.got, b.got, on_the_way(journal)) == (keys, keys, 0)
    assert courier.deliver(0) == 0


@pytest.mark.parametrize("disturbed", [False, True])
def test_what_a_room_sends_is_carried_in_its_own_transaction_but_under_chaos(journal: Journal, disturbed: bool) -> None:
    a, b = Station(journal, "a", next="b"), Station(journal, "b")
    chaos = Chaos(1, Rates(0.0, 0.0, 0.0, 1.0)) if disturbed else None
    courier = Courier(journal, rooms={"a": ("one", a), "b": ("two", b)}, dead_letters={}, chaos=chaos)
    sent = [send_on(Post(0, "start", "a", "d", key, "v", b"{}", 0), source="s", target="a", delivery="d", now=3)
            for key in "xyz"]  # fmt: skip
    with journal.transaction():
        passed = courier.carry(sent, 3)
    if disturbed:
        assert (passed, a.got, on_the_way(journal)) == ([], [], 3)
        courier.deliver(3)
    else:
        assert passed == ["one", "two"]
    assert (sorted(a.got), sorted(b.got), on_the_way(journal)) == (["x", "y", "z"], ["x", "y", "z"], 0)


def test_what_is_not_due_waits(journal: Journal) -> None:
    a = Station(journal, "a")
    courier = Courier(journal, rooms={"a": ("", a)}, dead_letters={})
    post(journal, "late", due=10)
    assert courier.deliver(9.9) == 0
    assert courier.deliver(10) == 1


def test_a_room_that_breaks_loses_nothing(journal: Journal) -> None:
    a, b = Station(journal, "a", next="b"), Station(journal, "b", breaks=True)
    courier = Courier(journal, rooms={"a": ("", a), "b": ("", b)}, dead_letters={})
    post(journal, "1", "2")
    with pytest.raises(OSError, match="disk full"):
        courier.deliver(0)
    assert on_the_way(journal) == 2
    b.breaks = False
    a.got.clear()  # its transaction was undone, too
    courier.deliver(0)
    assert (a.got, b.got) == (["1", "2"], ["1", "2"])


def dead(journal: Journal) -> tuple[Queue, list[tuple[str, str, str]]]:
    queue = Queue(journal, stacks.Queue("dead", "arn:dead"))
    return queue, [(row[3], row[7], row[8]) for row in journal.rows("dead_messages", queue="arn:dead", after=0, most=9)]


def test_what_is_refused_goes_to_the_dead_letter_queue_of_its_rule_or_subscription(journal: Journal) -> None:
    a = Station(journal, "a", refuses=lambda post: "no policy allows it" if post.key == "bad" else None)
    courier = Courier(journal, rooms={"a": ("", a)}, dead_letters={"to-a": dead(journal)[0]})
    post(journal, "good", "bad")
    courier.deliver(0)
    assert a.got == ["good"]
    assert dead(journal)[1] == [("bad", "to-a", "no policy allows it")]
    assert on_the_way(journal) == 0


def test_a_target_that_does_not_exist_refuses_all(journal: Journal) -> None:
    courier = Courier(journal, rooms={}, dead_letters={"to-a": dead(journal)[0]})
    post(journal, "1", target="gone")
    courier.deliver(0)
    assert dead(journal)[1] == [("1", "to-a", "there is no such target: gone")]


def dropped(journal: Journal, key: str) -> dict[str, str]:
    (hop,) = journal.rows("hops", key=key)
    assert hop[4:7] == ("courier", "-", "dropped")
    found: dict[str, str] = orjson.loads(hop[7])
    return found


def test_without_a_dead_letter_queue_a_refused_post_is_dropped_and_the_trace_says_so(journal: Journal) -> None:
    courier = Courier(journal, rooms={}, dead_letters={})
    post(journal, "1", target="gone")
    courier.deliver(0)
    assert dropped(journal, "1") == {"reason": "there is no such target: gone", "from": "start", "to": "gone"}
    assert journal.counter("dropped") == 1


def test_a_dead_letter_queue_whose_policy_refuses_gets_nothing(journal: Journal) -> None:
    queue, _ = dead(journal)
    courier = Courier(
        journal,
        rooms={},
        dead_letters={"to-a": queue},
        dead_letter_refusal=lambda post: f"{post.source} may not send to the dead",
    )
    post(journal, "1", target="gone")
    courier.deliver(0)
    assert dead(journal)[1] == []
    assert dropped(journal, "1")["dead_letter_queue"] == "start may not send to the dead"


@given(st.integers(0, 2**32), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
@example(0, 0.0, 1.0, 1.0)
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_under_chaos_every_post_arrives_or_the_trace_says_that_it_is_lost(
    journal: Journal, seed: int, loss: float, duplicates: float, delays: float
) -> None:
    a, b = Station(journal, "a", next="b"), Station(journal, "b")
    chaos = Chaos(seed, Rates(loss=loss, duplicates=duplicates, delays=delays, longest_delay=5))
    courier = Courier(journal, rooms={"a": ("", a), "b": ("", b)}, dead_letters={}, chaos=chaos)
    turn = next(EXAMPLES)  # the journal is one for all of them, and remembers what another has lost
    keys = [f"{turn}-{number}" for number in range(20)]
    post(journal, *keys)
    now = 0.0
    while on_the_way(journal):
        courier.deliver(now)
        now += 5
    lost = {key for key in keys if any(row[6] == "lost" for row in journal.rows("hops", key=key))}
    assert set(b.got) | lost == set(keys)
    if not loss:
        assert not lost
    if not duplicates:
        assert len(b.got) == len(set(b.got)), "delayed is not doubled"
        assert not set(b.got) & lost


def test_the_same_seed_does_the_same(journal: Journal) -> None:
    arrived = []
    for _ in range(2):
        a = Station(journal, "a")
        courier = Courier(
            journal, rooms={"a": ("", a)}, dead_letters={}, chaos=Chaos(7, Rates(loss=0.2, duplicates=0.3, delays=0.3))
        )
        post(journal, *[f"{number}" for number in range(30)])
        for now in range(100):
            courier.deliver(now)
        arrived.append(a.got)
    assert arrived[0] == arrived[1]
    assert arrived[0] != sorted(arrived[0], key=int)
    assert 0 < len(set(arrived[0])) < 30
    assert len(arrived[0]) > len(set(arrived[0]))
