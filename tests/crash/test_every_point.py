"""Killed at every named step of every hop: nothing is lost, nothing is there twice."""

from __future__ import annotations

import signal
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from silversmith import faults

if TYPE_CHECKING:
    from tests.crash.conftest import Crashable

WORKER = ("process.", "store.")
ENGINE_POINTS = [point for point in faults.POINTS if not point.startswith(WORKER)]
WORKER_POINTS = [point for point in faults.POINTS if point.startswith(WORKER) and point != "process.quarantined"]


def fill(crashable: Crashable, offset: int = 0) -> None:
    for number in range(12):
        bad = [5000] if number % 3 == 0 else []
        crashable.drop(f"{'ab'[number % 2]}/{number}.json", [number + offset, 7, *bad])


def workers_killed(crashable: Crashable) -> int:
    """How many deaths of workers the trace tells of."""
    with closing(sqlite3.connect(crashable.lake.journal)) as journal:
        query = "SELECT count(*) FROM hops WHERE what = 'failed' AND detail LIKE '%SIGKILL%'"
        return int(journal.execute(query).fetchone()[0])


@pytest.mark.parametrize("point", ENGINE_POINTS)
def test_the_engine_is_killed(crashable: Crashable, point: str) -> None:
    fill(crashable)
    process = crashable.start(fault=point)
    process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL, f"{point} was never reached"
    fill(crashable, offset=100)
    crashable.finish()
    assert crashable.check() == 18


@pytest.mark.parametrize("point", WORKER_POINTS)
def test_every_worker_is_killed_at_its_third_object(crashable: Crashable, point: str) -> None:
    fill(crashable)
    process = crashable.start(fault=f"{point}:3", workers=2)
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors.decode()
    assert workers_killed(crashable) > 0, f"{point} was never reached"
    assert crashable.check() == 18
    fill(crashable, offset=100)
    crashable.finish()
    assert crashable.check() == 18


def test_workers_killed_while_they_quarantine(crashable: Crashable) -> None:
    for number in range(5):
        (crashable.bronze / f"{number}.json").write_text('[{"id": 1')
    process = crashable.start(fault="process.quarantined:2")
    process.communicate(timeout=240)
    assert process.returncode == 1, "broken files are broken"
    quarantine = crashable.lake.bucket("dl-quarantine-layer")
    assert sorted(path.name for path in quarantine.rglob("*.error.json")) == [f"{n}.json.error.json" for n in range(5)]
    for number in range(5):
        crashable.drop(f"{number}.json", [number])
    crashable.finish()
    assert crashable.check() == 5
