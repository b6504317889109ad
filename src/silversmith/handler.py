"""The Lambda entry point: a batch of SQS messages in, ``batchItemFailures`` out. The same code runs on a laptop.

https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from silversmith.errors import SilversmithError
from silversmith.events import NotAnEvent, ObjectEvent, unwrap
from silversmith.pipeline import Transform, load
from silversmith.process import Outcome, process
from silversmith.stores import Lake

#: Of the function's timeout, the share that is kept free at the end: what cannot begin before that is handed back.
RESERVE = 0.1


class Context(Protocol):
    """What Lambda tells a handler of its invocation.

    https://docs.aws.amazon.com/lambda/latest/dg/python-context.html
    """

    def get_remaining_time_in_millis(self) -> int: ...


@dataclass(frozen=True)
class Report:
    """What became of one message. ``error`` is what went wrong, ``retry_in`` the seconds until it should come back."""

    message_id: str
    outcomes: tuple[Outcome, ...]
    error: Mapping[str, Any] | None = None
    retry_in: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """As JSON values; of several objects in one message, the sums of their rows and the worst verdict."""
        found: dict[str, Any] = self.outcomes[-1].to_dict() if self.outcomes else {"verdict": "dropped"}
        for name in ("rows_read", "rows_written", "rows_rejected"):
            found[name] = sum(getattr(outcome, name) for outcome in self.outcomes)
        if self.error is not None:
            found |= {"verdict": "failed", "failed": True, "error": dict(self.error), "retry_in": self.retry_in}
        return found


class Handler:
    """Handles the messages of one transform's queue.

    Args:
        transform: what makes silver of bronze.
        bucket: the bronze bucket's name; events of another bucket are dropped.
        lake: the three buckets.
        scratch: a folder for temporary files.
        began: told the id of each message before it is worked on.
        ended: told what became of it.
        release: makes a failed message visible again after so many seconds, by its receipt handle.
        now: the time of day, in UTC.
    """

    def __init__(
        self,
        transform: Transform,
        *,
        bucket: str,
        lake: Lake,
        scratch: Path,
        began: Callable[[str], None] = lambda _: None,
        ended: Callable[[Report], None] = lambda _: None,
        release: Callable[[str, float], None] = lambda _receipt, _seconds: None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._transform = transform
        self._bucket = bucket
        self._lake = lake
        self._scratch = scratch
        self._began = began
        self._ended = ended
        self._release = release
        self._now = now

    def __call__(self, event: Mapping[str, Any], context: Context) -> dict[str, Any]:
        """Process every record; report those to be tried again. Never raises for what one record holds."""
        records: Sequence[Mapping[str, Any]] = event.get("Records", [])
        failed: list[str] = []
        total = context.get_remaining_time_in_millis()
        longest = 0.0
        for position, record in enumerate(records):
            left = context.get_remaining_time_in_millis()
            if position and left < max(RESERVE * total, longest * 1000):
                self._hand_back(records[position:], failed)
                break
            began = time.monotonic()
            report = self._handle(record)
            longest = max(longest, time.monotonic() - began)
            if report.error is not None:
                failed.append(report.message_id)
                self._release(record["receiptHandle"], report.retry_in or 0)
            self._ended(report)
        return {"batchItemFailures": [{"itemIdentifier": message} for message in failed]}

    def _hand_back(self, records: Sequence[Mapping[str, Any]], failed: list[str]) -> None:
        """A timeout would throw away what the batch has done: so what cannot be done in time goes back untouched."""
        for record in records:
            failed.append(record["messageId"])
            self._release(record["receiptHandle"], 0)

    def _handle(self, record: Mapping[str, Any]) -> Report:
        message: str = record["messageId"]
        attempt = int(record.get("attributes", {}).get("ApproximateReceiveCount", 1))
        self._began(message)
        try:
            outcomes = tuple(self._each(event, attempt) for event in unwrap(record["body"]) if self._wanted(event))
        except Exception as error:  # noqa: BLE001 -- whatever it is, it is this message's failure and no other's
            return Report(message, (), error=describe(error), retry_in=self._retry_in(error, attempt))
        return Report(message, outcomes)

    def _each(self, event: ObjectEvent, attempt: int) -> Outcome:
        return process(
            event, self._transform, self._lake, attempt=attempt, now=self._now, scratch=self._scratch
        )  # fmt: skip

    def _wanted(self, event: ObjectEvent) -> bool:
        """The topic's filter is by prefix and suffix; here the pattern is matched exactly."""
        return event.bucket == self._bucket and self._transform.pattern.matches(event.key)

    def _retry_in(self, error: Exception, attempt: int) -> float:
        """Sooner than the visibility timeout, which is meant for a function that died: 1, 4, 16, 64 … seconds.

        After the last try at once, so that the queue sees that it was the last; likewise for what no retry can mend.
        """
        if isinstance(error, NotAnEvent) or attempt >= self._transform.max_receive_count:
            return 0.0
        return float(min(900, 4 ** (min(attempt, 8) - 1)))


def describe(error: BaseException) -> dict[str, Any]:
    """An error as JSON values: its kind and the text for a person."""
    text = str(error) if isinstance(error, SilversmithError) else f"{type(error).__name__}: {error}"
    return {"code": type(error).__name__, "message": text[:4000]}


def handler(event: Mapping[str, Any], context: Context) -> dict[str, Any]:
    """What Lambda calls. Configured by the environment that the template sets: ``SILVERSMITH_PIPELINE``,
    ``SILVERSMITH_TRANSFORM``, ``SILVERSMITH_BRONZE``, ``SILVERSMITH_SILVER``, ``SILVERSMITH_QUARANTINE``."""
    return _from_environment()(event, context)


@cache
def _from_environment() -> Handler:
    """Built once per execution environment, so that warm invocations pay nothing for it."""
    import boto3

    from silversmith.stores.s3 import S3Store

    sqs = boto3.client("sqs")
    client = boto3.client("s3")
    scratch = Path(tempfile.gettempdir())

    def bucket(name: str) -> S3Store:
        return S3Store(os.environ[f"SILVERSMITH_{name}"], client=client, scratch=scratch)

    def release(receipt: str, seconds: float) -> None:
        sqs.change_message_visibility(
            QueueUrl=os.environ["SILVERSMITH_QUEUE"], ReceiptHandle=receipt, VisibilityTimeout=int(seconds)
        )

    def log(report: Report) -> None:
        json.dump({"level": "ERROR" if report.error else "INFO", **report.to_dict()}, sys.stdout)
        sys.stdout.write("\n")

    pipeline = load(os.environ["SILVERSMITH_PIPELINE"])
    return Handler(
        pipeline.find(os.environ["SILVERSMITH_TRANSFORM"]),
        bucket=os.environ["SILVERSMITH_BRONZE"],
        lake=Lake(bucket("BRONZE"), bucket("SILVER"), bucket("QUARANTINE")),
        scratch=scratch,
        ended=log,
        release=release,
    )
