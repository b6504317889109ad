"""The function room: batches, filters, windows, what a response means, and what a dead worker costs."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import orjson
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as limits
from hypothesis import strategies as st

from silversmith.events import ObjectEvent, object_created
from silversmith.local.journal import Journal
from silversmith.local.services import ReceivedMessage, ServiceMessage
from silversmith.local.services.function import (
    LARGEST_PAYLOAD,
    LONGEST_REST,
    MOST_BATCHES,
    QUICK,
    REST,
    FunctionService,
    Invocation,
    Settings,
    failures,
    record,
    record_size,
)
from silversmith.local.services.queue import QueueService, expire, redrive
from silversmith.patterns import Dialect, Matcher, compile_pattern
from silversmith.stores import IN_MEMORY
from tests.examples import examples
from tests.unit.local.settings import QUEUE, function_settings

BASIC = function_settings(tries=3)
VISIBILITY = 360.0


def test_a_batch_is_large_where_an_object_is_larger_than_what_is_held_in_memory() -> None:
    def invocation(*bodies: bytes) -> Invocation:
        messages = {
            str(number): ReceivedMessage(number, "", "", "", body, 0.0, 1, 0.0, "")
            for number, body in enumerate(bodies)
        }
        return Invocation(BASIC, dict[str, ReceivedMessage](messages), started=0.0)

    def event(key: str, size: int | None) -> bytes:
        return object_created(ObjectEvent("bronze", key, size=size), reason="PutObject")

    assert not invocation().is_large
    assert not invocation(event("a", 1), event("b", IN_MEMORY), event("c", None), b"no event").is_large
    assert invocation(event("a", 1), event("b", IN_MEMORY + 1)).is_large
    assert invocation(event("a", 5 * 2**40)).is_large
    assert not invocation(event('"size":99999999', 1)).is_large, "it only is called so"


@dataclass
class World:
    """A function on its queue, and the time."""

    journal: Journal
    settings: Settings = BASIC
    now: float = 1000.0
    queue: QueueService = field(init=False)
    function: FunctionService = field(init=False)
    sent: int = 0

    def __post_init__(self) -> None:
        self.queue = QueueService(self.journal, self.settings.queue)
        self.function = FunctionService(self.journal, self.settings, self.queue)

    def send(self, *bodies: bytes) -> None:
        posts = []
        for body in bodies:
            posts.append(ServiceMessage("topic", QUEUE, "sub", f"key-{self.sent}", f"v{self.sent}", body, self.now))
            self.sent += 1
        with self.journal.transaction():
            assert not self.queue.accept(posts, self.now).refused

    def poll(self) -> Invocation:
        (invocation,) = self.function.poll(self.now)
        return invocation

    def keys(self) -> list[str]:
        """The keys of messages that may be received now."""
        return [message.key for message in self.queue.receive(10_000, self.now)]

    def dead(self) -> list[str]:
        """The keys of the messages in the dead-letter queue."""
        return [row[3] for row in self.journal.rows("dead_messages", queue="arn:dead", after=0, most=9)]

    def counts(self) -> dict[str, int]:
        rows = self.journal.rows("counters")
        return {name.removeprefix("function."): value for name, value in rows if name.startswith("function.")}

    def outcome(self, key: str) -> tuple[Any, ...] | None:
        return self.journal.row("outcome", transform="orders", key=key)

    def hops(self, key: str) -> list[tuple[str, dict[str, Any]]]:
        rows = [row for row in self.journal.rows("hops", key=key) if row[4] == "function"]
        details = [{name: value for name, value in orjson.loads(row[7]).items() if name != "queued"} for row in rows]
        return [(row[6], detail) for row, detail in zip(rows, details, strict=True)]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., World]]:
    with closing(Journal(tmp_path / "journal.db")) as journal:
        yield lambda **changes: World(journal, function_settings(**{"tries": 3, **changes}))


Make = Callable[..., World]


def by_key(invocation: Invocation) -> dict[str, str]:
    """The ids of the messages by their keys."""
    return {message.key: name for name, message in invocation.messages.items()}


def committed(rows: int = 1) -> dict[str, Any]:
    return {"verdict": "committed", "rows_written": rows, "rows_rejected": 2, "error": None}


def failed(retry_in: float | None) -> dict[str, Any]:
    error = {"code": "TransformError", "message": "no such thing"}
    return {"verdict": "failed", "failed": True, "error": error, "retry_in": retry_in}


def report(*identifiers: object) -> dict[str, Any]:
    return {"batchItemFailures": [{"itemIdentifier": actual} for actual in identifiers]}


def test_the_event_is_the_one_that_lambda_passes(make: Make) -> None:
    world = make()
    world.send(b'{"a": "\xc3\xbc"}')
    world.now = 1000.5
    invocation = world.poll()
    ((name, message),) = invocation.messages.items()
    assert invocation.event() == {
        "Records": [
            {
                "messageId": name,
                "receiptHandle": message.receipt,
                "body": '{"a": "ü"}',
                "attributes": {
                    "ApproximateReceiveCount": "1",
                    "SentTimestamp": "1000000",
                    "SenderId": "SILVERSMITH",
                    "ApproximateFirstReceiveTimestamp": "1000500",
                },
                "messageAttributes": {},
                "md5OfBody": hashlib.md5(b'{"a": "\xc3\xbc"}').hexdigest(),
                "eventSource": "aws:sqs",
                "eventSourceARN": QUEUE,
                "awsRegion": "eu-central-1",
            }
        ]
    }
    assert invocation.deadline == 1060.5


# What a response means ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        (None, set()),
        ({}, set()),
        ({"batchItemFailures": None}, set()),
        (report(), set()),
        ({"statusCode": 200}, set()),
        (report("a"), {"a"}),
        (report("a", "a"), {"a"}),
        (report("a", "b"), {"a", "b"}),
        (report(""), {"a", "b"}),
        (report(None), {"a", "b"}),
        (report("unknown"), {"a", "b"}),
        (report("a", "unknown"), {"a", "b"}),
        ({"batchItemFailures": [{"messageId": "a"}]}, {"a", "b"}),
        ({"batchItemFailures": ["a"]}, {"a", "b"}),
        ({"batchItemFailures": {"itemIdentifier": "a"}}, {"a", "b"}),
        ({"batchItemFailures": "a"}, {"a", "b"}),
        ("fine", {"a", "b"}),
        ([], {"a", "b"}),
        (7, {"a", "b"}),
    ],
)
def test_failed_messages_of_a_response(response: object, expected: set[str]) -> None:
    assert failures(response, {"a": 1, "b": 2}) == expected


json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["a", "b", "c", ""]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["batchItemFailures", "itemIdentifier", "x"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(json)
def test_any_response_means_some_messages_of_the_batch(response: object) -> None:
    assert failures(response, {"a": 1, "b": 2}) <= {"a", "b"}


def test_done_messages_are_deleted_and_failed_ones_come_back_in_time(make: Make) -> None:
    world = make()
    world.send(b"{}", b"{}", b"{}")
    invocation = world.poll()
    names = by_key(invocation)
    invocation.outcomes = {
        names["key-0"]: committed(5),
        names["key-1"]: failed(16),
        names["key-2"]: {"verdict": "duplicate"},
    }
    world.function.complete([(invocation, report(names["key-1"]))], world.now)
    assert world.queue.next_visible() == world.now + 16
    world.now += 16
    assert world.keys() == ["key-1"]
    assert world.counts() == {"committed": 1, "failed": 1, "duplicate": 1, "rows": 5, "rejected": 2, "partial": 1}
    assert world.journal.counter("transform.orders.rows") == 5
    assert [what for what, _ in world.hops("key-1")] == ["failed"]
    assert world.function.running == set()


def test_a_failure_that_does_not_say_when_comes_back_after_the_visibility_timeout(make: Make) -> None:
    world = make()
    world.send(b"{}")
    invocation = world.poll()
    (name,) = invocation.messages
    invocation.outcomes = {name: failed(None)}
    world.function.complete([(invocation, report(name))], world.now)
    assert world.queue.next_visible() == world.now + VISIBILITY


def test_messages_not_begun_for_want_of_time_come_back_at_once_uncharged(make: Make) -> None:
    world = make()
    world.send(b"{}", b"{}")
    for _ in range(5):  # more often than may be received
        invocation = world.poll()
        names = by_key(invocation)
        assert invocation.messages[names["key-1"]].receives == 1
        if "key-0" in names:
            invocation.outcomes = {names["key-0"]: committed()}
            world.function.complete([(invocation, report(names["key-1"]))], world.now)
        else:
            world.send(b"{}")
            with world.journal.transaction():
                world.queue.return_unused(invocation.messages[names["key-1"]].receipt, world.now)
    assert world.hops("key-1") == []
    assert "failed" not in world.counts()


def test_a_response_that_makes_no_sense_fails_what_was_done_too(make: Make) -> None:
    world = make()
    world.send(b"{}", b"{}")
    invocation = world.poll()
    world.function.complete([(invocation, "what?")], world.now)
    assert world.counts() == {"failed": 2}
    assert world.queue.next_visible() == world.now + VISIBILITY, "and so often counted, it ends in the DLQ"


# What a dead worker costs ---------------------------------------------------------------------------------------------


def test_a_dead_worker_charges_the_message_it_was_at(make: Make) -> None:
    world = make()
    world.send(*[b"{}"] * 4)
    invocation = world.poll()
    names = by_key(invocation)
    invocation.outcomes = {names["key-0"]: committed(), names["key-1"]: failed(1)}
    began = names["key-2"]
    world.function.crash(invocation, "killed by signal 11", world.now, began=began)
    assert world.keys() == ["key-3"]
    assert world.queue.receive(1, world.now) == []
    world.now += 1
    assert [(message.key, message.receives) for message in world.queue.receive(9, world.now)] == [
        ("key-1", 2),
        ("key-2", 2),
    ]
    assert world.hops("key-2") == [
        ("failed", {"error": {"code": "FunctionError", "message": "killed by signal 11"}, "attempt": 1})
    ]
    assert world.hops("key-1")[0][1]["error"]["code"] == "TransformError", "what it said itself is kept"
    assert world.hops("key-3") == []
    assert world.counts() == {"committed": 1, "failed": 2, "rows": 1, "rejected": 2, "partial": 1}


def test_a_death_while_several_wait_and_the_last_begun_is_finished_charges_all_that_are_not(make: Make) -> None:
    """Otherwise a message that kills before it is converted would come back uncounted for ever."""
    world = make()
    world.send(*[b"{}"] * 3)
    invocation = world.poll()
    names = by_key(invocation)
    invocation.outcomes = {names["key-0"]: committed()}
    began = names["key-0"]
    world.function.crash(invocation, "killed by signal 9", world.now, began=began)
    assert world.keys() == []
    assert world.counts() == {"committed": 1, "failed": 2, "rows": 1, "rejected": 2, "partial": 1}
    world.now += 1
    assert [(message.key, message.receives) for message in world.queue.receive(9, world.now)] == [
        ("key-1", 2),
        ("key-2", 2),
    ]


def test_a_death_charges_the_messages_that_were_worked_on_together(make: Make) -> None:
    world = make()
    world.send(*[b"{}"] * 4)
    invocation = world.poll()
    names = by_key(invocation)
    invocation.outcomes = {names["key-0"]: committed()}
    invocation.begun = frozenset({names["key-1"], names["key-2"]})
    world.function.crash(invocation, "killed by signal 9", world.now)
    assert world.keys() == ["key-3"]
    assert world.counts() == {"committed": 1, "failed": 2, "rows": 1, "rejected": 2, "partial": 1}


def test_a_worker_that_dies_before_it_begins_charges_all(make: Make) -> None:
    world = make()
    world.send(b"{}", b"{}")
    invocation = world.poll()
    world.function.crash(invocation, "out of memory", world.now)
    assert world.counts() == {"failed": 2}
    world.now += 1
    assert [message.receives for message in world.queue.receive(9, world.now)] == [2, 2]


def test_after_the_last_death_it_comes_back_at_once_and_the_handler_gives_up_on_it(make: Make) -> None:
    """Three tries are allowed, and of the first death the handler knows nothing."""
    world = make()
    world.send(b"{}")
    for _ in range(4):
        invocation = world.poll()
        (began,) = invocation.messages
        world.function.crash(invocation, "killed", world.now, began=began)
        world.now = world.queue.next_visible() or 0
    assert world.now == 1000 + 1 + 4 + 16, "no fourth pause"
    invocation = world.poll()
    (name,) = invocation.messages
    invocation.outcomes = {name: failed(0) | {"dead": True}}
    world.function.complete([(invocation, report())], world.now)
    assert world.dead() == ["key-0"]
    assert world.queue.depth(world.now)[0] == 0
    assert world.hops("key-0")[-1][0] == "failed"


def test_the_engine_gives_up_if_the_receive_after_the_last_death_is_another(make: Make) -> None:
    """The worker dies before the handler has counted anything. Receives that the system failed are no deaths."""
    world = make()
    world.send(b"{}")
    invocation = world.poll()
    invocation.outcomes = {name: failed(10) for name in invocation.messages}
    world.function.complete([(invocation, report(*invocation.messages))], world.now)
    world.now += 10
    start = world.now
    for _ in range(5):
        assert world.dead() == []
        invocation = world.poll()
        (began,) = invocation.messages
        world.function.crash(invocation, "killed", world.now, began=began)
        world.now = max(world.now, world.queue.next_visible() or 0)
    assert world.now == start + 1 + 4 + 16
    assert world.dead() == ["key-0"]
    assert world.queue.depth(world.now)[0] == 0
    (dead,) = world.journal.rows("dead_messages", queue="arn:dead", after=0, most=9)
    assert dead[8] == "5 workers died of it"
    with world.journal.transaction():
        redrive(world.journal, dead[1], world.queue.settings, now=world.now)
    invocation = world.poll()
    (began,) = invocation.messages
    world.function.crash(invocation, "killed", world.now, began=began)
    assert world.queue.next_visible() == world.now + 1, "a redriven message begins again"


def test_a_message_the_handler_gave_up_on_is_dead_even_if_the_worker_dies(make: Make) -> None:
    world = make()
    world.send(*[b"{}"] * 4)
    for number in range(2):
        invocation = world.poll()
        name = by_key(invocation)[f"key-{number}"]
        invocation.outcomes = {name: failed(0) | {"dead": True}}
        if number:
            world.function.abandon(invocation, world.now)
        else:
            world.function.crash(invocation, "killed", world.now)
        world.now += 10
    assert world.dead() == ["key-0", "key-1"]
    assert world.keys() == ["key-2", "key-3"]


def test_a_message_the_handler_gave_up_on_is_kept_as_if_sent_then(make: Make) -> None:
    world = make()
    world.send(b"{}")
    world.now += 1_000_000
    invocation = world.poll()
    (name,) = invocation.messages
    invocation.outcomes = {name: failed(0) | {"dead": True}}
    world.function.complete([(invocation, report())], world.now)
    assert world.journal.rows("dead_messages", queue="arn:dead", after=0, most=9)[0][8:] == (
        "the function gave up on it: TransformError",
        world.now,
    )
    world.now += 1_209_599
    assert expire(world.journal, "arn:dead", world.now) == 0
    assert expire(world.journal, "arn:dead", world.now + 1) == 1


def test_an_engine_that_ends_charges_nobody(make: Make) -> None:
    world = make()
    world.send(*[b"{}"] * 4)
    invocation = world.poll()
    names = by_key(invocation)
    invocation.outcomes = {names["key-0"]: committed(), names["key-1"]: failed(1)}
    world.function.abandon(invocation, world.now)
    messages = {message.key: message.receives for message in world.queue.receive(9, world.now + 1)}
    assert messages == {"key-1": 2, "key-2": 1, "key-3": 1}
    assert world.hops("key-2") == []
    assert world.function.running == set()


@given(st.lists(st.sampled_from(["done", "failed", "left"]), min_size=1, max_size=6), st.booleans(), st.data())
@limits(max_examples=examples(40), deadline=None)
def test_no_message_is_lost_however_a_batch_ends(plan: list[str], is_begun: bool, data: st.DataObject) -> None:
    plan = sorted(plan)  # what is left is left at the end
    with tempfile.TemporaryDirectory() as folder, closing(Journal(Path(folder) / "journal.db")) as journal:
        world = World(journal)
        world.send(*[b"{}"] * len(plan))
        invocation = world.poll()
        began: str | None = None
        outcomes = {"done": committed(), "failed": failed(2)}
        for name, result in zip(invocation.messages, plan, strict=True):
            if result in outcomes:
                invocation.outcomes[name] = outcomes[result]
            elif is_begun and began is None:
                began = name
        end = data.draw(st.sampled_from(["succeed", "crash", "abandon"]))
        if end == "succeed":
            bad = [name for name, result in zip(invocation.messages, plan, strict=True) if result != "done"]
            world.function.complete([(invocation, report(*bad))], world.now)
        elif end == "crash":
            world.function.crash(invocation, "killed", world.now, began=began)
        else:
            world.function.abandon(invocation, world.now)
        world.now += VISIBILITY
        assert len(world.keys()) == len(plan) - plan.count("done")
        assert world.function.running == set()


# The last outcome of a key --------------------------------------------------------------------------------------------


def finish(world: World, outcome: dict[str, Any]) -> None:
    invocation = world.poll()
    for name in invocation.messages:
        invocation.outcomes[name] = outcome
    bad = [name for name in invocation.messages if outcome.get("failed")]
    world.function.complete([(invocation, report(*bad))], world.now)


def test_a_duplicate_says_that_an_earlier_failure_is_over(make: Make) -> None:
    """A worker may commit and die before it can say so: the next try finds a duplicate."""
    world = make()
    world.send(b"{}")
    invocation = world.poll()
    (began,) = invocation.messages
    world.function.crash(invocation, "killed", world.now, began=began)
    assert (world.outcome("key-0") or [""])[0] == "failed"
    world.now += 1
    finish(world, {"verdict": "duplicate"})
    assert (world.outcome("key-0") or [""])[0] == "duplicate"
    assert world.journal.rows("failed_outcomes", transform="", key="", most=9) == []


def test_failed_and_quarantined_keys_are_found_page_by_page(make: Make) -> None:
    world = make(batch_size=1)
    for verdict in ("quarantined", "committed", "quarantined", "gone", "dropped"):
        world.send(b"{}")
        finish(world, {"verdict": verdict})
    (first,) = world.journal.rows("failed_outcomes", transform="", key="", most=1)
    (second,) = world.journal.rows("failed_outcomes", transform=first[0], key=first[1], most=9)
    assert [(row[1], row[2], row[3]) for row in (first, second)] == [
        ("key-0", "v0", "quarantined"),
        ("key-2", "v2", "quarantined"),
    ]
    assert world.outcome("key-4") is None, "a message about another bucket's object is nobody's outcome"
    assert world.journal.rows("quarantined_of", transform="orders") == [(2,)]


# Batches: size, window, concurrency, payload, filters -----------------------------------------------------------------


def test_without_a_window_what_is_there_goes_at_once(make: Make) -> None:
    world = make(batch_size=3)
    world.send(*[b"{}"] * 4)
    assert world.function.next_due(world.now) == world.now
    assert [len(world.poll().messages), len(world.poll().messages)] == [3, 1]
    assert world.function.poll(world.now) == []
    assert world.function.next_due(world.now) == world.now + VISIBILITY, "when what is hidden may come back"


def test_a_window_waits_for_more_until_the_batch_is_full(make: Make) -> None:
    world = make(batch_size=3, window=20)
    assert world.function.next_due(world.now) is None
    world.send(b"{}")
    world.now += 15
    world.send(b"{}")
    assert world.function.next_due(world.now) == 1020
    assert world.function.poll(world.now) == []
    world.send(b"{}")
    assert world.function.next_due(world.now) == 1000
    assert len(world.poll().messages) == 3


def test_a_window_ends(make: Make) -> None:
    world = make(batch_size=3, window=20)
    world.send(b"{}")
    world.now += 19.9
    assert world.function.poll(world.now) == []
    world.now += 0.1
    assert len(world.poll().messages) == 1


def test_a_window_is_for_nothing_when_the_run_is_to_end(make: Make) -> None:
    world = make(batch_size=3, window=20)
    world.send(b"{}")
    (invocation,) = world.function.poll(world.now, hurry=True)
    assert len(invocation.messages) == 1


def test_a_window_ends_when_the_payload_is_full(make: Make) -> None:
    world = make(batch_size=10_000, window=300)
    large = b'"' + b"x" * 250_000 + b'"'
    world.send(*[large] * 23)
    assert world.function.poll(world.now) == []
    world.send(large)
    assert len(orjson.dumps(world.poll().event())) < 6 * 1024 * 1024


def test_no_more_run_at_once_than_the_mapping_allows(make: Make) -> None:
    world = make(batch_size=1, maximum_concurrency=2)
    world.send(*[b"{}"] * 3)
    first, _ = world.poll(), world.poll()
    assert world.function.next_due(world.now) is None
    assert world.function.poll(world.now) == []
    world.function.complete([(first, None)], world.now)
    assert world.function.poll(world.now) != []


bodies = st.binary(max_size=80).map(lambda data: orjson.dumps({"x": data.hex(), "y": '"\\\n' * len(data)}))


@given(st.lists(bodies, max_size=5), st.integers(1, 3))
@limits(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_record_is_never_larger_than_it_is_taken_for(make: Make, given_bodies: list[bytes], most: int) -> None:
    world = make(batch_size=most)
    world.send(*given_bodies)
    while invocations := world.function.poll(world.now):
        (invocation,) = invocations
        for message in invocation.messages.values():
            longest = function_settings(queue_arn="arn:aws:sqs:ap-southeast-99:000000000000:" + "q" * 80)
            assert len(orjson.dumps(record(message, longest))) + 1 <= record_size(message.body)
        world.function.complete([(invocation, None)], world.now)


def test_a_payload_stays_under_lambdas_limit_also_with_many_small_messages(make: Make) -> None:
    world = make(batch_size=10_000, window=1)
    world.send(*[b'{"key": "' + b"v" * 500 + b'"}'] * 10_000)
    world.now += 1
    invocation = world.poll()
    size = len(orjson.dumps(invocation.event()))
    assert LARGEST_PAYLOAD * 0.8 < size <= LARGEST_PAYLOAD
    assert len(invocation.messages) < 10_000


def pattern(body: object) -> Matcher:
    return compile_pattern({"body": body}, dialect=Dialect.LAMBDA)


WANTED = pattern({"kind": ["wanted"]})


def test_messages_that_pass_no_filter_are_deleted_and_others_take_their_place(make: Make) -> None:
    world = make(batch_size=3, filters=(WANTED, pattern({"kind": ["also"]})))
    kinds = ["wanted", "no", "also", "no", "no", "wanted", "wanted"]
    world.send(*[orjson.dumps({"kind": kind}) for kind in kinds])
    assert [message.key for message in world.poll().messages.values()] == ["key-0", "key-2", "key-5"]
    assert [message.key for message in world.poll().messages.values()] == ["key-6"]
    assert world.queue.depth(world.now)[0] == 4, "three of seven are gone from the queue"
    assert [what for what, _ in world.hops("key-1")] == ["filtered"]
    assert [what for what, _ in world.hops("key-0")] == []


def test_a_queue_of_filtered_messages_is_emptied_without_an_invocation(make: Make) -> None:
    world = make(batch_size=2, filters=(WANTED,))
    world.send(*[b"{}"] * 50)
    polls = 0
    while world.queue.depth(world.now)[0]:
        assert world.function.poll(world.now) == []
        polls += 1
    assert polls == 3, "and without keeping the engine for long"


@pytest.mark.parametrize(
    ("body", "criterion", "passes"),
    [
        (b'{"kind": "wanted"}', {"kind": ["wanted"]}, True),
        (b'{"kind": "other"}', {"kind": ["wanted"]}, False),
        (b"plain text", {"kind": ["wanted"]}, False),
        (b"plain text", [{"prefix": "plain"}], True),
        (b"other text", [{"prefix": "plain"}], False),
        (b'{"kind": "wanted"}', [{"prefix": "{"}], False),
    ],
)
def test_the_forms_of_body_and_pattern_must_agree(make: Make, body: bytes, criterion: object, passes: bool) -> None:
    world = make(filters=(pattern(criterion),))
    world.send(body)
    assert (world.function.poll(world.now) != []) is passes
    assert world.queue.depth(world.now)[0] == int(passes)


def test_several_batches_are_polled_at_once_and_each_is_as_large_as_the_mapping_says(make: Make) -> None:
    world = make(batch_size=4)
    world.send(*[b"{}"] * 10)
    invocations = world.function.poll(world.now, most=5)
    assert [len(invocation.messages) for invocation in invocations] == [4, 4, 2]
    assert world.function.running == set(invocations)
    assert [message.key for invocation in invocations for message in invocation.messages.values()] == [
        f"key-{n}" for n in range(10)
    ]
    assert world.function.poll(world.now, most=5) == []


def test_several_batches_are_not_more_than_the_mapping_allows(make: Make) -> None:
    world = make(batch_size=2, maximum_concurrency=3)
    world.send(*[b"{}"] * 20)
    first = world.function.poll(world.now, most=2)
    second = world.function.poll(world.now, most=10)
    assert [len(first), len(second)] == [2, 1]
    assert world.function.poll(world.now, most=10) == []


@given(st.floats(0, 1e6, allow_subnormal=True))
def test_batches_go_together_as_long_as_they_take_a_tenth_of_a_second(pace: float) -> None:
    function = FunctionService(cast("Any", None), BASIC, cast("Any", None))
    assert function.batches_per_dispatch == 0, "nothing is known of them yet"
    function.measure(1, 0.0, pace)
    assert 0 <= function.batches_per_dispatch <= MOST_BATCHES
    assert function.batches_per_dispatch * pace <= QUICK * 1.001
    assert (function.batches_per_dispatch + 1) * pace > QUICK * 0.999 or function.batches_per_dispatch == MOST_BATCHES


def of_tables() -> FunctionService:
    environment = {"SILVERSMITH_TABLES": "{}"}
    settings = replace(BASIC, function=replace(BASIC.function, environment=environment))
    queue = cast("Any", SimpleNamespace(next_visible=lambda: 50.0, receive=lambda *_, **__: []))
    return FunctionService(cast("Any", None), settings, queue)


@given(st.floats(0, 100), st.floats(51, 1e6))
def test_tables_rest_for_a_multiple_of_a_batch_and_a_second_at_most(seconds: float, now: float) -> None:
    function = of_tables()
    assert function.next_due(now) == 50.0, "the first batch waits for nothing"
    function.measure(1, now - seconds, now)
    due = function.next_due(now)
    assert due is not None
    assert due == pytest.approx(now + min(REST * seconds, LONGEST_REST))
    function.hasten()
    assert function.next_due(now) == 50.0


def test_tables_that_rest_get_nothing_though_the_engine_hurries(make: Make) -> None:
    world = make()
    world.send(b"{}")
    environment = {"SILVERSMITH_TABLES": "{}"}
    function = FunctionService(
        world.journal,
        replace(world.settings, function=replace(world.settings.function, environment=environment)),
        world.queue,
    )
    function.measure(1, world.now - 0.1, world.now)
    assert function.poll(world.now, hurry=True) == []
    assert len(function.poll(world.now + 1.0, hurry=True)) == 1


def test_several_invocations_end_in_one_transaction_each_by_its_own_response(make: Make) -> None:
    world = make(batch_size=2)
    world.send(*[b"{}"] * 4)
    first, second = world.function.poll(world.now, most=2)
    for invocation in (first, second):
        for message in invocation.messages:
            invocation.outcomes[message] = committed()
    bad = by_key(second)["key-3"]
    second.outcomes[bad] = failed(4.0)
    world.function.complete([(first, report()), (second, report(bad))], world.now)
    assert world.function.running == set()
    assert world.counts() == {"committed": 3, "failed": 1, "rows": 3, "rejected": 6, "partial": 3}
    assert world.keys() == []
    world.now += 4
    assert world.keys() == ["key-3"]
    assert [what for what, _ in world.hops("key-0")] == ["committed"]
