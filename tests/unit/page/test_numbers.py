"""Rates, history, plots: numbers over time."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from silversmith.local.journal import TALLIES
from silversmith.local.tallies import RELATIVE_ERROR
from silversmith.operations.text import millis
from silversmith.page.history import (
    HEIGHT,
    SPANS,
    SPARK_HEIGHT,
    FileCounts,
    History,
    Rates,
    bars,
    ceiling,
    draw,
    line,
    per_second,
    spark,
)
from tests.unit.page.numbers import Ended, Recorded, history_of

NOW = 1_767_355_205.0
SPAN = SPANS["10m"]


def test_a_rate_is_over_the_last_seconds() -> None:
    rates = Rates()
    assert rates.per_second() == {}
    for second in range(20):
        rates.add(second, {"x": second * 3})
    assert rates.per_second() == {"x": 3}
    rates.add(20, {"x": 1})
    assert rates.per_second() == {}, "the counter began anew"


def test_steps_count_what_ended_in_them() -> None:
    ends = (Ended(NOW - 1), Ended(NOW - 2), Ended(NOW - 1, "failed"), Ended(NOW - 15), Ended(NOW - 80_000))
    series = history_of(*ends, now=NOW).all
    series.depth(NOW - 1, 7)
    series.depth(NOW, 4)
    *_, before, last = series.steps(SPAN, NOW)
    assert (before.done, last.done, last.failed, last.waiting) == (1, 2, 1, 7)
    median = last.latencies.quantile(0.5)
    assert median is not None
    assert abs(median - 5) <= 5 * RELATIVE_ERROR
    assert sum(step.done for step in series.steps(SPANS["24h"], NOW)) == 4


@given(st.lists(st.tuples(st.floats(0, 5), st.integers(0, 1000)), min_size=1))
def test_a_rate_is_never_negative_and_forgets(steps: list[tuple[float, int]]) -> None:
    rates, now, total = Rates(), 0.0, 0
    for seconds, more in steps:
        now, total = now + seconds, total + more
        rates.add(now, {"x": total})
        assert 0 <= rates.per_second().get("x", 0) < math.inf
    for second in range(1, 10):
        rates.add(now + second, {"x": total})
    assert rates.per_second() == {"x": 0}


TIMES = st.lists(st.tuples(st.floats(0, 9 * 60), st.floats(0.01, 1e7)), min_size=1, max_size=60)


@given(TIMES, st.sampled_from([0.5, 0.95]))
def test_the_latency_is_right_and_the_same_in_every_range(times: list[tuple[float, float]], share: float) -> None:
    """For any range, and so any steps of the numbers, the median is that of all files."""
    series = history_of(*[Ended(NOW - ago, took=took) for ago, took in times], now=NOW).all
    exact = sorted(took for _, took in times)[math.ceil(share * len(times)) - 1]
    shown = {series.over(span, NOW).latencies.quantile(share) for span in SPANS.values()}
    (point,) = shown
    assert point is not None
    assert abs(point - exact) <= exact * RELATIVE_ERROR * 1.0001


def test_more_files_than_a_step_could_ever_keep() -> None:
    series = history_of(*[Ended(NOW - 1, took=860.0 if number < 200 else 3000.0) for number in range(636)], now=NOW).all
    median = series.over(SPAN, NOW).latencies.quantile(0.5)
    assert median is not None
    assert abs(median - 3000) < 30


def test_memory_is_bounded() -> None:
    recorded, history = Recorded(), History()
    for number in range(400):
        now = NOW + number * 900
        recorded.add(Ended(now))
        history.all.depth(now, number)
        history.read(recorded.rows, now)
    for series in (history.all, history.of("t")):
        assert all(len(slots) <= TALLIES[width] // width + 1 for width, slots in series._slots.items())
        assert all(len(depths) <= 61 for depths in series._depths.values())
    assert history.all.steps(SPAN, now)[-1].waiting == 399


def test_slots_that_may_have_grown_are_read_again() -> None:
    """The newest one, and the one before: a worker's result is written with the time at which it came."""
    recorded, history = Recorded(), History()
    for at in (NOW, NOW + 1, NOW + 9, NOW + 21, NOW + 19, NOW + 5, NOW + 22):
        recorded.add(Ended(at))
        history.read(recorded.rows, NOW + 15)
    assert history.all.over(SPAN, NOW + 25).done == history.of("t").today(NOW + 25).done == 7


def test_today_by_transform_and_in_all() -> None:
    partly = Ended(NOW, rows_read=4, rows_rejected=3, rows_written=1, broken={"positive": 2, "column id": 1})
    ends = (
        partly,
        Ended(NOW, rows_written=1),
        Ended(NOW, transform="u"),
        Ended(NOW, "quarantined"),
        Ended(NOW, "gone"),
    )
    history = history_of(*ends, now=NOW)
    today = history.of("t").today(NOW)
    assert (today.done, today.partial, today.failed, today.rows, today.rejected) == (2, 1, 1, 2, 3)
    assert today.broken == {"positive": 2, "column id": 1}
    assert (history.all.today(NOW).done, history.of("none").today(NOW).done) == (3, 0)
    assert history.all.today(NOW + 2 * 86_400).done == 0


@pytest.fixture(params=["UTC", "Asia/Kathmandu", "America/St_Johns", "Europe/Berlin", "Pacific/Chatham"])
def zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[ZoneInfo]:
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield ZoneInfo(request.param)
    monkeypatch.undo()
    time.tzset()


#: Before a day of 23 hours in Berlin, and one of 25 hours there.
SPRING, AUTUMN = 1_774_573_200.0, 1_792_875_600.0


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_day_begins_at_midnight_where_the_page_runs(zone: ZoneInfo, data: st.DataObject) -> None:
    now = data.draw(st.sampled_from([SPRING, AUTUMN])) + data.draw(st.floats(0, 4 * 86_400))
    ends = [now - ago for ago in data.draw(st.lists(st.floats(0, 47 * 3600), max_size=30))]
    today = datetime.fromtimestamp(now, zone).date()
    expected = sum(datetime.fromtimestamp(at, zone).date() == today for at in ends)
    assert history_of(*[Ended(at) for at in ends], now=now).all.today(now).done == expected


def test_a_sparkline_shows_one_failure_among_thousands() -> None:
    drawn = spark([FileCounts(done=5000, failed=1), FileCounts()])
    assert len(drawn) == 1
    assert drawn[0].failed > SPARK_HEIGHT * 0.05
    assert drawn[0].failed_top >= -0.01


@given(st.floats(0, 1e12, allow_subnormal=False))
def test_a_ceiling_is_round_and_not_below(highest: float) -> None:
    top = ceiling(highest)
    assert top >= highest * 0.99999
    assert f"{top:e}"[0] in "125"


@given(st.lists(st.tuples(st.floats(0, 1e6), st.floats(0, 1e6)), min_size=1, max_size=50))
def test_bars_stay_inside(values: list[tuple[float, float]]) -> None:
    top = ceiling(max(done + failed for done, failed in values))
    for bar in bars([(done, failed, "") for done, failed in values], top):
        assert -0.01 * HEIGHT <= bar.failed_top <= bar.done_top + 0.02 <= HEIGHT + 0.04


def test_a_line_has_gaps() -> None:
    assert line([None, None], 1) == ""
    assert line([1, 1, None, 1], 1).count("M") == 2


def test_values_of_plots() -> None:
    series = history_of(Ended(NOW - 1, took=1234.0), now=NOW).all
    assert [plot.name for plot in draw(series, SPAN, NOW, counted=False)] == ["waiting"]
    throughput, latency, _ = draw(series, SPAN, NOW, counted=True)
    assert "0.1/s" in throughput.says
    assert "half of 1 file took at most 1.2 s" in latency.says


def test_words() -> None:
    assert [millis(value) for value in (0, 0.42, 85, 1234, 65_000, 600_000)] == [
        "0 ms", "0.4 ms", "85 ms", "1.2 s", "65 s", "10 min",
    ]  # fmt: skip
    assert [per_second(value) for value in (0, 0.1, 12.34, 1234.5)] == ["0/s", "0.1/s", "12.3/s", "1,234/s"]
