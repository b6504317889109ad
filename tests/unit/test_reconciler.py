"""The scheduled reconciliation: over real folders, with queues and invocations that only count."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

from silversmith import Pipeline
from silversmith.events import unwrap
from silversmith.lineage import error_key
from silversmith.reconcile.handler import BATCH, NoProgress, Reconciler
from silversmith.reconcile.hops import Problem
from silversmith.reconcile.lease import Lease, Phase, lease_key
from silversmith.runtime.queue import BUSY, SENT_AT_ONCE, NotSent, SqsQueue

if TYPE_CHECKING:
    from tests.unit.conftest import Bench

    Make = Callable[[Pipeline], Bench]


def shop() -> Pipeline:
    pipeline = Pipeline("shop")

    @pipeline.transform("orders/*.csv")
    def orders(rows: pl.LazyFrame) -> pl.LazyFrame:
        return rows

    @pipeline.transform("*.csv", name="every")
    def every(rows: pl.LazyFrame) -> pl.LazyFrame:
        return rows

    return pipeline


def shop_with_other_code() -> Pipeline:
    pipeline = Pipeline("shop")

    @pipeline.transform("orders/*.csv")
    def orders(rows: pl.LazyFrame) -> pl.LazyFrame:
        return rows.with_columns(y=1)

    return pipeline


@dataclass
class Sent:
    """A queue that remembers what it was sent."""

    backlog: int = 0
    bodies: list[str] = field(default_factory=list)

    def waiting(self) -> int:
        return self.backlog + len(self.bodies)

    def send(self, bodies: Sequence[str]) -> None:
        assert 0 < len(bodies) <= SENT_AT_ONCE
        self.bodies += bodies

    @property
    def keys(self) -> list[str]:
        return [unwrap(body)[0].key for body in self.bodies]


@dataclass
class Timer:
    """A context whose time is up after so many looks at it."""

    looks: int

    def get_remaining_time_in_millis(self) -> int:
        self.looks -= 1
        return 600_000 if self.looks >= 0 else 10_000


@dataclass
class World:
    """The function, its queues, and its invocations of itself that nobody has done yet."""

    bench: Bench
    queues: dict[str, Sent] = field(default_factory=lambda: {"orders": Sent(), "every": Sent()})
    again: list[dict[str, Any]] = field(default_factory=list)
    log: list[dict[str, Any]] = field(default_factory=list)
    measured: list[tuple[str, int]] = field(default_factory=list)
    broken: list[Problem] = field(default_factory=list)
    later: timedelta = timedelta(hours=1)

    def missing(self) -> int:
        """The number of missing files that the newest round measured."""
        return [value for name, value in self.measured if name == "Missing"][-1]

    def invoke(self, event: dict[str, Any] | None = None, *, looks: int = 1_000_000) -> dict[str, Any]:
        reconciler = Reconciler(
            self.bench.pipeline,
            bucket="dl-bronze-layer",
            lake=self.bench.lake,
            lease=lease_key("shop_Reconciler"),
            check=lambda _: self.broken,
            measure=lambda values: self.measured.extend(values.items()),
            queue=self.queues.__getitem__,
            again=self.again.append,
            now=lambda: datetime.now().astimezone() + self.later,
            log=self.log.append,
        )
        return reconciler(event or {"queues": {name: name for name in self.queues}}, Timer(looks))


def test_keys_that_events_missed_are_sent_to_each_transforms_queue(make: Make) -> None:
    bench = make(shop())
    bench.land("orders/a.csv", "b.csv")
    bench.work()
    bench.land("orders/c.csv")
    world = World(bench)
    assert world.invoke() == {"done": True}
    assert (world.queues["orders"].keys, world.queues["every"].keys) == (["orders/c.csv"], ["orders/c.csv"])
    body = json.loads(world.queues["orders"].bodies[0])
    assert (body["detail-type"], body["detail"]["reason"], body["detail"]["bucket"]["name"]) == (
        "Object Created",
        "reconcile",
        "dl-bronze-layer",
    )
    assert [(messages["transform"], messages["checked"], messages["sent"]) for messages in world.log] == [
        ("orders", 2, 1),
        ("every", 3, 1),
    ]


def test_recent_files_are_left_to_their_own_event(make: Make) -> None:
    bench = make(shop())
    bench.land("orders/a.csv")
    world = World(bench, later=timedelta(minutes=59))
    world.invoke()
    assert world.queues["orders"].keys == []


def test_other_code_is_found_when_the_schedule_asks_for_it(make: Make) -> None:
    bench = make(shop())
    bench.land("orders/a.csv")
    bench.work()
    bench.use(shop_with_other_code())
    world = World(bench)
    world.invoke()
    assert world.queues["orders"].keys == []
    world.invoke({"queues": {"orders": "orders"}, "changed": True})
    assert world.queues["orders"].keys == ["orders/a.csv"]


def test_a_queue_that_has_much_to_do_is_left_alone(make: Make) -> None:
    bench = make(shop())
    bench.land("orders/a.csv")
    world = World(bench)
    world.queues["orders"].backlog = BUSY + 1
    assert world.invoke() == {"done": True}
    assert (world.queues["orders"].keys, world.queues["every"].keys) == ([], ["orders/a.csv"])
    assert world.log[0] == {"transform": "orders", "after": "", "skipped": True, "waiting": BUSY + 1}


def test_a_transform_without_a_queue_is_left_out(make: Make) -> None:
    bench = make(shop())
    bench.land("orders/a.csv")
    world = World(bench)
    assert world.invoke({"queues": {"every": "every"}}) == {"done": True}
    assert (world.queues["orders"].keys, world.queues["every"].keys) == ([], ["orders/a.csv"])


def test_when_the_time_runs_out_another_invocation_goes_on(make: Make) -> None:
    """Even where what this very round has sent makes the queue look busy."""
    bench = make(shop())
    keys = [f"orders/{number:04}.csv" for number in range(2 * BATCH + 10)]
    for key in keys:
        path = bench.folder.bucket("dl-bronze-layer") / key
        path.parent.mkdir(exist_ok=True)
        path.write_text("x\n1\n")
    world = World(bench)
    event: dict[str, Any] | None = {"queues": {"orders": "orders", "every": "every"}, "changed": False}
    places = []
    while event is not None:
        done = world.invoke(event, looks=0)
        event = world.again.pop() if world.again else None
        assert done == {"done": event is None}
        if event is not None:
            assert event["queues"] == {"orders": "orders", "every": "every"}
            place = lease_of(world).progress["cursors"][0]
            places.append((place["transform"], place["after"]))
    assert places == [
        ("orders", keys[BATCH - 1]),
        ("orders", keys[2 * BATCH - 1]),
        ("every", keys[BATCH - 1]),
        ("every", keys[2 * BATCH - 1]),
    ]
    assert world.queues["orders"].keys == world.queues["every"].keys == keys


def test_an_invocation_that_gets_nowhere_does_not_call_another(make: Make) -> None:
    """Keys that are cut short in silver have no place to go on from: a batch of nothing else never ends."""
    bench = make(shop())
    for number in range(BATCH):
        bench.lake.bronze.put(f"orders/{'x' * 1005}{number:03}.csv", b"x\n1\n")
    world = World(bench)
    assert world.invoke(looks=0) == {"done": False}
    with pytest.raises(NoProgress, match="orders"):
        world.invoke(world.again.pop(), looks=0)
    assert world.again == []


def lease_of(world: World) -> Lease:
    body = world.bench.lake.quarantine.read(lease_key("shop_Reconciler"))
    assert body is not None
    result = Lease.from_json(body)
    assert result is not None
    return result


def test_an_invocation_that_comes_twice_does_nothing(make: Make) -> None:
    bench = make(shop())
    bench.land("orders/a.csv")
    world = World(bench)
    event = {"queues": {"orders": "orders"}, "round": "schedule 12:00"}
    assert world.invoke(event) == {"done": True}
    assert world.invoke(event) == {"refused": "this round is done"}
    assert world.queues["orders"].keys == ["orders/a.csv"]
    assert world.log[-1] == {"refused": "this round is done", "round": "schedule 12:00", "step": 0}
    assert world.invoke({**event, "round": "schedule 13:00", "step": 1})["refused"].startswith("the lease is with")


def test_placeholders_of_the_scheduler_name_no_round(make: Make) -> None:
    world = World(make(shop()))
    event = {"queues": {}, "round": "<aws.scheduler.schedule-arn> <aws.scheduler.scheduled-time>"}
    assert [world.invoke(event), world.invoke(event)] == [{"done": True}, {"done": True}]


class Full(Sent):
    """A queue that takes nothing."""

    def send(self, bodies: Sequence[str]) -> None:
        raise NotSent("full")


def test_a_step_that_failed_may_be_tried_again(make: Make) -> None:
    bench = make(shop())
    bench.land("orders/a.csv")
    world = World(bench)
    world.queues["orders"] = Full()
    event = {"queues": {"orders": "orders"}, "round": "one"}
    with pytest.raises(NotSent):
        world.invoke(event)
    assert lease_of(world).phase is Phase.FAILED
    world.queues["orders"] = Sent()
    assert world.invoke(event) == {"done": True}
    assert world.queues["orders"].keys == ["orders/a.csv"]


@pytest.mark.parametrize("body", [b"", b"no JSON", b"[]", b"{}", b'{"round": 1}', b"\xff", b"[" * 100_000])
def test_bytes_that_are_no_lease_bind_nobody(make: Make, body: bytes) -> None:
    world = World(make(shop()))
    world.bench.lake.quarantine.put(lease_key("shop_Reconciler"), body)
    assert world.invoke({"queues": {}, "round": "one"}) == {"done": True}
    assert lease_of(world).round == "one"


def test_hops_that_are_broken_are_logged_and_counted(make: Make) -> None:
    world = World(make(shop()), broken=[Problem("off", "on"), Problem("no answer", "", is_known=False)])
    world.invoke({"queues": {}, "hops": []})
    assert [messages["hop"]["found"] for messages in world.log] == ["off", "no answer"]
    assert world.measured == [("Unfinished", 0), ("ChainBroken", 1), ("Missing", 0)]


def test_a_round_that_was_not_completed_is_said_by_the_next_one(make: Make) -> None:
    bench = make(shop())
    bench.land("orders/a.csv")
    world = World(bench)
    world.queues["orders"] = Full()
    with pytest.raises(NotSent):
        world.invoke({"queues": {"orders": "orders"}, "round": "one"})
    world.invoke({"queues": {}, "round": "two"})
    world.invoke({"queues": {}, "round": "three"})
    assert [value for name, value in world.measured if name == "Unfinished"] == [0, 1, 0]


@pytest.mark.parametrize(
    "progress",
    [
        {"begun": "2026-01-02T03:04:05+00:00", "place": None, "missing": 0, "marks": {}},
        {"cursors": [{"transform": "orders", "unknown": 1}], "begun": "2026-01-02T03:04:05+00:00"},
        {"cursors": 1, "begun": "never"},
    ],
)
def test_a_round_of_another_version_begins_at_its_first_transform(make: Make, progress: dict[str, Any]) -> None:
    """A deploy may fall between two steps."""
    bench = make(shop())
    bench.land("orders/a.csv")
    world = World(bench)
    now = datetime.now().astimezone()
    lease = Lease("one", 3, Phase.WAITING, "", now + timedelta(days=1), progress)
    bench.lake.quarantine.put(lease_key("shop_Reconciler"), lease.to_json())
    event = {"queues": {"orders": "orders"}, "round": "one", "step": 3}
    assert world.invoke(event) == {"done": True}
    assert world.queues["orders"].keys == ["orders/a.csv"]


def a_round(world: World, hours: int, **more: Any) -> int:
    """A round, so many hours from now; how many files it calls missing."""
    world.later = timedelta(hours=hours)
    for queue in world.queues.values():
        queue.bodies.clear()
    world.invoke({"queues": {name: name for name in world.queues}, "round": str(hours), **more})
    return world.missing()


def test_a_lost_event_is_counted_once(make: Make) -> None:
    bench = make(shop())
    world = World(bench)
    assert a_round(world, 0) == 0
    bench.land("orders/a.csv")
    bench.work()
    bench.land("orders/b.csv", "orders/c.csv")
    assert a_round(world, 24) == 4, "two files, of two transforms each"
    assert a_round(world, 48) == 0, "they are in their queues, or in dead-letter queues, and told of there"


def test_files_older_than_a_pattern_are_not_counted_as_missing(make: Make) -> None:
    bench = make(shop())
    world = World(bench)
    bench.land("orders/a.csv")
    assert a_round(world, 24) == 0, "the first round of all"
    assert world.queues["orders"].keys == ["orders/a.csv"], "it is sent all the same"


def test_another_pattern_restarts_the_round(make: Make) -> None:
    narrow = Pipeline("shop")
    narrow.sql("other/*.csv", "SELECT * FROM rows", name="orders")
    bench = make(narrow)
    world = World(bench)
    assert a_round(world, 0) == 0
    bench.use(shop())
    bench.land("orders/a.csv")
    assert a_round(world, 24) == 0
    bench.land("orders/b.csv")
    tomorrow = (datetime.now().astimezone() + timedelta(hours=30)).timestamp()
    os.utime(bench.folder.bucket("dl-bronze-layer") / "orders/b.csv", (tomorrow, tomorrow))
    assert a_round(world, 48, queues={"orders": "orders"}) == 1


def test_messages_that_wait_or_are_dead_may_be_theirs(make: Make) -> None:
    bench = make(shop())
    world = World(bench)
    a_round(world, 0)
    bench.land("orders/a.csv", "orders/b.csv", "orders/c.csv")
    world.queues |= {"orders": Sent(backlog=1), "every": Sent(backlog=2), "dead": Sent(backlog=1)}
    assert a_round(world, 24, dead={"orders": "dead", "every": "dead"}) == 1


def test_a_busy_transform_s_files_are_counted_by_the_next_round(make: Make) -> None:
    bench = make(shop())
    world = World(bench)
    a_round(world, 0)
    bench.land("orders/a.csv")
    world.queues["orders"] = Sent(backlog=BUSY + 1)
    assert a_round(world, 24) == 1, "of the other transform"
    world.queues["orders"] = Sent()
    assert a_round(world, 48) == 1


def test_a_file_that_other_code_refused_is_not_missing(make: Make) -> None:
    """Its event came: the error document speaks of these bytes."""
    bench = make(shop())
    world = World(bench)
    a_round(world, 0)
    bench.land("orders/a.csv")
    head = bench.lake.bronze.head("orders/a.csv")
    assert head is not None
    for name in ("orders", "every"):
        said = {"bronze": {"etag": head.etag}, "fingerprint": "other"}
        bench.lake.quarantine.put(error_key(name, "orders/a.csv"), json.dumps(said).encode())
    assert a_round(world, 24) == 0
    assert world.queues["orders"].keys == ["orders/a.csv"]


class Sqs:
    """A client of which each call of send_message_batch refuses the messages that a test names."""

    def __init__(self, *refused: set[str]) -> None:
        self.refused = list(refused)
        self.sent: list[list[str]] = []

    def send_message_batch(self, **inputs: Any) -> dict[str, Any]:
        refused, entries = self.refused.pop(0) if self.refused else set(), inputs["Entries"]
        self.sent.append([entry["MessageBody"] for entry in entries])
        failed = [{"Id": entry["Id"], "Code": "InternalError"} for entry in entries if entry["MessageBody"] in refused]
        return {"Failed": failed} if failed else {}

    def get_queue_attributes(self, **inputs: Any) -> dict[str, Any]:
        return {"Attributes": {name: str(number) for number, name in enumerate(inputs["AttributeNames"], start=20)}}


def test_refused_entries_of_a_batch_are_sent_once_more() -> None:
    client = Sqs({"b", "c"}, {"c"})
    SqsQueue("url", client).send(["a", "b", "c"])
    assert client.sent == [["a", "b", "c"], ["b", "c"], ["c"]]


def test_entries_that_sqs_keeps_refusing_are_reported() -> None:
    client = Sqs(*[{"b"}] * 9)
    with pytest.raises(NotSent, match="did not take 1 messages: InternalError"):
        SqsQueue("url", client).send(["a", "b"])
    assert client.sent == [["a", "b"], ["b"], ["b"]]


def test_hidden_messages_are_waiting_too() -> None:
    assert SqsQueue("url", Sqs()).waiting() == 20 + 21
