"""Identifiers that are made many at a time are as good as those made one by one."""

from __future__ import annotations

import uuid

from silversmith.local.services import tokens, uuids


def test_a_uuid_is_random_and_spelled_as_such() -> None:
    made = uuids(1000)
    found = [uuid.UUID(text) for text in made]
    assert [str(item) for item in found] == made
    assert {(item.version, item.variant) for item in found} == {(4, uuid.RFC_4122)}
    assert {made[number][19] for number in range(1000)} == set("89ab")
    assert len(set(made)) == 1000
    assert uuids(0) == []


def test_tokens_are_as_long_as_asked_for_and_all_different() -> None:
    made = tokens(100, 12)
    assert {len(bytes.fromhex(token)) for token in made} == {12}
    assert len(set(made)) == 100
