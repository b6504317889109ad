"""The user's key patterns, and that EventBridge's patterns match the same keys."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from silversmith.patterns import InvalidPattern, KeyPattern, compile_pattern
from tests.examples import examples


@pytest.mark.parametrize(
    ("text", "hits", "misses"),
    [
        ("flights/*.csv", ["flights/a.csv", "flights/.csv", "flights/2013/a.csv"], ["flights.csv", "a/flights/a.csv"]),
        ("*", ["a", "a/b", ""], []),
        ("*.csv", ["a.csv", "a/b.csv"], ["a.CSV", "a.csv.gz"]),
        ("flights/*", ["flights/", "flights/a"], ["flights", "Flights/a"]),
        ("a*b*c", ["abc", "a/b/c"], ["acb", "abcd"]),
        ("flights.csv", ["flights.csv"], ["flightsXcsv", "flights.csv.gz"]),
        (r"a\*b", ["a*b"], ["aab", r"a\*b"]),
        (r"a\\*", ["a\\", "a\\b"], ["ab"]),
        (r"what\?", ["what?"], ["what", r"what\?"]),
        (r"a\[b]", ["a[b]"], ["ab"]),
        (r"\flights", ["flights"], [r"\flights"]),
        (r"\/a", ["/a"], ["a"]),
        (r"\**", ["*", "*a"], ["a"]),
        ("10.0.0.1", ["10.0.0.1"], ["010.0.0.1"]),
    ],
)
def test_matches(text: str, hits: list[str], misses: list[str]) -> None:
    pattern = KeyPattern.parse(text)
    assert [key for key in hits if not pattern.matches(key)] == []
    assert [key for key in misses if pattern.matches(key)] == []


@pytest.mark.parametrize(
    ("text", "prefix", "suffix", "leaf"),
    [
        ("flights/*.csv", "flights/", ".csv", [{"wildcard": "flights/*.csv"}]),
        ("a*b*c", "a", "c", [{"wildcard": "a*b*c"}]),
        ("*", "", "", [{"wildcard": "*"}]),
        ("flights.csv", "flights.csv", "flights.csv", ["flights.csv"]),
        (r"a\*\?b", "a*?b", "a*?b", ["a*?b"]),
        (r"a\**\\", "a*", "\\", [{"wildcard": r"a\**\\"}]),
        (r"\[x]*", "[x]", "", [{"wildcard": "[x]*"}]),
        ("10.0.0.1", "10.0.0.1", "10.0.0.1", [{"wildcard": "10.0.0.1"}]),
    ],
)
def test_the_pattern_for_aws(text: str, prefix: str, suffix: str, leaf: list[Any]) -> None:
    pattern = KeyPattern.parse(text)
    assert (pattern.text, pattern.literal_prefix, pattern.literal_suffix) == (text, prefix, suffix)
    assert pattern.event_pattern() == leaf


@pytest.mark.parametrize(
    ("text", "problem", "hint"),
    [
        ("", "it is empty", "Write * for every key"),
        ("/flights/*.csv", "it begins with /", "leave it out"),
        ("flights/**/*.csv", "it has **", "write a single one"),
        ("flight?.csv", "it has a bare ?", r"\?"),
        ("flights[0-9].csv", "it has a bare [", r"\["),
        ("flights\\", "it ends with a single \\", "\\\\ for a backslash"),
        ("ä" * 513, "it has 1,026 bytes", ""),
        ("a\ud800", "UTF-8 cannot hold", ""),
        ("s3://dl-bronze-layer/flights/*.csv", "begins with s3://", "'flights/*.csv'"),
        ("s3://dl-bronze-layer", "begins with s3://", "'*'"),
        ("{flights,trains}/*.csv", "{…,…}", "a pattern of its own"),
        (["flights/*", "trains/*"], "of type list", "Give one text, or several: "),
        (None, "of type NoneType", "Give one text"),
    ],
)
def test_refused(text: Any, problem: str, hint: str) -> None:
    with pytest.raises(InvalidPattern) as caught:
        KeyPattern.parse(text)
    assert str(caught.value).startswith("The key pattern ")
    assert problem in str(caught.value)
    assert hint in str(caught.value)


def test_braces_that_are_no_alternatives_are_literal() -> None:
    assert KeyPattern.parse(r"\{a,b}").matches("{a,b}")
    assert KeyPattern.parse("{a}").matches("{a}")


def test_1024_bytes_are_taken() -> None:
    assert KeyPattern.parse("ä" * 512).matches("ä" * 512)


def test_a_key_pattern_is_a_frozen_value() -> None:
    pattern = KeyPattern.parse("a*")
    assert pattern == KeyPattern.parse("a*")
    assert len({pattern, KeyPattern.parse("a*"), KeyPattern.parse("b*")}) == 2
    assert repr(pattern) == "KeyPattern(text='a*')"
    with pytest.raises(dataclasses.FrozenInstanceError):
        pattern.text = "b"  # type: ignore[misc]


TEXTS = st.lists(st.sampled_from(["a", "b", "/", ".", "*", r"\*", r"\\", r"\?", r"\[", "]", "ä", "\n"]), min_size=1)


@settings(max_examples=examples(500))
@given(pieces=TEXTS, key=st.text("ab/.*\\?[]ä\n", max_size=12))
@example(pieces=["1", ".", "0", ".", "0", ".", "1"], key="01.0.0.1")
def test_a_key_pattern_matches_as_its_pattern_for_eventbridge(pieces: list[str], key: str) -> None:
    text = "".join(pieces)
    try:
        pattern = KeyPattern.parse(text)
    except InvalidPattern:
        assert text.startswith("/") or "**" in text.replace(r"\\", "").replace(r"\*", "")
        return
    matcher = compile_pattern({"detail": {"object": {"key": pattern.event_pattern()}}})
    assert matcher.matches({"detail": {"object": {"key": key}}}) is pattern.matches(key)
    if pattern.matches(key):
        assert key.startswith(pattern.literal_prefix)
        assert key.endswith(pattern.literal_suffix)


# Several patterns.

PATTERN_TEXTS = ["a/*.csv", "a/b/*.csv", "b/*", "*.tsv", "exact.csv", r"a\*b*", "a/*", "ab*x"]
PATTERNS = st.lists(st.sampled_from(PATTERN_TEXTS), min_size=1, max_size=4)
KEYS = st.text("ab/.csvtx*", max_size=8) | st.sampled_from(["a/1.csv", "b/x", "a/b/1.csv", "x.tsv", "exact.csv", "a*b"])


@given(PATTERNS, KEYS)
def test_of_several_patterns_any_will_do(texts: list[str], key: str) -> None:
    several = KeyPattern.any_of(texts)
    singles = [KeyPattern.parse(text) for text in texts]
    assert several.matches(key) == any(pattern.matches(key) for pattern in singles)
    rule = compile_pattern({"detail": {"object": {"key": several.event_pattern()}}})
    assert rule.matches({"detail": {"object": {"key": key}}}) == several.matches(key)
    assert several.texts == tuple(dict.fromkeys(texts))
    assert KeyPattern.any_of(several.texts) == several
    if several.matches(key):
        assert sum(map(key.startswith, several.prefixes)) == 1
        assert key.startswith(several.literal_prefix)
    assert list(several.prefixes) == sorted(several.prefixes, key=str.encode)


def test_a_marker_is_taken_where_one_of_the_patterns_that_match_names_it() -> None:
    several = KeyPattern.any_of(["a/*", "*/_SUCCESS"])
    assert not several.passes_over("a/_SUCCESS", 0)
    assert several.passes_over("a/x.crc", 5)
    assert KeyPattern.any_of(["a/*", "b/*"]).passes_over("b/_SUCCESS", 0)


@pytest.mark.parametrize(
    ("texts", "key", "instead"),
    [
        (["flights/*.csv"], "flights/1.CSV", "flights/*.CSV"),
        (["x/*", "flights/*.csv"], "Flights/1.Csv", "Flights/*.Csv"),
        (["flights/*.csv"], "flights/1.CSV.gz", ""),
        (["flights/*.csv"], "flights/1.csv", ""),
        (["flights.csv"], "FLIGHTS.CSV", ""),
        (["{x}*.a"], "{X}1.a", r"\{X}*.a"),
    ],
)
def test_the_pattern_that_would_match_in_the_case_of_the_key(texts: list[str], key: str, instead: str) -> None:
    assert KeyPattern.any_of(texts).in_form_of(key) == instead


@pytest.mark.parametrize("texts", [[], ["a/*", ["b/*"]], ["a/*", "/b"]])
def test_several_of_which_one_cannot_be(texts: Any) -> None:
    with pytest.raises(InvalidPattern):
        KeyPattern.any_of(texts)
