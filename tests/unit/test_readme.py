"""Every command of the README does what it says, in the order in which a reader would type them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, flags=re.MULTILINE | re.DOTALL)


def test_the_readme_from_beginning_to_end(tmp_path: Path) -> None:
    (code,) = blocks("python")
    (tmp_path / "pipeline.py").write_text(code)
    (tmp_path / "README.md").write_text(TEXT)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    commands = [line[2:] for block in blocks("console") for line in block.splitlines() if line.startswith("$ ")]
    assert len(commands) >= 12
    outputs = {}
    for command in commands:
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=tmp_path,
            env={**os.environ, "PATH": path, "COLUMNS": "120"},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        outputs[command] = done.stdout
    lake = tmp_path / "lake"
    assert pl.read_parquet(lake / "dl-silver-layer/flights/flights/today.csv.parquet")["flight"].to_list() == [1545]
    assert "distance is positive" in outputs["silversmith failures --rejected"]
    assert "exit code 1" in outputs['silversmith run --until-idle || echo "exit code $?: a file failed"']
    assert (tmp_path / "template.json").exists()


@pytest.mark.parametrize("target", re.findall(r"`?make (\w+)", TEXT))
def test_every_make_target_exists(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)


@pytest.mark.parametrize("link", re.findall(r"\]\(([^)#]+)\)", TEXT))
def test_every_link_leads_somewhere(link: str) -> None:
    assert (ROOT / link).exists()


@pytest.mark.full
def test_the_demo_shows_silver_rejected_rows_and_a_trace(tmp_path: Path) -> None:
    """The script of ``make demo``, on a copy, so that nobody's demo folder is touched."""
    (tmp_path / "examples/flights").mkdir(parents=True)
    for name in ("demo.py", "pipeline.py"):
        (tmp_path / "examples/flights" / name).write_text((ROOT / "examples/flights" / name).read_text())
    done = subprocess.run(
        [sys.executable, "examples/flights/demo.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    assert "flights      80,786 rows in 3 Parquet files" in done.stdout
    assert 'distance: "far away" is not Int32' in done.stdout
    assert "UnreadableJson" in done.stdout
    assert "transform flights: current, silver is up to date" in done.stdout
    assert "table     flights: in it since version" in done.stdout
    assert "UA         13954         1.7" in done.stdout.split("$ silversmith query")[1]
