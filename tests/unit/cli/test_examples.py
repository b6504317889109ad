"""The examples below each command's help can be called, and --quiet is understood by what tells how it goes."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from silversmith.cli.application import COMMANDS, application, call

LINES = [line for command in COMMANDS for line in command.examples]


def test_every_command_has_examples() -> None:
    assert all(command.examples for command in COMMANDS)
    assert all(line.startswith(f"silversmith {command.name}") for command in COMMANDS for line in command.examples)


@pytest.mark.parametrize("line", LINES)
def test_every_example_is_understood(line: str) -> None:
    _, *arguments = shlex.split(line)
    application().parse_args(arguments, exit_on_error=False, print_error=False)


def test_help_shows_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["put", "--help"]) == 0
    shown = capsys.readouterr().out
    assert "Examples:" in shown
    assert "silversmith put data --target aws" in shown


def test_quiet_says_what_went_wrong_and_nothing_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["init", str(tmp_path / "shop"), "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")
    assert call(["init", str(tmp_path / "shop"), "-q"]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert "there already" in output.err
    assert call(["init", str(tmp_path / "other")]) == 0
    assert capsys.readouterr().out


@pytest.mark.parametrize(
    ("typed", "meant"), [("stauts", '"status"'), ("reconcil", '"reconcile"'), ("status --jsn", "--json")]
)
def test_typing_errors_get_a_suggestion(typed: str, meant: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(typed.split()) == 2
    assert f"Did you mean {meant}?" in capsys.readouterr().err
