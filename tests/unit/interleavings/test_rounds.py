"""Rounds of reconciliation whose invocations come twice, late or never, fail and die: at most one works at a time, or,
in a round that is split, at most one in each branch."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import polars as pl
from hypothesis import given, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from silversmith import Pipeline
from silversmith.errors import PreconditionFailed
from silversmith.events import unwrap
from silversmith.function.outcome import Outcome
from silversmith.reconcile.handler import Reconciler
from silversmith.reconcile.lease import LEASE, Lease, Phase, lease_key
from silversmith.reconcile.rows import COLUMNS
from silversmith.stores import Head, Lake
from tests.examples import examples
from tests.unit.interleavings.conftest import MemoryStore, Message, Worker

KEYS = [f"{number}.csv" for number in range(5)]
BATCH = 2
STEPS = 3

#: More turns than any test takes.
ENOUGH = 5_000

#: The longest that an invocation lives, as the template has it.
LONGEST = timedelta(minutes=15)
DAWN = datetime(2026, 1, 2, tzinfo=UTC)
LANDED = DAWN - timedelta(days=1)

Event = dict[str, Any]


def shop() -> Pipeline:
    pipeline = Pipeline("shop")

    @pipeline.transform("*.csv")
    def orders(rows: pl.LazyFrame) -> pl.LazyFrame:
        return rows

    return pipeline


SHOP = shop()


class Unreachable(Exception):
    """Lambda did not take an invocation, or its answer was lost."""


class Bucket(MemoryStore):
    """A bucket that can be listed."""

    def list(self, prefix: str = "", *, start_after: str = "") -> Iterator[Head]:
        for key in sorted(self.objects):
            if key.startswith(prefix) and key > start_after:
                yield Head(key, "etag", 1, LANDED)

    def read(self, key: str) -> bytes | None:
        return self.objects[key][0] if key in self.objects else None


class Rows:
    """A lineage that knows how many files there are, and nothing of any."""

    def between(self, *_: Any) -> pl.DataFrame:
        return pl.DataFrame(schema=dict.fromkeys((*COLUMNS, "state"), pl.String) | {"schema_version": pl.Int64})

    def split(self, transform: str, parts: int) -> list[str]:
        del transform, parts
        return KEYS[:-1]

    def sizes(self, state: str = "silver") -> dict[str, int]:
        del state
        return {"orders": len(KEYS)}


class LeaseBucket(Bucket):
    """Tells the world who took a lease and who let go of it. A put whose answer is lost, and which the SDK sends once
    more, is refused by what it has written itself."""

    def __init__(self, world: World) -> None:
        super().__init__("quarantine", world.turn)
        self._world = world

    def put(self, key: str, body: bytes | Path, **condition: Any) -> str:
        etag = super().put(key, body, **condition)
        assert isinstance(body, bytes)
        lease = Lease.from_json(body)
        assert lease is not None
        self._world.changed(key, lease)
        if self._world.answers_lost:
            self._world.answers_lost -= 1
            raise PreconditionFailed(key)
        return etag


@dataclass
class Running:
    worker: Worker
    event: Event
    began: datetime


@dataclass
class World:
    """The function's invocations: those on their way, and those that run. ``is_split``: a round has three branches."""

    is_split: bool = False
    clock: datetime = DAWN
    queued: list[Event] = field(default_factory=list)
    running: list[Running] = field(default_factory=list)
    sent: list[tuple[str, str]] = field(default_factory=list)
    holders: dict[str, threading.Thread] = field(default_factory=dict)
    owners: dict[str, str] = field(default_factory=dict)
    answers_lost: int = 0
    begun: list[tuple[str, int]] = field(default_factory=list)
    done: list[str] = field(default_factory=list)
    invoke_fails: list[str] = field(default_factory=list)
    rounds: int = 0

    def __post_init__(self) -> None:
        bronze = Bucket("bronze", lambda _: None)
        bronze.objects.update({key: (b"x", {}) for key in KEYS})
        self.lease = LeaseBucket(self)
        self.lake = Lake(bronze, Bucket("silver", lambda _: None), self.lease)

    def turn(self, request: str) -> None:
        worker = threading.current_thread()
        assert isinstance(worker, Worker)
        worker.pause(request)

    def changed(self, key: str, lease: Lease) -> None:
        """Called in the thread that has just changed a lease."""
        me = threading.current_thread()
        if lease.phase is Phase.RUNNING and lease.owner == self.owners.get(key):
            return  # a wish was put into it
        if lease.phase is Phase.RUNNING:
            assert key not in self.holders, "two invocations work at once"
            self.holders[key], self.owners[key] = me, lease.owner
            self.begun.append((lease.round, lease.step))
        elif self.holders.get(key) is me:
            del self.holders[key]
            if lease.phase is Phase.DONE and key == lease_key("shop"):
                self.done.append(lease.round)

    def schedule(self, **more: Any) -> None:
        self.rounds += 1
        self.queued.append({"queues": {"orders": "orders"}, "round": f"round {self.rounds}", **more})

    def deliver(self, position: int, *, again: bool) -> None:
        """An invocation begins; ``again``: Lambda will have it once more."""
        event = self.queued[position] if again else self.queued.pop(position)
        reconciler = Reconciler(
            SHOP,
            bucket="bronze",
            lake=self.lake,
            lease=lease_key("shop"),
            queue=lambda _: Queue(self, str(event["round"])),
            again=self.again,
            now=lambda: self.clock,
            batch=BATCH,
            rows=lambda: Rows() if self.is_split else None,
            listers=1,
            branch_rows=2,
        )

        def work() -> Outcome:
            reconciler(event, NoTime())
            return None  # type: ignore[return-value]

        worker = Worker(f"invocation {len(self.begun)}", Message(""), work)
        self.running.append(Running(worker, event, self.clock))

    def again(self, event: Event) -> None:
        how = self.invoke_fails.pop() if self.invoke_fails else ""
        if how != "refused":
            self.queued.append(event)
        if how:
            raise Unreachable

    def step(self, position: int) -> None:
        invocation = self.running[position]
        try:
            invocation.worker.step()
        except Unreachable:  # Lambda tries it again
            self.queued.append(invocation.event)
        finally:
            if invocation.worker.finished:
                self.running.remove(invocation)

    def kill(self, invocation: Running) -> None:
        invocation.worker.kill()
        self.running.remove(invocation)
        for key, holder in [*self.holders.items()]:
            if holder is invocation.worker:
                del self.holders[key]  # nobody can work on its behalf any more

    def pass_time(self, by: timedelta) -> None:
        self.clock += by
        for invocation in [*self.running]:
            if self.clock - invocation.began > LONGEST:
                self.kill(invocation)

    def drain(self) -> None:
        """Everything on its way arrives, once."""
        for _ in range(ENOUGH):
            if not self.queued and not self.running:
                return
            if not self.running:
                self.deliver(0, again=False)
            self.step(0)
        raise AssertionError("it never ends")

    def close(self) -> None:
        for invocation in [*self.running]:
            self.kill(invocation)

    @property
    def now(self) -> Lease | None:
        body = self.lease.objects.get(lease_key("shop"))
        return Lease.from_json(body[0]) if body else None


@dataclass
class Queue:
    world: World
    round: str

    def waiting(self) -> int:
        return 0

    def send(self, bodies: Sequence[str]) -> None:
        assert threading.current_thread() in self.world.holders.values(), "it works without the lease"
        self.world.sent += [(self.round, unwrap(body)[0].key) for body in bodies]


class NoTime:
    """A context whose time is always up, so that each batch is a step."""

    def get_remaining_time_in_millis(self) -> int:
        return 0


class Rounds(RuleBasedStateMachine):
    """Any order of all that can happen."""

    @initialize(is_split=st.booleans())
    def begin(self, is_split: bool) -> None:
        self.world = World(is_split)

    @rule(follow=st.booleans())
    def schedule(self, follow: bool) -> None:
        self.world.schedule(**({"follow": True} if follow else {}))

    @precondition(lambda self: self.world.queued)
    @rule(data=st.data(), again=st.booleans())
    def deliver(self, data: st.DataObject, again: bool) -> None:
        self.world.deliver(data.draw(st.integers(0, len(self.world.queued) - 1)), again=again)

    @precondition(lambda self: self.world.queued)
    @rule(data=st.data())
    def lose(self, data: st.DataObject) -> None:
        self.world.queued.pop(data.draw(st.integers(0, len(self.world.queued) - 1)))

    @precondition(lambda self: self.world.running)
    @rule(data=st.data(), most=st.integers(1, 6))
    def step(self, data: st.DataObject, most: int) -> None:
        for _ in range(most):
            if self.world.running:
                self.world.step(data.draw(st.integers(0, len(self.world.running) - 1)))

    @precondition(lambda self: self.world.running)
    @rule(data=st.data())
    def kill(self, data: st.DataObject) -> None:
        self.world.kill(self.world.running[data.draw(st.integers(0, len(self.world.running) - 1))])

    @rule(how=st.sampled_from(["refused", "answer lost"]))
    def fail_to_invoke(self, how: str) -> None:
        self.world.invoke_fails.append(how)

    @rule()
    def lose_an_answer(self) -> None:
        self.world.answers_lost += 1

    @rule(minutes=st.integers(1, 40))
    def pass_time(self, minutes: int) -> None:
        self.world.pass_time(timedelta(minutes=minutes))

    @invariant()
    def the_lease_is_readable(self) -> None:
        if hasattr(self, "world"):
            assert not self.world.lease.objects or self.world.now is not None

    def teardown(self) -> None:
        """After all that, a round completes."""
        if not hasattr(self, "world"):
            return
        world = self.world
        try:
            world.invoke_fails.clear()
            world.answers_lost = 0
            world.drain()
            world.pass_time(LEASE + timedelta(seconds=1))
            world.sent.clear()
            world.schedule()
            name = f"round {world.rounds}"
            world.drain()
            assert name in world.done
            assert {key for _, key in world.sent} == {*KEYS}
            assert world.now is not None
            assert world.now.phase is Phase.DONE
            assert not world.holders
        finally:
            world.close()


Rounds.TestCase.settings = settings(max_examples=examples(60), stateful_step_count=40, deadline=None)
TestRounds = Rounds.TestCase


@settings(max_examples=examples(40), deadline=None)
@given(st.data(), st.booleans())
def test_an_invocation_that_comes_twice_is_done_once(data: st.DataObject, is_split: bool) -> None:
    """Every invocation comes twice, at any time."""
    world = World(is_split)
    world.schedule()
    copies: list[Event] = []
    try:
        while world.queued or world.running or copies:
            moves = ["deliver"] * bool(world.queued) + ["double"] * bool(copies) + ["step"] * bool(world.running)
            match data.draw(st.sampled_from(moves)):
                case "deliver":
                    copies.append(world.queued[0])
                    world.deliver(0, again=False)
                case "double":
                    world.queued.insert(0, copies.pop(data.draw(st.integers(0, len(copies) - 1))))
                    world.deliver(0, again=False)
                case _:
                    world.step(data.draw(st.integers(0, len(world.running) - 1)))
    finally:
        world.close()
    assert sorted(world.sent) == [("round 1", key) for key in KEYS]
    assert is_split or world.begun == [("round 1", step) for step in range(STEPS)]
    assert world.done == ["round 1"]


def test_a_round_that_follows_begins_when_the_other_is_done() -> None:
    world = World()
    world.schedule()
    world.deliver(0, again=False)
    world.step(0)
    world.step(0)
    world.step(0)
    assert world.begun == [("round 1", 0)]
    for _ in range(2):  # twice
        world.queued.insert(0, {"queues": {"orders": "orders"}, "round": "after", "follow": True})
        world.deliver(0, again=False)
        while len(world.running) > 1:
            world.step(1)
    world.drain()
    assert world.done == ["round 1", "after"]
    assert [key for name, key in world.sent if name == "after"] == KEYS


def test_a_round_that_died_is_taken_over() -> None:
    world = World()
    world.schedule()
    world.deliver(0, again=False)
    while not world.queued:
        world.step(0)
    lost = world.queued.pop()
    world.schedule()
    world.drain()
    assert world.done == []
    world.pass_time(LEASE)
    world.schedule()
    world.queued.append(lost)  # late
    world.drain()
    assert world.done == ["round 3"]
