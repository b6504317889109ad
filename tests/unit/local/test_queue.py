"""The queue against a model of what SQS promises, with time passed in."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from silversmith.local.journal import Journal
from silversmith.local.post import Post
from silversmith.local.queue import Message, Queue, Settings

VISIBILITY = 30.0
RECEIVES = 3


def post(number: int) -> Post:
    return Post(number, "topic", "queue", "subscription", f"key-{number}", "v", b"{}", 0.0)


def make(journal: Journal, delay: float = 0) -> tuple[Queue, Queue]:
    dead = Queue(journal, Settings("dead", "arn:dead"))
    queue = Queue(
        journal,
        Settings(
            "queue",
            "arn:queue",
            visibility_timeout=VISIBILITY,
            delay=delay,
            dead_letter="arn:dead",
            max_receives=RECEIVES,
        ),
    )
    return queue, dead


def send(journal: Journal, queue: Queue, number: int, now: float) -> None:
    with journal.transaction():
        assert queue.accept([post(number)], now) == []


def delete(journal: Journal, queue: Queue, receipt: str) -> int:
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
    assert queue.receive(1, 1000) == []


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


def test_what_the_policy_refuses_is_not_queued(journal: Journal) -> None:
    queue = Queue(journal, Settings("queue", "arn:queue"), refusal=lambda source: f"not from {source}")
    with journal.transaction():
        (refused,) = queue.accept([post(1)], 0)
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
        self.alive[f"key-{self.sent}"] = Model(self.now)

    @rule(most=st.integers(1, 10))
    def receive(self, most: int) -> None:
        due = sorted((model.visible, int(key[4:])) for key, model in self.alive.items() if model.visible <= self.now)
        expected = []
        for _, number in due[:most]:
            model = self.alive[f"key-{number}"]
            if model.receives >= RECEIVES:
                del self.alive[f"key-{number}"]
                self.buried += 1
            else:
                expected.append(f"key-{number}")
        found = self.queue.receive(most, self.now)
        assert [message.key for message in found] == expected
        for message in found:
            self._received(message)

    def _received(self, message: Message) -> None:
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

    @invariant()
    def nothing_is_lost(self) -> None:
        assert self.queue.depth(self.now)[0] == len(self.alive)
        assert self.dead.depth(self.now)[0] == self.buried

    def teardown(self) -> None:
        self.journal.close()
        self.folder.cleanup()


TestQueueMachine = QueueMachine.TestCase
TestQueueMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
