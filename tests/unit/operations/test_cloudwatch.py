"""Metrics and logs of a deployed pipeline: what is asked of CloudWatch, and what its answers become."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import boto3
import pytest
from moto import mock_aws

from silversmith.operations.aws_services import METRICS, MOST_METRICS, STREAMS, day_counts, log_end
from silversmith.operations.target import HOUR, DayCounts, LogLine
from silversmith.runtime.telemetry import UNITS

#: Moto leaves files open.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")

NOW = 1_800_000_030.0
GROUP = "/aws/lambda/shop_orders"


@pytest.fixture
def session() -> Iterator[boto3.session.Session]:
    with mock_aws():
        yield boto3.session.Session("id", "secret", region_name="eu-central-1")


class Answering:
    """CloudWatch as its documents say: values by the id of a query, in pages."""

    def __init__(self, values: dict[tuple[str, str], float]) -> None:
        self.requests: list[dict[str, Any]] = []
        self._values = values

    def get_paginator(self, name: str) -> Answering:
        assert name == "get_metric_data"
        return self

    def paginate(self, **request: Any) -> Iterator[dict[str, Any]]:
        self.requests.append(request)
        for query in request["MetricDataQueries"]:
            metric = query["MetricStat"]["Metric"]
            (transform,) = (each["Value"] for each in metric["Dimensions"] if each["Name"] == "Transform")
            statistic = query["MetricStat"]["Stat"]
            value = self._values.get((transform, f"{metric['MetricName']} {statistic}"))
            values = [] if value is None or query["MetricStat"]["Period"] == HOUR else [value]
            times = [request["StartTime"]] * len(values)
            yield {"MetricDataResults": [{"Id": query["Id"], "Values": values, "Timestamps": times}]}


def test_the_metrics_are_those_that_the_functions_write() -> None:
    assert {name for name, _ in METRICS.values()} <= UNITS.keys()


def test_counts_and_percentiles_are_of_one_period_from_midnight_on() -> None:
    client = Answering(
        {("orders", "FilesCommitted Sum"): 7.0, ("orders", "RowsRejected Sum"): 2.0, ("orders", "Age p95"): 1234.5}
    )
    counts = day_counts(client, "shop", ["orders", "late"], since=NOW - 3600, now=NOW)
    assert counts == {"orders": DayCounts(done=7, rejected=2, slow=1234.5), "late": DayCounts()}
    request, by_the_hour = client.requests
    assert {query["MetricStat"]["Period"] for query in by_the_hour["MetricDataQueries"]} == {HOUR}
    periods = {query["MetricStat"]["Period"] for query in request["MetricDataQueries"]}
    assert periods == {3660}
    assert (request["EndTime"] - request["StartTime"]).total_seconds() == 3660
    assert request["StartTime"] == datetime.fromtimestamp(NOW - 3630, UTC)


def test_just_after_midnight_the_period_is_a_minute() -> None:
    client = Answering({})
    day_counts(client, "shop", ["orders"], since=NOW, now=NOW)
    assert client.requests[0]["MetricDataQueries"][0]["MetricStat"]["Period"] == 60


def test_many_transforms_take_several_requests() -> None:
    names = [f"t{number}" for number in range(200)]
    client = Answering({(name, "FilesCommitted Sum"): float(number) for number, name in enumerate(names)})
    counts = day_counts(client, "shop", names, since=NOW - 60, now=NOW)
    assert [counts[name].done for name in names] == list(range(200))
    assert [len(request["MetricDataQueries"]) for request in client.requests] == [MOST_METRICS] * 3 + [100, 200]


def test_cloudwatch_takes_the_question(session: boto3.session.Session) -> None:
    client = session.client("cloudwatch")
    dimensions = [{"Name": "Pipeline", "Value": "shop"}, {"Name": "Transform", "Value": "orders"}]
    at = datetime.fromtimestamp(NOW - 600, UTC)
    client.put_metric_data(
        Namespace="Silversmith",
        MetricData=[{"MetricName": "FilesCommitted", "Dimensions": dimensions, "Timestamp": at, "Value": 3.0}],
    )
    assert day_counts(client, "shop", ["orders"], since=NOW - 3600, now=NOW)["orders"].done == 3


def test_the_hours_in_which_files_came(session: boto3.session.Session) -> None:
    client = session.client("cloudwatch")
    dimensions = [{"Name": "Pipeline", "Value": "shop"}, {"Name": "Transform", "Value": "orders"}]
    this_hour = NOW // HOUR * HOUR
    for back in (0, 1, 30, 24 * 13, 24 * 15):
        at = datetime.fromtimestamp(this_hour - back * HOUR + 25, UTC)
        client.put_metric_data(
            Namespace="Silversmith",
            MetricData=[{"MetricName": "FilesCommitted", "Dimensions": dimensions, "Timestamp": at, "Value": 2.0}],
        )
    counts = day_counts(client, "shop", ["orders", "late"], since=NOW - 60, now=NOW)
    assert counts["orders"].hours == tuple(this_hour - back * HOUR for back in (24 * 13, 30, 1, 0))
    assert counts["late"].hours == ()


def test_the_end_of_a_log_is_of_its_newest_streams_in_the_order_of_time(session: boto3.session.Session) -> None:
    client = session.client("logs")
    assert log_end(client, GROUP, 5) == [], "it was never called"
    client.create_log_group(logGroupName=GROUP)
    assert log_end(client, GROUP, 5) == []
    start = int(datetime.now(UTC).timestamp())
    for number in range(STREAMS + 1):
        client.create_log_stream(logGroupName=GROUP, logStreamName=f"s{number}")
        events = [
            {"timestamp": (start + number + 10 * each) * 1000, "message": f"{number} {each}\n"} for each in (0, 1)
        ]
        client.put_log_events(logGroupName=GROUP, logStreamName=f"s{number}", logEvents=events)
    lines = log_end(client, GROUP, 5)
    assert lines[-1] == LogLine(start + STREAMS + 10, f"{STREAMS} 1")
    assert [line.at for line in lines] == sorted(line.at for line in lines)
    assert len(lines) == 5
