"""The builders make what AWS sends: the library reads back what went in."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from silversmith.testing.events import LambdaContext, eventbridge, s3, s3_test, sns, sqs, unwrap

KEYS = st.text(st.characters(codec="utf-8"), min_size=1)


@given(KEYS, st.booleans(), st.booleans())
def test_every_key_comes_back(key: str, deleted: bool, in_envelope: bool) -> None:
    for body in (eventbridge("bronze", key, deleted=deleted), s3("bronze", key, deleted=deleted)):
        (result,) = unwrap(sns(body) if in_envelope else body)
        assert (result.bucket, result.key, result.deleted) == ("bronze", key, deleted)


def test_events_of_an_object_come_back() -> None:
    (result,) = unwrap(eventbridge("b", "k", etag="e", version="v", sequencer="0A", size=7))
    assert (result.etag, result.version, result.sequencer, result.size) == ("e", "v", "0A", 7)
    assert result.time == "2026-01-02T12:00:00Z"
    assert json.loads(eventbridge("b", "k"))["source"] == "aws.s3"


def test_one_notification_of_several_objects_and_of_none() -> None:
    assert [event.key for event in unwrap(s3("b", "1", "2"))] == ["1", "2"]
    assert unwrap(s3_test("b")) == []


def test_a_batch() -> None:
    event = sqs(eventbridge("b", "1"), "text", {"a": 1}, receives=3)
    records = event["Records"]
    assert [record["messageId"] for record in records] == ["1", "2", "3"]
    assert [record["body"] for record in records][1:] == ["text", '{"a":1}']
    assert {record["attributes"]["ApproximateReceiveCount"] for record in records} == {"3"}
    assert records[1]["md5OfBody"] == "1cb251ec0d568de6a929b520c4aed8d1"


def test_the_context_of_an_invocation() -> None:
    assert LambdaContext(2.5).get_remaining_time_in_millis() == 2500
