"""The bus room: every event against every rule."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from silversmith.local.journal import Journal
from silversmith.local.services import ServiceMessage, write
from silversmith.local.services.bus import BusService
from silversmith.local.stack import Rule
from silversmith.patterns import compile_pattern
from tests.examples import examples


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with closing(Journal(tmp_path / "journal.db")) as journal:
        yield journal


def rule(name: str, prefix: str, *targets: str) -> Rule:
    pattern = {"source": ["aws.s3"], "detail": {"object": {"key": [{"prefix": prefix}]}}}
    return Rule(name, f"arn:rule/{name}", compile_pattern(pattern), tuple(targets or (f"arn:topic:{name}",)))


def event(key: str, number: int = 1) -> ServiceMessage:
    body = orjson.dumps({"source": "aws.s3", "detail": {"object": {"key": key}}})
    return ServiceMessage("arn:bucket", "arn:bus", "", key, "v1", body, 5.0)


def accept(journal: Journal, bus: BusService, *posts: ServiceMessage) -> None:
    with journal.transaction():
        accepted = bus.accept(posts, 7.0)
        assert not accepted.refused
        write(journal, messages=accepted.onward)


def onward(journal: Journal) -> list[tuple[object, ...]]:
    """Source, target, delivery and key of what the bus sent on."""
    return [row[:4] for row in journal.rows("due", now=1e9, most=1000)]


def test_an_event_goes_to_the_targets_of_every_rule_that_matches(journal: Journal) -> None:
    bus = BusService(
        journal, rules=[rule("a", "a"), rule("ab", "ab", "arn:1", "arn:2"), rule("b", "b")], entry="arn:bucket"
    )
    accept(journal, bus, event("abc"))
    assert onward(journal) == [
        ("arn:rule/a", "arn:topic:a", "arn:rule/a", "abc"),
        ("arn:rule/ab", "arn:1", "arn:rule/ab", "abc"),
        ("arn:rule/ab", "arn:2", "arn:rule/ab", "abc"),
    ]
    assert [(row[4], row[5], row[6]) for row in journal.rows("hops", key="abc")] == [
        ("rule", "a", "matched"),
        ("rule", "ab", "matched"),
    ]
    assert journal.rows("due", now=7.0, most=9)[0][5] == event("abc").body, "a topic gets the event as it is"


def test_an_event_that_no_rule_matches_ends_here_and_the_trace_says_so(journal: Journal) -> None:
    bus = BusService(journal, rules=[rule("a", "a")], entry="arn:bucket")
    accept(journal, bus, event("x"), event("a"), event("y"))
    assert [row[3] for row in onward(journal)] == ["a"]
    assert (journal.counter("bus.events"), journal.counter("bus.unmatched")) == (3, 2)
    assert [row[6] for row in journal.rows("hops", key="x")] == ["unmatched"]


@given(
    st.lists(st.text("ab", max_size=3), max_size=5),
    st.lists(st.text("ab", min_size=1, max_size=4), min_size=1, max_size=5),
)
@settings(max_examples=examples(40), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_as_often_as_rules_match(journal: Journal, prefixes: list[str], keys: list[str]) -> None:
    before = len(onward(journal))
    unmatched = journal.counter("bus.unmatched")
    bus = BusService(
        journal, rules=[rule(f"r{number}", prefix) for number, prefix in enumerate(prefixes)], entry="arn:bucket"
    )
    accept(journal, bus, *[event(key, number) for number, key in enumerate(keys)])
    matches = [[key.startswith(prefix) for prefix in prefixes] for key in keys]
    assert len(onward(journal)) - before == sum(map(sum, matches))
    assert journal.counter("bus.unmatched") - unmatched == sum(not any(row) for row in matches)
