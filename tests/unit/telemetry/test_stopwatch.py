"""Seconds by stage."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from silversmith.telemetry.stopwatch import Stopwatch


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 10**6)), max_size=20))
def test_nothing_is_counted_twice_and_nothing_is_left_out(laps: list[tuple[str, int]]) -> None:
    time = 0.0
    watch = Stopwatch(lambda: time)
    for stage, microseconds in laps:
        time += microseconds / 10**6
        watch.lap(stage)
    assert sum(round(seconds * 10**6) for seconds in watch.laps.values()) == sum(spent for _, spent in laps)
    assert list(watch.laps) == list(dict.fromkeys(stage for stage, _ in laps))
