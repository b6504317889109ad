"""Delivery: from hop to hop, what becomes of a refusal, and how the tests' own delivery disturbs it."""

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

from silversmith.local import stack
from silversmith.local.journal import Journal
from silversmith.local.services import Accepted, MessageRefused, ServiceMessage, write
from silversmith.local.services.queue import QueueService
from silversmith.local.wiring import Delivery
from tests.disturbance import Rates, disturbed

EXAMPLES = itertools.count()


@dataclass
class Station:
    """A service that passes on its messages, refuses some of them, or breaks."""

    journal: Journal
    name: str
    next: str = ""
    refuses: Callable[[ServiceMessage], str | None] = lambda _: None
    breaks: bool = False
    keys: list[str] = field(default_factory=list)

    def accept(self, messages: Sequence[ServiceMessage], now: float) -> Accepted:
        if self.breaks:
            raise OSError("disk full")
        refused = [MessageRefused(message, reason) for message in messages if (reason := self.refuses(message))]
        accepted = [message for message in messages if not self.refuses(message)]
        self.keys += [message.key for message in accepted]
        onward = [
            message.forward(source=self.name, target=self.next, delivery=f"to-{self.next}", now=now)
            for message in accepted
        ]
        return Accepted(refused, onward if self.next else [])


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with closing(Journal(tmp_path / "journal.db")) as journal:
        yield journal


def messages(*keys: str, target: str = "a", now: float = 0) -> list[ServiceMessage]:
    return [ServiceMessage("start", target, "to-a", key, "v", b"{}", now, now) for key in keys]


def post(journal: Journal, *keys: str, target: str = "a", now: float = 0) -> None:
    with journal.transaction():
        write(journal, messages=messages(*keys, target=target, now=now))


def in_outbox(journal: Journal) -> int:
    return int(journal.rows("on_the_way")[0][0])


def test_all_hops_are_made_in_one_delivery_in_order(journal: Journal) -> None:
    a, b = Station(journal, "a", next="b"), Station(journal, "b")
    delivery = Delivery(journal, services={"a": ("", a), "b": ("", b)}, dead_letters={}, most=3)
    keys = [f"{number:02}" for number in range(10)]
    post(journal, *keys)
    delivery.deliver(0)
    assert (a.keys, b.keys, in_outbox(journal)) == (keys, keys, 0)
    delivery.deliver(0)
    assert len(a.keys) == 10


@pytest.mark.parametrize("is_disturbed", [False, True])
def test_messages_are_carried_in_the_open_transaction_unless_disturbed(journal: Journal, is_disturbed: bool) -> None:
    a, b = Station(journal, "a", next="b"), Station(journal, "b")
    make = disturbed(1, Rates(0.0, 0.0, 0.0, 1.0)) if is_disturbed else Delivery
    delivery = make(journal, services={"a": ("bus", a), "b": ("topic", b)}, dead_letters={})
    with journal.transaction():
        passed = delivery.carry(messages(*"xyz", now=3), 3)
    if is_disturbed:
        assert (passed, a.keys, in_outbox(journal)) == ([], [], 3)
        delivery.deliver(3)
    else:
        assert passed == ["bus", "topic"]
    assert (sorted(a.keys), sorted(b.keys), in_outbox(journal)) == (["x", "y", "z"], ["x", "y", "z"], 0)


def test_a_message_that_is_not_due_waits(journal: Journal) -> None:
    a = Station(journal, "a")
    delivery = Delivery(journal, services={"a": ("", a)}, dead_letters={})
    post(journal, "late", now=10)
    delivery.deliver(9.9)
    assert a.keys == []
    delivery.deliver(10)
    assert a.keys == ["late"]


def test_a_service_that_breaks_loses_nothing(journal: Journal) -> None:
    a, b = Station(journal, "a", next="b"), Station(journal, "b", breaks=True)
    delivery = Delivery(journal, services={"a": ("", a), "b": ("", b)}, dead_letters={})
    post(journal, "1", "2")
    with pytest.raises(OSError, match="disk full"):
        delivery.deliver(0)
    assert in_outbox(journal) == 2
    b.breaks = False
    a.keys.clear()  # its transaction was undone, too
    delivery.deliver(0)
    assert (a.keys, b.keys) == (["1", "2"], ["1", "2"])


def dead(journal: Journal) -> tuple[QueueService, list[tuple[str, str, str]]]:
    queue = QueueService(journal, stack.QueueResource("dead", "arn:dead"))
    return queue, [(row[3], row[7], row[8]) for row in journal.rows("dead_messages", queue="arn:dead", after=0, most=9)]


def test_a_refused_message_goes_to_the_dead_letter_queue_of_its_rule_or_subscription(journal: Journal) -> None:
    a = Station(journal, "a", refuses=lambda message: "no policy allows it" if message.key == "bad" else None)
    delivery = Delivery(journal, services={"a": ("", a)}, dead_letters={"to-a": dead(journal)[0]})
    post(journal, "good", "bad")
    delivery.deliver(0)
    assert a.keys == ["good"]
    assert dead(journal)[1] == [("bad", "to-a", "no policy allows it")]
    assert in_outbox(journal) == 0


def test_a_target_that_does_not_exist_refuses_all(journal: Journal) -> None:
    delivery = Delivery(journal, services={}, dead_letters={"to-a": dead(journal)[0]})
    post(journal, "1", target="gone")
    delivery.deliver(0)
    assert dead(journal)[1] == [("1", "to-a", "there is no such target: gone")]


def test_without_a_dead_letter_queue_a_refused_message_is_dropped_and_the_trace_says_so(journal: Journal) -> None:
    delivery = Delivery(journal, services={}, dead_letters={})
    post(journal, "1", target="gone")
    delivery.deliver(0)
    (hop,) = journal.rows("hops", key="1")
    assert hop[4:7] == ("courier", "-", "dropped")
    assert orjson.loads(hop[7]) == {"reason": "there is no such target: gone", "from": "start", "to": "gone"}
    assert journal.counter("dropped") == 1


@given(st.integers(0, 2**32), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
@example(0, 0.0, 1.0, 1.0)
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_disturbed_message_arrives_or_the_trace_says_that_it_is_lost(
    journal: Journal, seed: int, loss: float, duplicates: float, delays: float
) -> None:
    a, b = Station(journal, "a", next="b"), Station(journal, "b")
    make = disturbed(seed, Rates(loss=loss, duplicates=duplicates, delays=delays, longest_delay=5))
    delivery = make(journal, services={"a": ("", a), "b": ("", b)}, dead_letters={})
    turn = next(EXAMPLES)  # the journal is one for all examples, and remembers what another has lost
    keys = [f"{turn}-{number}" for number in range(20)]
    post(journal, *keys)
    now = 0.0
    while in_outbox(journal):
        delivery.deliver(now)
        now += 5
    lost = {key for key in keys if any(row[6] == "lost" for row in journal.rows("hops", key=key))}
    assert set(b.keys) | lost == set(keys)
    if not loss:
        assert not lost
    if not duplicates:
        assert len(b.keys) == len(set(b.keys)), "delayed is not doubled"
        assert not set(b.keys) & lost


def test_the_same_seed_disturbs_in_the_same_way(journal: Journal) -> None:
    arrived = []
    for _ in range(2):
        a = Station(journal, "a")
        make = disturbed(7, Rates(loss=0.2, duplicates=0.3, delays=0.3))
        delivery = make(journal, services={"a": ("", a)}, dead_letters={})
        post(journal, *[f"{number}" for number in range(30)])
        for now in range(100):
            delivery.deliver(now)
        arrived.append(a.keys)
    assert arrived[0] == arrived[1]
    assert arrived[0] != sorted(arrived[0], key=int)
    assert 0 < len(set(arrived[0])) < 30
    assert len(arrived[0]) > len(set(arrived[0]))
