"""Rates, history, plots: numbers over time."""

from __future__ import annotations

import math
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from silversmith.operations.histogram import RELATIVE_ERROR
from silversmith.operations.text import millis
from silversmith.page.history import SPANS, FileCounts, History, Rates, Series
from silversmith.page.plots import HEIGHT, SPARK_HEIGHT, bars, ceiling, draw, line, per_second, spark
from silversmith.page.recent import FileEvent

NOW = 1_767_355_205.0
SPAN = SPANS["10m"]


def seen(at: float, outcome: str = "committed", total: float | None = 5.0) -> FileEvent:
    return FileEvent(1, "k", "v", "t", outcome, at, 1, 0, 1, 1, "", (), total)


def test_a_rate_is_over_the_last_seconds() -> None:
    rates = Rates()
    assert rates.per_second() == {}
    for second in range(20):
        rates.add(second, {"x": second * 3})
    assert rates.per_second() == {"x": 3}
    rates.add(20, {"x": 1})
    assert rates.per_second() == {}, "the counter began anew"


def test_points_count_what_ended_in_them() -> None:
    series = Series()
    for event in (seen(NOW - 1), seen(NOW - 2), seen(NOW - 1, "failed", None), seen(NOW - 15), seen(NOW - 80_000)):
        series.add(event)
    series.depth(NOW, 7)
    *_, before, last = series.points(SPAN, NOW)
    assert (before.done, last.done, last.failed, last.waiting) == (0.1, 0.2, 0.1, 7)
    assert last.median is not None
    assert abs(last.median - 5) <= 5 * RELATIVE_ERROR
    assert sum(point.done * SPANS["24h"].step for point in series.points(SPANS["24h"], NOW)) == 4


TIMES = st.lists(st.tuples(st.floats(0, 9 * 60), st.floats(0.01, 1e7)), min_size=1, max_size=60)


@given(TIMES, st.sampled_from([0.5, 0.95]))
def test_the_latency_is_right_and_the_same_in_every_range(times: list[tuple[float, float]], share: float) -> None:
    """For any range, and so any steps of the numbers, the median is that of all files."""
    series = Series()
    for ago, took in times:
        series.add(seen(NOW - ago, total=took))
    exact = sorted(took for _, took in times)[math.ceil(share * len(times)) - 1]
    shown = {series.over(span, NOW).latencies.quantile(share) for span in SPANS.values()}
    (point,) = shown
    assert point is not None
    assert abs(point - exact) <= exact * RELATIVE_ERROR * 1.0001


def test_more_files_than_a_step_could_ever_keep() -> None:
    series = Series()
    for number in range(636):
        series.add(seen(NOW - 1, total=860.0 if number < 200 else 3000.0))
    median = series.over(SPAN, NOW).latencies.quantile(0.5)
    assert median is not None
    assert abs(median - 3000) < 30


def test_memory_is_bounded_and_what_is_too_old_is_left_out() -> None:
    series = Series()
    for number in range(5000):
        series.add(seen(NOW + number * 60))
    late = NOW + 5000 * 60
    assert sum(len(newest.kept) for newest in series._steps.values()) <= 3 * 62
    assert len(series._days.kept) == 2
    before = series.today(late).done
    series.add(seen(NOW))
    assert series.today(late).done == before


def test_today_by_transform_and_in_all() -> None:
    history = History()
    partly = replace(seen(NOW), rows_read=4, rejected=3, rows=1, broken={"positive": 2, "column id": 1})
    history.add([partly, seen(NOW), replace(seen(NOW), transform="u"), seen(NOW, "quarantined")])
    today = history.of("t").today(NOW)
    assert (today.done, today.partial, today.failed, today.rows, today.rejected) == (2, 1, 1, 2, 3)
    assert today.broken == {"positive": 2, "column id": 1}
    assert (history.all.today(NOW).done, history.of("none").today(NOW).done) == (3, 0)
    assert history.all.today(NOW + 2 * 86_400).done == 0


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
    series = Series()
    assert [plot.name for plot in draw(series, SPAN, NOW, counted=False)] == ["waiting"]
    series.add(seen(NOW - 1, total=1234.0))
    throughput, latency, _ = draw(series, SPAN, NOW, counted=True)
    assert "0.1/s" in throughput.says
    assert "half of 1 file took at most 1.2 s" in latency.says


def test_words() -> None:
    assert [millis(value) for value in (0, 0.42, 85, 1234, 65_000, 600_000)] == [
        "0 ms", "0.4 ms", "85 ms", "1.2 s", "65 s", "10 min",
    ]  # fmt: skip
    assert [per_second(value) for value in (0, 0.1, 12.34, 1234.5)] == ["0/s", "0.1/s", "12.3/s", "1,234/s"]
