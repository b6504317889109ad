"""The number of beginnings of wildcards that a value can match at once, and AWS's observed limits."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from silversmith.patterns import MOST_WILDCARD_STATES, InvalidPattern, wildcard_states
from tests.examples import examples

STACK = "*:stack/{}/*"


@pytest.mark.parametrize(
    ("wildcards", "taken"),
    [
        (["*.bif", "*.tiff", "*.tif", "*.svs"], True),
        (["*/datasync/*.bif", "*/datasync/*.tif"], True),
        (["*/datasync/*.bif", "*/datasync/*.tif", "*/datasync/*.tiff", "*/datasync/*.svs"], False),
        ([STACK.format(name) for name in ("Bench", "Shared", "Monitoring")], True),
        ([STACK.format(name) for name in ("Bench", "Shared", "Monitoring", "Web")], False),
        (["*:*:*:*:*:event-bus/*"], False),
    ],
)
def test_patterns_that_aws_takes_and_refuses(wildcards: list[str], taken: bool) -> None:
    assert (wildcard_states(wildcards) <= MOST_WILDCARD_STATES) is taken


@pytest.mark.parametrize(
    ("wildcards", "states"),
    [
        ([], 0),
        (["abc"], 1),
        (["*"], 2),  # the quotation mark, and the star after it
        (["flights/*.csv"], 2),
        (["flights/*.csv", "flights/*.csv"], 2),
        (["flights/*.csv", "trains/*.csv"], 2),
        (["aa*"], 2),
        (["*aaa"], 4),
        ([r"\*\*\*"], 1),
    ],
)
def test_states(wildcards: list[str], states: int) -> None:
    assert wildcard_states(wildcards) == states


def test_more_than_ten_are_always_too_many() -> None:
    names = [f"folder-{number}/*.csv" for number in range(11)]
    assert wildcard_states(names[:10]) == MOST_WILDCARD_STATES
    assert wildcard_states(names) > MOST_WILDCARD_STATES


def test_counts_that_would_take_too_long_are_too_many() -> None:
    names = [
        f"*{''.join('ab'[number >> bit & 1] for bit in range(12))}" for number in (0b10110, 0b1101001, 0b111000, 5)
    ]
    assert wildcard_states(names) > 4


def test_bad_wildcards_are_refused() -> None:
    with pytest.raises(InvalidPattern):
        wildcard_states(["a**"])


@settings(max_examples=examples(60), deadline=None)
@given(st.lists(st.sampled_from(["a", "b", "*a", "a*", "*a*b", "a*a", "b*b*", "ab*", "*"]), max_size=3, unique=True))
def test_counted_over_all_short_values(wildcards: list[str]) -> None:
    values = ['"' + "".join(letters) for size in range(6) for letters in product('ab"', repeat=size)]
    most = max(sum(beginnings('"' + text + '"', value) for text in wildcards) for value in values)
    assert wildcard_states(wildcards) == most


def beginnings(wildcard: str, value: str) -> int:
    """How many non-empty beginnings of the wildcard match the whole value."""
    reached = [[False] * (len(value) + 1) for _ in range(len(wildcard) + 1)]
    reached[0][0] = True
    for done, token in enumerate(wildcard, 1):
        for position in range(len(value) + 1):
            if token == "*":
                before = position > 0 and reached[done][position - 1]
                reached[done][position] = reached[done - 1][position] or before
            elif position > 0 and value[position - 1] == token:
                reached[done][position] = reached[done - 1][position - 1]
    return sum(row[-1] for row in reached[1:])
