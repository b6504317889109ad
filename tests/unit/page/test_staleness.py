"""When a transform has been silent for too long: by the deployment, or by the pauses that it had."""

from __future__ import annotations

import pytest

from silversmith.operations.reports import TransformStatus
from silversmith.operations.target import DayCounts, Hop, News
from silversmith.page.backend import silence
from silversmith.page.history import History
from silversmith.page.overview import LATE, FirstScreen, TransformRow, first_screen, transform_row
from silversmith.page.recent import LastFiles

HOUR = 3600.0

ORDERS = TransformStatus("orders", "orders/*.csv", 0, 0, None, 0, 0, 0, 0, 0, 0, 0, 0)


def files_at(*times: float) -> LastFiles:
    """A transform ``orders`` to which files came at these times."""
    files = LastFiles()
    news = [
        News(number, f"orders/{number}.csv", Hop("v", at, "function", "shop_orders", "committed", {}))
        for number, at in enumerate(times)
    ]
    files.take(news, {"shop_orders": "orders"})
    return files


def stale(files: LastFiles, now: float, expected: float | None = None) -> bool:
    return transform_row(ORDERS, files, History(), now, expected=expected).stale


def test_pauses_between_deliveries_say_how_often_files_come() -> None:
    times = [hour * HOUR + second for hour in range(4) for second in (0, 1, 2)]
    files = files_at(*times)
    assert files.pause("orders") == HOUR - 2
    last = times[-1]
    assert not stale(files, last + LATE * HOUR - 5)
    assert stale(files, last + LATE * HOUR)


def test_one_delivery_says_nothing() -> None:
    files = files_at(*range(50))
    assert files.pause("orders") is None
    assert not stale(files, 100 * HOUR)
    assert not stale(LastFiles(), 100 * HOUR)


def test_the_deployment_says_it_better() -> None:
    files = files_at(0.0, HOUR, 2 * HOUR, 3 * HOUR)
    assert stale(files, 3 * HOUR + 601, expected=600.0)
    assert not stale(files, 20 * HOUR, expected=24 * HOUR)


def test_on_aws_the_hours_in_which_files_came_say_it() -> None:
    def row(hours: list[int], now: float, expected: float | None = None) -> TransformRow:
        measured = DayCounts(hours=tuple(HOUR * hour for hour in hours))
        return transform_row(ORDERS, LastFiles(), History(), now, measured=measured, expected=expected)

    daily = [0, 24, 48, 72]
    assert (row(daily, 73 * HOUR).silent, row(daily, 72.5 * HOUR).silent) == (0.0, 0.0)
    assert not row(daily, (72 + 1 + 47) * HOUR).stale
    assert row(daily, (72 + 1 + 49) * HOUR).stale
    assert row(daily, (72 + 1 + 13) * HOUR, expected=12 * HOUR).stale
    assert not row([0, 1], 300 * HOUR).stale, "two pauses say nothing"
    assert (row([], 300 * HOUR, expected=HOUR).silent, row([], 300 * HOUR, expected=HOUR).stale) == (None, False)


def test_the_first_page_says_who_is_silent() -> None:
    first = FirstScreen(True, first_screen(None, LastFiles(), History(), 0.0).today, None, None, 0, 0, 0, 0, None, [])
    assert (first.level, first.says) == ("good", "All is well: nothing fails and nothing waits.")
    row = transform_row(ORDERS, files_at(0.0), History(), 5 * HOUR, expected=HOUR)
    late = FirstScreen(True, first.today, None, None, 0, 0, 0, 0, None, [row])
    assert (late.level, late.says) == (
        "partial",
        "Nothing fails and nothing waits; orders got no file for 5 h.",
    )


@pytest.mark.parametrize(("alarm_on", "seconds"), [((), None), (("quarantine", "silent>3d"), 3 * 86_400.0)])
def test_the_alarm_of_silence_says_when_a_file_is_expected(alarm_on: tuple[str, ...], seconds: float | None) -> None:
    assert silence(alarm_on) == seconds
