"""What a command shows: results to stdout, everything else to stderr; tables, bars, questions, signals."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.text import Text

from silversmith.operations.text import duration, lines, shown

if TYPE_CHECKING:
    from rich.progress import Progress, Task


#: No column of a table is cut to less.
NARROWEST = 8


def aligned(rows: Iterable[Sequence[object]], right: Iterable[int] = (), *, width: int | None = None) -> list[str]:
    """Rows as lines with straight columns, two spaces between; the columns named in ``right`` are set to the right.

    ``width``: of the terminal, in cells. What is wider is cut in its widest columns, where ``…`` stands for what is
    missing; numbers never are. None: nothing is cut.
    """
    cells = [[shown(cell) for cell in row] for row in rows]
    numbers = set(right)
    widths = [max(map(cell_len, column)) for column in zip(*cells, strict=True)]
    if width is not None:
        widths = _fitted(widths, numbers, width)
        cells = [[cell if at in numbers else cut(cell, widths[at]) for at, cell in enumerate(row)] for row in cells]
    return ["  ".join(_cell(cell, widths[at], at in numbers) for at, cell in enumerate(row)).rstrip() for row in cells]


def _fitted(widths: Sequence[int], fixed: Collection[int], width: int) -> list[int]:
    """Narrower columns, the widest first, until they fit or none is left that may be."""
    fitted = list(widths)
    while sum(fitted) + 2 * (len(fitted) - 1) > width:
        at = max((at for at in range(len(fitted)) if at not in fixed), key=lambda at: fitted[at], default=None)
        if at is None or fitted[at] <= NARROWEST:
            break
        fitted[at] -= 1
    return fitted


def cut(text: str, width: int) -> str:
    """A text of at most so many cells: the middle of a longer one is left out, because keys differ at their ends."""
    if cell_len(text) <= width:
        return text
    head = set_cell_size(text, (width - 1) // 2).rstrip()
    tail = text
    while cell_len(head) + 1 + cell_len(tail) > width:
        tail = tail[1:]
    return f"{head}…{tail}"


def _cell(text: str, width: int, to_the_right: bool) -> str:
    space = " " * (width - cell_len(text))
    return space + text if to_the_right else text + space


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


#: Told that so much more is done.
Advance = Callable[[float], None]


@contextmanager
def bar(unit: str, total: float | None = None, *, json: bool = False) -> Iterator[Advance]:
    """Shows a bar while the block lasts, below what is said meanwhile; nothing where output is piped, quiet or JSON.

    Args:
        unit: what is counted, as in ``files``; ``bytes`` are shown as sizes.
        total: how many there are; None: nobody knows, so there is a rate and no time left.
        json: one document is asked for, and nothing else.
    """
    if json or is_quiet() or not colourful():
        yield lambda _: None
        return
    with _progress(unit, known=total is not None) as progress:
        task = progress.add_task("", total=total)
        yield lambda more: progress.advance(task, more)


def _progress(unit: str, *, known: bool) -> Progress:
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(rate(task.completed, task.elapsed, unit, total=task.total))

    if unit == "bytes":
        columns = [BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()]
        return Progress(*columns, console=console(), transient=True)
    if known:
        return Progress(
            BarColumn(), MofNCompleteColumn(), Rate(), TimeRemainingColumn(), console=console(), transient=True
        )
    return Progress(BarColumn(), Rate(), console=console(), transient=True)


def rate(done: float, seconds: float | None, unit: str, *, total: float | None) -> str:
    """How fast it goes, and how far it is where that is not known otherwise: ``1,200 keys, 300/s, 4.0 s``."""
    speed = f"{done / max(seconds or 0.0, 0.1):,.0f}/s"
    return f"{speed} {unit}" if total is not None else f"{done:,.0f} {unit}, {speed}, {duration(seconds)}"


class _Told(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        warn(record.getMessage())


@contextmanager
def told() -> Iterator[None]:
    """While the block lasts, warnings of the logger ``silversmith`` go to stderr, and nowhere else."""
    logger = logging.getLogger("silversmith")
    handler, before = _Told(logging.WARNING), logger.propagate
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = before


_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stop:
    """While the block lasts, a signal only makes :attr:`asked` true. Call it to know.

    Args:
        at_once: what the second signal does, given its number.
    """

    def __init__(self, at_once: Callable[[int], None]) -> None:
        self.asked: int | None = None
        self._at_once = at_once
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Stop:
        for number in _SIGNALS:
            if signal.getsignal(number) != signal.SIG_IGN:  # nohup, for one, wants it to stay ignored
                self._before[number] = signal.signal(number, self._heard)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def __call__(self) -> bool:
        """Whether the run shall end."""
        return self.asked is not None

    def _heard(self, number: int, _frame: FrameType | None) -> None:
        if self.asked is not None:
            self._at_once(number)
        self.asked = number
