"""What workers report, and what the engine does not charge a file for."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from silversmith.errors import UNWRITABLE, DefinitionError, LakeUnusable
from silversmith.function.outcome import describe
from silversmith.local.reports import FALSE_STARTS, Reports, WorkersDie
from silversmith.local.trip import Trip
from silversmith.local.workers import Event


class Function:
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.settings = SimpleNamespace(name="f")
        self.told: list[tuple[Any, ...]] = []
        self.pace = 0.0

    def succeed_all(self, ended: Sequence[tuple[Any, object]], now: float) -> None:
        self.told += [("succeed", response, now) for _, response in ended]

    def crash(self, invocation: Any, reason: str, now: float) -> None:
        self.told.append(("crash", reason, now, invocation.began) if invocation.began else ("crash", reason, now))

    def abandon(self, invocation: Any, now: float) -> None:
        self.told.append(("abandon", dict(invocation.outcomes), now))


def invocation(*messages: str) -> Any:
    settings = SimpleNamespace(name="f")
    return SimpleNamespace(settings=settings, outcomes={}, began=None, messages=dict.fromkeys(messages), started=3.0)


def trip(*batches: tuple[str, ...]) -> Trip:
    return Trip([invocation(*messages) for messages in batches or [("m",)]])


class Worker(SimpleNamespace):
    """One that is at something, or not, and has something to go on with, or not."""

    trip: Any
    following: Any

    def ended(self, _: float) -> None:
        self.trip, self.following = self.following, None


def worker(at: Trip | None, following: Trip | None = None, *, ready: bool = True) -> Any:
    return Worker(ready=ready, trip=at, following=following)


def hear(message: dict[str, Any] | None, found: Any, reason: str = "") -> Function:
    function: Any = Function()
    Reports([function], Path("lake")).hear(Event(found, message, reason), 7.0)
    assert isinstance(function, Function)
    return function


def test_a_batch_ends_well() -> None:
    held = trip()
    at_work = worker(held)
    function = hear({"done": [{}], "ended": {"m": {"verdict": "committed"}}}, at_work)
    assert function.told == [("succeed", {}, 7.0)]
    assert (held.of("m").outcomes, at_work.trip) == ({"m": {"verdict": "committed"}}, None)
    assert function.pace == 7.0 - 3.0


def test_several_batches_end_each_with_its_own_response() -> None:
    held = trip(("a", "b"), ("c",))
    ended = {"a": {"verdict": "committed"}, "b": {"verdict": "gone"}, "c": {"verdict": "committed"}}
    function = hear({"done": [{"first": 1}, {"second": 2}], "ended": ended}, worker(held))
    assert function.told == [("succeed", {"first": 1}, 7.0), ("succeed", {"second": 2}, 7.0)]
    assert [found.outcomes for found in held.invocations] == [
        {"a": {"verdict": "committed"}, "b": {"verdict": "gone"}}, {"c": {"verdict": "committed"}},
    ]  # fmt: skip
    assert function.pace == (7.0 - 3.0) / 2


def test_a_message_ends_and_the_batch_goes_on() -> None:
    held = trip()
    assert hear({"ended": {"m": {"verdict": "gone"}}}, worker(held)).told == []
    assert held.of("m").outcomes == {"m": {"verdict": "gone"}}


def test_who_has_ended_a_batch_can_take_another_before_its_outcome_is_written() -> None:
    function: Any = Function()
    seen: list[tuple[Any, list[Any]]] = []
    reports = Reports([function], Path("lake"), freed=lambda free, _: seen.append((free.trip, [*function.told])))
    reports.hear(Event(worker(trip()), {"done": [{}], "ended": {}}), 7.0)
    assert seen == [(None, [])]
    assert function.told == [("succeed", {}, 7.0)]


def test_who_has_another_batch_goes_on_with_it() -> None:
    following = trip(("n",))
    at_work = worker(trip(), following)
    assert hear({"done": [{}], "ended": {}}, at_work).told == [("succeed", {}, 7.0)]
    assert (at_work.trip, at_work.following) == (following, None)
    assert hear({"done": [{}], "ended": {"n": {"verdict": "committed"}}}, at_work).told == [("succeed", {}, 7.0)]
    assert (following.of("n").outcomes, at_work.trip) == ({"n": {"verdict": "committed"}}, None)


def test_what_a_dead_worker_had_not_begun_is_charged_to_nobody() -> None:
    assert hear(None, worker(trip(), trip(("n",))), "killed").told == [("abandon", {}, 7.0), ("crash", "killed", 7.0)]


def test_of_several_batches_a_death_is_charged_to_the_one_whose_message_it_was() -> None:
    held = trip(("a", "b"), ("c", "d"), ("e",))
    held.began = "d"
    held.of("a").outcomes["a"] = {"verdict": "committed"}
    assert hear(None, worker(held), "killed").told == [
        ("abandon", {"a": {"verdict": "committed"}}, 7.0), ("crash", "killed", 7.0, "d"), ("abandon", {}, 7.0),
    ]  # fmt: skip


def test_where_nobody_knows_whose_it_was_it_is_charged_to_all() -> None:
    """Else it would go on for ever."""
    assert hear(None, worker(trip(("a",), ("b",))), "killed").told == [("crash", "killed", 7.0)] * 2


def test_a_handler_breaks() -> None:
    assert hear({"error": "KeyError: 'x'", "ended": {}}, worker(trip())).told == [("crash", "KeyError: 'x'", 7.0)]


def test_a_worker_dies_at_work() -> None:
    assert hear(None, worker(trip()), "killed").told == [("crash", "killed", 7.0)]


def test_a_worker_dies_idle() -> None:
    assert hear(None, worker(None), "killed").told == []


@pytest.mark.parametrize("number", sorted(UNWRITABLE))
def test_a_disk_that_cannot_be_written_ends_the_engine_and_charges_nobody(number: int) -> None:
    outcome = {"failed": True, "error": describe(OSError(number, "so it is"))}
    function: Any = Function()
    with pytest.raises(LakeUnusable, match="so it is"):
        Reports([function], Path("lake")).hear(Event(worker(trip()), {"ended": {"m": outcome}}), 7.0)
    assert function.told == [("abandon", {}, 7.0)]


def test_other_errors_of_the_system_are_the_messages() -> None:
    outcome = {"failed": True, "error": describe(OSError(errno.EIO, "bad sector"))}
    held = trip()
    hear({"ended": {"m": outcome}}, worker(held))
    assert held.of("m").outcomes == {"m": outcome}


def test_a_definition_that_cannot_be_loaded() -> None:
    with pytest.raises(DefinitionError, match="no such file"):
        hear({"broken": "no such file"}, worker(None))


def test_workers_that_never_get_ready() -> None:
    reports = Reports([], Path("lake"))
    unready = worker(None, ready=False)
    for _ in range(FALSE_STARTS - 1):
        reports.hear(Event(unready, None, "exit code 1"), 0.0)
    with pytest.raises(WorkersDie, match="exit code 1"):
        reports.hear(Event(unready, None, "exit code 1"), 0.0)


def test_one_that_gets_ready_begins_the_count_anew() -> None:
    reports = Reports([], Path("lake"))
    unready = worker(None, ready=False)
    for _ in range(3):
        for _ in range(FALSE_STARTS - 1):
            reports.hear(Event(worker(None, ready=False), None, "x"), 0.0)
        reports.hear(Event(unready, {"ready": 1}), 0.0)
    assert unready.ready
