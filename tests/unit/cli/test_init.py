"""A new project runs, is tested and compiles at once; so does each example."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from silversmith.cli.application import call
from silversmith.operations.project import EXAMPLES
from tests.unit.kit import LOAD

#: What a run over the sample data ends with: one example has a file that is beyond repair, and says so.
CODES = {None: 0, "messy-csv": 1, "music-api": 0, "meter-readings": 0, "aws-logs": 0}

LOGS = Path(__file__).parents[3] / "examples/aws_logs/data"

SILVER = {
    None: ["orders/orders/2026-01.csv.parquet"],
    "messy-csv": [
        "offers/suppliers/north.csv.parquet",
        "offers/suppliers/south.csv.parquet",
        "sales/tills/2026-01-31.csv.parquet",
    ],
    "music-api": [f"{table}/albums/page-{page}.json.parquet" for table in ("albums", "tracks") for page in (1, 2)],
    "meter-readings": ["readings/meters/2026-01-31.mtr.parquet"],
    "aws-logs": sorted(
        f"{transform}/{path.relative_to(LOGS).as_posix()}.parquet"
        for transform, below in (
            ("accesses", "access"),
            ("calls", "AWSLogs/*/CloudTrail"),
            ("flows", "AWSLogs/*/vpcflowlogs"),
            ("requests", "AWSLogs/*/elasticloadbalancing"),
            ("verdicts", "AWSLogs/*/WAFLogs"),
            ("views", "cdn"),
        )
        for path in LOGS.glob(f"{below}/**/*")
        if path.is_file()
    ),
}


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *command],
        cwd=folder,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )


@pytest.mark.full
@pytest.mark.parametrize("example", [None, *EXAMPLES])
def test_a_new_project_works_at_once(example: str | None, tmp_path: Path) -> None:
    folder = tmp_path / "shop"
    chosen = () if example is None else ("--example", example)
    created = run(tmp_path, "silversmith.cli", "init", "shop", *chosen)
    assert created.returncode == 0, created.stderr
    assert "shop is ready" in created.stdout
    assert run(folder, "silversmith.cli", "put", "data").returncode == 0
    ran = run(folder, "silversmith.cli", "run", "--until-idle", "--workers", "1")
    assert ran.returncode == CODES[example], ran.stdout + ran.stderr
    silver = folder / "lake/dl-silver-layer"
    files = [path.relative_to(silver).as_posix() for path in silver.rglob("*.parquet")]
    assert sorted(path for path in files if not path.startswith(("_", "."))) == SILVER[example]
    tables = [path.parent.name for path in sorted(folder.glob("lake/dl-gold-layer/*/_delta_log"))]
    assert tables == (["daily", "orders"] if example is None else [])
    # The program, not `python -m pytest`, which would put this folder on the path of modules.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    tests = subprocess.run(
        [Path(sys.executable).with_name("pytest"), "-q", "-p", "no:cacheprovider", *LOAD],
        cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=200,
    )  # fmt: skip
    assert tests.returncode == 0, tests.stdout
    assert "passed" in tests.stdout
    template = run(folder, "silversmith.cli", "template")
    assert template.returncode == 0, template.stderr
    assert "shop-bronze-" in template.stdout
    assert json.loads(template.stdout)["Resources"]


WITHOUT_TABLES = """
import sys
sys.modules |= {name: None for name in ("deltalake", "arro3", "arro3.core", "arro3.io", "sqlglot")}
from silversmith.cli.application import call
sys.exit(call(["run", "--until-idle", "--no-page"]))
"""


@pytest.mark.full
def test_without_the_extra_a_new_project_says_how_to_install_it(tmp_path: Path) -> None:
    assert call(["init", str(tmp_path / "shop")]) == 0
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TABLES],
        cwd=tmp_path / "shop",
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 2, done.stderr
    assert "pip install 'silversmith[tables]'" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.full
def test_the_flights_example_passes_its_tests() -> None:
    folder = Path(__file__).parents[3] / "examples/flights"
    done = run(folder, "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", ".", "-c", os.devnull, *LOAD)
    assert done.returncode == 0, done.stdout


def test_it_says_what_it_wrote_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["init", str(tmp_path / "shop"), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["name"], report["folder"]) == ("shop", str(tmp_path / "shop"))
    assert str(tmp_path / "shop/pipeline.py") in report["written"]
    assert all(Path(path).is_file() for path in report["written"])


def test_a_second_time_is_a_wrong_call(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["init", str(tmp_path)]) == 0
    assert call(["init", str(tmp_path)]) == 2
    assert f"{tmp_path}/pipeline.py" in capsys.readouterr().err


def test_an_unknown_example_is_a_wrong_call(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["init", str(tmp_path / "shop"), "--example", "nothing"]) == 2
    assert "messy-csv" in capsys.readouterr().err
    assert not (tmp_path / "shop").exists()
