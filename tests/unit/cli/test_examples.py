"""The examples below each command's help can be called, and --quiet is understood by what tells how it goes."""

from __future__ import annotations

import inspect
import shlex
from importlib import import_module
from pathlib import Path

import pytest
from cyclopts import Parameter

from silversmith.cli.application import COMMANDS, GROUPS, Command, application, call

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


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_a_usage_names_the_arguments_as_the_function_has_them(command: Command) -> None:
    module, _, name = command.function.partition(":")
    texts = []
    function = getattr(import_module(f"silversmith.cli.{module}"), name)
    for parameter in inspect.signature(function, eval_str=True).parameters.values():
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY:
            continue
        (names,) = [item.name for item in parameter.annotation.__metadata__ if isinstance(item, Parameter)]
        (text,) = names or ()
        if parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD:
            assert text == "--pipeline", "what is no option, too, is positional only: no DIR --DIR"
            text = "PIPELINE"
        many = "..." if parameter.kind is inspect.Parameter.VAR_POSITIONAL else ""
        is_needed = parameter.default is inspect.Parameter.empty
        texts.append(f"{text}{many}" if is_needed else f"[{text}]")
    assert command.arguments == " ".join(texts)


def test_help_lists_the_commands_in_groups_and_fits_80_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert call(["--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    titles = [line.split()[1] for line in lines if line.startswith("╭")]
    assert titles == [*GROUPS, "Options"]
    assert all(GROUPS.values())


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
