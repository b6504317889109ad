"""Several engines on one lake: one of them works, the others say so; and who comes after a killed one takes over."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import psutil

from tests.crash.conftest import kill

if TYPE_CHECKING:
    from pathlib import Path

    from tests.crash.conftest import Crashable


def wait_for_silver(folder: Path) -> None:
    deadline = time.monotonic() + 60
    while not any(folder.rglob("*.json.parquet")):
        assert time.monotonic() < deadline, "no silver came"
        time.sleep(0.02)


def test_one_of_several_engines_that_start_at_once_works(crashable: Crashable) -> None:
    for number in range(60):
        crashable.drop(f"{'ab'[number % 2]}/{number}.json", [number])
    engines = [crashable.start() for _ in range(4)]
    ended = [(engine.communicate(timeout=240)[1].decode(), engine.returncode) for engine in engines]
    refused = [errors for errors, code in ended if code == 2]
    assert all("One engine per lake" in errors and "Traceback" not in errors for errors in refused)
    assert [code for _, code in ended].count(0) == 4 - len(refused) >= 1, ended
    assert len(crashable.check().silver) == 90


def test_a_killed_engine_is_followed_at_once_by_another(crashable: Crashable) -> None:
    """The workers of the killed one may be in the middle of something; they go with it."""
    for number in range(200):
        crashable.drop(f"{'ab'[number % 2]}/{number}.json", [number])
    first = crashable.start(until_idle=False, workers=2)
    wait_for_silver(crashable.lake.bucket("dl-silver-layer"))
    workers = psutil.Process(first.pid).children(recursive=True)
    assert workers
    first.kill()
    second = crashable.start(workers=2)
    _, errors = second.communicate(timeout=240)
    kill(first)
    assert second.returncode == 0, errors.decode()
    assert not psutil.wait_procs(workers, timeout=30)[1], "a worker outlived its engine"
    assert len(crashable.check().silver) == 300
