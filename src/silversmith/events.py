"""The envelopes an S3 event travels in, unwrapped. Pure, and total: any bytes give events or an error.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/ev-events.html (EventBridge form: raw keys)
https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html (native form: encoded keys)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import unquote_plus

import orjson

from silversmith.errors import SilversmithError

#: The reasons of events that our own commands and the reconciler send, where S3 says ``PutObject`` and the like.
RESENT = frozenset({"reconcile", "redrive", "replay"})


class NotAnEvent(SilversmithError):
    """A message has none of the forms of an S3 event."""


@dataclass(frozen=True)
class ObjectEvent:
    """S3's word that a key may have changed. Only ``bucket`` and ``key`` are relied upon; the rest is for the trace.

    ``deleted`` tells an ``Object Deleted`` from an ``Object Created``. Absent texts are empty, ``size`` is in bytes.
    ``reason`` says what it was sent for. ``made_after``, which S3 never says: silver committed before this time
    (ISO 8601, UTC, milliseconds) shall be made again, even of the same bytes by the same code. ``whenever``: also where
    the object landed before the transform's ``since``, because somebody asked for this very key.
    """

    bucket: str
    key: str
    etag: str = ""
    version: str = ""
    sequencer: str = ""
    size: int | None = None
    time: str = ""
    id: str = ""
    deleted: bool = False
    made_after: str = ""
    reason: str = field(default="", compare=False)
    whenever: bool = False

    @property
    def resent(self) -> bool:
        """Whether Silversmith itself sent it: then there may be something left of an earlier failure of these bytes."""
        return self.reason in RESENT


def unwrap(body: str | bytes) -> list[ObjectEvent]:
    """The object events in one SQS message body: an EventBridge event or an S3 notification, in an SNS envelope or not.

    ``s3:TestEvent``, which S3 sends when a notification is switched on, gives an empty list.

    Raises:
        NotAnEvent: the body is not JSON, or none of these forms.
    """
    return _events(_parse(body), depth=0)


def _parse(body: str | bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise NotAnEvent(f"the message body is not JSON: {error}") from None


def _events(value: Any, depth: int) -> list[ObjectEvent]:
    if not isinstance(value, dict):
        raise NotAnEvent(f"the message body is a JSON {type(value).__name__}, not an object")
    if "detail-type" in value or "detail" in value:
        return [_from_eventbridge(value)]
    if value.get("Event") == "s3:TestEvent":
        return []
    if isinstance(value.get("Records"), list):
        return [_from_notification(record) for record in value["Records"]]
    if isinstance(value.get("Message"), str) and depth == 0:  # one SNS envelope; more would be somebody's joke
        return _events(_parse(value["Message"]), depth + 1)
    names = ", ".join(sorted(map(str, value))[:8]) or "none"
    raise NotAnEvent(f"the message body is no S3 event: expected 'detail', 'Records' or 'Message', found {names}")


def _from_eventbridge(event: Mapping[str, Any]) -> ObjectEvent:
    detail = _mapping(event, "detail")
    object_ = _mapping(detail, "object")
    return ObjectEvent(
        bucket=_text(_mapping(detail, "bucket"), "name", required=True),
        key=_text(object_, "key", required=True),
        etag=_text(object_, "etag"),
        version=_text(object_, "version-id"),
        sequencer=_text(object_, "sequencer"),
        size=_size(object_),
        time=_text(event, "time"),
        id=_text(event, "id"),
        deleted=event.get("detail-type") == "Object Deleted",
        made_after=_text(_mapping(event, "silversmith", required=False), "made_after"),
        reason=_text(detail, "reason"),
        whenever=_mapping(event, "silversmith", required=False).get("whenever") is True,
    )


def object_created(event: ObjectEvent, *, reason: str) -> bytes:
    """An ``Object Created`` or ``Object Deleted`` event as EventBridge would carry it: :func:`unwrap` gives back
    ``event``.

    ``reason`` says what it is sent for, where S3 says ``PutObject``: ``reconcile``, ``redrive``, ``replay``.
    """
    details = {"etag": event.etag, "version-id": event.version, "sequencer": event.sequencer, "size": event.size}
    body: dict[str, Any] = {
        "version": "0",
        "id": event.id,
        "detail-type": "Object Deleted" if event.deleted else "Object Created",
        "source": "aws.s3",
        "time": event.time,
        "resources": [f"arn:aws:s3:::{event.bucket}"],
        "detail": {
            "version": "0",
            "bucket": {"name": event.bucket},
            "object": {"key": event.key, **{name: value for name, value in details.items() if value not in {"", None}}},
            "reason": reason,
        },
    }
    if own := {name: value for name in ("made_after", "whenever") if (value := getattr(event, name))}:
        body["silversmith"] = own
    return orjson.dumps(body)


def _from_notification(record: Any) -> ObjectEvent:
    if not isinstance(record, dict):
        raise NotAnEvent("an entry of 'Records' is not an object")
    s3 = _mapping(record, "s3")
    object_ = _mapping(s3, "object")
    try:
        key = unquote_plus(_text(object_, "key", required=True), errors="strict")
    except UnicodeDecodeError:
        raise NotAnEvent("the key in the notification is not UTF-8 after decoding") from None
    return ObjectEvent(
        bucket=_text(_mapping(s3, "bucket"), "name", required=True),
        key=key,
        etag=_text(object_, "eTag"),
        version=_text(object_, "versionId"),
        sequencer=_text(object_, "sequencer"),
        size=_size(object_),
        time=_text(record, "eventTime"),
        id=_text(_mapping(record, "responseElements", required=False), "x-amz-request-id"),
        deleted=_text(record, "eventName").startswith("ObjectRemoved"),
    )


def _mapping(value: Mapping[str, Any], name: str, *, required: bool = True) -> Mapping[str, Any]:
    inner = value.get(name)
    if isinstance(inner, dict):
        return cast("Mapping[str, Any]", inner)
    if required:
        raise NotAnEvent(f"the event has no object '{name}'")
    return {}


def _text(value: Mapping[str, Any], name: str, *, required: bool = False) -> str:
    text = value.get(name)
    if isinstance(text, str) and (text or not required):
        return text
    if required:
        raise NotAnEvent(f"the event has no text '{name}'")
    return ""


def _size(value: Mapping[str, Any]) -> int | None:
    size = value.get("size")
    return size if isinstance(size, int) and not isinstance(size, bool) and size >= 0 else None
