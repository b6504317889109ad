"""A full disk, and one that nobody may write to: the engine says so, charges no file, and goes on later.

A small file system of its own needs a mount, which Linux lets anybody make in a namespace of their own.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.crash.conftest import Crashable

RUN = f"{sys.executable} -m silversmith.cli run pipeline.py --until-idle --workers 2"

#: Much silver from little bronze, of which not all fits.
BIG = """
import os
import polars as pl
from silversmith import Pipeline

pipeline = Pipeline("crash")

@pipeline.transform("*.csv", max_receive_count=2, batch_size=1)
def big(rows):
    noise = pl.Series("noise", [os.urandom(200_000).hex()])
    return rows.with_columns(noise=noise)
"""


def _can_mount() -> bool:
    if not (unshare := shutil.which("unshare")):
        return False
    tried = [unshare, "-Urm", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return subprocess.run(tried, capture_output=True, check=False).returncode == 0


pytestmark = pytest.mark.skipif(not _can_mount(), reason="nobody may mount here")


def on_a_disk(folder: Path, megabytes: int, script: str) -> str:
    """Run a script where the lake is a file system of its own. What it printed."""
    mount = f"mount -t tmpfs -o size={megabytes}m tmpfs lake\n"
    (folder / "lake").mkdir(exist_ok=True)
    ran = subprocess.run(
        ["unshare", "-Urm", "sh", "-ec", mount + script],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout + ran.stderr


def test_full_for_silver(tmp_path: Path) -> None:
    (tmp_path / "pipeline.py").write_text(BIG)
    said = on_a_disk(
        tmp_path,
        4,
        "mkdir -p lake/dl-bronze-layer; for n in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do\n"
        '    printf "a\\n$n\\n" > lake/dl-bronze-layer/$n.csv; done\n'
        f"{RUN} && exit 9; echo ended with $?\n"
        "ls lake/dl-silver-layer/big | wc -l\n"
        "mount -o remount,size=60m lake\n"
        f"{RUN}\n"
        "echo all: $(ls lake/dl-silver-layer/big | wc -l)\n",
    )
    assert "ended with 1" in said
    assert "Nothing is lost" in said
    assert "all: 20" in said
    assert "Traceback" not in said


def test_full_for_the_journal(crashable: Crashable) -> None:
    shutil.rmtree(crashable.folder / "lake")
    said = on_a_disk(
        crashable.folder,
        1,
        "mkdir -p lake/dl-bronze-layer/b; n=0; while [ $n -lt 200 ]; do\n"
        '    n=$((n+1)); printf "[{\\"id\\": $n}]" > lake/dl-bronze-layer/b/$n.json; done\n'
        f"{RUN} && exit 9; echo ended with $?\n"
        "mount -o remount,size=60m lake\n"
        f"{RUN}\n"
        "echo all: $(ls lake/dl-silver-layer/rows/b | wc -l)\n",
    )
    assert "ended with 1" in said
    assert "make room" in said
    assert "all: 200" in said
    assert "Traceback" not in said


def test_a_lake_that_cannot_be_written(crashable: Crashable) -> None:
    shutil.rmtree(crashable.folder / "lake")
    said = on_a_disk(
        crashable.folder,
        60,
        "mkdir -p lake/dl-bronze-layer/b; printf '[{\"id\": 1}]' > lake/dl-bronze-layer/b/1.json\n"
        "mount -o remount,ro lake\n"
        f"{RUN} && exit 9; echo ended with $?\n"
        "mount -o remount,rw lake\n"
        f"{RUN}\n"
        "echo all: $(ls lake/dl-silver-layer/rows/b | wc -l)\n",
    )
    assert "ended with 1" in said
    assert "Read-only file system" in said
    assert "all: 1" in said
    assert "Traceback" not in said
