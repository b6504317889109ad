"""Commands in a process of their own, beside a real engine and between two."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from silversmith.lineage import silver_key

if TYPE_CHECKING:
    from tests.engine.conftest import Bench

ORDERS = """
pipeline = Pipeline("shop")

@pipeline.transform("*.csv", contract=Contract(schema={"x": pl.Int64}), max_receive_count=2)
def orders(rows):
    BODY
"""

WORKS = ORDERS.replace("BODY", "return rows")
FAILS = ORDERS.replace("BODY", 'raise RuntimeError("a bug")')


def command(bench: Bench, name: str, *arguments: str) -> dict[str, Any]:
    """The output of a command, called as a person would."""
    pipeline = [str(bench.pipeline)] if name in {"reconcile", "status"} else [f"--pipeline={bench.pipeline}"]
    done = subprocess.run(
        [sys.executable, "-m", "silversmith.cli", name, *arguments, *pipeline, f"--lake={bench.lake.path}", "--json"],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert isinstance(document, dict)
    return document


def test_silver_that_was_lost_while_an_engine_runs_is_made_again_by_it(bench: Bench) -> None:
    bench.define(WORKS)
    keys = [f"{number}.csv" for number in range(6)]
    silver = [bench.silver / silver_key("orders", key) for key in keys]
    problems: list[BaseException] = []
    done = threading.Event()

    def until_all_are_there() -> None:
        deadline = time.monotonic() + 60
        while not all(path.exists() for path in silver):
            assert time.monotonic() < deadline, "silver did not come"
            time.sleep(0.02)

    def until_the_queue_is_empty() -> None:
        """A message is acknowledged a moment after its silver is there."""
        deadline = time.monotonic() + 60
        while (orders := command(bench, "status")["transforms"][0])["waiting"] + orders["in_flight"]:
            assert time.monotonic() < deadline, "the queue is not emptied"

    def drive() -> None:
        try:
            for key in keys:
                bench.drop(key, "x\n1\n")
            until_all_are_there()
            until_the_queue_is_empty()
            for path in silver[::2]:
                path.unlink()
            result = command(bench, "reconcile")
            assert (result["checked"], result["sent"], result["kinds"]) == (6, 3, {"missing": 3})
            until_all_are_there()
        except BaseException as error:  # noqa: BLE001 -- handed to the test's own thread
            problems.append(error)
        finally:
            done.set()

    engine = bench.engine()
    thread = threading.Thread(target=drive)
    thread.start()
    try:
        engine.run(until_idle=False, stopped=done.is_set, tick=lambda _: None)
    finally:
        thread.join()
        engine.close()
    assert not problems, problems


def test_a_failed_file_is_done_by_the_next_run_after_a_redrive(bench: Bench) -> None:
    bench.define(FAILS)
    bench.drop("bug.csv", "x\n1\n")
    bench.drop("broken.csv", "y\n1\n")
    _, failed = bench.run()
    assert failed == 2
    bench.define(WORKS)
    bench.drop("broken.csv", "x\n1\n")
    result = command(bench, "redrive")
    assert sorted(item["where"] for item in result["failures"]) == ["quarantine", "queue"]
    progress, failed = bench.run()
    assert (failed, progress.dead) == (0, 0)
    assert [bench.rows("orders", key).height for key in ("bug.csv", "broken.csv")] == [1, 1]
    assert command(bench, "redrive")["found"] == 0
    assert command(bench, "reconcile", "--dry-run", "--changed")["kinds"] == {}


def test_a_replay_by_force_makes_new_silver(bench: Bench) -> None:
    bench.define(WORKS)
    bench.drop("a.csv", "x\n1\n")
    bench.run()
    before = bench.lineage("orders", "a.csv")
    assert command(bench, "replay", "*", "--force")["sent"] == 1
    progress, _ = bench.run()
    assert (progress.done, progress.duplicates) == (1, 0)
    assert bench.lineage("orders", "a.csv").committed_at > before.committed_at
