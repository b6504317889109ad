"""Output on the screen and in pipes: escaped, aligned, never interpreted."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stderr, redirect_stdout

import pytest
from hypothesis import given
from hypothesis import strategies as st

from silversmith.cli.screen import colourful, say, say_json, say_lines, warn

anything = st.text(st.characters())


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@given(anything)
def test_a_line_is_one_line(text: str) -> None:
    with redirect_stdout(io.StringIO()) as out:
        say(text, style="bold red")
    assert out.getvalue().endswith("\n")
    assert out.getvalue()[:-1].isprintable()


def test_markup_is_text() -> None:
    with redirect_stdout(io.StringIO()) as out:
        say("[red]a[/red] [/] :smile: [link=x]")
    assert out.getvalue() == "[red]a[/red] [/] :smile: [link=x]\n"


def test_a_long_line_is_not_broken() -> None:
    with redirect_stdout(io.StringIO()) as out:
        say("word " * 500)
    assert out.getvalue().count("\n") == 1


def test_lines_are_indented() -> None:
    with redirect_stdout(io.StringIO()) as out:
        say_lines("a\nb", indent="  ")
    assert out.getvalue() == "  a\n  b\n"


@given(st.dictionaries(anything, anything | st.integers() | st.none()))
def test_json_comes_back_and_is_harmless(document: dict[str, object]) -> None:
    with redirect_stdout(io.StringIO()) as out:
        say_json(document)
    assert json.loads(out.getvalue()) == document
    assert out.getvalue().isascii()
    assert all(line.isprintable() for line in out.getvalue().split("\n"))


@given(anything)
def test_no_line_of_a_warning_can_pass_for_another(text: str) -> None:
    with redirect_stderr(io.StringIO()) as out:
        warn(text)
    first, *rest = out.getvalue().removesuffix("\n").split("\n")
    assert first.startswith("silversmith: ")
    assert all(line.startswith("  ") or not line for line in rest)
    assert all(line.isprintable() for line in (first, *rest))


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"TERM": "xterm-256color"}, True),
        ({"TERM": "xterm", "NO_COLOR": ""}, True),
        ({"TERM": "xterm", "NO_COLOR": "1"}, False),
        ({"TERM": "dumb"}, False),
        ({}, False),
    ],
)
def test_a_terminal_gets_colours_unless_it_or_its_owner_objects(environment: dict[str, str], *, expected: bool) -> None:
    with redirect_stdout(Terminal()):
        assert colourful(environment) is expected


def test_colours_are_for_terminals_only() -> None:
    with redirect_stdout(io.StringIO()):
        assert not colourful({"TERM": "xterm-256color"})
