"""``silversmith run`` as a process: how it ends on a signal, and its output on a terminal."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

PIPELINE = """
import time
from silversmith import Pipeline

pipeline = Pipeline("shop")

@pipeline.transform("slow/*.csv", max_receive_count=1)
def slow(rows):
    time.sleep(600)
    return rows

@pipeline.transform("fast/*.csv", max_receive_count=1)
def fast(rows):
    return rows
"""

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "pipeline.py").write_text(PIPELINE)
    return tmp_path


@pytest.fixture
def start(folder: Path) -> Iterator[Start]:
    with contextlib.ExitStack() as ends:

        def run(*options: str) -> subprocess.Popen[str]:
            process = subprocess.Popen(
                [sys.executable, "-m", "silversmith.cli", "run", "--no-page", "--workers", "1", *options],
                cwd=folder,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            ends.enter_context(process)
            ends.callback(process.kill)
            return process

        yield run


def land(folder: Path, key: str) -> None:
    path = folder / "lake/dl-bronze-layer" / key
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("id\n1\n")


def read_until(process: subprocess.Popen[str], text: str) -> None:
    """Read its output up to a line that holds the text."""
    assert process.stdout is not None
    for line in process.stdout:
        if text in line:
            return
    raise AssertionError(f"the run ended without saying {text!r}: {process.stderr and process.stderr.read()}")


@pytest.mark.full
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_without_an_end_ends_well_on_a_signal(folder: Path, start: Start, number: int) -> None:
    land(folder, "fast/a.csv")
    process = start()
    read_until(process, "1 done")
    process.send_signal(number)
    out, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert "1 file done (1 row)" in out
    assert errors == ""
    assert (folder / "lake/dl-silver-layer/fast/fast/a.csv.parquet").exists()


@pytest.mark.full
def test_a_run_that_should_become_idle_but_is_ended_did_not_do_its_work(folder: Path, start: Start) -> None:
    land(folder, "slow/a.csv")
    process = start("--until-idle")
    read_until(process, "1 in flight")
    process.send_signal(signal.SIGTERM)
    out, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (128 + signal.SIGTERM, "")
    assert "1 left" in out


@pytest.mark.full
def test_a_second_ctrl_c_ends_it_at_once(folder: Path, start: Start) -> None:
    land(folder, "slow/a.csv")
    process = start()
    read_until(process, "1 in flight")
    while process.poll() is None:
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=0.3)
    assert process.returncode == 128 + signal.SIGINT, "0 would mean that it waited for the batch, as after the first"


@pytest.mark.full
def test_one_engine_a_lake(folder: Path, start: Start) -> None:
    land(folder, "fast/a.csv")
    read_until(start(), "1 done")
    second = start()
    _, errors = second.communicate(timeout=60)
    assert second.returncode == 2
    assert "another engine" in errors
    status = subprocess.run(
        [sys.executable, "-m", "silversmith.cli", "status"],
        cwd=folder, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert "an engine runs" in status.stdout


def on_a_terminal(folder: Path, *arguments: str, **environment: str) -> tuple[int, bytes]:
    """The exit code, and all that a terminal gets to see."""
    ours, theirs = pty.openpty()
    kept = {name: value for name, value in os.environ.items() if name not in {"NO_COLOR", "FORCE_COLOR"}}
    with subprocess.Popen(
        [sys.executable, "-m", "silversmith.cli", *arguments],
        cwd=folder, stdin=theirs, stdout=theirs, stderr=theirs, env={**kept, "TERM": "xterm-256color", **environment},
    ) as process:  # fmt: skip
        os.close(theirs)
        seen = b""
        with contextlib.suppress(OSError):  # Linux says so when the other end is closed
            while piece := os.read(ours, 65536):
                seen += piece
        os.close(ours)
        return process.wait(timeout=60), seen


@pytest.mark.full
def test_a_terminal_sees_a_display_that_goes_away_and_gets_its_cursor_back(folder: Path) -> None:
    land(folder, "fast/a.csv")
    code, seen = on_a_terminal(folder, "run", "--until-idle", "--workers", "1")
    assert code == 0
    hide, show = b"\x1b[?25l", b"\x1b[?25h"
    assert seen.count(hide) == seen.count(show) == 1
    assert "1 file done (1 row)" in seen[seen.index(show) :].decode()
    assert b"Ctrl-C ends the run" in seen


@pytest.mark.full
def test_a_terminal_whose_owner_wants_no_colours_gets_no_escapes(folder: Path) -> None:
    land(folder, "fast/a.csv")
    code, seen = on_a_terminal(folder, "run", "--until-idle", "--workers", "1", NO_COLOR="1")
    assert code == 0
    assert b"\x1b" not in seen
    assert b"1 file done" in seen


@pytest.mark.full
def test_a_profile_shows_where_the_time_went(folder: Path, start: Start) -> None:
    for number in range(3):
        land(folder, f"fast/{number}.csv")
    output, errors = start("--until-idle", "--profile", "--json").communicate(timeout=120)
    assert errors == ""
    stages = {stage["stage"]: stage for stage in json.loads(output)["profile"]}
    waits, work = ["queued", "batch", "read"], ["parse", "contract", "transform", "write"]
    assert list(stages) == [*waits, "turn", *work, "commit"]
    assert {(stage["transform"], stage["files"]) for stage in stages.values()} == {("fast", 3)}
    assert all(stage["total"] > 0 for stage in map(stages.__getitem__, [*work, "commit"]))
    assert sum(stage["share"] for stage in stages.values()) == pytest.approx(1.0, abs=0.001)
    assert {stage["slowest"] for stage in stages.values()} <= {f"fast/{number}.csv" for number in range(3)}


@pytest.mark.full
def test_a_profile_is_a_table_for_people(folder: Path, start: Start) -> None:
    land(folder, "fast/1.csv")
    output, _ = start("--until-idle", "--profile").communicate(timeout=120)
    assert "where the time of fast went: 1 file" in output
    header, *rows = output.partition("1 file\n")[2].splitlines()
    assert header.split() == ["stage", "share", "total", "s", "p50", "ms", "p99", "ms", "most", "ms", "slowest"]
    assert [row.split()[0] for row in rows][-5:] == ["parse", "contract", "transform", "write", "commit"]
    output, _ = start("--until-idle", "--profile").communicate(timeout=120)
    assert "nothing to profile" in output, "the second run finds it done"
