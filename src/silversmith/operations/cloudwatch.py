"""What CloudWatch knows of a deployed pipeline: the functions' metrics since a time, and the ends of their logs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import product
from typing import Any

from silversmith.operations.target import DayCounts, LogLine
from silversmith.runtime.telemetry import NAMESPACE
from silversmith.stores import batched

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
HOUR, WEEKS = 3600, 14 * 86_400

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
    values: dict[str, dict[str, float]] = {transform: {} for transform in transforms}
    for transform, field, result in _asked(client, pipeline, queries, start=start, end=start + period, period=period):
        if result["Values"]:
            values[transform][field] = values[transform].get(field, 0.0) + result["Values"][0]
    hours: dict[str, set[float]] = {transform: set() for transform in transforms}
    end = (int(now // HOUR) + 1) * HOUR
    for transform, _, result in _asked(client, pipeline, done, start=end - WEEKS, end=end, period=HOUR):
        pairs = zip(result["Timestamps"], result["Values"], strict=True)
        hours[transform] |= {time.timestamp() for time, value in pairs if value}
    return {
        transform: replace(_counts(fields), hours=tuple(sorted(hours[transform])))
        for transform, fields in values.items()
    }


def _asked(
    client: Any, pipeline: str, queries: Sequence[tuple[str, str]], *, start: int, end: int, period: int
) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """The results of ``queries`` for transforms and fields; one may come in several parts."""
    for part in batched(queries, MOST_METRICS):
        documents = [_query(number, pipeline, *query, period) for number, query in enumerate(part)]
        times = {"StartTime": _moment(start), "EndTime": _moment(end)}
        for page in client.get_paginator("get_metric_data").paginate(MetricDataQueries=documents, **times):
            for result in page["MetricDataResults"]:
                yield (*part[int(result["Id"].removeprefix("m"))], result)


def _query(number: int, pipeline: str, transform: str, field: str, period: int) -> dict[str, Any]:
    name, statistic = METRICS[field]
    dimensions = [{"Name": "Pipeline", "Value": pipeline}, {"Name": "Transform", "Value": transform}]
    metric = {"Namespace": NAMESPACE, "MetricName": name, "Dimensions": dimensions}
    return {"Id": f"m{number}", "MetricStat": {"Metric": metric, "Period": period, "Stat": statistic}}


def _counts(fields: Mapping[str, float]) -> DayCounts:
    whole: dict[str, Any] = {name: int(value) for name, value in fields.items() if METRICS[name][1] == "Sum"}
    return DayCounts(**whole, median=fields.get("median"), slow=fields.get("slow"))


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


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
