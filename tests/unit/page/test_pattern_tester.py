"""The pattern tester says what the rule would, and why not."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from silversmith import Pipeline
from silversmith.events import ObjectEvent, object_created
from silversmith.keypatterns import KeyPattern
from silversmith.page.transforms import NothingToTry, try_text, why_not

PIPELINE = Pipeline("shop")
PIPELINE.sql("a/*b*.csv", "select * from rows", name="rows")


@given(st.text("ab/.csv", min_size=1, max_size=12))
def test_a_key_is_taken_exactly_when_its_pattern_matches(key: str) -> None:
    assume(key.strip())
    (answer,) = try_text(key, PIPELINE)[0].answers
    assert answer.takes == KeyPattern.parse("a/*b*.csv").matches(key)
    assert bool(answer.why) != answer.takes


def test_reasons() -> None:
    pattern = KeyPattern.parse("a/*b*.csv")
    assert why_not(pattern, "x") == "the key does not begin with a/"
    assert why_not(pattern, "a/x.csv") == "after a/ there is no b in the key"
    assert why_not(pattern, "a/b.txt") == "the key does not end with .csv"
    assert "no room" in why_not(KeyPattern.parse("ab*ba"), "aba")
    assert "no *" in why_not(KeyPattern.parse("x"), "y")


def test_an_event() -> None:
    event = object_created(ObjectEvent("elsewhere", "a/b.csv"), reason="PutObject").decode()
    (answer,) = try_text(event, PIPELINE)[0].answers
    assert "detail.bucket.name" in answer.why[0]
    native = '{"Records": [{"s3": {"bucket": {"name": "dl-bronze-layer"}, "object": {"key": "a/b+c.csv"}}}]}'
    verdict = try_text(native, PIPELINE)[0]
    assert (verdict.key, verdict.answers[0].takes) == ("a/b c.csv", True)


@pytest.mark.parametrize("text", ["", "  ", "{", "{}", '{"Event": "s3:TestEvent"}', "x" * 1025])
def test_texts_that_are_no_key_and_no_event_are_refused(text: str) -> None:
    with pytest.raises(NothingToTry):
        try_text(text, PIPELINE)
