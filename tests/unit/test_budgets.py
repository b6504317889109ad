"""Two budgets: what the system fails is tried for a day, what the user's code fails as often as the transform says."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import polars as pl
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from hypothesis import event, example, given, settings
from hypothesis import strategies as st

from silversmith import Pipeline
from silversmith.errors import (
    AccessDenied,
    AwsFailed,
    DefinitionError,
    PreconditionFailed,
    SourceChanged,
    TransformError,
)
from silversmith.events import NotAnEvent, ObjectEvent, object_created
from silversmith.function.handler import Handler
from silversmith.function.outcome import Report
from silversmith.function.process import Contended
from silversmith.function.retries import DIED, MESSAGES, parse
from silversmith.lineage import error_key, failed_key, silver_key
from silversmith.pipeline.lookups import LookupMissing, LookupUnusable
from silversmith.reconcile.compare import look
from silversmith.runtime.queue import (
    ERROR_CODE,
    JITTER,
    SYSTEM_WAITS,
    SystemUnavailable,
    is_system_fault,
    queue_receives,
    transform_tries,
    wait_for_system,
    wait_for_user,
)
from silversmith.stores import Lake, Store
from tests.unit.local.whole import Interruptible
from tests.unit.shop import NOON, Shop

HOUR = 3600.0

#: Six times the function's timeout.
VISIBILITY = 1800.0


class Killed(BaseException):
    """The end of the function, and nobody in it is asked."""


@dataclass
class Message:
    """A message as SQS keeps it. ``visible`` in seconds since the beginning."""

    id: str
    body: str
    visible: float = 0.0
    receives: int = 0
    attributes: dict[str, Any] = field(default_factory=dict)


@dataclass
class World:
    """A queue that counts receives as SQS does, the function that is mapped to it, and buckets that can fail.

    ``act`` is what the user's code does with the file that begins with this number; ``point`` runs before and after
    every request to a bucket.
    """

    folder: Path
    tries: int = 5
    act: Callable[[str], object] = lambda _: None
    point: Callable[[str], None] = lambda _: None
    now: float = 0.0
    queue: list[Message] = field(default_factory=list)
    dead: list[Message] = field(default_factory=list)
    buried_by_sqs: list[Message] = field(default_factory=list)
    reports: list[Report] = field(default_factory=list)
    deaths: int = 0
    raised: int = 0
    dlq_works: bool = True

    def __post_init__(self) -> None:
        self.shop = Shop(self.folder)
        self.lake = Lake(*(self._interruptible(each) for each in ("bronze", "silver", "quarantine")))
        pipeline = Pipeline("shop")

        @pipeline.transform("*.csv", name="orders", max_receive_count=self.tries)
        def orders(rows: pl.LazyFrame) -> pl.LazyFrame:
            self.act(str(rows.collect()["x"][0]))
            return rows

        self.transform = pipeline.find("orders")
        self.handler = self.build()

    def build(self) -> Handler:
        """The function over the lake as it is."""
        return Handler(
            self.transform,
            bucket="bronze",
            lake=self.lake,
            scratch=self.folder / "scratch",
            ended=self.reports.append,
            release=self._release,
            move_to_dlq=self._bury,
            acknowledge=self._acknowledge,
            now=lambda: NOON + timedelta(seconds=self.now),
        )

    def _interruptible(self, bucket: str) -> Interruptible:
        return Interruptible(getattr(self.shop, bucket), lambda: self.point(bucket))

    def get_remaining_time_in_millis(self) -> int:
        return 300_000

    def land(self, name: str, message: str = "") -> str:
        """A file lands, and its event is in the queue."""
        self.shop.bronze.put(f"{name}.csv", f"x\n{name}\n".encode())
        return self.send(name, message)

    def send(self, name: str, message: str = "", reason: str = "PutObject") -> str:
        body = object_created(ObjectEvent("bronze", f"{name}.csv", size=3), reason=reason).decode()
        self.queue.append(Message(message or name, body, self.now))
        return f"{name}.csv"

    # SQS

    def _find(self, receipt: str) -> Message:
        return next(each for each in self.queue if f"{each.id} {each.receives}" == receipt)

    def _release(self, receipt: str, seconds: float) -> None:
        self._find(receipt).visible = self.now + seconds

    def _acknowledge(self, receipts: Sequence[str]) -> None:
        for receipt in receipts:
            self.queue.remove(self._find(receipt))

    def _bury(self, record: Any, error: Any) -> None:
        if not self.dlq_works:
            raise ConnectionError("SQS is away")
        attributes = {ERROR_CODE: {"stringValue": error["code"], "dataType": "String"}}
        self.dead.append(Message(f"dead {record['messageId']}", record["body"], attributes=attributes))

    def _receive(self) -> list[Message]:
        """As SQS: what was received too often goes to the dead-letter queue, and is not handed out."""
        actual = []
        for message in [each for each in self.queue if each.visible <= self.now][:10]:
            if message.receives >= queue_receives(self.tries):
                self.queue.remove(message)
                self.buried_by_sqs.append(message)
                continue
            message.receives += 1
            message.visible = self.now + VISIBILITY
            actual.append(message)
        return actual

    def invoke(self) -> int:
        """One batch, as Lambda hands it over; how many messages it had."""
        messages = self._receive()
        if not messages:
            return 0
        records = [
            {
                "messageId": each.id,
                "receiptHandle": f"{each.id} {each.receives}",
                "body": each.body,
                "attributes": {"ApproximateReceiveCount": str(each.receives)},
                "messageAttributes": each.attributes,
            }
            for each in messages
        ]
        try:
            answer = self.handler({"Records": records}, self)
        except SystemUnavailable:
            self.raised += 1  # nothing is deleted, and each comes back when it was said
        except Killed:
            self.deaths += 1  # likewise, after the visibility timeout
        else:
            failed = {item["itemIdentifier"] for item in answer["batchItemFailures"]}
            self.queue = [each for each in self.queue if each not in messages or each.id in failed]
        return len(messages)

    def run(self) -> None:
        """Until the queue is empty, however long that takes."""
        while self.queue:
            self.now = max(self.now, min(each.visible for each in self.queue))
            while self.invoke():
                pass

    def document(self, name: str = "1") -> dict[str, Any] | None:
        body = self.shop.quarantine.read(failed_key("orders", f"{name}.csv"))
        return parse(body) if body is not None else None

    def has_silver(self, name: str = "1") -> bool:
        return self.shop.silver.head(silver_key("orders", f"{name}.csv")) is not None


def bug(_: str) -> None:
    raise ValueError("a bug of theirs")


# What is whose fault --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "system"),
    [
        (AccessDenied("no"), True),
        (AwsFailed("503"), True),
        (OSError(28, "no space"), True),
        (TimeoutError(), True),
        (Contended("always"), True),
        (LookupMissing("not yet"), True),
        (LookupUnusable("broken"), True),
        (PreconditionFailed("412"), True),
        (SourceChanged("moved"), True),
        (ClientError({"Error": {"Code": "ThrottlingException"}}, "SendMessage"), True),
        (EndpointConnectionError(endpoint_url="https://sqs"), True),
        (TransformError("theirs"), False),
        (DefinitionError("an undeclared lookup"), False),
        (KeyError("ours"), False),
        (MemoryError(), False),
        (NotAnEvent("no"), False),
    ],
)
def test_errors_are_the_codes_fault_or_the_systems(error: BaseException, system: bool) -> None:
    assert is_system_fault(error) is system


# How soon -------------------------------------------------------------------------------------------------------------


@given(st.integers(1, 2000), st.uuids().map(str))
def test_the_system_s_waits_grow_to_half_an_hour_and_are_spread_a_little(receives: int, message: str) -> None:
    wait = (10, 40, 160, 640, 1800)[min(receives, 5) - 1]
    assert wait <= wait_for_system(receives, message) <= wait * (1 + JITTER)
    assert wait_for_system(receives, message) == wait_for_system(receives, message)


def test_messages_that_failed_together_do_not_come_back_together() -> None:
    assert len({round(wait_for_system(5, str(number))) for number in range(100)}) > 50


@pytest.mark.parametrize("tries", [1, 5, 950])
def test_the_queue_s_receives_last_for_a_day(tries: int) -> None:
    assert transform_tries(queue_receives(tries)) == tries
    waits = sum(wait_for_system(receives, "") for receives in range(1, queue_receives(tries)))
    assert waits >= 23 * HOUR
    assert queue_receives(tries) <= 1000


@pytest.mark.parametrize(("tries", "seconds"), [(1, 1), (2, 4), (3, 16), (4, 64), (5, 256), (6, 900), (99, 900)])
def test_the_user_s_waits(tries: int, seconds: float) -> None:
    assert wait_for_user(tries) == seconds


# An outage ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [90, 600, 6 * HOUR])
@pytest.mark.parametrize("buckets", ["bronze silver quarantine", "bronze", "silver", "quarantine"])
def test_an_outage_kills_nothing(tmp_path: Path, seconds: float, buckets: str) -> None:
    """60 files that nothing is wrong with land while buckets are away."""
    world = World(tmp_path)

    def away(bucket: str) -> None:
        if world.now < seconds and bucket in buckets.split():
            raise AwsFailed("S3 is away")

    world.point = away
    for number in range(60):
        world.land(str(number))
    world.run()
    assert (world.dead, world.buried_by_sqs) == ([], [])
    assert all(world.has_silver(str(number)) for number in range(60))
    assert world.raised, "Lambda's poller is told"
    assert world.now <= seconds + SYSTEM_WAITS[-1] * (1 + JITTER)
    assert list(world.shop.quarantine.list()) == []


def test_an_outage_in_the_middle_of_each_try_counts_nothing(tmp_path: Path) -> None:
    """Bronze is readable and tries are recorded, so that each begins; silver refuses writes."""
    world = World(tmp_path)
    world.land("1")
    while world.now < 6 * HOUR:
        world.shop.silver.failures = [("put", AwsFailed("KMS is away"))]
        world.now = max(world.now, min(each.visible for each in world.queue))
        world.invoke()
        assert world.document() is None, "what was written before is taken back"
    world.shop.silver.failures = []
    world.run()
    assert world.has_silver()
    assert world.dead == []


@dataclass
class Deaf:
    """A store that does what it is asked to put, and whose answer to that is lost each time."""

    store: Store
    error: Exception

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)

    def put(self, key: str, body: bytes | Path, **conditions: Any) -> str:
        self.store.put(key, body, **conditions)
        raise self.error


@pytest.mark.parametrize("error", [PreconditionFailed("our own write"), AwsFailed("no answer")])
def test_lost_answers_in_the_middle_of_each_try_count_nothing(tmp_path: Path, error: Exception) -> None:
    """The SDK's own retry of a conditional put is refused by what the lost one has written; or no answer ever comes."""
    world = World(tmp_path)
    world.land("1")
    quarantine = world.lake.quarantine
    for _ in range(2 * world.tries):
        world.shop.silver.failures = [("put", AwsFailed("KMS is away"))]
        world.lake = replace(world.lake, quarantine=cast("Store", Deaf(quarantine, error)))
        world.handler = world.build()
        world.now = max(world.now, min(each.visible for each in world.queue))
        world.invoke()
    world.shop.silver.failures = []
    world.lake = replace(world.lake, quarantine=quarantine)
    world.handler = world.build()
    world.run()
    assert world.has_silver()
    assert world.dead == []


@pytest.mark.parametrize("tries", [1, 2, 5])
def test_a_failure_whose_writing_down_has_no_answer_counts_once(tmp_path: Path, tries: int) -> None:
    calls: list[str] = []

    def act(name: str) -> None:
        calls.append(name)
        bug(name)

    world = World(tmp_path, tries=tries, act=act)
    world.lake = replace(world.lake, quarantine=cast("Store", Deaf(world.lake.quarantine, PreconditionFailed("ours"))))
    world.handler = world.build()
    world.land("1")
    world.run()
    assert (len(calls), len(world.dead)) == (tries, 1)


def test_nothing_is_raised_if_one_file_succeeds(tmp_path: Path) -> None:
    """Or what succeeded would not be acknowledged."""
    world = World(tmp_path)
    for number in range(3):
        world.land(str(number))
    world.shop.bronze.failures = [("open", AwsFailed("once")), ("open", AwsFailed("twice"))]
    assert world.invoke() == 3
    assert (world.raised, len(world.queue)) == (0, 2)


def test_nothing_is_raised_if_the_code_is_at_fault_with_one_file(tmp_path: Path) -> None:
    world = World(tmp_path, act=bug)
    for number in range(2):
        world.land(str(number))
    world.shop.bronze.failures = [("open", AwsFailed("once"))]
    world.invoke()
    assert (world.raised, len(world.queue)) == (0, 2)


# The user's code ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tries", [1, 2, 5])
def test_a_file_that_always_raises_is_dead_after_exactly_the_allowed_tries(tmp_path: Path, tries: int) -> None:
    calls: list[str] = []

    def act(name: str) -> None:
        calls.append(name)
        bug(name)

    world = World(tmp_path, tries=tries, act=act)
    world.land("1")
    world.run()
    assert calls == ["1"] * tries
    assert [each.id for each in world.dead] == ["dead 1"]
    assert world.buried_by_sqs == []
    assert world.now == sum(wait_for_user(number) for number in range(1, tries)), "it did not wait for the system"
    document = world.document()
    assert document is not None
    assert document["error"]["code"] == "TransformError"
    assert "a bug of theirs" in document["error"]["message"]
    head = world.shop.bronze.head("1.csv")
    assert head is not None
    assert (document["bronze"]["key"], document["bronze"]["etag"]) == ("1.csv", head.etag)
    assert (document["tries"], document["dead"], document["message"]) == (tries, True, "1")
    assert document["fingerprint"] == world.transform.fingerprint
    assert document["log"] == {"group": None, "stream": None, "request": None}


@pytest.mark.parametrize("tries", [1, 2, 5])
def test_a_file_that_always_kills_is_dead_after_one_death_more(tmp_path: Path, tries: int) -> None:
    """Of the first nobody knows, for nothing is written down before a first try."""
    world = World(tmp_path, tries=tries)

    world.land("1")
    while world.queue:
        killed: Any = Killed()
        world.shop.silver.failures = [("put", killed)]
        world.now = max(world.now, min(each.visible for each in world.queue))
        world.invoke()
    assert world.deaths == tries + 1
    assert [each.id for each in world.dead] == ["dead 1"]
    document = world.document()
    assert document is not None
    assert (document["error"], document["dead"]) == (DIED, True)


def test_the_last_try_is_logged(tmp_path: Path) -> None:
    """https://docs.aws.amazon.com/lambda/latest/dg/python-context.html"""
    world = World(tmp_path, tries=1, act=bug)
    for name, value in {"log_group_name": "/aws/f", "log_stream_name": "2026/[1]a", "aws_request_id": "r-1"}.items():
        setattr(world, name, value)
    world.land("1")
    world.run()
    document = world.document()
    assert document is not None
    assert document["log"] == {"group": "/aws/f", "stream": "2026/[1]a", "request": "r-1"}


def test_the_message_stays_if_the_dead_letter_queue_refuses_it(tmp_path: Path) -> None:
    calls: list[str] = []

    def act(name: str) -> None:
        calls.append(name)
        bug(name)

    world = World(tmp_path, tries=2, act=act, dlq_works=False)
    world.land("1")
    while world.now < HOUR:
        world.now = max(world.now, min(each.visible for each in world.queue))
        world.invoke()
    assert (len(world.queue), world.dead) == (1, [])
    assert world.reports[-1].system
    world.dlq_works = True
    world.run()
    assert [each.id for each in world.dead] == ["dead 1"]
    assert calls == ["1"] * 2, "what was tried as often as it may is not tried again"


def test_a_failure_that_cannot_be_recorded_does_not_count(tmp_path: Path) -> None:
    world = World(tmp_path, tries=1, act=bug)
    world.land("1")
    world.shop.quarantine.failures = [("put", OSError("no"))]
    world.invoke()
    assert (world.dead, world.raised) == ([], 1)
    world.run()
    assert len(world.dead) == 1


def test_other_bytes_and_other_code_begin_again(tmp_path: Path) -> None:
    world = World(tmp_path, tries=3, act=bug)
    world.land("1")
    world.invoke()
    world.now += 1
    world.invoke()
    assert (world.document() or {})["tries"] == 2
    world.shop.bronze.put("1.csv", b"x\n2\n")
    world.now += 4
    world.invoke()
    assert (world.document() or {})["tries"] == 1
    assert world.dead == []


def test_two_messages_of_one_file_are_each_tried_as_often_as_is_allowed(tmp_path: Path) -> None:
    world = World(tmp_path, tries=3, act=bug)
    world.land("1", message="a")
    world.send("1", message="b")
    world.run()
    assert [each.id for each in world.dead] == ["dead a", "dead b"]
    assert (world.document() or {})["messages"] == {"a": 3, "b": 3}
    assert sum(report.error is not None for report in world.reports) == 6


def test_a_try_that_is_taken_back_leaves_what_another_message_wrote(tmp_path: Path) -> None:
    world = World(tmp_path, tries=2, act=bug)
    world.land("1", message="a")
    world.send("1", message="b")
    world.invoke()
    beside = World(tmp_path, tries=2, queue=[world.queue.pop(0)])
    beside.transform = world.transform
    beside.handler = beside.build()

    def give_up_beside_a_fault_of_the_system(_: str) -> None:
        world.act = bug
        beside.run()
        world.shop.silver.failures = [("put", AwsFailed("KMS is away"))]

    world.act = give_up_beside_a_fault_of_the_system
    world.now = world.queue[0].visible
    world.invoke()
    document = world.document() or {}
    assert [each.id for each in beside.dead] == ["dead a"]
    assert (document["dead"], document["message"], document["messages"]) == (True, "a", {"a": 2, "b": 1})
    assert document["error"]["message"].endswith("a bug of theirs")


def test_the_document_stays_small(tmp_path: Path) -> None:
    world = World(tmp_path, tries=1, act=bug)
    for number in range(3 * MESSAGES):
        world.land("1", message=f"m{number}")
    world.run()
    assert list((world.document() or {})["messages"]) == [f"m{n}" for n in range(2 * MESSAGES, 3 * MESSAGES)]


@pytest.mark.parametrize("how", ["receive", "console", "command"])
def test_when_the_file_succeeds_the_document_goes(tmp_path: Path, how: str) -> None:
    """At a later receive; by the console of SQS, which keeps the attributes; by a command of ours."""
    world = World(tmp_path, tries=1 if how != "receive" else 2, act=bug)
    world.land("1")
    world.invoke()
    assert world.document() is not None
    world.act = lambda _: None
    if how == "console":
        (dead,) = world.dead
        world.queue.append(Message("again", dead.body, world.now, attributes=dead.attributes))
    elif how == "command":
        world.send("1", message="again", reason="redrive")
    world.run()
    assert world.has_silver()
    assert world.document() is None


def test_when_the_data_turns_out_to_be_at_fault_or_the_file_goes_the_document_goes(tmp_path: Path) -> None:
    world = World(tmp_path, tries=9, act=bug)
    world.land("1")
    world.land("2")
    world.invoke()
    world.shop.bronze.put("1.csv", b'x\n"1\n')
    world.shop.bronze.delete("2.csv")
    world.run()
    assert world.shop.quarantine.head(error_key("orders", "1.csv")) is not None
    assert (world.document("1"), world.document("2")) == (None, None)


def test_a_file_that_succeeds_at_once_costs_no_request_more(tmp_path: Path) -> None:
    """GET bronze, PUT silver, and a HEAD for each of two in quarantine; of silver also the look at the owner."""
    world = World(tmp_path)
    world.land("1")
    world.run()  # which records the schema
    asked: list[str] = []
    world.land("2")
    world.shop.quarantine.calls.clear()
    world.point = asked.append
    world.run()
    assert world.shop.quarantine.calls == ["head", "head"]
    assert {bucket: asked.count(bucket) / 2 for bucket in asked} == {"silver": 2, "bronze": 2, "quarantine": 2}


def _again(world: World, how: str) -> None:
    """The file failed before; now its code or its bytes are good, and it is tried again."""
    if "overwritten" in how:
        world.land("1", message="overwritten")
    if "console" in how:
        (dead,) = world.dead
        world.queue.append(Message("again", dead.body, world.now, attributes=dead.attributes))
    if "command" in how:
        world.send("1", message="again", reason="reconcile")


@pytest.mark.parametrize(
    ("how", "tries"),
    [
        ("mended", 9),
        ("overwritten", 9),
        ("mended, by the console", 1),
        ("overwritten, by a command", 1),
    ],
)
def test_files_in_silver_leave_no_document_wherever_the_function_is_killed(
    tmp_path: Path, how: str, tries: int
) -> None:
    """Before and after every request to a bucket."""
    for kill_at in itertools.count(1):
        world = World(tmp_path / str(kill_at), tries=tries, act=bug)
        world.land("1")
        world.invoke()
        assert world.document() is not None
        assert bool(world.dead) is (tries == 1)
        world.act = lambda _: None
        left = itertools.count(kill_at, -1)

        def kill(_: str, left: Iterator[int] = left) -> None:
            if next(left) == 1:
                raise Killed

        world.point = kill
        _again(world, how)
        world.run()
        assert world.has_silver()
        assert world.document() is None
        if not world.deaths:
            assert kill_at > 10, "requests were counted"
            return


# Reconciliation -------------------------------------------------------------------------------------------------------


def test_reconciliation_leaves_alone_what_the_code_has_given_up_on(tmp_path: Path) -> None:
    world = World(tmp_path, tries=1, act=bug)
    world.land("1")
    world.run()
    lake = Lake(world.shop.bronze, world.shop.silver, world.shop.quarantine)
    (looked,) = look(world.transform, lake)
    assert looked.finding is None
    assert looked.given_up is not None
    assert looked.given_up.key == "1.csv"
    (looked,) = look(world.transform, lake, dead=True)
    assert looked.finding is not None
    world.shop.bronze.put("1.csv", b"x\n2\n")
    (looked,) = look(world.transform, lake)
    assert looked.finding is not None, "the bytes are others"


def test_reconciliation_sends_what_is_still_being_tried(tmp_path: Path) -> None:
    world = World(tmp_path, tries=2, act=bug)
    world.land("1")
    world.invoke()
    (looked,) = look(world.transform, Lake(world.shop.bronze, world.shop.silver, world.shop.quarantine))
    assert looked.finding is not None


# All of it together ---------------------------------------------------------------------------------------------------

deeds = st.sampled_from(["early fault", "late fault", "bug", "death", "success"])


@given(st.integers(1, 4), st.lists(deeds, max_size=25))
@example(2, ["death", "death", "death", "bug"])
@example(2, ["late fault", "death", "late fault", "bug", "success"])
@example(1, ["early fault", "bug"])
@settings(deadline=None)
def test_faults_failures_and_deaths_in_any_order(tries: int, history: list[str]) -> None:
    """The model: a failure counts, a death counts from the second receive on, a fault of the system never does."""
    with TemporaryDirectory() as folder:
        world = World(Path(folder), tries=tries)
        world.land("1")
        spent = 0
        for receive, deed in enumerate(history, 1):
            spent_before = spent
            _perform(world, deed)
            world.now = world.queue[0].visible
            world.invoke()
            if spent_before >= tries and deed != "early fault":
                assert [each.id for each in world.dead] == ["dead 1"], "it is not even tried"
                break
            if deed == "success":
                assert world.has_silver()
                assert world.document() is None
                break
            spent += deed == "bug" or (deed == "death" and receive > 1)
            assert _counted(world) == spent
            if deed == "bug" and spent >= tries:
                assert [each.id for each in world.dead] == ["dead 1"]
                assert (world.document() or {})["dead"]
                break
            assert [each.id for each in world.queue] == ["1"]
        assert world.buried_by_sqs == []
        assert world.deaths <= tries + 1
        event("dead" if world.dead else "done" if world.has_silver() else "on its way")


def _perform(world: World, deed: str) -> None:
    """Do the test's deed for the next receive."""
    killed: Any = Killed()
    world.act = bug if deed == "bug" else lambda _: None
    world.shop.bronze.failures = [("open", AwsFailed("away"))] if deed == "early fault" else []
    failures: dict[str, list[tuple[str, Exception]]] = {
        "late fault": [("put", AwsFailed("away"))],
        "death": [("put", killed)],
    }
    world.shop.silver.failures = failures.get(deed, [])


def _counted(world: World) -> int:
    document = world.document()
    return document["messages"].get("1", 0) if document is not None else 0


@given(
    st.binary(max_size=300)
    | st.recursive(
        st.none() | st.text() | st.integers() | st.booleans(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(
                st.sampled_from(["error", "bronze", "messages", "dead", "log", "tries", "etag", "x"]), inner
            )
        ),
    ).map(lambda value: json.dumps(value).encode())
)
def test_any_document_is_read_or_is_none(body: bytes) -> None:
    result = parse(body)
    assert result is None or (
        isinstance(result["dead"], bool) and all(count >= 0 for count in result["messages"].values())
    )


def test_a_document_that_somebody_overwrote_is_rewritten(tmp_path: Path) -> None:
    world = World(tmp_path, tries=2, act=bug)
    world.land("1")
    world.shop.quarantine.put(failed_key("orders", "1.csv"), b"scribble")
    world.run()
    assert (world.document() or {})["tries"] == 2
    assert len(world.dead) == 1
