"""Times as people and programs read them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from silversmith.operations.text import age, iso, length, moment


@given(st.integers(0, 4_000_000_000_000))
def test_a_time_comes_back_to_the_millisecond(milliseconds: int) -> None:
    text = iso(milliseconds / 1000)
    assert text is not None
    result = moment(text)
    assert result is not None
    assert abs(result - milliseconds / 1000) < 0.0011


@pytest.mark.parametrize("text", ["", "yesterday", "2026-13-01T00:00:00"])
def test_invalid_times_are_none(text: str) -> None:
    assert moment(text) is None


def test_a_time_without_a_zone_is_utc() -> None:
    assert moment("1970-01-01T00:00:10") == 10


def test_an_age_is_never_negative() -> None:
    assert (age(10, 12.5), age(12.5, 10), age(None, 10)) == (2.5, 0.0, None)


def test_no_time_is_shown_as_none() -> None:
    assert iso(None) is None


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("10m", 600), ("2h", 7200), (" 1.5h ", 5400), ("3d", 259_200), ("1w", 604_800)]
)
def test_lengths_of_time(text: str, seconds: float) -> None:
    assert length(text) == seconds


@pytest.mark.parametrize("text", ["", "10", "m", "-1h", "1 h", "1h30m", "1e3s", "२h", "1.h", "nan", "9" * 12 + "s"])
def test_invalid_lengths_of_time_are_none(text: str) -> None:
    assert length(text) is None
