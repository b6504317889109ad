"""Metrics on Lambda: lines in CloudWatch's embedded metric format, from which CloudWatch makes metrics by itself.

Nothing is called and nothing waited for: a line on standard output is all. One for each invocation, not for each file,
because lines cost money by their size.
https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from silversmith.outcome import Outcome, Verdict

NAMESPACE = "Silversmith"

#: The most values that one metric may have in one line.
MOST_VALUES = 100

#: Every metric, with its unit as CloudWatch calls it.
UNITS: Mapping[str, str] = {
    "FilesCommitted": "Count",
    "FilesDuplicate": "Count",
    "FilesGone": "Count",
    "FilesQuarantined": "Count",
    "FilesFailed": "Count",
    "RowsRead": "Count",
    "RowsWritten": "Count",
    "RowsRejected": "Count",
    "Bytes": "Bytes",
    "Duration": "Milliseconds",
    "Age": "Milliseconds",
    "Missing": "Count",
    "ChainBroken": "Count",
}


def printed(line: str) -> None:
    """Write a line to Lambda's log."""
    print(line, file=sys.stdout, flush=True)  # noqa: T201


class Tally:
    """What one invocation has done so far, for the metrics of one transform.

    Args:
        pipeline: the name, for the dimension.
        transform: likewise.
        now: the time of day, in UTC.
        write: takes a line without its end.
    """

    def __init__(
        self,
        pipeline: str,
        transform: str,
        *,
        now: Callable[[], datetime],
        write: Callable[[str], None] = printed,
    ) -> None:
        self._dimensions = {"Pipeline": pipeline, "Transform": transform}
        self._now = now
        self._write = write
        self._counts: dict[str, int] = {}
        self._values: dict[str, list[float]] = {"Duration": [], "Age": []}

    def add(self, outcomes: Sequence[Outcome], *, failed: bool) -> None:
        """One message is done with: what became of its files; or it failed, and comes back.

        Rows and bytes count where silver was made of them: a duplicate would count them twice.
        """
        if failed:
            self._count("FilesFailed", 1)
        for outcome in outcomes:
            self._count(f"Files{outcome.verdict.value.title()}", 1)
            if outcome.verdict is Verdict.COMMITTED:
                self._count("RowsRead", outcome.rows_read)
                self._count("RowsWritten", outcome.rows_written)
                self._count("RowsRejected", outcome.rows_rejected)
                self._count("Bytes", outcome.size)
                self._values["Duration"].append(round(sum(outcome.stages.values()) * 1000, 3))
                if outcome.age is not None:
                    self._values["Age"].append(round(outcome.age * 1000, 3))

    def _count(self, name: str, by: int) -> None:
        self._counts[name] = self._counts.get(name, 0) + by

    def flush(self) -> None:
        """Write what there is, and begin again from nothing."""
        counts, self._counts = self._counts, {}
        values, self._values = self._values, {"Duration": [], "Age": []}
        for metrics in _lines(counts, values):
            self._write(json.dumps(document(metrics, self._dimensions, at=self._now())))


def _lines(counts: Mapping[str, int], values: Mapping[str, Sequence[float]]) -> Iterator[dict[str, int | list[float]]]:
    """As many lines as the values need; the counts are in the first."""
    longest = max(map(len, values.values()))
    for start in range(0, max(longest, 1), MOST_VALUES):
        found: dict[str, int | list[float]] = dict(counts) if start == 0 else {}
        for name, all_of_them in values.items():
            if some := list(all_of_them[start : start + MOST_VALUES]):
                found[name] = some
        if found:
            yield found


def document(
    metrics: Mapping[str, int] | Mapping[str, int | list[float]], dimensions: Mapping[str, str], *, at: datetime
) -> dict[str, Any]:
    """A line as JSON values: the metrics by name, one value or up to 100, and what CloudWatch needs to know of them."""
    directive = {
        "Namespace": NAMESPACE,
        "Dimensions": [list(dimensions)],
        "Metrics": [{"Name": name, "Unit": UNITS[name]} for name in metrics],
    }
    return {
        "_aws": {"Timestamp": int(at.timestamp() * 1000), "CloudWatchMetrics": [directive]},
        **dimensions,
        **metrics,
    }
