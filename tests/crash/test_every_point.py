"""Killed at every named step of every hop: nothing is lost, nothing is there twice."""

from __future__ import annotations

import signal
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from silversmith import faults
from tests.crash.conftest import BROKEN, UNLUCKY

if TYPE_CHECKING:
    from tests.crash.conftest import Crashable

#: Points that only some runs come to, by what makes them: each has a test of its own below.
GONE = ("bucket.forgotten",)
DEAD = ("queue.buried",)
SENT = ("resend.before_commit", "resend.after_commit")
REDRIVEN = ("redrive.before_commit", "redrive.after_commit")
FAILED = ("process.quarantined", "store.deleted")
TABLES = tuple(point for point in faults.POINTS if point.startswith("tables."))  # test_tables.py
ERASED = tuple(point for point in faults.POINTS if point.startswith("erase."))  # tests/engine/test_erase.py
REMOVED = ("process.unquarantined", "process.removed")
SPECIAL = {*GONE, *REMOVED, *DEAD, *SENT, *REDRIVEN, *FAILED, *TABLES, *ERASED}

WORKER = ("process.", "store.")
COMMON = [point for point in faults.POINTS if point not in SPECIAL]
ENGINE_POINTS = [point for point in COMMON if not point.startswith(WORKER)]
WORKER_POINTS = [point for point in COMMON if point.startswith(WORKER)]


def fill(crashable: Crashable, offset: int = 0) -> None:
    for number in range(6):
        bad = [5000] if number < 4 else []
        crashable.drop(f"{'ab'[number % 2]}/{number}.json", [number + offset, 7, *bad])


def is_killed(crashable: Crashable, fault: str, *arguments: str) -> None:
    """A command, at a point. An engine, unless others are named."""
    process = crashable.command(*arguments, fault=fault) if arguments else crashable.start(fault=fault)
    process.communicate(timeout=240)
    assert process.returncode == -signal.SIGKILL, f"{fault} was never reached"


def workers_killed(crashable: Crashable) -> int:
    """How many deaths of workers the trace tells of."""
    with closing(sqlite3.connect(crashable.lake.journal)) as journal:
        query = "SELECT count(*) FROM hops WHERE what = 'failed' AND detail LIKE '%SIGKILL%'"
        return int(journal.execute(query).fetchone()[0])


@pytest.mark.parametrize("point", ENGINE_POINTS)
def test_the_engine_is_killed(crashable: Crashable, point: str) -> None:
    fill(crashable)
    is_killed(crashable, point)
    fill(crashable, offset=100)
    crashable.finish()
    assert len(crashable.check().silver) == 9


@pytest.mark.parametrize("point", WORKER_POINTS)
def test_every_worker_is_killed_again_and_again(crashable: Crashable, point: str) -> None:
    """At its second object; or at its fourth put, because a later try of a file with rejected rows takes three (it is
    written down before), and has to get done."""
    fill(crashable)
    process = crashable.start(fault=f"{point}:{4 if point.startswith('store.') else 2}", workers=2)
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors.decode()
    assert workers_killed(crashable) > 0, f"{point} was never reached"
    assert len(crashable.check().silver) == 9
    fill(crashable, offset=100)
    crashable.finish()
    assert len(crashable.check().silver) == 9


@pytest.mark.parametrize("point", ["process.opened", "store.written"])
def test_a_file_that_kills_before_its_tries_are_recorded_is_dead_after_a_few_deaths(
    crashable: Crashable, point: str
) -> None:
    """Each worker dies at the first object that it opens, or at its first put: no handler can count that."""
    crashable.define(UNLUCKY, patience=2)
    crashable.drop("b/0.json", [1])
    process = crashable.start(fault=point)
    process.communicate(timeout=240)
    assert process.returncode == 1
    assert workers_killed(crashable) == 4, "the two that are allowed, and two that the handler might not have counted"
    assert crashable.output("failures")["dead_total"] == 1
    assert crashable.output("redrive")["sent"] == 1
    crashable.finish()
    assert len(crashable.check().silver) == 1


@pytest.mark.parametrize("point", FAILED)
def test_workers_are_killed_while_they_quarantine_and_while_they_clear_it(crashable: Crashable, point: str) -> None:
    for number in range(5):
        crashable.write(f"{number}.json", BROKEN)
    process = crashable.start(fault=f"{point}:2")
    process.communicate(timeout=240)
    assert process.returncode == 1, "broken files are broken"
    assert len(crashable.check().quarantined) == 5
    for number in range(5):
        crashable.drop(f"{number}.json", [number])
    process = crashable.start(fault=f"{point}:2")
    process.communicate(timeout=240)
    assert process.returncode == 0
    assert workers_killed(crashable) > 0, f"{point} was never reached"
    assert len(crashable.check().silver) == 5


@pytest.mark.parametrize("point", GONE)
def test_the_engine_is_killed_while_it_notices_that_files_are_gone(crashable: Crashable, point: str) -> None:
    fill(crashable)
    crashable.finish()
    gone = [crashable.bronze / key for key in ("a/0.json", "b/1.json")]
    for path in gone:
        path.unlink()
    is_killed(crashable, point)
    crashable.finish()
    assert crashable.output("reconcile")["kinds"] == {"orphaned": 3}, "a/0.json feeds two transforms"
    assert [crashable.output("trace", key)["transforms"][0]["state"] for key in ("a/0.json", "a/2.json")] == [
        "orphaned",
        "current",
    ]
    fill(crashable, offset=100)
    crashable.finish()
    assert len(crashable.check().silver) == 9


@pytest.mark.parametrize("point", [*GONE, *REMOVED, "store.deleted", "bus.after_commit", "function.after_commit"])
def test_killed_while_silver_goes_with_its_files(crashable: Crashable, point: str) -> None:
    """The files are deleted while no engine runs: two with rejected rows, and a broken one."""
    crashable.define(UNLUCKY, on_delete="remove")
    fill(crashable)
    crashable.write("broken.json", BROKEN)
    crashable.finish(fails=True)
    for key in ("a/0.json", "b/1.json", "broken.json"):
        (crashable.bronze / key).unlink()
    if point.startswith(WORKER):
        crashable.start(fault=f"{point}:2").communicate(timeout=240)
        assert workers_killed(crashable) > 0, f"{point} was never reached"
    else:
        is_killed(crashable, point)
    crashable.finish()
    accounted = crashable.check()
    assert (len(accounted.silver), accounted.quarantined) == (6, set())
    assert crashable.output("reconcile")["kinds"] == {}
    story = crashable.output("trace", "a/0.json")
    assert {part["state"] for part in story["transforms"]} == {"gone"}
    assert {part["last"]["verdict"] for part in story["transforms"]} <= {"removed", "gone"}
    fill(crashable, offset=100)
    crashable.finish()
    assert len(crashable.check().silver) == 9


def test_silver_goes_where_the_journal_has_forgotten_its_file(crashable: Crashable) -> None:
    """No event tells of it: the engine's own reconciliation finds what is left."""
    crashable.define(UNLUCKY, on_delete="remove")
    fill(crashable)
    crashable.finish()
    (crashable.bronze / "a/0.json").unlink()
    crashable.lake.journal.unlink()
    crashable.finish()
    assert len(crashable.check().silver) == 7


@pytest.mark.parametrize("point", DEAD)
def test_the_engine_is_killed_while_it_gives_up_on_a_message(crashable: Crashable, point: str) -> None:
    for number in range(4):
        crashable.drop(f"c/{number}.json", [number, UNLUCKY] if number % 2 else [number])
    is_killed(crashable, point)
    crashable.finish(fails=True)
    assert crashable.check().dead == {("fragile", "c/1.json"), ("fragile", "c/3.json")}
    assert crashable.output("failures")["dead_total"] == 2, "each once"


@pytest.mark.parametrize("point", REDRIVEN)
def test_a_redrive_is_killed(crashable: Crashable, point: str) -> None:
    for number in range(4):
        crashable.drop(f"c/{number}.json", [number, UNLUCKY])
    crashable.finish(fails=True)
    assert crashable.output("failures")["dead_total"] == 4
    crashable.define(unlucky=None)
    is_killed(crashable, point, "redrive")
    moved = 4 if point == "redrive.after_commit" else 0
    assert crashable.output("failures")["dead_total"] == 4 - moved, "all of a batch, or none"
    assert crashable.output("redrive")["sent"] == 4 - moved
    crashable.finish()
    assert len(crashable.check(unlucky=None).silver) == 8


@pytest.mark.parametrize(
    ("point", "arguments"),
    [*((point, ("reconcile",)) for point in SENT), (SENT[0], ("replay", "*", "--force")), (SENT[1], ("redrive",))],
)
def test_commands_that_resend_are_killed(crashable: Crashable, point: str, arguments: tuple[str, ...]) -> None:
    fill(crashable)
    crashable.write("broken.json", BROKEN)
    crashable.finish(fails=True)
    for path in crashable.lake.bucket("dl-silver-layer").rglob("*.parquet"):
        if path.name.startswith(("1", "2")):
            path.unlink()
    if arguments == ("redrive",):
        crashable.drop("broken.json", [1])
    is_killed(crashable, point, *arguments)
    crashable.output(*arguments)
    crashable.finish(fails=True)
    result = crashable.check()
    assert (len(result.silver), len(result.quarantined)) == ((10, 0) if arguments == ("redrive",) else (9, 1))
