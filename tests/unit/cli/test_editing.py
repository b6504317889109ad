"""The loop of editing: run, change the code, run again, look."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from silversmith.cli.run import open_browser
from tests.unit.cli.conftest import Call

PIPELINE = """
import polars as pl
from silversmith import Contract, Pipeline

pipeline = Pipeline("shop")

@pipeline.transform("orders/*.csv", contract=Contract({"id": pl.Int64}, {"small": pl.col("id") < 100}))
def orders(rows):
    return rows
"""


def run(call: Call, *options: str) -> str:
    code, out, errors = call("run", "--until-idle", "--workers", "1", *options)
    assert (code, errors) == (0, "")
    return out


def table(text: str, first: str) -> dict[str, str]:
    """The one row of the table in a text that begins with this column."""
    lines = text.splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith(first))
    return dict(zip(lines[at].split(), lines[at + 1].split(), strict=True))


@pytest.mark.full
def test_changed_code_is_noticed_and_makes_its_silver_again_when_it_is_asked_to(call: Call, tmp_path: Path) -> None:
    bronze = tmp_path / "lake/dl-bronze-layer/orders"
    bronze.mkdir(parents=True)
    for name, text in {"a": "id\n1\n", "b": "id\n2\n200\n", "c": "id\n3\n"}.items():
        (bronze / f"{name}.csv").write_text(text)
    assert "3 files done (3 rows), 1 of them partial (1 row rejected), in" in run(call)
    (bronze / "c.csv").unlink()
    file = tmp_path / "pipeline.py"
    file.write_text(file.read_text().replace("return rows", "return rows.with_columns(double=pl.col('id') * 2)"))

    assert "2 silver files were made by older code: silversmith run --changed" in run(call)
    shown = call("status")[1]
    columns = ("files", "rows", "rejected", "partial", "outdated", "orphaned")
    row = table(shown, "transform  files")
    assert [row[name] for name in columns] == ["3", "3", "1", "1", "2", "1"]
    commands = ("failures --rejected", "run --changed", "reconcile --dry-run")
    assert all(f"silversmith {command}" in shown for command in commands)
    assert max(map(len, shown.splitlines())) <= 80

    out = run(call, "--changed")
    assert "2 files done" in out
    assert "older code" not in out
    assert json.loads(run(call, "--json"))["outdated"] == 0
    (transform,) = json.loads(call("status", "--json")[1])["transforms"]
    counted = transform["silver"]
    assert counted == {"files": 3, "rows": 3, "rejected": 1, "dropped": 0, "partial": 1, "outdated": 0, "orphaned": 1,
                           "before_since": 0}  # fmt: skip


def test_a_file_of_which_rows_were_rejected_is_called_partial(call: Call, tmp_path: Path) -> None:
    path = tmp_path / "lake/dl-bronze-layer/orders/a.csv"
    path.parent.mkdir(parents=True)
    path.write_text("id\n1\n200\n300\n")
    run(call)
    assert "partial: silver lacks 2 rejected rows" in call("trace", "orders/a.csv")[1]
    (part,) = json.loads(call("trace", "orders/a.csv", "--json")[1])["transforms"]
    assert (part["state"], part["partial"]) == ("current", True)


def test_a_preview_shows_silver_and_what_was_rejected(call: Call, tmp_path: Path) -> None:
    path = tmp_path / "lake/dl-bronze-layer/orders/a.csv"
    path.parent.mkdir(parents=True)
    path.write_text("id\n" + "".join(f"{number}\n" for number in range(90, 110)))
    run(call)
    code, out, errors = call("preview", "orders/a.csv", "--limit", "3")
    assert (code, errors) == (0, "")
    assert "orders: 10 rows in silver\n  id\n  90\n  91\n  92\n  … and 7 more rows; see them with --limit\n" in out
    assert "orders: 10 rows rejected\n  row  reasons " in out
    assert "small: the rule is broken by id 100" in out
    (preview,) = json.loads(call("preview", "orders/a.csv", "--json")[1])["transforms"]
    assert (preview["silver"]["rows"][0], preview["silver"]["rows_in_all"]) == (["90"], 10)
    assert preview["rejected"]["columns"][:2] == ["row", "reasons"]
    code, out, errors = call("preview", "orders/b.csv")
    assert (code, out) == (1, "")
    assert "near it are: orders/a.csv" in errors
    path.with_name("c.csv").write_text("name\nx\n")
    code, _, errors = call("preview", "orders/c.csv")
    assert code == 1
    assert "silversmith trace orders/c.csv" in errors


@pytest.mark.parametrize(
    ("environment", "expected"), [({}, False), ({"DISPLAY": ":0"}, True), ({"WAYLAND_DISPLAY": "wayland-0"}, True)]
)
def test_no_browser_takes_over_the_terminal(environment: dict[str, str], *, expected: bool) -> None:
    opened: list[str] = []

    def opens(url: str) -> bool:
        opened.append(url)
        return True

    assert open_browser("http://127.0.0.1:1", environment, platform="linux", opens=opens) is expected
    assert open_browser("http://127.0.0.1:1", environment, platform="darwin", opens=opens)
    assert len(opened) == 1 + expected


@pytest.mark.full
def test_dev_opens_the_page_and_makes_silver_again_when_the_code_changes(tmp_path: Path) -> None:
    (tmp_path / "pipeline.py").write_text(PIPELINE)
    path = tmp_path / "lake/dl-bronze-layer/orders/a.csv"
    path.parent.mkdir(parents=True)
    path.write_text("id\n1\n")
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {tmp_path}/opened\n')
    browser.chmod(0o755)
    process = subprocess.Popen(
        [sys.executable, "-m", "silversmith.cli", "dev", "--workers", "1", "--page", "0"],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "BROWSER": f"{browser} %s"},
    )  # fmt: skip
    silver = tmp_path / "lake/dl-silver-layer/orders/orders/a.csv.parquet"
    try:
        until(lambda: silver.exists() and (tmp_path / "opened").exists(), process)
        assert (tmp_path / "opened").read_text().startswith("http://127.0.0.1:")
        file = tmp_path / "pipeline.py"
        file.write_text(file.read_text().replace("return rows", "return rows.with_columns(double=pl.col('id') * 2)"))
        until(lambda: "double" in pl.read_parquet_schema(silver), process)
        process.send_signal(signal.SIGINT)
        out, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
        assert "2 files done" in out
    finally:
        process.kill()
        process.wait()


def until(is_true: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while not is_true():
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
