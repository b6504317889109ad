"""What workers report, and what the engine does not charge a file for."""

from __future__ import annotations

import errno
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from silversmith.errors import UNWRITABLE, DefinitionError, LakeUnusable
from silversmith.local.reports import FALSE_STARTS, Reports, WorkersDie
from silversmith.local.workers import Event
from silversmith.report import describe


class Function:
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.settings = SimpleNamespace(name="f")
        self.told: list[tuple[Any, ...]] = []

    def succeed(self, _: object, response: object, now: float) -> None:
        self.told.append(("succeed", response, now))

    def crash(self, _: object, reason: str, now: float) -> None:
        self.told.append(("crash", reason, now))

    def abandon(self, invocation: Any, now: float) -> None:
        self.told.append(("abandon", dict(invocation.outcomes), now))


def invocation() -> Any:
    return SimpleNamespace(settings=SimpleNamespace(name="f"), outcomes={}, began=None)


class Worker(SimpleNamespace):
    """One that is at a batch, or not, and has another to go on with, or not."""

    invocation: Any
    following: Any

    def ended(self, _: float) -> None:
        self.invocation, self.following = self.following, None


def worker(at_work: bool = True, *, ahead: bool = False, ready: bool = True) -> Any:
    return Worker(ready=ready, invocation=invocation() if at_work else None, following=invocation() if ahead else None)


def hear(message: dict[str, Any] | None, found: Any, reason: str = "") -> Function:
    function: Any = Function()
    Reports([function], Path("lake")).hear(Event(found, message, reason), 7.0)
    assert isinstance(function, Function)
    return function


def test_a_batch_ends_well() -> None:
    at_work = worker()
    held = at_work.invocation
    function = hear({"done": {}, "ended": {"m": {"verdict": "committed"}}}, at_work)
    assert function.told == [("succeed", {}, 7.0)]
    assert (held.outcomes, at_work.invocation) == ({"m": {"verdict": "committed"}}, None)


def test_a_message_ends_and_the_batch_goes_on() -> None:
    at_work = worker()
    assert hear({"ended": {"m": {"verdict": "gone"}}}, at_work).told == []
    assert at_work.invocation.outcomes == {"m": {"verdict": "gone"}}


def test_who_has_ended_a_batch_can_take_another_before_its_outcome_is_written() -> None:
    function: Any = Function()
    at_work = worker()
    seen: list[tuple[Any, list[Any]]] = []
    reports = Reports([function], Path("lake"), freed=lambda free, _: seen.append((free.invocation, [*function.told])))
    reports.hear(Event(at_work, {"done": {}, "ended": {}}), 7.0)
    assert seen == [(None, [])]
    assert function.told == [("succeed", {}, 7.0)]


def test_who_has_another_batch_goes_on_with_it() -> None:
    at_work = worker(ahead=True)
    following = at_work.following
    assert hear({"done": {}, "ended": {}}, at_work).told == [("succeed", {}, 7.0)]
    assert (at_work.invocation, at_work.following) == (following, None)
    assert hear({"done": {}, "ended": {"m": {"verdict": "committed"}}}, at_work).told == [("succeed", {}, 7.0)]
    assert (following.outcomes, at_work.invocation) == ({"m": {"verdict": "committed"}}, None)


def test_what_a_dead_worker_had_not_begun_is_charged_to_nobody() -> None:
    assert hear(None, worker(ahead=True), "killed").told == [("abandon", {}, 7.0), ("crash", "killed", 7.0)]


def test_a_handler_breaks() -> None:
    assert hear({"error": "KeyError: 'x'", "ended": {}}, worker()).told == [("crash", "KeyError: 'x'", 7.0)]


def test_a_worker_dies_at_work() -> None:
    assert hear(None, worker(), "killed").told == [("crash", "killed", 7.0)]


def test_a_worker_dies_idle() -> None:
    assert hear(None, worker(at_work=False), "killed").told == []


@pytest.mark.parametrize("number", sorted(UNWRITABLE))
def test_a_disk_that_cannot_be_written_ends_the_engine_and_charges_nobody(number: int) -> None:
    outcome = {"failed": True, "error": describe(OSError(number, "so it is"))}
    function: Any = Function()
    at_work = worker()
    with pytest.raises(LakeUnusable, match="so it is"):
        Reports([function], Path("lake")).hear(Event(at_work, {"ended": {"m": outcome}}), 7.0)
    assert function.told == [("abandon", {}, 7.0)]


def test_other_errors_of_the_system_are_the_messages() -> None:
    outcome = {"failed": True, "error": describe(OSError(errno.EIO, "bad sector"))}
    at_work = worker()
    hear({"ended": {"m": outcome}}, at_work)
    assert at_work.invocation.outcomes == {"m": outcome}


def test_a_definition_that_cannot_be_loaded() -> None:
    with pytest.raises(DefinitionError, match="no such file"):
        hear({"broken": "no such file"}, worker(at_work=False))


def test_workers_that_never_get_ready() -> None:
    reports = Reports([], Path("lake"))
    unready = worker(at_work=False, ready=False)
    for _ in range(FALSE_STARTS - 1):
        reports.hear(Event(unready, None, "exit code 1"), 0.0)
    with pytest.raises(WorkersDie, match="exit code 1"):
        reports.hear(Event(unready, None, "exit code 1"), 0.0)


def test_one_that_gets_ready_begins_the_count_anew() -> None:
    reports = Reports([], Path("lake"))
    unready = worker(at_work=False, ready=False)
    for _ in range(3):
        for _ in range(FALSE_STARTS - 1):
            reports.hear(Event(worker(at_work=False, ready=False), None, "x"), 0.0)
        reports.hear(Event(unready, {"ready": 1}), 0.0)
    assert unready.ready
