"""``silversmith erase`` beside an engine that runs: a worker that had read the file brings nothing back."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.engine.conftest import Bench
from tests.unit.operations.test_history import saying

#: The transform says that it has begun, and then waits until it is let go.
DEFINITION = """
import pathlib
pipeline = Pipeline("shop", lineage=True)
HERE = pathlib.Path({here!r})

@pipeline.transform("people/*.csv", timeout=120)
def people(rows):
    frame = rows.collect()
    if "slow" in frame["who"].to_list():
        (HERE / "begun").touch()
        while not (HERE / "go").exists():
            time.sleep(0.01)
    return frame.lazy()

pipeline.table("people", of=people)
pipeline.view("names", "select who, count(*) as n from people group by who", by=["who"])
"""

PATIENCE = 240.0


def command(bench: Bench, *arguments: str) -> list[str]:
    where = [f"--pipeline={bench.pipeline}", f"--lake={bench.lake.path}"]
    return [sys.executable, "-m", "silversmith.cli", *arguments, *where]


def wait_for(path: Path) -> None:
    end = time.monotonic() + PATIENCE
    while not path.exists():
        assert time.monotonic() < end, f"{path} never came"
        time.sleep(0.02)


def test_a_worker_that_had_read_the_file_brings_nothing_back(bench: Bench) -> None:
    bench.define(DEFINITION.format(here=str(bench.folder)))
    bench.drop("people/other.csv", "id,who\n1,other\n")
    bench.drop("people/a.csv", "id,who\n1,jane-first\n")
    bench.run()
    assert saying("jane", bench.lake.path)
    with subprocess.Popen(command(bench, "run", "--no-page"), stdout=subprocess.DEVNULL) as engine:
        try:
            bench.drop("people/a.csv", "id,who\n1,slow\n2,jane\n")
            wait_for(bench.folder / "begun")
            erasing = subprocess.Popen(
                command(bench, "erase", "people/a.csv", "--yes", "--json"), stdout=subprocess.PIPE, text=True
            )
            wait_for_absence(bench.bronze / "people/a.csv")
            (bench.folder / "go").touch()
            out, _ = erasing.communicate(timeout=PATIENCE)
            report = json.loads(out)
            assert (erasing.returncode, report["left"]) == (0, [])
        finally:
            engine.send_signal(signal.SIGINT)
            engine.wait(timeout=PATIENCE)
    assert saying("jane", bench.lake.path) == []
    bench.run()
    assert saying("jane", bench.lake.path) == []
    assert bench.rows("people", "people/other.csv")["who"].to_list() == ["other"]


def wait_for_absence(path: Path) -> None:
    end = time.monotonic() + PATIENCE
    while path.exists():
        assert time.monotonic() < end, f"{path} never went"
        time.sleep(0.02)


@pytest.mark.parametrize("point", ["erase.bronze", "erase.results", "erase.rows", "erase.data", "erase.log"])
def test_the_command_is_killed_and_run_again(bench: Bench, point: str) -> None:
    bench.define(DEFINITION.format(here=str(bench.folder)))
    bench.drop("people/a.csv", "id,who\n1,jane\n")
    bench.run()
    environment = {**os.environ, "SILVERSMITH_FAULT": point}
    arguments = command(bench, "erase", "people/a.csv", "--yes")
    killed = subprocess.run(arguments, env=environment, check=False, capture_output=True)
    assert killed.returncode == -signal.SIGKILL, f"{point} was never reached"
    bench.run()
    report = bench.folder / "report.json"
    again = command(bench, "erase", "people/a.csv", "--yes", f"--report={report}")
    done = subprocess.run(again, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(report.read_text())["verified"]
    assert saying("jane", bench.lake.path) == []
