"""``silversmith run`` with alarms: what a channel gets, and what status and doctor tell of a dead one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PIPELINE = """
import polars as pl
from silversmith import Contract, Deployment, Pipeline

pipeline = Pipeline("shop")
deployment = Deployment(alarm_on=("quarantine", "rejected>5%", "silent>24h"))
quiet = Deployment()

@pipeline.transform("orders/*.csv", contract=Contract({"id": pl.Int64}))
def orders(rows):
    return rows
"""

SECRET = "s3cr3t"
RECEIVER = "import sys; open(sys.argv[1], 'ab').write(sys.stdin.buffer.read() + b'\\n')"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "pipeline.py").write_text(PIPELINE)
    (tmp_path / "receive.py").write_text(RECEIVER)
    return tmp_path


def silversmith(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "silversmith.cli", *arguments],
        cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip


def land(folder: Path, name: str, text: str) -> None:
    path = folder / "lake/dl-bronze-layer/orders" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.full
def test_a_run_tells_a_command_and_a_dead_webhook_stops_nothing(folder: Path) -> None:
    environment = {
        "SILVERSMITH_ALARM_COMMAND": f"{sys.executable} receive.py notices",
        "SILVERSMITH_ALARM_WEBHOOK": f"http://127.0.0.1:9/{SECRET}",
    }
    land(folder, "a.csv", "id\n1\nx\n")
    land(folder, "b.csv", "name\n1\n")
    ended = silversmith(folder, "run", "--until-idle", "--workers", "1", **environment)
    assert ended.returncode == 1, ended.stderr
    (notice,) = map(json.loads, (folder / "notices").read_text().splitlines())
    assert {(each["transform"], each["condition"], each["state"]) for each in notice["changes"]} == {
        ("orders", "quarantine", "alarm"),
        ("orders", "rejected>5%", "alarm"),
    }
    assert "pipeline shop in lake: orders rejected>5%: alarm: 1 of 2 rows" in notice["text"]
    assert ended.stderr.count("alarms do not reach the webhook 127.0.0.1") == 1
    status = silversmith(folder, "status")
    assert "alarm: orders quarantine: 1 file went to quarantine within 5 minutes" in status.stdout
    assert "alarms do not reach the webhook 127.0.0.1 since 20" in status.stdout
    doctor = silversmith(folder, "doctor", **environment)
    assert "warn  alarms: the webhook 127.0.0.1 takes nothing:" in doctor.stdout
    again = silversmith(folder, "run", "--until-idle", "--workers", "1", **environment)
    assert len((folder / "notices").read_text().splitlines()) == 1, "nothing changed since"
    texts = [text for each in (ended, status, doctor, again) for text in (each.stdout, each.stderr)]
    files = [path.read_bytes() for path in (folder / "lake/.silversmith").rglob("*") if path.is_file()]
    assert not [text for text in texts if SECRET in text]
    assert not [data for data in files if SECRET.encode() in data]


@pytest.mark.full
def test_a_channel_without_a_condition_is_told_at_once(folder: Path) -> None:
    chosen = {"SILVERSMITH_ALARM_COMMAND": sys.executable}
    ended = silversmith(folder, "run", "--until-idle", "--deployment", "quiet", **chosen)
    assert ended.returncode == 0
    assert "no condition is set. Deployment(alarm_on=…) has them" in ended.stderr


@pytest.mark.full
def test_a_channel_that_cannot_be_is_a_wrong_call(folder: Path) -> None:
    ended = silversmith(folder, "run", "--until-idle", SILVERSMITH_ALARM_WEBHOOK=SECRET)
    assert ended.returncode == 2
    assert "SILVERSMITH_ALARM_WEBHOOK is no URL of a webhook" in ended.stderr
    assert SECRET not in ended.stderr
    doctor = silversmith(folder, "doctor", SILVERSMITH_ALARM_WEBHOOK=SECRET)
    assert (doctor.returncode, "fail  alarms: SILVERSMITH_ALARM_WEBHOOK" in doctor.stdout) == (1, True)
