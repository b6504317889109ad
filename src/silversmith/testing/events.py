"""Events as AWS would send them, for tests of what receives them.

>>> unwrap(sns(eventbridge("dl-bronze-layer", "orders/1.csv")))[0].key
'orders/1.csv'
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote_plus

import orjson

from silversmith.events import ObjectEvent, object_created, unwrap

__all__ = ["LambdaContext", "eventbridge", "s3", "s3_test", "sns", "sqs", "unwrap"]

#: What the builders say where nobody says otherwise.
REGION = "eu-central-1"
ACCOUNT = "123456789012"
TIME = "2026-01-02T12:00:00Z"


@dataclass
class LambdaContext:
    """Lambda's context of an invocation: ``seconds`` are left, always as many.

    https://docs.aws.amazon.com/lambda/latest/dg/python-context.html
    """

    seconds: float = 300.0

    def get_remaining_time_in_millis(self) -> int:
        """The time that is left, in milliseconds."""
        return int(self.seconds * 1000)


def eventbridge(
    bucket: str,
    key: str,
    *,
    etag: str = "",
    version: str = "",
    sequencer: str = "",
    size: int | None = None,
    deleted: bool = False,
    restored: bool = False,
) -> bytes:
    """S3's event as EventBridge carries it. Keys are raw there.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/ev-events.html

    Args:
        bucket: the name of the bucket.
        key: the key as it is.
        etag: of the object, without quotes.
        version: the id of its version, where the bucket keeps versions.
        sequencer: hexadecimal; of two events of a key the later one has the greater.
        size: in bytes.
        deleted: ``Object Deleted`` instead of ``Object Created``.
        restored: ``Object Restore Completed``, of an object that was archived.
    """
    event = ObjectEvent(bucket, key, etag, version, sequencer, size, time=TIME, id=_id(bucket, key, sequencer))
    body = orjson.loads(object_created(event, reason="PutObject"))
    body |= {"account": ACCOUNT, "region": REGION}
    if deleted:
        body["detail-type"] = "Object Deleted"
        body["detail"] |= {"reason": "DeleteObject", "deletion-type": "Permanently Deleted"}
    if restored:
        body["detail-type"] = "Object Restore Completed"
        del body["detail"]["reason"]
        body["detail"] |= {"restore-expiry-time": TIME, "source-storage-class": "GLACIER"}
    return orjson.dumps(body)


def s3(bucket: str, *keys: str, deleted: bool = False) -> bytes:
    """S3's own notification of one object or more. Keys are form-encoded there.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html
    """
    records = [
        {
            "eventVersion": "2.1",
            "eventSource": "aws:s3",
            "awsRegion": REGION,
            "eventTime": TIME,
            "eventName": "ObjectRemoved:Delete" if deleted else "ObjectCreated:Put",
            "responseElements": {"x-amz-request-id": _id(bucket, key)},
            "s3": {
                "s3SchemaVersion": "1.0",
                "bucket": {"name": bucket, "arn": f"arn:aws:s3:::{bucket}"},
                "object": {"key": quote_plus(key, safe="/")},
            },
        }
        for key in keys
    ]
    return orjson.dumps({"Records": records})


def s3_test(bucket: str) -> bytes:
    """S3's message when a notification is switched on."""
    return orjson.dumps({"Service": "Amazon S3", "Event": "s3:TestEvent", "Time": TIME, "Bucket": bucket})


def sns(message: bytes | str | Mapping[str, Any], topic: str = "topic") -> bytes:
    """A message in SNS's envelope, as a subscription without raw delivery gets it.

    https://docs.aws.amazon.com/sns/latest/dg/sns-message-and-json-formats.html
    """
    text = _text(message)
    return orjson.dumps(
        {
            "Type": "Notification",
            "MessageId": _id(text),
            "TopicArn": f"arn:aws:sns:{REGION}:{ACCOUNT}:{topic}",
            "Message": text,
            "Timestamp": TIME,
        }
    )


def sqs(*bodies: bytes | str | Mapping[str, Any], receives: int = 1, queue: str = "queue") -> dict[str, Any]:
    """The event that Lambda is invoked with: a batch of messages from a queue.

    https://docs.aws.amazon.com/lambda/latest/dg/with-sqs.html

    Args:
        bodies: of the messages. Their ids are ``"1"``, ``"2"`` …
        receives: how often each was received, this time included.
        queue: the name of the queue.
    """
    records = [
        {
            "messageId": f"{number}",
            "receiptHandle": f"receipt of {number}",
            "body": body,
            "attributes": {
                "ApproximateReceiveCount": str(receives),
                "SentTimestamp": "1767355200000",
                "SenderId": ACCOUNT,
                "ApproximateFirstReceiveTimestamp": "1767355200001",
            },
            "messageAttributes": {},
            "md5OfBody": hashlib.md5(body.encode(), usedforsecurity=False).hexdigest(),
            "eventSource": "aws:sqs",
            "eventSourceARN": f"arn:aws:sqs:{REGION}:{ACCOUNT}:{queue}",
            "awsRegion": REGION,
        }
        for number, body in enumerate(map(_text, bodies), 1)
    ]
    return {"Records": records}


def _text(message: bytes | str | Mapping[str, Any]) -> str:
    if isinstance(message, Mapping):
        return orjson.dumps(message).decode()
    return message.decode() if isinstance(message, bytes) else message


def _id(*parts: str) -> str:
    """Looks like AWS's ids, and is the same in every run."""
    digest = hashlib.sha256("\n".join(parts).encode()).hexdigest()
    return f"{digest[:8]}-{digest[8:12]}-{digest[12:16]}-{digest[16:20]}-{digest[20:32]}"
