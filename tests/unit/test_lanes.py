"""Tasks side by side: what happens in their threads, what in the caller's, and what when the caller gives up."""

from __future__ import annotations

import threading

import pytest

from silversmith.function.batch import Closed, Lanes


def test_tasks_are_under_way_at_once() -> None:
    lanes: Lanes[bool] = Lanes(3)
    together = threading.Barrier(3)
    for _ in range(3):
        lanes.start(lambda: together.wait(20) >= 0)  # each waits for the two others
    assert [lanes.finished() for _ in range(3)] == [True] * 3
    assert lanes.under_way == 0


def test_what_is_brought_here_is_run_here_one_after_the_other() -> None:
    lanes: Lanes[str] = Lanes(4)
    threads: list[threading.Thread] = []

    def brought() -> str:
        threads.append(threading.current_thread())
        return "made"

    for _ in range(8):
        lanes.start(lambda: lanes.here(brought))
    assert [lanes.finished() for _ in range(8)] == ["made"] * 8
    assert threads == [threading.current_thread()] * 8


def test_an_error_is_raised_where_the_call_came_from() -> None:
    lanes: Lanes[str] = Lanes(1)

    def fail() -> str:
        raise KeyError("no")

    def task() -> str:
        try:
            return lanes.here(fail)
        except KeyError:
            return "caught in the lane"

    lanes.start(task)
    assert lanes.finished() == "caught in the lane"
    lanes.start(fail)
    with pytest.raises(KeyError):
        lanes.finished()


def test_who_gives_up_runs_nothing_more_and_leaves_nobody_waiting() -> None:
    lanes: Lanes[object] = Lanes(4)
    ran: list[int] = []
    raised: list[BaseException] = []

    def task() -> None:
        try:
            lanes.here(lambda: ran.append(1))
        except Closed as error:
            raised.append(error)
            raise

    for _ in range(6):
        lanes.start(task)
    lanes.abandon()
    assert (lanes.under_way, ran, len(raised)) == (0, [], 6)
    lanes.start(lambda: lanes.here(lambda: "again"))
    assert lanes.finished() == "again", "the next batch begins anew"
