"""A pattern and a key that look the same and are written in different Unicode normal forms."""

from __future__ import annotations

import json
import unicodedata
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from silversmith import Pipeline
from silversmith.keypatterns import InvalidPattern, KeyPattern
from silversmith.operations.reports import trace
from silversmith.patterns import compile_pattern

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.unit.conftest import Bench

    Make = Callable[[Pipeline], Bench]

COMPOSED, DECOMPOSED = "\u00dcbung", "U\u0308bung"


@pytest.mark.parametrize(("folder", "other"), [(COMPOSED, DECOMPOSED), (DECOMPOSED, COMPOSED)])
def test_trace_says_that_the_forms_differ(make: Make, folder: str, other: str) -> None:
    pipeline = Pipeline("shop")
    pipeline.transform(f"{folder}/*.csv", name="orders")(lambda rows: rows)
    pipeline.transform("b/*", name="others")(lambda rows: rows)
    bench = make(pipeline)
    bench.land(f"{other}/a.csv")
    bench.work()
    with bench.opened() as target:
        hops = trace(f"{other}/a.csv", pipeline, target)
        assert hops.forms == {"orders": f"{other}/*.csv"}
        assert KeyPattern.parse(hops.forms["orders"]).matches(f"{other}/a.csv")
        assert json.loads(json.dumps(hops.to_dict()))["forms"] == hops.forms
        unknown = trace(f"{folder}/a.csv", pipeline, target)
        assert (unknown.known, unknown.near, unknown.forms) == (False, [f"{other}/a.csv"], {})


def test_a_pattern_that_matches_has_no_other_form() -> None:
    assert KeyPattern.parse(f"{COMPOSED}/*").in_form_of(f"{COMPOSED}/a.csv") == ""
    assert KeyPattern.parse(f"{COMPOSED}/*").in_form_of("b/a.csv") == ""
    assert KeyPattern.parse("a/*").in_form_of(f"{DECOMPOSED}/a.csv") == ""


@given(st.text(alphabet="aü\u0308o\u0301é*/각", max_size=8), st.text(alphabet="aü\u0308o\u0301é/각", max_size=8))
def test_the_pattern_that_is_named_matches_for_eventbridge_too(text: str, key: str) -> None:
    try:
        pattern = KeyPattern.parse(text)
    except InvalidPattern:
        return
    form = pattern.in_form_of(key)
    if form:
        assert unicodedata.normalize("NFC", form) == unicodedata.normalize("NFC", text)
        assert compile_pattern({"key": KeyPattern.parse(form).event_pattern()}).matches({"key": key})
        assert not compile_pattern({"key": pattern.event_pattern()}).matches({"key": key})
