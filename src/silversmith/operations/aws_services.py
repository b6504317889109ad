"""The services of a stack as operations ask them: queues and topics, and what CloudWatch knows of functions.

A queue cannot be listed: its messages are received, which hides them, and made visible again.
docs/decisions/0026-a-queue-is-read-by-receiving.md
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any

from silversmith.operations.target import HOUR, DayCounts, Depth, FileTime, LogLine
from silversmith.operations.text import count
from silversmith.runtime.queue import NotSent, SqsQueue
from silversmith.runtime.telemetry import NAMESPACE
from silversmith.stores import batched, map_in_threads
from silversmith.stores.aws_errors import translate_aws_errors

#: The most messages that SQS and SNS take or give at once.
#: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html
AT_ONCE = 10

#: So many receives at once, where a queue is deep.
READERS = 8

#: How often a message is published at the most.
TRIES = 3

#: Seconds for which a received message is hidden from others, unless it is made visible before.
HIDDEN = 300

#: At most so many messages of a queue are received at a time; the rest is not read.
MOST_RECEIVED = 5_000

#: Seconds to wait for a message where there should be some: then SQS asks all of its servers, not only some.
#: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-short-and-long-polling.html
LONG_POLL = 1


@dataclass(frozen=True)
class AwsMessage:
    """A received message. ``sent`` in Unix seconds; ``attributes`` are the sender's, by name."""

    id: str
    body: str
    receipt: str
    sent: float
    attributes: Mapping[str, str]


class AwsQueue(SqsQueue):
    """A queue whose messages can be read: they are received, and made visible again by :meth:`release`.

    Args:
        url: its URL.
        client: a boto3 SQS client.
        tell: gets a note where not all messages could be read.
        most: at most so many messages are received at a time.
        wait: seconds, see :data:`LONG_POLL`.
    """

    def __init__(
        self,
        url: str,
        client: Any,
        *,
        tell: Callable[[str], None] = lambda _: None,
        most: int = MOST_RECEIVED,
        wait: int = LONG_POLL,
    ) -> None:
        super().__init__(url, client)
        self.name = url.rpartition("/")[2]
        self._tell = tell
        self._most = most
        self._wait = wait
        self._received: dict[str, AwsMessage] = {}

    def depth(self) -> Depth:
        """Its approximate depth. SQS does not say when the oldest message was sent.

        https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_GetQueueAttributes.html
        """
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        with translate_aws_errors(f"the queue {self.name}"):
            attributes = self._client.get_queue_attributes(QueueUrl=self._url, AttributeNames=names)["Attributes"]
        waiting, in_flight = (int(attributes[name]) for name in names)
        return Depth(self.name, waiting, in_flight, oldest=None)

    def messages(self) -> Iterator[AwsMessage]:
        """Its messages, up to ``most``; a note says how many were left out. Another reader's messages are invisible."""
        yield from list(self._received.values())
        readers = 1
        while len(self._received) < self._most:
            received = self._receive() if readers == 1 else self._receive_at_once(readers)
            if not received:
                return
            for message in received:
                # A message that was visible again too soon comes again, with another receipt.
                is_new = message.id not in self._received
                self._received[message.id] = message
                if is_new:
                    yield message
            # a full answer promises more
            room = (self._most - len(self._received)) // AT_ONCE
            readers = max(1, min(READERS, room)) if len(received) == readers * AT_ONCE else 1
        if left := self.depth().waiting:
            self._tell(f"the queue {self.name} holds about {count(left, 'message')} more that nobody looked at")

    def received(self, message_id: str) -> AwsMessage | None:
        """A received message; None where it was not received."""
        return self._received.get(message_id)

    def delete(self, messages: Collection[AwsMessage]) -> None:
        """Delete received messages. One that SQS does not delete becomes visible again."""
        self._for_each(messages, self._client.delete_message_batch)
        for message in messages:
            self._received.pop(message.id, None)

    def release(self) -> None:
        """Make every received message visible again. After :data:`HIDDEN` seconds it becomes so by itself."""
        self._for_each(self._received.values(), self._client.change_message_visibility_batch, VisibilityTimeout=0)
        self._received.clear()

    def _for_each(self, messages: Iterable[AwsMessage], request: Callable[..., object], **values: int) -> None:
        for batch in batched(messages, AT_ONCE):
            entries = [
                {"Id": str(number), "ReceiptHandle": message.receipt, **values} for number, message in enumerate(batch)
            ]
            with translate_aws_errors(f"the queue {self.name}"):
                request(QueueUrl=self._url, Entries=entries)

    def _receive_at_once(self, readers: int) -> list[AwsMessage]:
        answers = map_in_threads(lambda _: self._receive(), range(readers), readers)
        return [message for answer in answers for message in answer]

    def _receive(self) -> list[AwsMessage]:
        wait = self._wait if self._received or self.depth().waiting else 0
        with translate_aws_errors(f"the queue {self.name}"):
            answer = self._client.receive_message(
                QueueUrl=self._url,
                MaxNumberOfMessages=AT_ONCE,
                VisibilityTimeout=HIDDEN,
                WaitTimeSeconds=wait,
                MessageSystemAttributeNames=["SentTimestamp"],
                MessageAttributeNames=["All"],
            )
        return [_message(each) for each in answer.get("Messages", ())]


def _message(values: Mapping[str, Any]) -> AwsMessage:
    attributes = {name: value.get("StringValue", "") for name, value in values.get("MessageAttributes", {}).items()}
    sent = int(values.get("Attributes", {}).get("SentTimestamp", 0)) / 1000
    return AwsMessage(values["MessageId"], values["Body"], values["ReceiptHandle"], sent, attributes)


def publish(client: Any, topic: str, bodies: Sequence[str]) -> None:
    """Publish up to :data:`AT_ONCE` messages to a topic (its ARN), all of them, by a boto3 client of SNS. SNS may take
    some and refuse others, which are then published once more.

    https://docs.aws.amazon.com/sns/latest/api/API_PublishBatch.html

    Raises:
        NotSent: the topic did not take one.
    """
    left = [{"Id": str(number), "Message": body} for number, body in enumerate(bodies)]
    for attempt in range(1, TRIES + 1):
        answer = client.publish_batch(TopicArn=topic, PublishBatchRequestEntries=left)
        refused = {item["Id"]: item for item in answer.get("Failed", ())}
        left = [entry for entry in left if entry["Id"] in refused]
        if not left:
            return
        if attempt == TRIES:
            reasons = ", ".join(sorted({f"{item['Code']}: {item.get('Message', '')}" for item in refused.values()}))
            raise NotSent(f"{topic} did not take {count(len(left), 'message')}: {reasons}")


# -- CloudWatch

#: By the field of :class:`DayCounts`, the metric and the statistic. docs/observability.md
METRICS = {
    "done": ("FilesCommitted", "Sum"),
    "quarantined": ("FilesQuarantined", "Sum"),
    "failed": ("FilesFailed", "Sum"),
    "rows": ("RowsWritten", "Sum"),
    "rows_read": ("RowsRead", "Sum"),
    "rejected": ("RowsRejected", "Sum"),
    "median": ("Age", "p50"),
    "slow": ("Age", "p95"),
}

#: One request has at most so many metrics.
#: https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_GetMetricData.html
MOST_METRICS = 500

#: When files came is asked for by the hour, for two weeks, in seconds.
WEEKS = 14 * 86_400

#: Metrics of so many days say how long a file takes.
METRIC_DAYS = 14

#: So many of a function's newest log streams are read: one for each of its execution environments.
STREAMS = 4


def day_counts(
    client: Any, pipeline: str, transforms: Sequence[str], *, since: float, now: float
) -> dict[str, DayCounts]:
    """The metrics of transforms from a time until now, in one period that ends in the future: so percentiles are of
    all, too. And the hours of the last :data:`WEEKS` in which files came.

    Args:
        client: boto3's for CloudWatch.
        pipeline: the dimension ``Pipeline``.
        transforms: the dimension ``Transform`` of each.
        since: Unix seconds.
        now: likewise.
    """
    start = int(since // 60) * 60
    period = max(60, math.ceil((now - start) / 60) * 60)
    queries, done = list(product(transforms, METRICS)), [(transform, "done") for transform in transforms]
    values: dict[str, dict[str, Any]] = {transform: {} for transform in transforms}
    for transform, field, result in _asked(client, pipeline, queries, start=start, end=start + period, period=period):
        if result["Values"]:
            number = values[transform].get(field, 0.0) + result["Values"][0]
            values[transform][field] = int(number) if METRICS[field][1] == "Sum" else number
    hours: dict[str, set[float]] = {transform: set() for transform in transforms}
    end = (int(now // HOUR) + 1) * HOUR
    for transform, _, result in _asked(client, pipeline, done, start=end - WEEKS, end=end, period=HOUR):
        pairs = zip(result["Timestamps"], result["Values"], strict=True)
        hours[transform] |= {time.timestamp() for time, value in pairs if value}
    return {name: DayCounts(**fields, hours=tuple(sorted(hours[name]))) for name, fields in values.items()}


def _asked(
    client: Any, pipeline: str, queries: Sequence[tuple[str, str]], *, start: int, end: int, period: int
) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """The results of ``queries`` for transforms and fields; one may come in several parts."""
    times = {"StartTime": datetime.fromtimestamp(start, UTC), "EndTime": datetime.fromtimestamp(end, UTC)}
    for part in batched(queries, MOST_METRICS):
        documents = []
        for number, (transform, field) in enumerate(part):
            name, statistic = METRICS[field]
            dimensions = _dimensions({"Pipeline": pipeline, "Transform": transform})
            metric = {"Namespace": NAMESPACE, "MetricName": name, "Dimensions": dimensions}
            question = {"Metric": metric, "Period": period, "Stat": statistic}
            documents.append({"Id": f"m{number}", "MetricStat": question})
        for page in client.get_paginator("get_metric_data").paginate(MetricDataQueries=documents, **times):
            for result in page["MetricDataResults"]:
                yield (*part[int(result["Id"].removeprefix("m"))], result)


def file_time(client: Any, function: str, pipeline: str, transform: str) -> FileTime | None:
    """By the metrics of the last two weeks: the durations of the function, and the files that it committed.

    Lambda bills a duration to the next millisecond.
    https://docs.aws.amazon.com/lambda/latest/dg/monitoring-metrics-types.html
    """
    ours = {"Pipeline": pipeline, "Transform": transform}
    milliseconds = _sum(client, "AWS/Lambda", "Duration", {"FunctionName": function})
    files = _sum(client, NAMESPACE, "FilesCommitted", ours)
    size = _sum(client, NAMESPACE, "Bytes", ours)
    if not milliseconds or not files:
        return None
    source = f"measured: the durations of {function} for {count(int(files), 'file')} in {METRIC_DAYS} days"
    return FileTime(milliseconds / 1000 / files, source, size / files, billed=True)


def _sum(client: Any, namespace: str, name: str, dimensions: Mapping[str, str]) -> float:
    start = datetime.now(UTC) - timedelta(days=METRIC_DAYS)
    answer = client.get_metric_statistics(
        Namespace=namespace,
        MetricName=name,
        Dimensions=_dimensions(dimensions),
        StartTime=start,
        EndTime=start + timedelta(days=METRIC_DAYS + 1),  # periods of a day, the last of which is not over
        Period=86_400,
        Statistics=["Sum"],
    )
    return float(sum(point["Sum"] for point in answer["Datapoints"]))


def _dimensions(values: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"Name": name, "Value": value} for name, value in values.items()]


def log_end(client: Any, group: str, most: int) -> list[LogLine]:
    """The newest lines of a log group, the oldest first: of the streams that were written to last, one request each.

    Args:
        client: boto3's for CloudWatch Logs.
        group: its name.
        most: how many lines of each stream are read, and how many there are in all.
    """
    try:
        streams = client.describe_log_streams(
            logGroupName=group, orderBy="LastEventTime", descending=True, limit=STREAMS
        )["logStreams"]
    except client.exceptions.ResourceNotFoundException:  # a function that was never called has none yet
        return []
    lines: list[LogLine] = []
    for stream in streams:
        answer = client.get_log_events(
            logGroupName=group, logStreamName=stream["logStreamName"], limit=most, startFromHead=False
        )
        lines += [LogLine(event["timestamp"] / 1000, event["message"].rstrip("\n")) for event in answer["events"]]
    return sorted(lines, key=lambda line: line.at)[-most:]
