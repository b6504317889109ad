"""The event that Lambda gets for files in bronze, and the context it comes with."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from silversmith.events import ObjectEvent, object_created


def batch(bucket: str, keys: Sequence[str], *, size: int | None = None) -> dict[str, Any]:
    """A batch of an SQS queue, a message for each key, each told to be of so many bytes. https://docs.aws.amazon.com/lambda/latest/dg/with-sqs.html"""
    return {"Records": [_record(bucket, key, size) for key in keys]}


def _record(bucket: str, key: str, size: int | None) -> dict[str, Any]:
    time = datetime.now(UTC).isoformat()
    event = ObjectEvent(bucket=bucket, key=key, size=size, id=str(uuid.uuid4()), time=time)
    return {
        "messageId": event.id,
        "receiptHandle": event.id,
        "body": object_created(event, reason="PutObject").decode(),
        "attributes": {"ApproximateReceiveCount": "1"},
        "eventSource": "aws:sqs",
    }


class Context:
    """An invocation that has all the time there is."""

    def get_remaining_time_in_millis(self) -> int:
        return 900_000
