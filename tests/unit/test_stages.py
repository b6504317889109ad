"""The stopwatch."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from silversmith.function.outcome import Stages


def test_each_stage_has_the_time_since_the_one_before() -> None:
    ticks = iter([10.0, 11.0, 13.0, 17.0, 17.5])
    stages = Stages(lambda: next(ticks))
    for stage in ("read", "parse", "read", "commit"):
        stages.end(stage)
    assert stages.seconds == {"read": 5.0, "parse": 2.0, "commit": 0.5}


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 10**6)), max_size=20))
def test_nothing_is_counted_twice_and_nothing_is_left_out(laps: list[tuple[str, int]]) -> None:
    time = 0.0
    stages = Stages(lambda: time)
    for stage, ticks in laps:
        time += ticks
        stages.end(stage)
    assert sum(stages.seconds.values()) == sum(spent for _, spent in laps)
    assert list(stages.seconds) == list(dict.fromkeys(stage for stage, _ in laps))
