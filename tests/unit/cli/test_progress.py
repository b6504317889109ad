"""A run's progress: its speed, when a line is written, and what is worth a glance."""

from __future__ import annotations

import io
from contextlib import redirect_stdout
from dataclasses import replace

from silversmith.cli.screen import EVERY, RunDisplay, summary
from silversmith.local.engine import Progress

NOTHING = Progress(
    found=0, waiting=0, in_flight=0, done=0, duplicates=0, rows=0, rejected=0, quarantined=0, retries=0, dead=0
)


class Clock:
    """Shows what a test says."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_line_is_written_when_numbers_change_and_not_too_often() -> None:
    clock = Clock()
    with redirect_stdout(io.StringIO()) as out, RunDisplay("shop", clock=clock) as shows:
        shows.tick(NOTHING)
        assert out.getvalue() == "shop\n"
        shows.tick(replace(NOTHING, waiting=1))
        shows.tick(replace(NOTHING, done=1))
        assert out.getvalue().count("\n") == 2
        clock.now += EVERY
        shows.tick(replace(NOTHING, waiting=1))
        assert out.getvalue().count("\n") == 2
        clock.now += EVERY
        shows.tick(replace(NOTHING, done=1234, rows=5))
    assert "1,234 done" in out.getvalue().splitlines()[-1]
    assert out.getvalue().splitlines()[-1].endswith(f"{1_234 / EVERY:.1f} files/s")


def test_a_run_that_is_asked_for_json_shows_nothing() -> None:
    with redirect_stdout(io.StringIO()) as out, RunDisplay("shop", silent=True) as shows:
        shows.tick(replace(NOTHING, done=1))
    assert out.getvalue() == ""


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_silver_of_older_code_is_shown_where_there_is_any() -> None:
    for progress, expected in ((NOTHING, False), (replace(NOTHING, outdated=6), True)):
        with redirect_stdout(Terminal()) as out, RunDisplay("shop", clock=Clock()) as shows:
            shows.tick(progress)
        assert ("made by older code" in out.getvalue()) is expected


def test_the_display_escapes_its_title_and_clears_itself() -> None:
    with redirect_stdout(Terminal()) as out, RunDisplay("shop\x1b[2J[red]", clock=Clock()) as shows:
        shows.tick(replace(NOTHING, waiting=1_234, dead=2))
    assert "shop\\x1b[2J[red]" in out.getvalue()
    assert "1,234" in out.getvalue()
    assert "Ctrl-C" in out.getvalue()


def test_a_summary_names_only_what_there_is() -> None:
    assert summary(replace(NOTHING, done=1, rows=2), 3.0) == "1 file done (2 rows), in 3.0 s"
    everything = Progress(
        found=9, waiting=1, in_flight=1, done=2, duplicates=3, rows=4, rejected=5, quarantined=6, retries=7, dead=8,
        partial=1,
    )  # fmt: skip
    assert summary(everything, 60) == (
        "2 files done (4 rows), 1 of them partial (5 rows rejected), 3 already done, 6 quarantined, 8 in a DLQ, "
        "2 left, in 60 s"
    )
