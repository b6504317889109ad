"""Where the commands write: results to stdout, everything else to stderr. Nothing else in ``cli/`` prints."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.text import Text

from silversmith.operations.text import lines, shown


def colourful(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether escape sequences are welcome: a terminal that understands them, and nobody said no (https://no-color.org)."""
    return sys.stdout.isatty() and not environment.get("NO_COLOR") and environment.get("TERM", "dumb") != "dumb"


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Let the exception through: application.py knows what to do, for every way to write alike."""
        raise BrokenPipeError


def console() -> Console:
    """A console on stdout that reads no markup out of any text, and writes no escape sequence where none is welcome."""
    if colourful():
        return _Console(markup=False, highlight=False, emoji=False)
    return _Console(markup=False, highlight=False, emoji=False, color_system=None, force_terminal=False)


def width() -> int | None:
    """The terminal's width in cells; None where output is piped, so that nothing is cut."""
    return console().width if sys.stdout.isatty() else None


_quiet = False


def hush(quiet: bool) -> None:
    """Whether :func:`say` says nothing from now on. JSON, warnings and errors come all the same."""
    global _quiet  # noqa: PLW0603 -- one process is one call of a command
    _quiet = quiet


def is_quiet() -> bool:
    """Whether nothing is to be said but what went wrong."""
    return _quiet


def say(text: object = "", style: str = "") -> None:
    """One line to stdout, whatever the text holds, unless it should be quiet. ``style`` is Rich's, for terminals."""
    if _quiet:
        return
    console().print(Text(shown(text), style=style), soft_wrap=True)


def say_lines(text: str, indent: str = "", style: str = "") -> None:
    """A text of several lines to stdout, indented."""
    for line in lines(text, indent):
        say(line, style)


def can_ask() -> bool:
    """Whether somebody is there to be asked: what they type comes from a terminal, and they see the question."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def ask(question: str) -> str | None:
    """What a person answers, in one line; None where nobody can be asked. The question goes to stderr."""
    if not can_ask():
        return None
    sys.stderr.write(shown(question))
    sys.stderr.flush()
    return sys.stdin.readline()


def say_json(document: Any, *, indent: int | None = 2) -> None:
    """One JSON document to stdout, in ASCII: so no text in it can do anything to a terminal.

    ``indent`` None: on one line.
    """
    text = json.dumps(document, indent=indent, ensure_ascii=True, allow_nan=False)
    sys.stdout.write(text.replace("\x7f", "\\u007f") + "\n")


def warn(text: str) -> None:
    """What a person should know, to stderr. Later lines of the text are indented under the first."""
    first, *rest = lines(f"silversmith: {text}")
    sys.stderr.write("\n".join([first, *(f"  {line}" if line else "" for line in rest)]) + "\n")
    sys.stderr.flush()
