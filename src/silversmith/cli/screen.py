"""The output of a command: results to stdout, everything else to stderr; tables, progress, questions, signals."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import astuple
from types import FrameType
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from silversmith.operations import WrongCall
from silversmith.operations.text import count, duration, lines, shown

if TYPE_CHECKING:
    from rich.live import Live
    from rich.progress import Task
    from rich.table import Table

    from silversmith.local.engine import Progress


def colourful(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether stdout is a terminal that understands escape sequences, and nobody forbids them (https://no-color.org)."""
    return sys.stdout.isatty() and not environment.get("NO_COLOR") and environment.get("TERM", "dumb") != "dumb"


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Let the exception through: application.py handles it in one place."""
        raise BrokenPipeError


def console(*, wraps: bool = False) -> Console:
    """A console on stdout that reads no markup out of any text. Piped output is not coloured, nor wrapped unless
    ``wraps``: then it is as wide as ``COLUMNS`` says, or 80."""
    colours: dict[str, Any] = {} if colourful() else {"color_system": None, "force_terminal": False}
    width = None if wraps or sys.stdout.isatty() else 100_000
    return _Console(markup=False, highlight=False, emoji=False, width=width, **colours)


#: The console of what changes in place at the moment: lines must go through it, to be drawn above that.
_drawing: Console | None = None


@contextmanager
def _drawn_by(screen: Console) -> Iterator[None]:
    global _drawing  # noqa: PLW0603 -- one process is one call of a command
    _drawing = screen
    try:
        yield
    finally:
        _drawing = None


_quiet = False


def set_quiet(quiet: bool) -> None:
    """Whether :func:`say` is silent from now on. JSON, warnings and errors come all the same."""
    global _quiet  # noqa: PLW0603 -- one process is one call of a command
    _quiet = quiet


def say(text: object = "", style: str = "") -> None:
    """Print one line to stdout, whatever the text holds, unless quiet. ``style`` is Rich's, for terminals."""
    if not _quiet:
        (_drawing or console()).print(Text(shown(text), style=style), soft_wrap=True)


def say_lines(text: str, indent: str = "", style: str = "") -> None:
    for line in lines(text, indent):
        say(line, style)


def say_table(
    rows: Iterable[Sequence[object]], *, header: Sequence[str] = (), right: Collection[int] = (), indent: int = 0
) -> None:
    """Print a table to stdout, unless quiet. The columns named in ``right`` are set to the right.

    On a terminal long texts are folded within their column; numbers never are.
    """
    if _quiet:
        return
    from rich.table import Table

    table: Table | None = None
    for row in ([header] if header else []) + list(rows):
        cells = [Text(shown(cell), style="bold" if row is header else "") for cell in row]
        if table is None:
            table = Table.grid(padding=(0, 2, 0, 0))
            for at in range(len(cells)):
                is_number = at in right
                table.add_column(justify="right" if is_number else "left", no_wrap=is_number, overflow="fold")
        table.add_row(*cells)
    if table is None:
        return
    screen = console()
    with screen.capture() as capture:
        screen.print(Padding(table, (0, 0, 0, indent), expand=False))
    for line in capture.get().splitlines():
        sys.stdout.write(line.rstrip() + "\n")


def can_ask() -> bool:
    """Whether a person can be asked: both stdin and stderr are a terminal."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def require_person(advice: str) -> None:
    """Raises WrongCall with this advice where nobody can be asked."""
    if not can_ask():
        raise WrongCall(f"nobody can be asked, because this is no terminal{advice}")


def ask(question: str) -> str | None:
    """Ask a person for one line; None where nobody can be asked. The question goes to stderr."""
    if not can_ask():
        return None
    sys.stderr.write(shown(question))
    sys.stderr.flush()
    return sys.stdin.readline()


def confirm(question: str) -> bool:
    return (ask(f"{question} [y/N] ") or "").strip().lower() in {"y", "yes"}


def say_json(document: Any, *, indent: int | None = 2) -> None:
    """Print one JSON document to stdout, in ASCII: no text in it can control a terminal.

    ``indent`` None: on one line.
    """
    text = json.dumps(document, indent=indent, ensure_ascii=True, allow_nan=False)
    sys.stdout.write(text.replace("\x7f", "\\u007f") + "\n")


def say_document(text: str) -> None:
    """Print a document to stdout as it is. It must be ASCII, and hold no control characters but ends of lines."""
    sys.stdout.write(text)


def warn(text: str) -> None:
    """Print a message for a person to stderr. Later lines of the text are indented under the first."""
    first, *rest = lines(f"silversmith: {text}")
    sys.stderr.write("\n".join([first, *(f"  {line}" if line else "" for line in rest)]) + "\n")
    sys.stderr.flush()


class _WarnHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        warn(record.getMessage())


@contextmanager
def log_to_stderr() -> Iterator[None]:
    """Send warnings of the logger ``silversmith`` to :func:`warn`, and nowhere else, while the block lasts."""
    logger = logging.getLogger("silversmith")
    handler, propagated = _WarnHandler(logging.WARNING), logger.propagate
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagated


@contextmanager
def progress_bar(unit: str, total: float | None = None, *, json: bool = False) -> Iterator[Callable[[float], None]]:
    """Show a bar below the other output while the block lasts; nothing where output is piped, quiet or JSON.

    Args:
        unit: what is counted, such as ``files``; ``bytes`` are shown as sizes.
        total: how many there are; None: unknown, so the bar shows only the rate.
        json: the command prints one JSON document.

    Returns:
        A function that advances the bar by a number.
    """
    if json or _quiet or not colourful():
        yield lambda _: None
        return
    from rich import progress as rich

    class Rate(rich.ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(rate(task.completed, task.elapsed, unit, total=task.total))

    if unit == "bytes":
        columns = [rich.DownloadColumn(), rich.TransferSpeedColumn(), rich.TimeRemainingColumn()]
    elif total is not None:
        columns = [rich.MofNCompleteColumn(), Rate(), rich.TimeRemainingColumn()]
    else:
        columns = [Rate()]
    with rich.Progress(rich.BarColumn(), *columns, console=console(), transient=True) as bar, _drawn_by(bar.console):
        task = bar.add_task("", total=total)
        yield lambda more: bar.advance(task, more)


def rate(done: float, seconds: float | None, unit: str, *, total: float | None) -> str:
    """The speed; and without a total, the count and the time: ``1,200 keys, 300/s, 4.0 s``."""
    speed = f"{done / max(seconds or 0.0, 0.1):,.0f}/s"
    return f"{speed} {unit}" if total is not None else f"{done:,.0f} {unit}, {speed}, {duration(seconds)}"


#: Piped output gets at most one line of progress in so many seconds.
EVERY = 2.0

#: The numbers of :func:`run_numbers` that need attention.
_BAD = frozenset({"quarantined", "in a DLQ"})

#: Those that a person may want to look at.
_DOUBTFUL = frozenset({"partial", "rows rejected", "made by older code"})


class RunDisplay:
    """Shows a run's progress while the block lasts: in place on a terminal, as lines where output is piped.

    Args:
        title: what runs.
        silent: show nothing, because the command prints one JSON document.
        clock: in seconds, only rising.
    """

    def __init__(self, title: str, *, silent: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        from silversmith.page.history import Rates

        self._title = title
        self._silent = silent
        self._clock = clock
        self._began = clock()
        self._rates = Rates(window=10.0)
        self._printed: Progress | None = None
        self._printed_at = float("-inf")
        self._live: Live | None = None
        self._drawn = ExitStack()
        if colourful() and not silent:
            from rich.live import Live

            # Warnings on stderr are drawn above the display, if they go to the same terminal.
            self._live = Live(
                console=console(), auto_refresh=False, transient=True, redirect_stderr=sys.stderr.isatty()
            )

    def __enter__(self) -> RunDisplay:
        if self._live is not None:
            self._live.start()
            self._drawn.enter_context(_drawn_by(self._live.console))
        elif not self._silent:
            say(self._title)
        return self

    def __exit__(self, *_: object) -> None:
        self._drawn.close()
        if self._live is not None:
            self._live.stop()

    def tick(self, progress: Progress) -> None:
        """Show the progress. Called a few times a second."""
        now = self._clock()
        done = progress.done + progress.duplicates + progress.quarantined + progress.dead + progress.markers
        self._rates.add(now, {"files": done})
        speed = f"{self._rates.per_second().get('files', 0.0):.1f} files/s"
        if self._live is not None:
            self._live.update(self._table(progress, f"{duration(now - self._began)}   {speed}"), refresh=True)
        elif not self._silent and self._is_news(progress, now):
            self._printed, self._printed_at = progress, now
            say(", ".join([*(f"{value:,} {name}" for name, value in run_numbers(progress)), speed]))

    def note(self, texts: Sequence[str]) -> None:
        """Show texts that stay, above what changes in place. Later lines of a text are indented."""
        for text in () if self._silent else texts:
            say_lines(text, style="red")

    def _is_news(self, progress: Progress, now: float) -> bool:
        return progress != self._printed and now - self._printed_at >= EVERY and any(astuple(progress))

    def _table(self, progress: Progress, pace: str) -> Table:
        from rich.table import Table

        head = Text(shown(self._title), style="bold").append(f"   {pace}", style="not bold dim")
        foot = "Ctrl-C ends the run; the next run does what is not finished"
        table = Table(
            title=head, caption=foot, title_justify="left", caption_justify="left", box=None, show_header=False
        )
        for name, value in run_numbers(progress):
            style = "bold red" if name in _BAD else "yellow" if name in _DOUBTFUL else ""
            table.add_row(f"{value:>12,}", name, style=style if value else "")
        return table


def run_numbers(progress: Progress) -> list[tuple[str, int]]:
    """The numbers of a run, in the order in which files pass."""
    numbers = [
        ("waiting", progress.waiting),
        ("in flight", progress.in_flight),
        ("done", progress.done),
        ("already done", progress.duplicates),
        ("rows", progress.rows),
        ("partial", progress.partial),
        ("rows rejected", progress.rejected),
        ("retries", progress.retries),
        ("quarantined", progress.quarantined),
        ("in a DLQ", progress.dead),
    ]
    return [*numbers, ("made by older code", progress.outdated)] if progress.outdated else numbers


def summary(progress: Progress, seconds: float) -> str:
    parts = [
        f"{count(progress.done, 'file')} done" + (f" ({count(progress.rows, 'row')})" if progress.done else ""),
        f"{progress.partial:,} of them partial ({count(progress.rejected, 'row')} rejected)"
        if progress.partial
        else "",
        f"{progress.duplicates:,} already done" if progress.duplicates else "",
        f"{count(progress.markers, 'marker')} passed over" if progress.markers else "",
        f"{progress.quarantined:,} quarantined" if progress.quarantined else "",
        f"{progress.dead:,} in a DLQ" if progress.dead else "",
        f"{progress.waiting + progress.in_flight:,} left" if progress.waiting + progress.in_flight else "",
    ]
    return ", ".join(filter(None, parts)) + f", in {duration(seconds)}"


_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stop:
    """While the block lasts, the first signal sets :attr:`asked`, and the second calls ``at_once`` with its number."""

    def __init__(self, at_once: Callable[[int], None]) -> None:
        self.asked: int | None = None
        self._at_once = at_once
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Stop:
        for number in _SIGNALS:
            if signal.getsignal(number) != signal.SIG_IGN:  # nohup, for one, relies on it
                self._before[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def __call__(self) -> bool:
        return self.asked is not None

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if self.asked is not None:
            self._at_once(number)
        self.asked = number
