"""Log lines on Lambda: one JSON object a line, through the standard library's ``logging``.

The fields are called as in Lambda's own JSON lines; what a call adds by ``extra`` stands beside them.
https://docs.aws.amazon.com/lambda/latest/dg/python-logging.html
"""

from __future__ import annotations

import json
import logging
import os
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

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
        return json.dumps(line, default=str)


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
    wanted = environment.get("SILVERSMITH_LOG_LEVEL", "").upper()
    root.setLevel(wanted if wanted in logging.getLevelNamesMapping() else "INFO")
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
