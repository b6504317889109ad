"""Calls in this process: output on each stream, exit codes, and modules that are not even imported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from cyclopts import App

from silversmith.cli.application import BUG, COMMANDS, FAILED, WRONG_CALL, call

PIPELINE = """
from silversmith import Pipeline
print("the user's own words")
pipeline = Pipeline("shop")
pipeline.sql("orders/*.csv", "SELECT * FROM rows")
"""


@pytest.fixture
def pipeline(tmp_path: Path) -> str:
    path = tmp_path / "shop.py"
    path.write_text(PIPELINE)
    return str(path)


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    return tmp_path / "lake"


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["--version"]) == 0
    assert capsys.readouterr().out.strip() == version("silversmith")


def test_help_names_every_command_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["--help"]) == 0
    out = capsys.readouterr().out
    places = [out.index(f"│ {command.name} ") for command in COMMANDS]
    assert places == sorted(places)


@pytest.mark.parametrize("name", [command.name for command in COMMANDS])
def test_every_command_explains_itself(capsys: pytest.CaptureFixture[str], name: str) -> None:
    assert call([name, "--help"]) == 0
    out, errors = capsys.readouterr()
    assert f"silversmith {name}" in out
    assert errors == ""


def test_help_is_fast_because_it_imports_nothing_slow() -> None:
    code = (
        "import sys; from silversmith.cli.application import call; call(['--help']); "
        "slow = {'polars', 'boto3', 'troposphere', 'psutil', 'watchdog'} & set(sys.modules); "
        "print(slow, file=sys.stderr); sys.exit(len(slow))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["rnu"], 'Did you mean "run"'),
        (["status", "--laek", "x"], "Did you mean --lake"),
        (["status", "a", "b", "c"], "Unused"),
        (["put"], "FILE"),
        (["failures", "--limit", "0"], "limit"),
        (["run", "--workers", "many"], "workers"),
        (["rnu\x1b[2J\n[red]"], "\\x1b[2J\\n[red]"),
    ],
)
def test_a_wrong_call_is_reported_in_one_line(
    capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    assert call(arguments) == WRONG_CALL
    out, errors = capsys.readouterr()
    assert out == ""
    assert errors.startswith("silversmith: ")
    assert says in errors.replace("\n  ", "\\n")


@pytest.mark.parametrize("command", [["status"], ["failures"], ["trace", "k"], ["failures", "--rejected"]])
def test_nothing_is_made_without_a_lake(
    capsys: pytest.CaptureFixture[str], pipeline: str, lake: Path, command: list[str]
) -> None:
    assert call([*command, "--pipeline", pipeline, "--lake", str(lake)]) == WRONG_CALL
    assert "there is no lake in" in capsys.readouterr().err
    assert not lake.exists()


def test_output_of_the_pipelines_module_is_not_on_stdout(
    capsys: pytest.CaptureFixture[str], pipeline: str, lake: Path
) -> None:
    assert call(["put", pipeline, "--key", "orders/a.csv", "--pipeline", pipeline, "--lake", str(lake), "--json"]) == 0
    out, errors = capsys.readouterr()
    assert json.loads(out)["put"][0]["key"] == "orders/a.csv"
    assert "the user's own words" in errors


@pytest.mark.parametrize("json_option", [[], ["--json"]])
def test_a_file_that_no_transform_takes_is_put_with_a_warning(
    capsys: pytest.CaptureFixture[str], pipeline: str, lake: Path, json_option: list[str]
) -> None:
    common = ["--pipeline", pipeline, "--lake", str(lake), *json_option]
    assert call(["put", pipeline, "--key", "nobody/a.csv", *common]) == 0
    assert "no transform's pattern matches nobody/a.csv" in capsys.readouterr().err
    assert call(["put", pipeline, "--key", "orders/.hidden.csv", *common]) == 0
    assert "orders/.hidden.csv is named like a file that is not finished" in capsys.readouterr().err
    assert (lake / "dl-bronze-layer/nobody/a.csv").read_text() == PIPELINE


def test_a_key_and_a_prefix_contradict_each_other(
    capsys: pytest.CaptureFixture[str], pipeline: str, lake: Path
) -> None:
    arguments = ["put", pipeline, "--key", "k", "--prefix", "p", "--pipeline", pipeline, "--lake", str(lake)]
    assert call(arguments) == WRONG_CALL
    assert "Give one of them" in capsys.readouterr().err


def test_an_empty_folder_puts_nothing_and_says_so(
    capsys: pytest.CaptureFixture[str], pipeline: str, lake: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    assert call(["put", str(tmp_path / "empty"), "--pipeline", pipeline, "--lake", str(lake)]) == 0
    assert "there are no files" in capsys.readouterr().err


def test_a_fault_of_the_system_is_reported_with_its_file(
    capsys: pytest.CaptureFixture[str], pipeline: str, lake: Path
) -> None:
    lake.write_text("a file where the lake should be")
    assert call(["run", pipeline, "--lake", str(lake)]) == FAILED
    assert f"silversmith: {lake}" in capsys.readouterr().err


def test_a_damaged_journal_is_reported_with_advice(
    capsys: pytest.CaptureFixture[str], pipeline: str, lake: Path
) -> None:
    (lake / ".silversmith").mkdir(parents=True)
    (lake / ".silversmith/journal.db").write_bytes(b"no database" * 1000)
    assert call(["status", pipeline, "--lake", str(lake)]) == FAILED
    assert "move the file away" in capsys.readouterr().err


@pytest.mark.parametrize("debug", [False, True])
def test_a_bug_is_reported_as_one_and_with_its_traceback_only_on_request(
    capsys: pytest.CaptureFixture[str], *, debug: bool
) -> None:
    app = App(result_action="return_value")

    @app.command
    def boom() -> None:
        raise ZeroDivisionError("an evil\x1b[2J key")

    assert call(["boom"], app=app, debug=debug) == BUG
    out, errors = capsys.readouterr()
    assert out == ""
    assert "this is a bug in Silversmith: ZeroDivisionError: an evil\\x1b[2J key" in errors
    assert ("Traceback" in errors) is debug
    assert "\x1b" not in errors


@pytest.mark.full
def test_a_reader_that_has_had_enough_is_no_error(pipeline: str, lake: Path) -> None:
    for name in range(3):
        assert call(["put", pipeline, "--key", f"orders/{name}.csv", "--pipeline", pipeline, "--lake", str(lake)]) == 0
    for more in ([], ["--json"]):
        reading, writing = os.pipe()
        os.close(reading)
        done = subprocess.run(
            [sys.executable, "-m", "silversmith.cli", "status", pipeline, "--lake", str(lake), *more],
            stdout=writing,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=60,
        )
        os.close(writing)
        assert (done.returncode, done.stderr) == (0, "the user's own words\n")
