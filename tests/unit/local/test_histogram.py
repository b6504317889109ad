"""Quantiles of many values in little memory."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from silversmith.local.tallies import RELATIVE_ERROR, Histogram

VALUES = st.lists(st.floats(1e-5, 1e12), min_size=1, max_size=200)


def of(values: list[float]) -> Histogram:
    histogram = Histogram()
    for value in values:
        histogram.add(value)
    return histogram


@given(VALUES, st.floats(0.001, 1))
def test_a_quantile_is_the_exact_one_to_within_a_hundredth(values: list[float], share: float) -> None:
    exact = sorted(values)[max(0, math.ceil(share * len(values) - 1e-9) - 1)]
    quantile = of(values).quantile(share)
    assert quantile is not None
    assert abs(quantile - exact) <= exact * RELATIVE_ERROR * 1.000001
    assert quantile <= max(values)


@given(VALUES, VALUES, st.floats(0, 1))
def test_parts_add_up_to_the_whole(some: list[float], others: list[float], share: float) -> None:
    merged = of(some)
    merged.merge(of(others))
    assert merged.quantile(share) == of(some + others).quantile(share)
    assert merged.count == len(some) + len(others)


def test_without_values_there_is_none_and_zero_is_a_value() -> None:
    assert Histogram().quantile(0.5) is None
    assert of([0.0, 0.0]).quantile(0.5) == 0.0
