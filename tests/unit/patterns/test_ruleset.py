"""Many patterns at once: the same answers as one by one, and not the same cost."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from silversmith.patterns import Dialect, InvalidPattern, compile_pattern, compile_patterns

LEAVES = st.sampled_from(
    [
        "ab", "abc", "b", "", 1, 2.5, True, False, None, "10.0.0.1", {"prefix": "a"}, {"prefix": "ab"}, {"prefix": ""},
        {"suffix": "c"}, {"suffix": "bc"}, {"wildcard": "a*c"}, {"wildcard": "*b*"}, {"wildcard": "abc"},
        {"wildcard": "*c"}, {"equals-ignore-case": "AB"}, {"numeric": ["=", 1]}, {"numeric": [">", 1]},
        {"anything-but": "ab"}, {"anything-but": [1]}, {"exists": True}, {"exists": False}, {"cidr": "10.0.0.0/8"},
    ]
)  # fmt: skip
PATHS = st.sampled_from(["a", "b", "a.b", "d.e", "d.f"])
PATTERNS = st.dictionaries(PATHS, st.lists(LEAVES, min_size=1, max_size=3), min_size=1, max_size=3)
WITH_OR = st.builds(lambda plain, one, two: {**plain, "$or": [one, two]}, PATTERNS, PATTERNS, PATTERNS)
VALUES = st.sampled_from(["ab", "abc", "b", "", "AB", "xbc", 1, 1.0, 2.5, True, False, None, "010.0.0.1"])
EVENTS = st.dictionaries(
    st.sampled_from(["a", "b", "d", "a.b"]),
    st.recursive(
        VALUES,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("bef"), inner, max_size=3),
        max_leaves=8,
    ),
)


@settings(max_examples=250, deadline=None)
@given(patterns=st.lists(PATTERNS | WITH_OR, max_size=8), event=EVENTS)
def test_the_same_as_one_by_one(patterns: list[Any], event: Any) -> None:
    named = {f"rule {number}": pattern for number, pattern in enumerate(patterns)}
    expected = [name for name, pattern in named.items() if compile_pattern(pattern).matches(event)]
    assert compile_patterns(named).matching(event) == expected


def test_names_come_in_the_order_given_and_once() -> None:
    rules = compile_patterns(
        {"z": {"a": [1]}, "or": {"$or": [{"a": [1]}, {"b": [1]}]}, "no": {"a": [2]}, "a": '{"a": [{"exists": true}]}'}
    )
    assert rules.names == ("z", "or", "no", "a")
    assert rules.matching({"a": 1, "b": 1}) == ["z", "or", "a"]
    assert rules.matching({}) == []


@pytest.mark.parametrize("event", [None, [], "a", 1])
def test_what_is_no_object_matches_none(event: Any) -> None:
    assert compile_patterns({"a": {"a": [{"exists": False}]}}).matching(event) == []


def test_an_invalid_pattern_is_named() -> None:
    with pytest.raises(InvalidPattern) as caught:
        compile_patterns({"good": {"a": [1]}, "bad": {"a": []}})
    assert caught.value.__notes__ == ["This is the pattern named 'bad'."]


def test_dialects() -> None:
    rules = compile_patterns({"all": {}, "some": {"a": [1]}}, dialect=Dialect.SNS_MESSAGE_BODY)
    assert rules.matching({"a": 2}) == ["all"]


class Counting(str):
    """A value that counts how often it is asked how it begins: once for each rule that is tried in full."""

    asked = 0

    def startswith(self, *arguments: Any) -> bool:
        type(self).asked += 1
        return super().startswith(*arguments)


@pytest.mark.parametrize("count", [10, 1000])
def test_only_the_rules_that_a_value_points_to_are_tried(count: int) -> None:
    # every rule shares its source and its suffix with all others: only the prefix tells them apart
    rules = compile_patterns(
        {
            f"rule {number}": {"source": ["aws.s3"], "key": [{"wildcard": f"folder-{number:04}/*.csv"}]}
            for number in range(count)
        }
    )
    Counting.asked = 0
    assert rules.matching({"source": "aws.s3", "key": Counting("folder-0007/a.csv")}) == ["rule 7"]
    assert rules.matching({"source": "aws.s3", "key": Counting("elsewhere/a.csv")}) == []
    assert Counting.asked == 1
