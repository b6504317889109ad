"""The whole engine with messages lost, doubled and late, and with a clock that somebody sets while it runs."""

from __future__ import annotations

import time
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from silversmith.lineage import silver_key
from silversmith.local.engine import Clock, Engine
from silversmith.local.journal import Journal
from silversmith.pipeline import load
from tests.disturbance import Rates, disturbed

if TYPE_CHECKING:
    from silversmith.local.engine import Progress
    from tests.engine.conftest import Bench

COPY = """
pipeline = Pipeline("copy")

@pipeline.transform("*.csv", max_receive_count=2)
def copy(rows):
    return rows
"""

#: The first time that it sees a file it fails, so that every message has to wait and come back.
FAILS_ONCE = """
from pathlib import Path
pipeline = Pipeline("copy")

@pipeline.transform("*.csv", max_receive_count=2, timeout=60)
def copy(rows):
    marker = Path(f"seen-{rows.collect()['a'][0]}")
    if not marker.exists():
        marker.touch()
        raise RuntimeError("not yet")
    return rows
"""


@pytest.mark.parametrize("seed", [1, 2])
def test_every_second_event_lost_and_others_doubled_and_late(bench: Bench, seed: int) -> None:
    bench.define(COPY)
    for number in range(40):
        bench.drop(f"{number}.csv", f"a\n{number}\n")
    target = str(bench.pipeline)
    delivery = disturbed(seed, Rates(loss=0.5, duplicates=0.3, delays=0.3, longest_delay=0.3))
    failed = 0
    while len(list(bench.silver.glob("copy/*.parquet"))) < 40:  # the round of each run sends what the last run lost
        engine = Engine(bench.lake, load(target), target=target, workers=2, delivery=delivery)
        try:
            engine.run(until_idle=True, stopped=lambda: False, tick=lambda _: None)
            failed += engine.failed_files()
        finally:
            engine.close()
    with closing(Journal(bench.lake.journal, readonly=True)) as journal:
        assert journal.counter("lost") > 10, "or nothing was disturbed"
    assert failed == 0
    for number in range(40):
        assert bench.rows("copy", f"{number}.csv").rows() == [(number,)]


@pytest.mark.parametrize("jump", [40 * 86_400, -40 * 86_400])
def test_the_clock_is_set_while_messages_wait(bench: Bench, monkeypatch: pytest.MonkeyPatch, jump: int) -> None:
    monkeypatch.chdir(bench.folder)
    bench.define(FAILS_ONCE)
    for number in range(6):
        bench.drop(f"{number}.csv", f"a\n{number}\n")
    target, set_by = str(bench.pipeline), [0.0]
    engine = Engine(bench.lake, load(target), target=target, workers=1, clock=Clock(lambda: time.time() + set_by[0]))

    def tick(progress: Progress) -> None:
        if progress.retries or progress.in_flight:
            set_by[0] = jump

    try:
        progress = engine.run(until_idle=True, stopped=lambda: False, tick=tick)
        assert set_by[0] == jump, "or nothing was set"
        assert engine.failed_files() == 0
    finally:
        engine.close()
    assert (progress.done, progress.retries) == (6, 6), "no timeout was seen where there was none"
    assert all((bench.silver / silver_key("copy", f"{number}.csv")).exists() for number in range(6))
    assert bench.run()[0].done == 0, "an engine after that, with the clock as it was, has nothing to do"
