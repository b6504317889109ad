from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from silversmith.events import NotAnEvent, ObjectEvent, object_created, unwrap

keys = st.text(st.characters(codec="utf-8"), min_size=1, max_size=60)


def eventbridge(key: str, detail_type: str = "Object Created") -> dict[str, Any]:
    return {
        "id": "e-1",
        "detail-type": detail_type,
        "source": "aws.s3",
        "time": "2026-01-02T03:04:05Z",
        "detail": {
            "bucket": {"name": "bronze"},
            "object": {"key": key, "size": 5, "etag": "abc", "version-id": "v1", "sequencer": "00A"},
        },
    }


def notification(key: str, name: str = "ObjectCreated:Put") -> dict[str, Any]:
    return {
        "Records": [
            {
                "eventName": name,
                "eventTime": "2026-01-02T03:04:05Z",
                "responseElements": {"x-amz-request-id": "e-1"},
                "s3": {
                    "bucket": {"name": "bronze"},
                    "object": {
                        "key": quote_plus(key),
                        "size": 5,
                        "eTag": "abc",
                        "versionId": "v1",
                        "sequencer": "00A",
                    },
                },
            }
        ]
    }


def in_sns(message: dict[str, Any]) -> dict[str, Any]:
    return {"Type": "Notification", "TopicArn": "arn:aws:sns:x", "Message": json.dumps(message)}


@given(keys)
def test_every_envelope_gives_the_same_event(key: str) -> None:
    expected = ObjectEvent("bronze", key, "abc", "v1", "00A", 5, "2026-01-02T03:04:05Z", "e-1")
    for form in (eventbridge(key), notification(key), in_sns(eventbridge(key)), in_sns(notification(key))):
        assert unwrap(json.dumps(form)) == [expected]


@given(
    st.builds(
        ObjectEvent,
        bucket=keys,
        key=keys,
        etag=st.text(st.characters(codec="ascii")),
        version=st.text(st.characters(codec="ascii")),
        sequencer=st.text(st.characters(codec="ascii")),
        size=st.none() | st.integers(0, 1 << 50),
        time=st.sampled_from(["", "2026-01-02T03:04:05Z"]),
        id=st.sampled_from(["", "e-1"]),
        made_after=st.sampled_from(["", "2026-01-02T03:04:05.678+00:00"]),
    )
)
def test_an_event_of_our_own_is_understood_as_what_it_was(event: ObjectEvent) -> None:
    body = object_created(event, reason="reconcile")
    assert unwrap(body) == [event]
    assert json.loads(body)["detail"]["reason"] == "reconcile"


@pytest.mark.parametrize("form", [7, "soon", {"made_after": 7}, {}])
def test_a_request_to_make_silver_again_that_is_none_is_ignored(form: object) -> None:
    assert unwrap(json.dumps({**eventbridge("k"), "silversmith": form}))[0].made_after == ""


def test_a_plus_in_a_native_notification_is_a_blank_and_in_eventbridge_a_plus() -> None:
    native = notification("x")
    native["Records"][0]["s3"]["object"]["key"] = "a+b%2Bc"
    assert unwrap(json.dumps(native))[0].key == "a b+c"
    assert unwrap(json.dumps(eventbridge("a+b%2Bc")))[0].key == "a+b%2Bc"


@pytest.mark.parametrize(
    "form", [eventbridge("k", "Object Deleted"), notification("k", "ObjectRemoved:DeleteMarkerCreated")]
)
def test_deletions_are_recognized(form: dict[str, Any]) -> None:
    assert unwrap(json.dumps(form))[0].deleted


def test_the_test_event_of_s3_is_nothing() -> None:
    assert unwrap('{"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "bronze"}') == []
    assert unwrap(json.dumps(in_sns({"Event": "s3:TestEvent"}))) == []


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("", "not JSON"),
        ("[]", "a JSON list, not an object"),
        ("{}", "found none"),
        ('{"hello": 1}', "found hello"),
        ('{"detail": {}}', "no object 'object'"),
        ('{"detail": {"bucket": {"name": "b"}, "object": {"key": ""}}}', "no text 'key'"),
        ('{"Records": [1]}', "not an object"),
        ('{"Records": [{"s3": {"bucket": {"name": "b"}, "object": {"key": "%FF"}}}]}', "not UTF-8"),
        (json.dumps({"Message": json.dumps({"Message": "{}"})}), "no S3 event"),
    ],
)
def test_errors_about_invalid_events_say_why(body: str, says: str) -> None:
    with pytest.raises(NotAnEvent, match=says.replace("[", r"\[")):
        unwrap(body)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(["detail", "Records", "s3"]), inner),
)


@given(st.binary() | json_values.map(lambda value: json.dumps(value).encode()))
def test_any_body_is_events_or_an_error(body: bytes) -> None:
    try:
        events = unwrap(body)
    except NotAnEvent:
        return
    assert all(event.key and event.bucket for event in events)
