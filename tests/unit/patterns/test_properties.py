"""Properties of the operators, each against an independent naive form of its rule."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from functools import cache
from ipaddress import ip_address, ip_network
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from silversmith.patterns import InvalidPattern, compile_pattern
from tests.examples import examples

SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8)
)
JSON = st.recursive(
    SCALARS | st.sampled_from(["a", "b", 1, 0]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from("ab") | st.text(max_size=4), inner),
    max_leaves=20,
)


def hit(leaf: Any, value: Any) -> bool:
    return compile_pattern({"f": [leaf]}).matches({"f": value})


def naive_wildcard(tokens: tuple[str, ...], text: str) -> bool:
    """Tokens are characters, and "" for a star."""

    @cache
    def rest(at: int, position: int) -> bool:
        if at == len(tokens):
            return position == len(text)
        if tokens[at] == "":
            return rest(at + 1, position) or (position < len(text) and rest(at, position + 1))
        return position < len(text) and text[position] == tokens[at] and rest(at + 1, position + 1)

    return rest(0, 0)


@settings(max_examples=examples(500))
@given(tokens=st.lists(st.sampled_from(["a", "b", "*", "\\", ""]), max_size=10), text=st.text("ab*\\", max_size=14))
def test_wildcard(tokens: list[str], text: str) -> None:
    assume(all(first or second for first, second in pairwise(tokens)))  # no star after a star
    written = "".join({"": "*", "*": r"\*", "\\": r"\\"}.get(token, token) for token in tokens)
    assert hit({"wildcard": written}, text) is naive_wildcard(tuple(tokens), text)
    assert hit({"anything-but": {"wildcard": written}}, text) is not naive_wildcard(tuple(tokens), text)


def test_hostile_keys_cost_wildcards_nothing() -> None:
    matcher = compile_pattern({"f": [{"wildcard": "*a" * 30 + "*b"}, {"wildcard": "*" + "ab*" * 300 + "c"}]})
    started = time.process_time()
    assert not matcher.matches({"f": "a" * 100_000})
    assert not matcher.matches({"f": "ab" * 50_000 + "a"})
    assert time.process_time() - started < 1


NUMBERS = st.integers(-6, 6) | st.floats(-6, 6) | st.sampled_from([-5e9, 5e9, 5e9 + 1, 2.5, -0.0])
OPERATORS: dict[str, Callable[[float, float], bool]] = {
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}


@given(operator=st.sampled_from(sorted(OPERATORS)), bound=st.integers(-6, 6) | st.floats(-6, 6), value=NUMBERS)
def test_numeric_comparison(operator: str, bound: float, value: float) -> None:
    assert hit({"numeric": [operator, bound]}, value) is (OPERATORS[operator](value, bound) and abs(value) <= 5e9)


@given(low=st.sampled_from([">", ">="]), bottom=NUMBERS, high=st.sampled_from(["<", "<="]), top=NUMBERS, value=NUMBERS)
def test_numeric_range(low: str, bottom: float, high: str, top: float, value: float) -> None:
    leaf = {"numeric": [low, bottom, high, top]}
    if bottom >= top or max(abs(bottom), abs(top)) > 5e9:
        try:
            hit(leaf, value)
        except InvalidPattern:
            return
        raise AssertionError(leaf)
    assert hit(leaf, value) is (OPERATORS[low](value, bottom) and OPERATORS[high](value, top))


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


@given(one=SCALARS, other=SCALARS | st.sampled_from([0, 1, 0.0, 1.0, True, False, None, "", "1"]))
@example(one=1, other=True)
@example(one=0.0, other=False)
def test_exact_is_equality_in_json(one: Any, other: Any) -> None:
    same_kind = type(one) is type(other) or (is_number(one) and is_number(other))
    looks_like_addresses = isinstance(one, str) and isinstance(other, str) and ("." in one or ":" in one)
    assume(not looks_like_addresses)
    assert hit(one, other) is (same_kind and one == other)
    if is_number(one) and abs(one) <= 5e9:
        assert hit({"anything-but": one}, other) is not hit(one, other)
        assert hit({"numeric": ["=", one]}, other) is (same_kind and one == other)


@given(text=st.text("aB\nüß\u017f", max_size=5), value=st.text("aAbB\nüÜßSs\u017f", max_size=6))
def test_text_operators(text: str, value: str) -> None:
    assert hit({"prefix": text}, value) is value.startswith(text)
    assert hit({"suffix": text}, value) is value.endswith(text)
    whole = {""}
    for character in text:
        whole = {before + form for before in whole for form in (character.lower(), character.upper())}
    assert hit({"equals-ignore-case": text}, value) is (value in whole)
    assert hit({"prefix": {"equals-ignore-case": text}}, value) is any(map(value.startswith, whole))
    assert hit({"suffix": {"equals-ignore-case": text}}, value) is any(map(value.endswith, whole))


@given(
    block=st.ip_addresses(v=4, network="10.0.0.0/24") | st.ip_addresses(v=6, network="2001:db8::/120"),
    bits=st.integers(0, 31),
    value=st.ip_addresses(v=4, network="10.0.0.0/23") | st.ip_addresses(v=6, network="2001:db8::/119"),
)
def test_cidr(block: Any, bits: int, value: Any) -> None:
    bits += 96 if block.version == 6 else 0
    expected = value in ip_network(f"{block}/{bits}", strict=False)
    assert hit({"cidr": f"{block}/{bits}"}, str(value)) is expected
    assert hit({"cidr": f"{block}/{bits}"}, ip_address(str(value)).exploded) is expected


CONJUNCTIONS = st.dictionaries(
    st.sampled_from("abc"), st.lists(st.sampled_from("xy"), min_size=1, max_size=2), min_size=1
)
FLAT_EVENTS = st.dictionaries(st.sampled_from("abc"), st.sampled_from("xy"))


@given(
    plain=st.dictionaries(st.sampled_from("de"), st.lists(st.sampled_from("xy"), min_size=1)),
    alternatives=st.lists(CONJUNCTIONS, min_size=2, max_size=3),
    others=st.lists(CONJUNCTIONS, min_size=2, max_size=3),
    event=FLAT_EVENTS,
    rest=st.dictionaries(st.sampled_from("de"), st.sampled_from("xy")),
    inner=FLAT_EVENTS,
)
def test_or_is_what_it_multiplies_out_to(
    plain: Any, alternatives: Any, others: Any, event: Any, rest: Any, inner: Any
) -> None:
    pattern = {**plain, "$or": alternatives, "n": {"$or": others}}
    expanded = [
        compile_pattern({**plain, **alternative, "n": other}) for alternative in alternatives for other in others
    ]
    whole = {**event, **rest, "n": inner}
    assert compile_pattern(pattern).matches(whole) is any(matcher.matches(whole) for matcher in expanded)


@settings(max_examples=examples(300))
@given(pattern=st.dictionaries(st.sampled_from(["a", "b", "$or", "a.b"]), JSON, max_size=3), event=JSON)
def test_any_json_is_a_pattern_or_refused_and_no_event_raises(pattern: Any, event: Any) -> None:
    text = json.dumps(pattern)
    try:
        matcher = compile_pattern(pattern)
    except InvalidPattern as error:
        with pytest.raises(InvalidPattern, match=re.escape(str(error))):
            compile_pattern(text)
        return
    whole = {"a": event, "b": event, "$or": event}
    assert compile_pattern(text.encode()).matches(whole) is matcher.matches(whole)


LEAVES = st.sampled_from(
    [
        "x", 1, True, None, {"prefix": "a"}, {"suffix": "a"}, {"wildcard": "*a*"}, {"equals-ignore-case": "ä"},
        {"numeric": [">", 0]}, {"cidr": "10.0.0.0/8"}, {"exists": True}, {"exists": False}, {"anything-but": ["a"]},
        {"anything-but": [1]}, {"anything-but": {"prefix": "a"}}, {"prefix": {"equals-ignore-case": "a"}}, "10.0.0.1",
    ]
)  # fmt: skip


@settings(max_examples=examples(250))
@given(
    fields=st.dictionaries(
        st.sampled_from(["a", "b", "a.b", "a.a", "b.a.b", "a.b.a"]),
        st.lists(LEAVES, min_size=1, max_size=3),
        min_size=1,
    ),
    event=st.dictionaries(st.sampled_from(["a", "b", "a.b", "b.a", ""]), JSON),
)
def test_matching_is_total(fields: Any, event: Any) -> None:
    assert compile_pattern(fields).matches(event) in {True, False}
