"""The output of the functions: the ends of the logs of a lake's engine.

A log grows without bound, so only its end is read: of a file, or on AWS of a log group of CloudWatch's.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from silversmith.errors import SilversmithError
from silversmith.operations.target import LogLine, Target
from silversmith.operations.text import iso
from silversmith.page.context import ViewContext
from silversmith.pipeline import Pipeline

#: The logs of a lake, by the name in the URL: the file, and what writes it.
LOGS = {
    "functions": ("functions.log", "what the transforms print and log"),
    "tables": ("tables.log", "what the process of the tables prints"),
    "page": ("page.log", "what goes wrong in this page"),
}

#: So many bytes of a log's end are read, and so many lines shown, each of so many characters.
END = 512 * 1024
LINES = 500
LINE = 2000


@dataclass(frozen=True)
class LogEnd:
    """The last lines of a log, and how many bytes it has. ``is_whole``: there are no lines before them."""

    lines: Sequence[str]
    size: int
    is_whole: bool


def log_end(path: Path, part: str = "") -> LogEnd:
    """The end of a log: the last lines, of those that contain ``part``. Bytes that are no UTF-8 are escapes."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            start = file.seek(max(0, size - END))
            text = file.read(END).decode("utf-8", "backslashreplace")
    except FileNotFoundError:
        return LogEnd([], 0, is_whole=True)
    lines = text.split("\n")
    lines = lines[1:] if start else lines  # the first one began before
    lines = [line for line in lines if line and part in line]
    shown = [line if len(line) <= LINE else f"{line[: LINE - 1]}…" for line in lines[-LINES:]]
    return LogEnd(shown, size, is_whole=not start and len(lines) <= LINES)


async def logs(request: Request) -> Response:
    """``/logs?of=functions&q=``, on AWS ``/logs?of=TRANSFORM&q=``"""
    context = ViewContext.of(request)
    if context.backend.deployed:
        return await _deployed(request, context)
    chosen = request.query_params.get("of", "")
    chosen = chosen if chosen in LOGS else "functions"
    part = request.query_params.get("q", "")
    folder = context.backend.logs
    path = None if folder is None else folder / LOGS[chosen][0]
    values = {
        "title": "Logs",
        "logs": LOGS,
        "of": chosen,
        "part": part,
        "file": str(path),
        "end": None if path is None else await run_in_threadpool(log_end, path, part),
    }
    return context.answer(request, "logs.html", values)


#: So many lines are asked of a stream of CloudWatch's, at the earliest after so many seconds.
STREAMED, STREAMED_FOR = 200, 10.0

#: The name of the tables' log. No transform has it: it would be the name of the engine's file.
TABLES = "tables"


async def _deployed(request: Request, context: ViewContext) -> Response:
    """The end of what one function printed lately, from CloudWatch."""
    names = [each.name for each in context.backend.pipeline.transforms]
    has_tables = bool(context.backend.pipeline.tables)
    chosen, part = request.query_params.get("of", ""), request.query_params.get("q", "")
    if chosen not in names and not (chosen == TABLES and has_tables):
        chosen = names[0] if names else TABLES

    def ask(_: Pipeline, target: Target) -> tuple[Sequence[LogLine], str]:
        try:
            return target.log_end("" if chosen not in names else chosen, STREAMED), ""
        except SilversmithError as error:
            return [], str(error)

    end, problem = await context.cached(f"log {chosen}", int(time.monotonic() // STREAMED_FOR), 0, ask)
    lines = [f"{iso(line.at)} {line.text}" for line in end if part in line.text]
    values = {
        "title": "Logs",
        "logs": [*names, *([TABLES] if has_tables and TABLES not in names else [])],
        "of": chosen,
        "part": part,
        "problem": problem,
        "lines": [line if len(line) <= LINE else f"{line[: LINE - 1]}…" for line in lines],
    }
    return context.answer(request, "logs_on_aws.html", values)


def logs_revision(folder: Path | None) -> object:
    """A value that changes when a log does."""
    files = [] if folder is None else [folder / name for name, _ in LOGS.values()]
    return [path.stat().st_size for path in files if path.exists()]
