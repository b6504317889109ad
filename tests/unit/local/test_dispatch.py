"""Dispatches of several batches, what workers report of them, and what the engine does not charge a file for."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from silversmith.errors import UNWRITABLE, DefinitionError, LakeUnusable, describe
from silversmith.events import ObjectEvent, object_created
from silversmith.local.invocation import split
from silversmith.local.services import ReceivedMessage
from silversmith.local.services.function import Invocation
from silversmith.local.workers import FALSE_STARTS, Dispatch, Dispatcher, WorkersDie
from tests.unit.local.settings import function_settings

SETTINGS = function_settings()


def batch(*names: str, started: float = 3.0) -> Invocation:
    def message(name: str) -> ReceivedMessage:
        body = object_created(ObjectEvent("bronze", name, size=1), reason="PutObject")
        return ReceivedMessage(1, name, f"{name}.csv", "v", body, 0.0, 1, 0.0, f"1-{name}")

    return Invocation(SETTINGS, {name: message(name) for name in names}, started=started)


def dispatch(*batches: tuple[str, ...]) -> Dispatch:
    return Dispatch.of([batch(*names) for names in batches or [("m",)]])


class Function:
    """A function service that writes down its calls."""

    def __init__(self) -> None:
        self.settings = SETTINGS
        self.calls: list[tuple[Any, ...]] = []
        self.measured: list[tuple[int, float, float]] = []
        self.batches_per_dispatch = 1
        self.running: set[Invocation] = set()

    def measure(self, batches: int, started: float, now: float) -> None:
        self.measured.append((batches, started, now))

    def poll(self, now: float, *, most: int, hurry: bool) -> list[Invocation]:
        del now, most, hurry
        self.calls.append(("poll",))
        return []

    def complete(self, responses: Sequence[tuple[Any, object]], now: float) -> None:
        self.calls += [("complete", response, now) for _, response in responses]

    def crash(self, invocation: Any, reason: str, now: float, *, began: str | None = None) -> None:
        del invocation
        self.calls.append(("crash", reason, now, began) if began else ("crash", reason, now))

    def abandon(self, invocation: Any, now: float) -> None:
        self.calls.append(("abandon", dict(invocation.outcomes), now))


class Worker(SimpleNamespace):
    """A worker with a dispatch or without, and with a following dispatch or without."""

    current: Any
    following: Any
    is_careful = False

    def finish(self, _: float) -> None:
        self.current, self.following = self.following, None


def worker(
    current: Dispatch | None, following: Dispatch | None = None, *, ready: bool = True, began: str | None = None
) -> Any:
    return Worker(ready=ready, current=current, following=following, began=began)


def dispatcher(function: Function, *workers: Any) -> Any:
    created: Any = Dispatcher
    return created([function], SimpleNamespace(open=list(workers), idle=[]), Path("lake"))


def handle(report: dict[str, Any], reporting: Any) -> list[tuple[Any, ...]]:
    function = Function()
    dispatcher(function).handle(reporting, report, 7.0)
    return function.calls


def test_messages_are_sent_in_order_and_belong_to_their_invocations() -> None:
    first, second = batch("a", "b"), batch("c")
    both = Dispatch.of([first, second])
    assert both.messages == ["a", "b", "c"]
    assert (both.invocation_of("b"), both.invocation_of("c")) == (first, second)
    request = both.request(careful=True)
    assert [[record["messageId"] for record in event["Records"]] for event in request["events"]] == [["a", "b"], ["c"]]
    assert request["events"][1] == second.event(), "the very event that Lambda would pass"
    assert {name: value for name, value in request.items() if name != "events"} == {
        "function": "shop_orders", "timeout": 60, "memory": 512, "careful": True, "reconcile": False,
    }  # fmt: skip


def test_all_begin_when_the_worker_does() -> None:
    both = dispatch(("a",), ("b",))
    assert (both.started, both.deadline) == (3.0, 63.0)
    both.start(9.0)
    assert [invocation.deadline for invocation in both.invocations] == [69.0, 69.0]


@given(st.lists(st.lists(st.booleans(), max_size=4), max_size=5))
def test_a_response_is_split_as_the_records_were(fails: list[list[bool]]) -> None:
    """Each event's response names those of its own records that failed, in their order, and no others."""
    events: list[dict[str, Any]] = [
        {"Records": [{"messageId": f"{event}-{number}"} for number in range(len(some))]}
        for event, some in enumerate(fails)
    ]
    failed = [f"{event}-{number}" for event, some in enumerate(fails) for number, fail in enumerate(some) if fail]
    response = {"batchItemFailures": [{"itemIdentifier": message} for message in reversed(failed)]}
    responses = split(response, events)
    assert len(responses) == len(events)
    assert [item["itemIdentifier"] for each in responses for item in each["batchItemFailures"]] == failed
    for event, each in enumerate(responses):
        assert all(item["itemIdentifier"].startswith(f"{event}-") for item in each["batchItemFailures"])


def test_several_batches_end_each_with_its_own_response() -> None:
    both = dispatch(("a", "b"), ("c",))
    ended = {"a": {"verdict": "committed"}, "b": {"verdict": "gone"}, "c": {"verdict": "committed"}}
    function, reporting = Function(), worker(both)
    message = {"done": [{"first": 1}, {"second": 2}], "ended": ended}
    dispatcher(function).handle(reporting, message, 7.0)
    assert function.calls == [("complete", {"first": 1}, 7.0), ("complete", {"second": 2}, 7.0)]
    assert [invocation.outcomes for invocation in both.invocations] == [
        {"a": {"verdict": "committed"}, "b": {"verdict": "gone"}}, {"c": {"verdict": "committed"}},
    ]  # fmt: skip
    assert reporting.current is None
    assert function.measured == [(2, 3.0, 7.0)]


def test_a_message_ends_and_the_batch_goes_on() -> None:
    both = dispatch()
    assert handle({"ended": {"m": {"verdict": "gone"}}}, worker(both)) == []
    assert both.invocation_of("m").outcomes == {"m": {"verdict": "gone"}}


def test_a_worker_gets_its_next_batch_before_the_outcomes_of_the_last_are_written() -> None:
    function, reporting = Function(), worker(dispatch())
    dispatcher(function, reporting).handle(reporting, {"done": [{}], "ended": {}}, 7.0)
    assert function.calls == [("poll",), ("complete", {}, 7.0)]


def test_while_a_new_definition_waits_nothing_is_dispatched() -> None:
    function, reporting = Function(), worker(None)
    paused = dispatcher(function, reporting)
    paused.paused = True
    paused.dispatch(reporting, 7.0)
    assert function.calls == []


def test_a_worker_with_a_following_dispatch_goes_on_with_it() -> None:
    following = dispatch(("n",))
    at_work = worker(dispatch(), following)
    assert handle({"done": [{}], "ended": {}}, at_work) == [("complete", {}, 7.0)]
    assert (at_work.current, at_work.following) == (following, None)
    assert handle({"done": [{}], "ended": {"n": {"verdict": "committed"}}}, at_work) == [("complete", {}, 7.0)]
    assert (following.invocation_of("n").outcomes, at_work.current) == ({"n": {"verdict": "committed"}}, None)


def test_a_dispatch_that_a_dead_worker_had_not_begun_is_charged_to_nobody() -> None:
    calls = handle({"died": "killed"}, worker(dispatch(), dispatch(("n",))))
    assert calls == [("abandon", {}, 7.0), ("crash", "killed", 7.0)]


def test_a_death_is_charged_to_the_batch_whose_message_it_was() -> None:
    three = dispatch(("a", "b"), ("c", "d"), ("e",))
    three.invocation_of("a").outcomes["a"] = {"verdict": "committed"}
    assert handle({"died": "killed"}, worker(three, began="d")) == [
        ("abandon", {"a": {"verdict": "committed"}}, 7.0), ("crash", "killed", 7.0, "d"), ("abandon", {}, 7.0),
    ]  # fmt: skip


def test_a_worker_says_which_messages_it_works_on_together() -> None:
    both = dispatch(("a", "b", "c"), ("d",))
    function, reporting = Function(), worker(both)
    dispatcher(function).handle(reporting, {"ended": {}, "begun": ["b", "d"]}, 7.0)
    assert [invocation.begun for invocation in both.invocations] == [{"b"}, {"d"}]


def test_a_death_at_an_unknown_message_is_charged_to_all() -> None:
    """Else it would go on for ever."""
    assert handle({"died": "killed"}, worker(dispatch(("a",), ("b",)))) == [("crash", "killed", 7.0)] * 2


def test_a_handler_breaks() -> None:
    calls = handle({"error": "KeyError: 'x'", "ended": {}}, worker(dispatch()))
    assert calls == [("crash", "KeyError: 'x'", 7.0)]


def test_a_worker_dies_idle() -> None:
    assert handle({"died": "killed"}, worker(None)) == []


@pytest.mark.parametrize("number", sorted(UNWRITABLE))
def test_a_disk_that_cannot_be_written_ends_the_engine_and_charges_nobody(number: int) -> None:
    outcome = {"failed": True, "error": describe(OSError(number, "so it is"))}
    function = Function()
    with pytest.raises(LakeUnusable, match="so it is"):
        dispatcher(function).handle(worker(dispatch()), {"ended": {"m": outcome}}, 7.0)
    assert function.calls == [("abandon", {}, 7.0)]


def test_other_errors_of_the_system_are_the_messages() -> None:
    outcome = {"failed": True, "error": describe(OSError(errno.EIO, "bad sector"))}
    batch = dispatch()
    handle({"ended": {"m": outcome}}, worker(batch))
    assert batch.invocation_of("m").outcomes == {"m": outcome}


def test_a_definition_that_cannot_be_loaded() -> None:
    with pytest.raises(DefinitionError, match="no such file"):
        handle({"broken": "no such file"}, worker(None))


def test_workers_that_never_get_ready_end_the_engine() -> None:
    engine = dispatcher(Function())
    died = worker(None, ready=False), {"died": "exit code 1"}
    unready = worker(None, ready=False)
    for _ in range(3):
        for _ in range(FALSE_STARTS - 1):
            engine.handle(*died, 0.0)
        engine.handle(unready, {"ready": 1}, 0.0)  # one that gets ready begins the count anew
    assert unready.ready
    for _ in range(FALSE_STARTS - 1):
        engine.handle(*died, 0.0)
    with pytest.raises(WorkersDie, match="exit code 1"):
        engine.handle(*died, 0.0)
