"""Lines in the embedded metric format: as the specification demands, and summing up to what happened."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from silversmith.function.handler import tally as add
from silversmith.function.outcome import Outcome, Report, Verdict
from silversmith.runtime.telemetry import MOST_VALUES, UNITS, Tally

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)

#: https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_MetricDatum.html
ALLOWED_UNITS = {"Count", "Bytes", "Milliseconds"}

outcomes = st.builds(
    Outcome,
    verdict=st.sampled_from(Verdict),
    transform=st.just("orders"),
    key=st.text(),
    silver=st.just(""),
    size=st.integers(0, 10**12),
    rows_read=st.integers(0, 10**9),
    rows_written=st.integers(0, 10**9),
    rows_rejected=st.integers(0, 10**9),
    stages=st.fixed_dictionaries({"read": st.floats(0, 100), "parse": st.floats(0, 800)}),
    age=st.none() | st.floats(0, 10**7),
)


def assert_follows_the_specification(line: str) -> dict[str, Any]:
    """https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html"""
    assert "\n" not in line
    assert len(line) < 1024 * 1024
    root: dict[str, Any] = json.loads(line)
    assert root["_aws"].keys() == {"Timestamp", "CloudWatchMetrics"}
    assert root["_aws"]["Timestamp"] == NOW.timestamp() * 1000
    (directive,) = root["_aws"]["CloudWatchMetrics"]
    assert directive.keys() == {"Namespace", "Dimensions", "Metrics"}
    assert 1 <= len(directive["Namespace"]) <= 1024
    for dimensions in directive["Dimensions"]:
        assert len(dimensions) <= 30
        assert all(isinstance(root[name], str) and 1 <= len(root[name]) <= 1024 for name in dimensions)
    assert 1 <= len(directive["Metrics"]) <= 100
    for metric in directive["Metrics"]:
        assert metric["Unit"] in ALLOWED_UNITS
        values = root[metric["Name"]]
        for value in values if isinstance(values, list) else [values]:
            assert isinstance(value, int | float)
        assert not isinstance(values, list) or 1 <= len(values) <= MOST_VALUES
    return root


@given(st.lists(st.tuples(st.lists(outcomes, max_size=3), st.booleans()), max_size=40))
def test_the_lines_sum_up_to_what_happened(messages: list[tuple[list[Outcome], bool]]) -> None:
    lines: list[str] = []
    tally = Tally({"Pipeline": "shop", "Transform": "orders"}, now=lambda: NOW, write=lines.append)
    for some, failed in messages:
        add(tally, Report("m", tuple(some), error={} if failed else None))
    tally.flush()
    sums: Counter[str] = Counter()
    seen: Counter[str] = Counter()
    for root in map(assert_follows_the_specification, lines):
        assert (root["Pipeline"], root["Transform"]) == ("shop", "orders")
        for name in UNITS.keys() & root.keys():
            values = root[name] if isinstance(root[name], list) else [root[name]]
            sums[name] += sum(values)
            seen[name] += len(values)
    everything = [outcome for some, _ in messages for outcome in some]
    created = [outcome for outcome in everything if outcome.verdict is Verdict.COMMITTED]
    for verdict in Verdict:
        name = "Files" + verdict.value.title().replace(" ", "")
        assert sums[name] == sum(outcome.verdict is verdict for outcome in everything)
    assert sums["FilesFailed"] == sum(failed for _, failed in messages)
    assert sums["RowsWritten"] == sum(outcome.rows_written for outcome in created)
    assert sums["Bytes"] == sum(outcome.size for outcome in created)
    assert seen["Duration"] == len(created)
    assert seen["Age"] == sum(outcome.age is not None for outcome in created)


def test_many_files_take_several_lines_and_none_is_lost() -> None:
    lines: list[str] = []
    tally = Tally({"Pipeline": "shop", "Transform": "orders"}, now=lambda: NOW, write=lines.append)
    outcome = Outcome(Verdict.COMMITTED, "orders", "k", "s", rows_written=1, stages={"parse": 0.25}, age=1.5)
    add(tally, Report("m", (outcome,) * (2 * MOST_VALUES + 1)))
    tally.flush()
    roots = [*map(assert_follows_the_specification, lines)]
    assert [len(root["Duration"]) for root in roots] == [MOST_VALUES, MOST_VALUES, 1]
    assert [root.get("RowsWritten") for root in roots] == [2 * MOST_VALUES + 1, None, None]
    assert roots[2]["Duration"] == [250.0]
    assert roots[2]["Age"] == [1500.0]


def test_nothing_is_measured_twice_and_nothing_of_nothing() -> None:
    lines: list[str] = []
    tally = Tally({"Pipeline": "shop", "Transform": "orders"}, now=lambda: NOW, write=lines.append)
    tally.flush()
    assert lines == []
    add(tally, Report("m", (), error={}))
    tally.flush()
    tally.flush()
    assert [json.loads(line)["FilesFailed"] for line in lines] == [1]
