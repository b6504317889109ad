"""A transform that misbehaves: its own file ends where a reason says what happened, and its neighbours go on."""

from __future__ import annotations

import resource
from typing import TYPE_CHECKING

import orjson
import pytest

from silversmith.local.journal import Journal

if TYPE_CHECKING:
    from tests.engine.conftest import Bench

#: A transform that takes every file, and does the deed to the one that asks for it.
POISON = """
import ctypes, sys
from pathlib import Path
pipeline = Pipeline("poison")

@pipeline.transform("*.csv", max_receive_count=2, timeout=4, memory=400, batch_size=10)
def rows(rows):
    if rows.collect()["x"][0] == 3:
        {deed}
    return rows
"""

DEEDS = {
    "segfault": ("ctypes.string_at(0)", "SIGSEGV"),
    "abort": ("os.abort()", "SIGABRT"),
    "exit": ("os._exit(7)", "exit code 7"),
    "sys.exit": ("sys.exit(3)", "SystemExit"),
    "memory": ("hoard = [b'x' * 10_000_000 * n for n in range(1, 1000)]", "limit is 400 MB"),
    "spin": ("exec('while True: pass')", "timed out after 4 s"),
    "sleep": ("time.sleep(3600)", "timed out after 4 s"),
    "wrong type": ("return 42", "returned int"),
    "nothing": ("return None", "returned NoneType"),
    "an error": ("raise KeyError('no such thing')", "no such thing"),
    "a lazy error": ("return rows.select(pl.col('y'))", "y"),
    "a panic": ("raise pl.exceptions.PanicException('boom')", "boom"),
    "recursion": ("exec('def f(): f()\\nf()', {})", "recursion"),
    "keyboard interrupt": ("raise KeyboardInterrupt", "KeyboardInterrupt"),
    "stop iteration": ("raise StopIteration", "StopIteration"),
    "an error of many megabytes": ("raise ValueError('far too long ' * 4_000_000)", "far too long"),
    "an error that is no text": ("raise ValueError('half \\ud800 a pair')", "a pair"),
    "an error that cannot be told": ("raise type('Mute', (Exception,), {'__str__': lambda _: 1 / 0})()", "Mute"),
    "an error of its own kind": ("raise type('Odd', (BaseException,), {})('odd')", "odd"),
    "a child that lives on": (
        "import subprocess; subprocess.Popen(['sleep', '30']); os.kill(os.getpid(), signal.SIGSEGV)",
        "SIGSEGV",
    ),
    "closes every file": ("os.closerange(0, 256); raise OSError('closed')", ""),
}


@pytest.mark.parametrize("name", DEEDS)
def test_it_ends_in_the_dlq_with_a_reason_and_its_neighbours_in_silver(bench: Bench, name: str) -> None:
    deed, reason = DEEDS[name]
    bench.define(POISON.format(deed=deed))
    for number in range(6):
        bench.drop(f"{number}.csv", f"x\n{number}\n")
    progress, failed = bench.run()
    # what was being committed when the worker died may be found to be done already
    assert (progress.done + progress.duplicates, progress.dead, failed) == (5, 1, 1)
    assert {len(bench.rows("rows", f"{number}.csv")) for number in (0, 1, 2, 4, 5)} == {1}
    journal = Journal(bench.lake.journal, readonly=True)
    ((_, key, _, verdict, _, detail),) = journal.rows("failed_outcomes", transform="", key="", most=9)
    journal.close()
    assert (key, verdict) == ("3.csv", "failed")
    assert reason in orjson.loads(detail)["error"]["message"]


def test_gigabytes_of_output_fill_no_disk(bench: Bench) -> None:
    bench.define(POISON.format(deed="exec(\"for n in range(300): os.write(1, b'x' * 1_000_000)\")"))
    bench.drop("3.csv", "x\n3\n")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    progress, failed = bench.run()
    assert (progress.done, failed) == (1, 0)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000, "kB: the engine keeps none of it"
    assert sum(path.stat().st_size for path in bench.lake.logs.iterdir()) <= 21 * 1024 * 1024


def test_it_deletes_its_input(bench: Bench) -> None:
    bench.define(POISON.format(deed="Path('{bronze}/3.csv').unlink()").replace("{bronze}", str(bench.bronze)))
    for number in range(6):
        bench.drop(f"{number}.csv", f"x\n{number}\n")
    progress, failed = bench.run()
    assert (progress.done, failed) == (6, 0), "the bytes were read before they were deleted"
    assert bench.lineage("rows", "3.csv").rows_read == 1


def test_schemas_may_change_from_file_to_file(bench: Bench) -> None:
    bench.define('pipeline = Pipeline("p")\n\n@pipeline.transform("*.json")\ndef rows(rows):\n    return rows\n')
    bench.drop("a.json", '[{"x": 1}]')
    assert bench.run()[1] == 0
    bench.drop("b.json", '[{"y": "text", "x": 2}]')
    bench.drop("c.json", '[{"x": {"deep": [1, 2]}}]')
    progress, failed = bench.run()
    assert (progress.done, failed) == (1, 1), "a new column is taken, another type is not"
    assert sorted(bench.rows("rows", "b.json").columns) == ["x", "y"]
    (document,) = bench.quarantine.rglob("*.error.json")
    assert "Struct" in orjson.loads(document.read_bytes())["error"]["message"]


def test_a_worker_that_dies_costs_nothing_to_the_batch_it_was_given_ahead(bench: Bench) -> None:
    """Batches are quick, so each worker has another waiting. One file kills the first worker that has it."""
    bench.define(
        """
from pathlib import Path
pipeline = Pipeline("ahead")

@pipeline.transform("*.csv", max_receive_count=5, batch_size=4)
def rows(rows):
    marker = Path(__file__).parent / "killed"
    if rows.collect()["x"][0] == 50 and not marker.exists():
        marker.write_text("")
        os._exit(7)
    return rows
"""
    )
    for number in range(100):
        bench.drop(f"{number:02}.csv", f"x\n{number}\n")
    progress, failed = bench.run(workers=2)
    assert (progress.done + progress.duplicates, progress.dead, failed) == (100, 0, 0)
    attempts = {number: bench.lineage("rows", f"{number:02}.csv").attempt for number in range(100)}
    assert {number for number, attempt in attempts.items() if attempt > 1} == {50}
