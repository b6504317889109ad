"""``silversmith erase`` as a person calls it: keys from a file, the plan and the question in a terminal."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.cli.conftest import Call

PIPELINE = """
from silversmith import Pipeline

pipeline = Pipeline("shop")

@pipeline.transform("people/*.csv")
def people(rows):
    return rows
"""

BRONZE = Path("lake/dl-bronze-layer")
KEYS = ["people/jane.csv", "people/jürgen.csv", "people/joe.csv"]


@pytest.fixture(autouse=True)
def landed(call: Call) -> None:
    """Three files in bronze."""
    Path("body.csv").write_text("id\n1\n")
    for key in KEYS:
        assert call("put", "body.csv", "--key", key)[0] == 0


def left() -> list[str]:
    return [key for key in KEYS if (BRONZE / key).exists()]


def test_keys_from_a_file_are_erased_beside_those_that_are_named(call: Call) -> None:
    """As an editor writes it: an empty line, a key twice, no newline at the end."""
    Path("keys.txt").write_text(f"{KEYS[0]}\n\n{KEYS[0]}\n{KEYS[1]}", "utf-8")
    code, out, _ = call("erase", KEYS[2], "--from", "keys.txt", "--dry-run", "--json")
    assert (code, json.loads(out)["keys"], left()) == (0, [KEYS[2], *KEYS[:2]], KEYS)
    assert call("erase", "--from", "keys.txt", "--yes", "--report", "report.json")[0] == 0
    report = json.loads(Path("report.json").read_text("utf-8"))
    assert (report["keys"], report["verified"], left()) == (KEYS[:2], True, KEYS[2:])


@pytest.mark.parametrize(
    ("body", "expected"),
    [(None, "keys.txt"), (b"people/\xff.csv\n", "no text in UTF-8"), (b"\n\n", "at least one key")],
)
def test_a_file_of_keys_that_is_none(call: Call, body: bytes | None, expected: str) -> None:
    if body is not None:
        Path("keys.txt").write_bytes(body)
    code, _, errors = call("erase", "--from", "keys.txt", "--yes")
    assert code != 0
    assert expected in errors
    assert "Traceback" not in errors
    assert left() == KEYS


def test_lines_that_end_as_on_windows_are_keys(call: Call) -> None:
    Path("keys.txt").write_bytes("\r\n".join([*KEYS, ""]).encode())
    assert call("erase", "--from", "keys.txt", "--yes")[0] == 0
    assert left() == []


@pytest.mark.parametrize(("answer", "code", "expected"), [("", 1, KEYS), ("n", 1, KEYS), ("y", 0, KEYS[1:])])
def test_the_plan_and_the_question_in_a_terminal(answer: str, code: int, expected: list[str]) -> None:
    ours, theirs = pty.openpty()
    os.write(ours, f"{answer}\n".encode())  # the terminal keeps it until it is read
    command = [sys.executable, "-m", "silversmith.cli", "erase", KEYS[0]]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80", "NO_COLOR": "1"}
    process = subprocess.Popen(command, env=environment, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    output = b""
    try:
        while part := os.read(ours, 65536):
            output += part
    except OSError:  # on Linux that is how a terminal ends
        pass
    os.close(ours)
    assert process.wait(60) == code, output
    shown = output.decode().replace("\r", "")
    assert f"dl-bronze-layer/{KEYS[0]}  (object)" in shown
    plan, question = shown.index(KEYS[0]), shown.index("It cannot be undone. [y/N]")
    assert plan < question
    assert ("nothing is left" in shown) == (answer == "y")
    assert left() == expected


def test_nobody_can_be_asked_where_there_is_no_terminal(call: Call) -> None:
    code, _, errors = call("erase", KEYS[0])
    assert code != 0
    assert "say yes with --yes" in errors
    assert left() == KEYS
