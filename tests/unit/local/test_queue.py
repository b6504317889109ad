"""The queue against a model of what SQS promises, with time passed in."""

from __future__ import annotations

import sqlite3
import tempfile
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import orjson
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from silversmith.local import stack as stacks
from silversmith.local.journal import Journal
from silversmith.local.services import ReceivedMessage, ServiceMessage
from silversmith.local.services.queue import EXPIRE, QueueService, expire, recount, redrive, take_dead
from tests.examples import examples

VISIBILITY = 30.0
RECEIVES = 3
RETENTION = 900.0


def post(number: int) -> ServiceMessage:
    return ServiceMessage("topic", "queue", "subscription", f"key-{number}", "v", b"{}", 0.0)


def make(journal: Journal, delay: float = 0) -> tuple[QueueService, QueueService]:
    dead = QueueService(journal, stacks.QueueResource("dead", "arn:dead"))
    queue = QueueService(
        journal,
        stacks.QueueResource(
            "queue",
            "arn:queue",
            visibility_timeout=VISIBILITY,
            retention=RETENTION,
            delay=delay,
            dead_letter_arn="arn:dead",
            dead_letter_retention=1_209_600,
            max_receive_count=RECEIVES,
        ),
    )
    return queue, dead


def send(journal: Journal, queue: QueueService, number: int, now: float) -> None:
    with journal.transaction():
        assert not queue.accept([post(number)], now).refused


def delete(journal: Journal, queue: QueueService, receipt: str) -> int:
    with journal.transaction():
        return queue.delete([receipt])


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal.db")


def test_a_received_message_hides_and_comes_back(journal: Journal) -> None:
    queue, _ = make(journal)
    send(journal, queue, 1, 0)
    (first,) = queue.receive(10, 0)
    assert queue.receive(10, VISIBILITY - 0.1) == []
    (second,) = queue.receive(10, VISIBILITY)
    assert (first.message_id, first.receives, second.receives) == (second.message_id, 1, 2)
    assert second.first_received == 0
    assert first.receipt != second.receipt


def test_the_handle_of_an_earlier_receive_is_void(journal: Journal) -> None:
    queue, _ = make(journal)
    send(journal, queue, 1, 0)
    (first,) = queue.receive(1, 0)
    (second,) = queue.receive(1, VISIBILITY)
    assert delete(journal, queue, first.receipt) == 0
    assert delete(journal, queue, second.receipt) == 1
    assert queue.receive(1, 500) == []


@pytest.mark.parametrize("receipt", ["", "x", "1", "1-", "-1-abc", "9" * 30, "1-" + "0" * 24, "१-x"])
def test_a_made_up_handle_deletes_nothing(journal: Journal, receipt: str) -> None:
    queue, _ = make(journal)
    send(journal, queue, 1, 0)
    queue.receive(1, 0)
    assert delete(journal, queue, receipt) == 0
    assert queue.depth(0)[0] == 1


def test_after_the_last_receive_it_goes_to_the_dead_letter_queue_with_the_reason(journal: Journal) -> None:
    queue, dead = make(journal)
    send(journal, queue, 1, 0)
    for turn in range(RECEIVES):
        assert len(queue.receive(1, turn * VISIBILITY)) == 1
    assert queue.receive(1, RECEIVES * VISIBILITY) == []
    assert queue.depth(1e6)[0] == 0
    (buried,) = dead.receive(1, 1e3)
    assert (buried.sent, buried.receives) == (0, 1)
    assert buried.key == "key-1"
    (row,) = journal.rows("dead_messages", queue="arn:dead", after=0, most=9)
    assert row[7] == "arn:queue"
    assert "maxReceiveCount" in row[8]


def test_a_delay_hides_what_was_just_sent(journal: Journal) -> None:
    queue, _ = make(journal, delay=5)
    send(journal, queue, 1, 0)
    assert queue.receive(1, 4.9) == []
    assert len(queue.receive(1, 5)) == 1


def test_a_batch_is_limited_by_its_bytes_but_never_empty(journal: Journal) -> None:
    queue, _ = make(journal)
    for number in range(3):
        send(journal, queue, number, 0)
    assert len(queue.receive(10, 0, most_bytes=1)) == 1
    assert len(queue.receive(10, 0, most_bytes=4)) == 2


def test_a_batch_is_limited_by_whatever_a_message_costs(journal: Journal) -> None:
    queue, _ = make(journal)
    for number in range(3):
        send(journal, queue, number, 0)
    assert len(queue.receive(10, 0, most_bytes=250, cost=lambda body: 100 + len(body))) == 2


def test_messages_handed_back_were_never_received(journal: Journal) -> None:
    queue, _ = make(journal)
    send(journal, queue, 1, 0)
    for now in range(2 * RECEIVES):
        (message,) = queue.receive(1, now)
        assert (message.receives, message.first_received) == (1, now)
        with journal.transaction():
            assert queue.return_unused(message.receipt, now)
            assert not queue.return_unused("1-void", now)
    (first,) = queue.receive(1, 10)
    (second,) = queue.receive(1, 10 + VISIBILITY)
    with journal.transaction():
        assert not queue.return_unused(first.receipt, 50)
        assert queue.return_unused(second.receipt, 50)
    (third,) = queue.receive(1, 50)
    assert (third.receives, third.first_received) == (2, 10)


def test_waiting_counts_what_may_be_received_and_its_bytes(journal: Journal) -> None:
    queue, _ = make(journal, delay=5)
    for number in range(4):
        send(journal, queue, number, number)
    assert queue.visible(4.9, 10) == (0, 0)
    assert queue.visible(6, 10) == (2, 4)
    assert queue.visible(100, 3) == (3, 6)


def test_after_its_retention_a_message_is_gone_and_the_trace_says_so(journal: Journal) -> None:
    queue, _ = make(journal)
    send(journal, queue, 1, 0)
    send(journal, queue, 2, 1)
    (received,) = queue.receive(1, RETENTION - 1)
    assert [message.key for message in queue.receive(10, RETENTION)] == ["key-2"]
    assert delete(journal, queue, received.receipt) == 0, "also in flight it expires"
    assert queue.receive(10, RETENTION + 1) == []
    assert (queue.next_visible(), queue.depth(0)[0], journal.counter("expired")) == (None, 0, 2)
    assert [(row[5], row[6]) for row in journal.rows("hops", key="key-1")] == [
        ("queue", "queued"),
        ("queue", "expired"),
    ]


def test_a_dead_message_is_kept_from_when_it_was_first_sent(journal: Journal) -> None:
    """As on SQS for standard queues: the dead-letter queue's retention counts from the first queue."""
    queue, dead = make(journal)
    send(journal, queue, 1, 0)
    for turn in range(RECEIVES + 1):
        queue.receive(1, turn * VISIBILITY)
    assert dead.depth(1000) == (1, 0, 0)
    fortnight = 14 * 86_400
    with journal.transaction():
        assert expire(journal, "arn:dead", fortnight - 1) == 0
        assert expire(journal, "arn:dead", fortnight) == 1
    assert dead.depth(0) == (0, 0, None)


def test_expiry_is_taken_in_slices(journal: Journal) -> None:
    queue, _ = make(journal)
    with journal.transaction():
        queue.accept([post(number) for number in range(EXPIRE + 7)], 0)
    with journal.transaction():
        assert expire(journal, "arn:queue", 1e6) == EXPIRE
        assert expire(journal, "arn:queue", 1e6) == 7
        assert expire(journal, "arn:other", 1e6) == 0


def test_depth_follows_a_message_through_the_queues(journal: Journal) -> None:
    queue, dead = make(journal)
    for number in range(5):
        send(journal, queue, number, number)
    assert queue.depth(10) == (5, 0, 0)
    queue.receive(2, 10)
    assert queue.depth(10) == (5, 2, 0)
    with journal.transaction():
        dead.accept_dead(post(9), 20, source="arn:rule", reason="why")
    assert (dead.depth(20), queue.depth(20)[0]) == ((1, 0, 20), 5)


def test_a_number_that_is_wrong_does_not_stay_so(tmp_path: Path) -> None:
    with closing(Journal(tmp_path / "journal.db")) as journal:
        queue, dead = make(journal)
        send(journal, queue, 1, 0)
        with closing(sqlite3.connect(journal.path)) as connection, connection:
            connection.execute("UPDATE queues SET messages = 7")
        assert (queue.depth(0)[0], dead.depth(0)[0]) == (7, 7)
        recount(journal)
        assert (queue.depth(0)[0], dead.depth(0)[0]) == (1, 0)


def test_a_new_engine_shows_what_the_last_one_worked_on(journal: Journal) -> None:
    queue, _ = make(journal)
    for number in range(3):
        send(journal, queue, number, 0)
    queue.receive(2, 0)
    with journal.transaction():
        assert queue.release_all(1) == 2
    assert sorted((message.key, message.receives) for message in queue.receive(10, 1)) == [
        ("key-0", 2), ("key-1", 2), ("key-2", 1),
    ]  # fmt: skip


def test_an_impatient_caller_waits_for_nothing(journal: Journal) -> None:
    queue, _ = make(journal, delay=50)
    send(journal, queue, 1, 0)
    assert queue.next_visible() == 50
    with journal.transaction():
        assert queue.hasten(2) == 1
    assert len(queue.receive(1, 2)) == 1


def test_messages_that_the_policy_refuses_are_not_queued(journal: Journal) -> None:
    queue = QueueService(
        journal, stacks.QueueResource("queue", "arn:queue"), refusal=lambda source: f"not from {source}"
    )
    with journal.transaction():
        ((refused,), _) = queue.accept([post(1)], 0)
    assert refused.reason == "not from topic"
    assert queue.depth(0)[0] == 0


def test_a_rollback_leaves_nothing(journal: Journal) -> None:
    queue, _ = make(journal)
    with pytest.raises(RuntimeError), journal.transaction():
        queue.accept([post(1)], 0)
        raise RuntimeError
    assert queue.depth(0)[0] == 0


@dataclass
class Model:
    visible: float
    expires: float
    receives: int = 0
    receipt: str = ""


class QueueMachine(RuleBasedStateMachine):
    """Every interleaving of send, receive, delete, change of visibility, and time."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.journal = Journal(Path(self.folder.name) / "journal.db")
        self.queue, self.dead = make(self.journal)
        self.now = 0.0
        self.sent = 0
        self.alive: dict[str, Model] = {}
        self.buried = 0
        self.handles: list[tuple[str, str]] = []

    @rule(seconds=st.sampled_from([0.5, 10, VISIBILITY, 200]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def send(self) -> None:
        self.sent += 1
        send(self.journal, self.queue, self.sent, self.now)
        self.alive[f"key-{self.sent}"] = Model(self.now, self.now + RETENTION)

    @rule(most=st.integers(1, 10))
    def receive(self, most: int) -> None:
        self.alive = {key: model for key, model in self.alive.items() if model.expires > self.now}
        due = sorted((model.visible, int(key[4:])) for key, model in self.alive.items() if model.visible <= self.now)
        expected = []
        for _, number in due[:most]:
            model = self.alive[f"key-{number}"]
            if model.receives >= RECEIVES:
                del self.alive[f"key-{number}"]
                self.buried += 1
            else:
                expected.append(f"key-{number}")
        messages = self.queue.receive(most, self.now)
        assert [message.key for message in messages] == expected
        for message in messages:
            self._received(message)

    def _received(self, message: ReceivedMessage) -> None:
        model = self.alive[message.key]
        model.receives += 1
        model.visible = self.now + VISIBILITY
        model.receipt = message.receipt
        assert message.receives == model.receives
        self.handles.append((message.key, message.receipt))

    @rule(pick=st.integers(0, 1000))
    def delete(self, pick: int) -> None:
        if self.handles:
            key, receipt = self.handles[pick % len(self.handles)]
            valid = key in self.alive and self.alive[key].receipt == receipt
            assert delete(self.journal, self.queue, receipt) == int(valid)
            if valid:
                del self.alive[key]

    @rule(pick=st.integers(0, 1000), seconds=st.sampled_from([0, 5, 100]))
    def change_visibility(self, pick: int, seconds: float) -> None:
        if self.handles:
            key, receipt = self.handles[pick % len(self.handles)]
            valid = key in self.alive and self.alive[key].receipt == receipt
            with self.journal.transaction():
                assert self.queue.change_visibility(receipt, self.now + seconds) == valid
            if valid:
                self.alive[key].visible = self.now + seconds

    @rule(pick=st.integers(0, 1000))
    def redrive(self, pick: int) -> None:
        dead = self.journal.rows("dead_messages", queue="arn:dead", after=0, most=99)
        if dead:
            message_id, key = dead[pick % len(dead)][1], dead[pick % len(dead)][3]
            with self.journal.transaction():
                ((moved, _, _),) = redrive(self.journal, message_id, self.queue.settings, now=self.now)
                assert redrive(self.journal, message_id, self.queue.settings, now=self.now) == []
            assert moved == key
            self.buried -= 1
            self.alive[key] = Model(self.now, self.now + RETENTION)

    @rule(pick=st.integers(0, 1000))
    def take_dead(self, pick: int) -> None:
        dead = self.journal.rows("dead_messages", queue="arn:dead", after=0, most=99)
        if dead:
            message_id, key = dead[pick % len(dead)][1], dead[pick % len(dead)][3]
            with self.journal.transaction():
                assert take_dead(self.journal, message_id) == [(key, "v", b"{}")]
                assert take_dead(self.journal, message_id) == []
            self.buried -= 1

    @invariant()
    def messages_are_found_by_their_keys(self) -> None:
        """Messages whose retention has ended are there until somebody receives."""
        keys = [f"key-{number}" for number in range(1, self.sent + 1)]
        queues = orjson.dumps(["arn:queue", "arn:dead"]).decode()
        rows = self.journal.rows("queued_for", queues=queues, keys=orjson.dumps(keys).decode())
        assert {key for _, key, _ in rows if key in self.alive} == set(self.alive)
        assert len({key for queue, key, _ in rows if queue == "arn:dead"}) == self.buried

    @invariant()
    def what_is_noted_is_what_there_is(self) -> None:
        noted = [queue.depth(self.now)[0] for queue in (self.queue, self.dead)]
        with self.journal.transaction():
            recount(self.journal)
        assert noted == [queue.depth(self.now)[0] for queue in (self.queue, self.dead)]

    @invariant()
    def nothing_is_lost(self) -> None:
        assert self.queue.depth(self.now)[0] == len(self.alive)
        assert self.dead.depth(self.now)[0] == self.buried

    def teardown(self) -> None:
        self.journal.close()
        self.folder.cleanup()


TestQueueMachine = QueueMachine.TestCase
TestQueueMachine.settings = settings(max_examples=examples(60), stateful_step_count=40, deadline=None)
