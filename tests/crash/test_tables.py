"""A table function is killed at every named step: no row is lost, none is there twice, and the lineage is silver's."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from silversmith import faults
from silversmith.tables.lineage import differing
from silversmith.tables.spec import LINEAGE
from tests.crash.test_every_point import TABLES
from tests.unit.tables.kit import TRANSFORM, GoldBench, keys_of
from tests.unit.tables.test_lineage_table import LineageBench

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


#: An invocation for the lineage of what silver and quarantine have.
FOLLOWED = """
import sys
from pathlib import Path
from silversmith.tables.lineage import follow
from tests.unit.tables.kit import TRANSFORM
from tests.unit.tables.test_lineage_table import LineageBench

bench = LineageBench(Path(sys.argv[1]))
follow([TRANSFORM], sys.argv[2:], silver=bench.silver, quarantine=bench.quarantine, gold=bench.gold)
"""


def follow(bench: LineageBench, *keys: str, fault: str = "") -> int:
    command = [sys.executable, "-c", FOLLOWED, str(bench.root), *keys]
    environment = {**os.environ, "SILVERSMITH_FAULT": fault}
    return subprocess.run(command, cwd=ROOT, env=environment, check=False, timeout=120).returncode


@pytest.mark.parametrize("point", ["tables.looked", "tables.read", "tables.committed"])
def test_the_lineage_is_killed_between_silver_s_commit_and_its_own(point: str, tmp_path: Path) -> None:
    bench = LineageBench(tmp_path)
    keys = [bench.silvered("a.csv"), bench.quarantined("b.csv")]
    assert follow(bench, *keys) == 0
    bench.silvered("a.csv", bronze_etag="newer", rows_written=7)
    keys.append(bench.silvered("b.csv"))
    bench.quarantine.delete(keys[1])
    assert follow(bench, *keys, fault=point) == -signal.SIGKILL, f"{point} was never reached"
    buckets: Any = {"silver": bench.silver, "quarantine": bench.quarantine}
    assert (point == "tables.committed") == (differing(TRANSFORM, **buckets, gold=bench.gold) == [])
    assert follow(bench, *keys) == 0
    assert differing(TRANSFORM, **buckets, gold=bench.gold) == []
    rows = pl.read_delta(bench.gold.location(LINEAGE)).sort("_file").select("_file", "state", "rows_written")
    assert rows.rows() == [("a.csv", "silver", 7), ("b.csv", "silver", 1)]
