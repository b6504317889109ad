"""A command that sends many files: stopped or cut short it says how to go on, in one line that a shell takes."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from silversmith.cli.options import Where
from silversmith.cli.sending import Sending
from silversmith.operations.pace import TooManyFailures
from silversmith.operations.send import ReplayBatch


class Idle:
    """A target over which no engine runs."""

    def running(self) -> bool:
        return False


TARGET: Any = Idle()


def sending(**options: object) -> Sending:
    where = Where(lake=Path("my lake"))
    return Sending(
        "replay", "orders/*", pipeline="pipeline.py", options=options, where=where, rate=None, max_failures=0.1
    )


def batches(*keys: str, error: BaseException) -> Iterator[ReplayBatch]:
    for key in keys:
        yield ReplayBatch("orders", [key], sizes=[1], place=f"orders/{key}")
    raise error


def test_where_the_brake_stops_it_it_says_how_to_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    command = sending(**{"--since": "2026-11-30T12:00:00.000+00:00", "--force": True, "--changed": False})
    failing = batches("a.csv", "it's b.csv", error=TooManyFailures("7 of the last 20 files failed"))
    assert len(list(command.paced(failing, TARGET, after="", dry_run=False))) == 2
    assert command.end() == 1
    first, second = capsys.readouterr().err.splitlines()
    assert first == "silversmith: stopped after 2 files: 7 of the last 20 files failed"
    assert second.startswith("  to go on: ")
    assert shlex.split(second.removeprefix("  to go on: ")) == [
        "silversmith", "replay", "orders/*", "--since=2026-11-30T12:00:00.000+00:00", "--force", "--lake=my lake",
        "--max-failures=0.1", "--after=orders/it's b.csv",
    ]  # fmt: skip
    assert command.document()["stopped"] == "7 of the last 20 files failed"
    assert command.document()["again"].startswith("silversmith replay")


def test_an_interrupt_says_how_to_go_on_and_goes_through(capsys: pytest.CaptureFixture[str]) -> None:
    command = sending()
    with pytest.raises(KeyboardInterrupt), command.cut_short():
        list(command.paced(batches("a.csv", error=KeyboardInterrupt()), TARGET, after="", dry_run=False))
    assert "cut short after 1 file; to go on: silversmith replay " in capsys.readouterr().err


def test_before_the_first_file_there_is_nothing_to_go_on_from(capsys: pytest.CaptureFixture[str]) -> None:
    command = sending()
    with pytest.raises(KeyboardInterrupt), command.cut_short():
        list(command.paced(batches(error=KeyboardInterrupt()), TARGET, after="", dry_run=False))
    assert capsys.readouterr().err == ""


def test_a_key_that_no_terminal_shows_is_no_place(capsys: pytest.CaptureFixture[str]) -> None:
    """It goes on a little before: what is sent twice is done once."""
    command = sending()
    unprintable = batches("a.csv", "b\x1b[2J", "c\n.csv", error=TooManyFailures("no"))
    list(command.paced(unprintable, TARGET, after="", dry_run=False))
    command.end()
    assert "--after=orders/a.csv" in capsys.readouterr().err


def test_what_ends_by_itself_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    command = sending()
    whole = [ReplayBatch("orders", ["a"], sizes=[1], place="orders/a")]
    assert list(command.paced(whole, TARGET, after="", dry_run=False)) == whole
    assert (command.end(), command.document(), capsys.readouterr().err) == (0, {"stopped": "", "again": ""}, "")
