"""The lake on disk, and its lock."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from silversmith.errors import LakeInUse
from silversmith.local.lake import LakeFolder, LakeLock, engine_runs

HOLDER = """
import sys
from pathlib import Path
from silversmith.local.lake import LakeFolder, LakeLock
lock = LakeLock(LakeFolder(Path(sys.argv[1])))
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def lake(tmp_path: Path) -> LakeFolder:
    lake = LakeFolder(tmp_path / "lake")
    lake.create("bronze", "silver")
    return lake


def test_state_is_apart_from_the_buckets(lake: LakeFolder) -> None:
    assert sorted(path.name for path in lake.path.iterdir()) == [".silversmith", "bronze", "silver"]
    for folder in (lake.scratch, lake.engine_scratch, lake.locks, lake.logs):
        assert folder.is_dir()
        assert folder.parent == lake.state
    lake.create("bronze", "silver", "quarantine")
    assert lake.bucket("quarantine").is_dir()


def test_only_bronze_has_foreign_writers(lake: LakeFolder) -> None:
    bronze = lake.store("bronze", foreign_writers=True)
    silver = lake.store("silver", foreign_writers=False)
    (lake.bucket("bronze") / "a").write_text("x")
    (lake.bucket("silver") / "a").write_text("x")
    in_bronze, in_silver = bronze.head("a"), silver.head("a")
    assert in_bronze is not None
    assert in_silver is not None
    assert in_bronze.etag == "9dd4e461268c8034f5c8564e155c67a6", "the MD5 of the bytes, as in S3"
    assert in_silver.etag != in_bronze.etag


def test_a_sweep_removes_what_workers_left_and_nothing_else(lake: LakeFolder, tmp_path: Path) -> None:
    (lake.engine_scratch / "file").write_text("x")
    (lake.engine_scratch / "folder/deep").mkdir(parents=True)
    (lake.engine_scratch / "folder/deep/file").write_text("x")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("x")
    (lake.engine_scratch / "link").symlink_to(outside)
    (lake.scratch / "a command's").write_text("x")
    lake.sweep()
    assert list(lake.engine_scratch.iterdir()) == []
    assert (outside / "file").exists()
    assert (lake.scratch / "a command's").exists()


def test_one_engine_for_a_lake(lake: LakeFolder) -> None:
    assert not engine_runs(lake)
    lock = LakeLock(lake)
    assert engine_runs(lake)
    with pytest.raises(LakeInUse, match=re.escape(f"(process {os.getpid()}) runs over {lake.path}")):
        LakeLock(lake)
    lock.release()
    assert not engine_runs(lake)
    LakeLock(lake).release()


def test_to_ask_whether_an_engine_runs_makes_no_file(tmp_path: Path) -> None:
    assert not engine_runs(LakeFolder(tmp_path / "nowhere"))
    assert list(tmp_path.iterdir()) == []


@contextmanager
def holder(lake: LakeFolder) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(lake.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def test_the_lock_of_a_killed_engine_is_free(lake: LakeFolder) -> None:
    with holder(lake) as process:
        assert engine_runs(lake)
        with pytest.raises(LakeInUse, match=f"process {process.pid}"):
            LakeLock(lake)
        process.kill()
        process.wait()
        assert not engine_runs(lake)
        LakeLock(lake).release()
