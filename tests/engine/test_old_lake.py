"""A lake that older code left (tests/data/old_lake) is served by today's: nothing is lost, nothing made in vain."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

from silversmith.local.journal import Journal
from silversmith.schemas import schema_key

if TYPE_CHECKING:
    from tests.engine.conftest import Bench

OLD = Path(__file__).parents[1] / "data/old_lake"


@pytest.fixture
def old(bench: Bench) -> Bench:
    shutil.copy(OLD / "pipeline.py", bench.pipeline)
    shutil.rmtree(bench.lake.path)
    with tarfile.open(OLD / "lake.tar.gz") as archive:
        archive.extractall(bench.folder, filter="data")
    return bench


def command(old: Bench, *arguments: str, succeeds: bool = True) -> Any:
    """The output of a command with ``--json``; its complaint if it has to fail."""
    line = [
        sys.executable,
        "-m",
        "silversmith.cli",
        *arguments,
        f"--pipeline={old.pipeline}",
        f"--lake={old.lake.path}",
    ]
    done = subprocess.run([*line, "--json"], check=False, capture_output=True, text=True)
    assert (done.returncode == 0) is succeeds, done
    return json.loads(done.stdout) if succeeds else done.stderr


def parquet_files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.parquet")}


def test_a_command_says_what_the_journal_needs(old: Bench) -> None:
    assert "Start `silversmith run` once" in command(old, "status", succeeds=False)


def test_messages_and_silver_of_before_are_served(old: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    before = parquet_files(old.silver)
    assert len(before) == 5

    progress, failed = old.run()
    assert (failed, progress.waiting, progress.in_flight) == (0, 0, 0)
    # Three that were to be made again, one that was being worked on, one that was replaced, one that is new.
    assert progress.done == 6

    assert old.rows("orders", "orders/good.csv").rows() == [(1, "de", 2.5, "Germany"), (2, "fr", 3.0, "France")]
    assert old.rows("orders", "orders/replaced.csv").height == 2
    assert old.rows("orders", "orders/late.csv").rows() == [(9, "fr", 9.0, "France")]
    assert old.rows("events", "events/one.json")["n"].to_list() == ["a", "b"]
    assert old.rows("slow", "slow/one.csv").rows() == [(1,)]
    after = parquet_files(old.silver)
    assert before.keys() < after.keys()
    untouched = "orders/orders/some-rejected.csv.parquet"
    assert after[untouched] == before[untouched], "it is as the code of today would make it"

    rejected = pl.read_parquet(old.quarantine / "orders/orders/some-rejected.csv.rejected.parquet")
    assert rejected.height == 1
    assert (old.quarantine / "orders/orders/wrong.csv.error.json").exists()
    assert json.loads((old.silver / schema_key("orders")).read_text())["owner"] == "shop"

    failures = command(old, "failures")
    assert [entry["key"] for entry in failures["quarantined"]] == ["orders/wrong.csv"]
    assert [entry["key"] for entry in failures["dead"]] == ["poison/one.csv"]
    compared = command(old, "reconcile", "--changed", "--dry-run")
    assert (compared["kinds"], compared["sent"]) == ({"missing": 1}, 0), "the dead message's file, and no other"

    monkeypatch.setenv("OLD_LAKE_MENDED", "1")
    assert command(old, "redrive")["sent"] == 2
    progress, failed = old.run()
    assert (progress.done, failed) == (1, 1)
    assert old.rows("poison", "poison/one.csv").rows() == [(1,)]
    assert command(old, "reconcile", "--changed", "--dry-run")["found"] == 0


def test_the_trace_of_before_is_kept(old: Bench) -> None:
    old.run()
    journal = Journal(old.lake.journal, readonly=True)
    try:
        hops = [(row[4], row[6]) for row in journal.rows("hops", key="orders/some-rejected.csv")]
    finally:
        journal.close()
    assert hops == [
        ("bucket", "created"),
        ("rule", "matched"),
        ("topic", "published"),
        ("queue", "queued"),
        ("function", "committed"),
    ]
