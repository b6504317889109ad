"""Chaos: what it may do, and that a seed decides it."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from silversmith.local.chaos import SHORTEST_DELAY, Chaos, Rates

rates = st.builds(
    Rates, st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), longest_delay=st.floats(SHORTEST_DELAY, 1000)
)


@given(st.integers(), rates)
def test_a_post_arrives_never_once_or_twice_and_never_later_than_allowed(seed: int, given_rates: Rates) -> None:
    chaos = Chaos(seed, given_rates)
    for _ in range(20):
        arrivals = chaos.arrivals()
        assert len(arrivals) <= 2
        assert all(delay == 0 or SHORTEST_DELAY <= delay <= given_rates.longest_delay for delay in arrivals)


@given(st.integers(), rates, st.lists(st.integers(), max_size=20))
def test_a_seed_decides_everything(seed: int, given_rates: Rates, items: list[int]) -> None:
    one, other = Chaos(seed, given_rates), Chaos(seed, given_rates)
    for _ in range(5):
        assert one.arrivals() == other.arrivals()
        shuffled = one.shuffled(items)
        assert shuffled == other.shuffled(items)
        assert Counter(shuffled) == Counter(items)


@pytest.mark.parametrize(
    ("given_rates", "expected"),
    [
        (Rates(loss=1), {0}),
        (Rates(duplicates=0, delays=0), {1}),
        (Rates(duplicates=1), {2}),
    ],
)
def test_never_and_always(given_rates: Rates, expected: set[int]) -> None:
    chaos = Chaos(1, given_rates)
    assert {len(chaos.arrivals()) for _ in range(200)} == expected


def test_by_default_nothing_is_lost() -> None:
    chaos = Chaos(1)
    found = Counter(len(chaos.arrivals()) for _ in range(2000))
    assert set(found) == {1, 2}
    assert 100 < found[2] < 300


@pytest.mark.parametrize("name", ["loss", "duplicates", "delays"])
@pytest.mark.parametrize("rate", [-0.1, 1.1, float("nan")])
def test_a_rate_is_from_never_to_always(name: str, rate: float) -> None:
    with pytest.raises(ValueError, match=f"{name} must be from 0"):
        Rates(**{name: rate})


def test_a_delay_has_a_length() -> None:
    with pytest.raises(ValueError, match="longest_delay must be"):
        Rates(longest_delay=0)
