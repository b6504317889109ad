"""A command that sends many files: stopped or cut short it says how to go on, in one line that a shell takes."""

from __future__ import annotations

import io
import shlex
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from silversmith.cli.options import Where
from silversmith.cli.send import MOST_UNASKED, Sending, SendOptions
from silversmith.operations import WrongCall
from silversmith.operations.pace import Certainty, Counts, TooManyFailures
from silversmith.operations.send import ReplayBatch
from silversmith.operations.target import FileTime
from silversmith.pipeline import Pipeline


class Idle:
    """A target over which no engine runs."""

    def running(self) -> bool:
        return False

    def file_time(self, transform: str) -> FileTime | None:
        return FileTime(0.06, "measured", 4096.0) if transform == "orders" else None


TARGET: Any = Idle()


def sending(*, json: bool = False, dry_run: bool = False) -> Sending:
    where = Where(lake=Path("my lake"))
    return Sending(["replay", "orders/*"], {}, "pipeline.py", where, SendOptions(dry_run=dry_run), json)


def batches(*keys: str, error: BaseException) -> Iterator[ReplayBatch]:
    for key in keys:
        yield ReplayBatch("orders", [key], sizes=[1], place=f"orders/{key}")
    raise error


def test_where_the_brake_stops_it_it_says_how_to_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    command = replace(
        sending(), options={"--since": "2026-11-30T12:00:00.000+00:00", "--force": True, "--changed": False}
    )
    failing = batches("a.csv", "it's b.csv", error=TooManyFailures("7 of the last 20 files failed"))
    assert len(list(command.paced(failing, TARGET))) == 2
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


def test_no_failure_at_all_may_be_asked_for_again() -> None:
    command = replace(sending(), how=SendOptions(max_failures=0.0))
    list(command.paced(batches("a.csv", error=TooManyFailures("one failed")), TARGET))
    assert "--max-failures=0.0" in command.document()["again"]


def test_an_interrupt_says_how_to_go_on_and_goes_through(capsys: pytest.CaptureFixture[str]) -> None:
    command = sending()
    with pytest.raises(KeyboardInterrupt), command.cut_short():
        list(command.paced(batches("a.csv", error=KeyboardInterrupt()), TARGET))
    assert "cut short after 1 file; to go on: silversmith replay " in capsys.readouterr().err


def test_before_the_first_file_there_is_nothing_to_go_on_from(capsys: pytest.CaptureFixture[str]) -> None:
    command = sending()
    with pytest.raises(KeyboardInterrupt), command.cut_short():
        list(command.paced(batches(error=KeyboardInterrupt()), TARGET))
    assert capsys.readouterr().err == ""


def test_a_key_that_no_terminal_shows_is_no_place(capsys: pytest.CaptureFixture[str]) -> None:
    """It goes on a little before: what is sent twice is done once."""
    command = sending()
    unprintable = batches("a.csv", "b\x1b[2J", "c\n.csv", error=TooManyFailures("no"))
    list(command.paced(unprintable, TARGET))
    command.end()
    assert "--after=orders/a.csv" in capsys.readouterr().err


def test_what_ends_by_itself_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    command = sending()
    whole = [ReplayBatch("orders", ["a"], sizes=[1], place="orders/a")]
    assert list(command.paced(whole, TARGET)) == whole
    assert (command.end(), command.document(), capsys.readouterr().err) == (
        0,
        {"stopped": "", "again": "", "takes": None},
        "",
    )


class Terminal(io.StringIO):
    """A person's terminal."""

    def isatty(self) -> bool:
        return True


def shop() -> Pipeline:
    pipeline = Pipeline("shop")
    pipeline.sql("orders/*", "SELECT * FROM rows", name="orders")
    return pipeline


def agree(counts: Counts, certainty: Certainty = Certainty.AT_MOST, *, json: bool = False) -> None:
    command = replace(sending(json=json), where=Where(target="aws"))
    command.require_agreement(lambda: (counts, certainty), shop(), TARGET)


def test_few_files_are_sent_without_a_question(capsys: pytest.CaptureFixture[str]) -> None:
    agree({"orders": (MOST_UNASKED, 10**9)})
    assert capsys.readouterr().out == ""


def test_where_nobody_can_be_asked_many_files_need_a_yes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(WrongCall, match=r"at most 1,001 files would be sent\. .*--dry-run.*--yes"):
        agree({"orders": (MOST_UNASKED, 4_096_000), "": (1, 0)})
    assert capsys.readouterr().out == (
        "orders: at most 1,000 files, 4.1 MB: 11 s with 50 at once, $0.01\n"
        "every transform that matches: at most 1 file\n"
    )
    with pytest.raises(WrongCall):
        agree({"orders": (MOST_UNASKED + 1, 1)}, json=True)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(("answer", "is_sent"), [("y\n", True), ("yes\n", True), ("\n", False), ("n\n", False)])
def test_a_person_is_asked(monkeypatch: pytest.MonkeyPatch, answer: str, is_sent: bool) -> None:
    asked = Terminal()
    monkeypatch.setattr(sys, "stdin", Terminal(answer))
    monkeypatch.setattr(sys, "stderr", asked)
    refused = nullcontext() if is_sent else pytest.raises(WrongCall, match="nothing was sent")
    with refused:
        agree({"orders": (1_000_000, 4_096_000_000)}, Certainty.EXACT)
    assert asked.getvalue() == "Send 1,000,000 files? [y/N] "


def test_a_dry_run_counts_what_it_would_send() -> None:
    command = replace(sending(dry_run=True), where=Where(target="aws"))
    whole = [
        ReplayBatch("orders", ["a", "b"], sizes=[10, 20], place="orders/b"),
        ReplayBatch("orders", ["c"], sizes=[5]),
    ]
    assert len(list(command.paced(whole, TARGET))) == 2
    plan = command.plan = command.plan_of(command._counts, Certainty.EXACT, shop(), TARGET)
    assert (plan.files, plan.size, plan.to_dict()["certainty"]) == (3, 35, "exact")
    assert command.document()["takes"]["transforms"][0]["transform"] == "orders"
