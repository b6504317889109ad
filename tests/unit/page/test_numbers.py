"""Rates, history, plots: numbers over time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from silversmith.operations.text import millis
from silversmith.page.overview import HEIGHT, bars, ceiling, draw, line, per_second
from silversmith.page.recent import SPANS, FileEvent, History, Rates, quantile

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
    history = History()
    history.add([seen(NOW - 1), seen(NOW - 2), seen(NOW - 1, "failed", None), seen(NOW - 15), seen(NOW - 80_000)])
    history.depth(NOW, 7)
    *_, before, last = history.points(SPAN, NOW)
    assert (before.done, last.done, last.failed, last.median, last.waiting) == (0.1, 0.2, 0.1, 5.0, 7)
    assert sum(point.done * SPANS["24h"].step for point in history.points(SPANS["24h"], NOW)) == 4


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
    history = History()
    assert [plot.name for plot in draw(history.points(SPAN, NOW), SPAN, counted=False)] == ["waiting"]
    history.add([seen(NOW - 1, total=1234.0)])
    throughput, latency, _ = draw(history.points(SPAN, NOW), SPAN, counted=True)
    assert "0.1/s" in throughput.says
    assert "1.2 s" in latency.says


def test_words() -> None:
    assert [millis(value) for value in (0, 0.42, 85, 1234, 65_000, 600_000)] == [
        "0 ms", "0.4 ms", "85 ms", "1.2 s", "65 s", "10 min",
    ]  # fmt: skip
    assert [per_second(value) for value in (0, 0.1, 12.34, 1234.5)] == ["0/s", "0.1/s", "12.3/s", "1,234/s"]
    assert quantile([], 0.5) is None
    assert quantile([1, 2, 3], 0.95) == 3
