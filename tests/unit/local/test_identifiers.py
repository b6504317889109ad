"""Identifiers that are made many at a time are as good as those made one by one."""

from __future__ import annotations

import uuid

from silversmith.local.services import tokens, uuids


def test_a_uuid_is_random_and_spelled_as_such() -> None:
    created = uuids(1000)
    actual = [uuid.UUID(text) for text in created]
    assert [str(item) for item in actual] == created
    assert {(item.version, item.variant) for item in actual} == {(4, uuid.RFC_4122)}
    assert {created[number][19] for number in range(1000)} == set("89ab")
    assert len(set(created)) == 1000
    assert uuids(0) == []


def test_tokens_are_as_long_as_asked_for_and_all_different() -> None:
    created = tokens(100, 12)
    assert {len(bytes.fromhex(token)) for token in created} == {12}
    assert len(set(created)) == 100
