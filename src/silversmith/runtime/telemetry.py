"""The log of a function on Lambda, as JSON lines, and its metrics, in CloudWatch's embedded metric format."""

from __future__ import annotations

import json
import logging
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

from silversmith.errors import masked

NAMESPACE = "Silversmith"

#: The most values that one metric may have in one line.
MOST_VALUES = 100

#: Every metric, with its unit as CloudWatch calls it.
UNITS: Mapping[str, str] = {
    "FilesCommitted": "Count",
    "FilesDuplicate": "Count",
    "FilesGone": "Count",
    "FilesRemoved": "Count",
    "FilesMarker": "Count",
    "FilesArchived": "Count",
    "FilesBeforeSince": "Count",
    "FilesQuarantined": "Count",
    "FilesFailed": "Count",
    "RowsRead": "Count",
    "RowsWritten": "Count",
    "RowsRejected": "Count",
    "Bytes": "Bytes",
    "Duration": "Milliseconds",
    "Age": "Milliseconds",
    "Failed": "Count",
    "Missing": "Count",
    "Unfinished": "Count",
    "ChainBroken": "Count",
}


def printed(line: str) -> None:
    """Write a line to Lambda's log."""
    print(line, file=sys.stdout, flush=True)  # noqa: T201


class Tally:
    """The work of one invocation so far, for the metrics of one transform or table.

    Args:
        dimensions: of the metrics, by name.
        now: the time of day, in UTC.
        write: takes a line without its end.
    """

    def __init__(
        self,
        dimensions: Mapping[str, str],
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        write: Callable[[str], None] = printed,
    ) -> None:
        self._dimensions = dimensions
        self._now = now
        self._write = write
        self._counts: dict[str, int] = {}
        self._values: dict[str, list[float]] = {}

    def count(self, name: str, by: int = 1) -> None:
        """Add to a metric that is one number."""
        self._counts[name] = self._counts.get(name, 0) + by

    def measure(self, name: str, seconds: float) -> None:
        """Add a time to a metric that is many."""
        self._values.setdefault(name, []).append(round(seconds * 1000, 3))

    def flush(self) -> None:
        """Write what there is, and begin again from nothing."""
        counts, self._counts = self._counts, {}
        values, self._values = self._values, {}
        for metrics in _lines(counts, values):
            self._write(json.dumps(document(metrics, self._dimensions, at=self._now())))


def _lines(counts: Mapping[str, int], values: Mapping[str, Sequence[float]]) -> Iterator[dict[str, int | list[float]]]:
    """As many lines as the values need; the counts are in the first."""
    longest = max(map(len, values.values()), default=0)
    for start in range(0, max(longest, 1), MOST_VALUES):
        metrics: dict[str, int | list[float]] = dict(counts) if start == 0 else {}
        for name, all_of_them in values.items():
            if few := list(all_of_them[start : start + MOST_VALUES]):
                metrics[name] = few
        if metrics:
            yield metrics


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


#: What every record has: whatever else it has was given as ``extra``.
_OF_EVERY_RECORD = frozenset({*vars(logging.makeLogRecord({})), "message", "asctime"})

#: The names of our own fields, which ``extra`` does not overwrite.
_OURS = frozenset({"timestamp", "level", "logger", "requestId", "errorType", "errorMessage", "stackTrace"})

_request: ContextVar[str] = ContextVar("request", default="")


class JsonLines(logging.Formatter):
    """A record as one line of JSON. All but ASCII is escaped: whatever is in a key, it neither ends the line nor
    reaches a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": _text(record),
        }
        if request := _request.get():
            line["requestId"] = request
        line |= {name: value for name, value in vars(record).items() if name not in _OF_EVERY_RECORD | _OURS}
        line |= _exception(record)
        return masked(json.dumps(line, default=str))


def _text(record: logging.LogRecord) -> str:
    """A user's log call with arguments that do not fit must not cost the file that it speaks of."""
    try:
        return record.getMessage()
    except Exception as error:  # noqa: BLE001 -- theirs may raise anything
        return f"{record.msg} ({type(error).__name__}: {error})"


def _exception(record: logging.LogRecord) -> dict[str, Any]:
    if not record.exc_info or record.exc_info[1] is None:
        return {}
    kind, error, trace = record.exc_info
    return {
        "errorType": kind.__name__ if kind else "",
        "errorMessage": str(error),
        "stackTrace": [line.rstrip("\n") for line in traceback.format_exception(kind, error, trace)],
    }


class _Standard(logging.Handler):
    """Writes to what is standard output at the moment of writing, whole lines only."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            sys.stdout.write(self.format(record) + "\n")
            sys.stdout.flush()
        except Exception:  # noqa: BLE001 -- what cannot be logged is still worked on
            self.handleError(record)


def set_up(environment: Mapping[str, str] = os.environ, root: logging.Logger | None = None) -> None:
    """Have everything that this process logs written to standard output as JSON lines, which Lambda takes as they are.

    Lambda's own handler, which writes text, goes. ``SILVERSMITH_LOG_LEVEL`` is from which level on, by default INFO.
    """
    root = root or logging.getLogger()
    handler = _Standard()
    handler.setFormatter(JsonLines())
    root.handlers[:] = [handler]
    level = environment.get("SILVERSMITH_LOG_LEVEL", "").upper()
    root.setLevel(level if level in logging.getLevelNamesMapping() else "INFO")
    for noisy in ("botocore", "boto3", "urllib3", "s3transfer"):  # theirs at INFO says where credentials were found
        logging.getLogger(noisy).setLevel(max(logging.WARNING, root.level))


@contextmanager
def request(context: object) -> Iterator[None]:
    """While the block lasts, lines carry the id of the invocation, which Lambda's context object has."""
    token = _request.set(str(getattr(context, "aws_request_id", "")))
    try:
        yield
    finally:
        _request.reset(token)
