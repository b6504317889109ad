"""Failures by cause."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from silversmith.operations.failures import Failures
from silversmith.operations.target import DeadKind, DeadMessage
from silversmith.page.failures import NAMED, alike, causes

Dead = tuple[DeadKind, str | None, str]


def dead(kind: DeadKind, transform: str | None, code: str, key: str = "k") -> DeadMessage:
    error = {"code": code, "message": f"of {code}", "hint": "mend it"} if code else None
    return DeadMessage("1", kind, "source", "queue", transform, key, "v", "given up", 0.0, None, None, error)


def failures(messages: list[DeadMessage]) -> Failures:
    return Failures([], 0, messages, len(messages), 0.0)


@given(st.lists(st.tuples(st.sampled_from(DeadKind), st.sampled_from(["a", "b", None]), st.sampled_from(["", "X"]))))
def test_every_failure_is_in_one_cause(those: list[Dead]) -> None:
    grouped = causes(failures([dead(*each) for each in those]))
    expected = Counter((transform, code, kind.value) for kind, transform, code in those)
    assert {(cause.transform, cause.code, cause.where): cause.count for cause in grouped} == expected
    assert [cause.count for cause in grouped] == sorted(expected.values(), reverse=True)


def test_a_few_keys_are_named_and_all_are_counted() -> None:
    (cause,) = causes(failures([dead(DeadKind.QUEUE, "a", "X", f"{number}") for number in range(NAMED + 5)]))
    assert (cause.count, cause.keys) == (NAMED + 5, [f"{number}" for number in range(NAMED)])
    assert (cause.message, cause.hint) == ("of X", "mend it")


@pytest.mark.parametrize(
    ("kind", "code", "title"),
    [
        (DeadKind.QUEUE, "X", "X"),
        (DeadKind.QUEUE, "", "Received too often"),
        (DeadKind.SUBSCRIPTION, "", "Undelivered by the topic"),
        (DeadKind.RULE, "", "Undelivered by the rule"),
        (DeadKind.UNKNOWN, "", "From a queue that the pipeline no longer has"),
    ],
)
def test_titles(kind: DeadKind, code: str, title: str) -> None:
    (cause,) = causes(failures([dead(kind, "a", code)]))
    assert (cause.title, cause.can_redrive) == (title, kind is not DeadKind.UNKNOWN)


@given(st.lists(st.tuples(st.sampled_from(DeadKind), st.sampled_from(["a", "b", None]), st.sampled_from(["", "X"]))))
def test_one_code_in_several_transforms_is_one_cause_at_a_glance(those: list[Dead]) -> None:
    every = causes(failures([dead(*each) for each in those]))
    groups = alike(every)
    assert sorted(map(id, every)) == sorted(id(cause) for group in groups for cause in group)
    assert all(len({(cause.code, cause.where) for cause in group}) == 1 for group in groups)
    assert all(len(group) == 1 or group[0].code for group in groups), "without a code nobody knows whether it is one"
    with_code = [group[0] for group in groups if group[0].code]
    assert len({(cause.code, cause.where) for cause in with_code}) == len(with_code)
    totals = [sum(cause.count for cause in group) for group in groups]
    assert totals == sorted(totals, reverse=True)
