"""A table function is killed at every named step: no row is lost, none is there twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from silversmith import faults
from tests.crash.test_every_point import TABLES
from tests.unit.tables.kit import GoldBench, keys_of

ROOT = Path(__file__).parents[2]

#: An invocation for the event of each of these keys, and upkeep after them.
PROGRAM = """
import json, sys
from pathlib import Path
from silversmith.tables.upkeep import keep
from silversmith.tables.handler import TableHandler
from tests.unit.conftest import Leisure
from tests.unit.tables.kit import GoldBench
from tests.unit.tables.test_handler import SPEC, event, record

bench = GoldBench(Path(sys.argv[1]))
handler = TableHandler(SPEC, bucket="silver", silver=bench.silver, gold=bench.gold)
for key in sys.argv[2:]:
    assert handler({"Records": [record(key, event(key))]}, Leisure()) == {"batchItemFailures": []}
keep("orders", bench.gold, now=0, force=True)
"""


def invoke(bench: GoldBench, fault: str = "") -> int:
    command = [sys.executable, "-c", PROGRAM, str(bench.root), *keys_of(["a.csv", "b.csv", "c.csv"])]
    environment = {**os.environ, "SILVERSMITH_FAULT": fault}
    return subprocess.run(command, cwd=ROOT, env=environment, check=False, timeout=120).returncode


def test_there_are_points_to_be_killed_at() -> None:
    assert set(TABLES) <= set(faults.POINTS)
    assert len(TABLES) >= 6


@pytest.mark.parametrize("point", TABLES)
def test_the_table_function_is_killed(point: str, tmp_path: Path) -> None:
    bench = GoldBench(tmp_path)
    bench.put("a.csv", {"day": ["mo"]})
    assert invoke(bench) == 0
    bench.put("a.csv", {"day": ["tu", "tu"], "new": [1, 2]})
    bench.put("b.csv", {"day": ["mo"], "new": [3]})
    assert invoke(bench, fault=point) == -signal.SIGKILL, f"{point} was never reached"
    bench.delete("b.csv")
    bench.put("c.csv", {"day": ["we"], "new": [None]})
    assert invoke(bench) == 0
    assert bench.rows() == [("a.csv", "tu", 1), ("a.csv", "tu", 2), ("c.csv", "we", None)]
    assert sorted(bench.table("daily").rows()) == [("tu", 2), ("we", 1)]
