"""A clock that is set moves what waits with it; one that only runs does not."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from silversmith.local import stack as stacks
from silversmith.local.engine import TOLERANCE, Clock, move_times, steady
from silversmith.local.journal import Journal
from silversmith.local.services import ServiceMessage, write
from silversmith.local.services.queue import QueueService


class Times:
    """The time of day and the steady time, both set by hand."""

    def __init__(self) -> None:
        self.day = 1_800_000_000.0
        self.steady = 50.0

    def clock(self) -> Clock:
        return Clock(lambda: self.day, lambda: self.steady)

    def pass_(self, seconds: float) -> None:
        self.day += seconds
        self.steady += seconds


@given(st.lists(st.floats(0, 1e6), max_size=5))
def test_time_that_passes_is_no_jump(passing: list[float]) -> None:
    times = Times()
    clock = times.clock()
    for seconds in passing:
        times.pass_(seconds)
        assert clock.jump() == 0.0
        assert clock.now() == times.day


@given(st.floats(TOLERANCE + 0.1, 1e9), st.booleans(), st.floats(0, 100))
def test_a_jump_is_reported_once(size: float, back: bool, passing: float) -> None:
    times = Times()
    clock = times.clock()
    times.pass_(passing)
    jump = -size if back else size
    times.day += jump
    assert clock.jump() == pytest.approx(jump, abs=1e-3)
    assert clock.jump() == 0.0


def test_small_corrections_are_no_jump_until_they_have_added_up() -> None:
    times = Times()
    clock = times.clock()
    actual = []
    for _ in range(10):
        times.day += TOLERANCE / 4
        actual.append(clock.jump())
    assert actual == [0.0, 0.0, 0.0, TOLERANCE] * 2 + [0.0, 0.0]


def test_the_steady_clock_goes_forward() -> None:
    first = steady()
    assert steady() >= first > 0


@pytest.mark.parametrize("jump", [86_400 * 365, -86_400 * 365])
def test_messages_wait_as_long_as_before(tmp_path: Path, jump: float) -> None:
    with closing(Journal(tmp_path / "journal.db")) as journal:
        queue = QueueService(journal, stacks.QueueResource("queue", "arn:queue", visibility_timeout=30, retention=100))
        with journal.transaction():
            queue.accept([ServiceMessage("topic", "arn:queue", "", key, "v", b"{}", 0.0) for key in ("a", "b")], 1000.0)
            write(journal, messages=[ServiceMessage("", "t", "", "c", "v", b"{}", 1000.0, 1010.0)])
        (received,) = queue.receive(1, 1000.0)
        move_times(journal, jump)
        now = 1000.0 + jump
        (message,) = queue.receive(10, now + 1)
        assert message.key != received.key, "the received one is hidden still"
        assert len(queue.receive(10, now + 30.5)) == 1, "until its time has come"
        assert len(queue.receive(10, now + 99)) == 2, "no retention has ended"
        assert queue.receive(10, now + 101) == []
        assert journal.rows("due", now=now + 9, most=10) == []
        assert len(journal.rows("due", now=now + 10, most=10)) == 1
