"""What is new: changes as server-sent events, and the ends of logs.

Each view asks for the events of its own URL, and loads itself again when it changed.
https://html.spec.whatwg.org/multipage/server-sent-events.html

A log grows without bound, so only its end is read: of a file, or on AWS of a log group of CloudWatch's.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import orjson
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from silversmith.errors import SilversmithError
from silversmith.operations.target import LogLine, Target
from silversmith.operations.text import iso
from silversmith.page.context import ViewContext, natural
from silversmith.page.overview import flow
from silversmith.page.recent import LastFiles, Overview
from silversmith.pipeline import Pipeline

#: After so many seconds without news, a comment keeps the stream of events open.
SILENCE = 15.0

#: The seconds for which a view stays as it is, by its path: to make some costs more. 0: at every look.
PACES = {"/": 0.0, "/flow": 0.0, "/files": 0.0, "/file": 2.0, "/logs": 0.0}
PACE = 5.0

#: What a view shows of time passing, such as ages, is made again after so many seconds.
AGES = 10


async def live(request: Request) -> Response:
    """``/live?view=PATH&after=NUMBER``: an event for every look. ``view``: the URL of the page that asks."""
    context = ViewContext.of(request)
    start = natural(request.query_params.get("after", "")) or 0
    return StreamingResponse(
        _events(request, context, start, request.query_params.get("view", "/")),
        media_type="text/event-stream",
        headers={"x-accel-buffering": "no"},
    )


async def _events(request: Request, context: ViewContext, after: int, url: str) -> AsyncIterator[bytes]:
    loop, news = asyncio.get_running_loop(), asyncio.Event()
    unsubscribe = context.watch.subscribe(lambda: loop.call_soon_threadsafe(news.set))
    path = _split(url)[0]
    revision, made_at = "", float("-inf")
    try:
        yield b"retry: 2000\n\n"
        while not context.watch.ended and not await request.is_disconnected():
            try:
                await asyncio.wait_for(news.wait(), SILENCE)
            except TimeoutError:
                yield b": nothing new\n\n"
                continue
            news.clear()
            glance = context.watch.glance
            if time.monotonic() - made_at >= PACES.get(path, PACE):
                newest = revision_of(context, glance, url)
                made_at = time.monotonic() if newest != revision else made_at
                revision = newest
            look, after = _look(context, glance, after, path)
            yield b"event: look\ndata: " + orjson.dumps({**look, "revision": revision}) + b"\n\n"
        if context.watch.ended:
            yield b"event: ended\ndata: {}\n\n"
    finally:
        unsubscribe()


def _look(context: ViewContext, glance: Overview, after: int, path: str) -> tuple[dict[str, Any], int]:
    ended = context.watch.ask(lambda files, *_: files.since(after))
    numbers = flow(glance.status, glance.rates)
    look: dict[str, Any] = {
        "values": numbers.values if path == "/flow" else {"engine": numbers.values.get("engine", "")},
        "marks": numbers.marks if path == "/flow" else {"engine.runs": numbers.marks.get("engine.runs", False)},
        "problem": glance.problem,
        "ended": len(ended),
        "failed": sum(event.outcome in {"failed", "quarantined"} for event in ended),
    }
    return look, ended[0].number if ended else after


def _split(url: str) -> tuple[str, str]:
    """The path of a view's URL, and the key that it is about. What is no URL of ours changes never."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "/-", ""
    path = parts.path if parts.path.startswith("/") else "/-"
    return path, parse_qs(parts.query, errors="replace").get("key", [""])[0]


def revision_of(context: ViewContext, glance: Overview, url: str) -> str:
    """A text that changes when the view of this URL does; empty: it does not change by itself."""
    path, key = _split(url)
    status = glance.status
    names = [each.name for each in status.transforms] if status is not None else []

    def newest(files: LastFiles, *_: object) -> object:
        return files.newest_of(key, names) if path == "/file" else files.number

    number = context.watch.ask(newest)
    depths = (
        ()
        if status is None
        else tuple((each.waiting, each.in_flight, each.dead, each.quarantined) for each in status.transforms)
    )
    ages = int(glance.at // AGES)
    kind = path.split("/")[1]
    revisions: dict[str, object] = {
        "": (number, depths, ages, glance.problem),
        "flow": (number, ages),
        "files": number,
        "file": number,
        "failures": (number, depths),
        "transforms": (number, depths, [each.fingerprint for each in context.backend.pipeline.transforms]),
        "tables": () if status is None else [(each.name, each.version) for each in status.tables],
        "logs": logs_revision(context.backend.logs),
    }
    return f"{hash(repr(revisions[kind])):x}" if kind in revisions else ""


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
    return LogEnd([*map(_short, lines[-LINES:])], size, is_whole=not start and len(lines) <= LINES)


def _short(line: str) -> str:
    return line if len(line) <= LINE else f"{line[: LINE - 1]}…"


#: So many lines are asked of a stream of CloudWatch's, at the earliest after so many seconds.
STREAMED, STREAMED_FOR = 200, 10.0

#: The name of the tables' log. No transform has it: it would be the name of the engine's file.
TABLES = "tables"


async def logs(request: Request) -> Response:
    """``/logs?of=functions&q=``, on AWS ``/logs?of=TRANSFORM&q=``"""
    context = ViewContext.of(request)
    chosen, part = request.query_params.get("of", ""), request.query_params.get("q", "")
    shared = {"title": "Logs", "part": part}
    if context.backend.logs is None:
        return context.answer(request, "logs_on_aws.html", shared | await _on_aws(context, chosen, part))
    chosen = chosen if chosen in LOGS else "functions"
    path = context.backend.logs / LOGS[chosen][0]
    end = await run_in_threadpool(log_end, path, part)
    return context.answer(request, "logs.html", {**shared, "logs": LOGS, "of": chosen, "file": str(path), "end": end})


async def _on_aws(context: ViewContext, chosen: str, part: str) -> dict[str, Any]:
    """The end of what one function printed lately, from CloudWatch."""
    names = [each.name for each in context.backend.pipeline.transforms]
    has_tables = bool(context.backend.pipeline.tables)
    if chosen not in names and not (chosen == TABLES and has_tables):
        chosen = names[0] if names else TABLES

    def ask(_: Pipeline, target: Target) -> tuple[Sequence[LogLine], str]:
        try:
            return target.log_end("" if chosen not in names else chosen, STREAMED), ""
        except SilversmithError as error:
            return [], str(error)

    end, problem = await context.cached(f"log {chosen}", int(time.monotonic() // STREAMED_FOR), 0, ask)
    return {
        "logs": [*names, *([TABLES] if has_tables and TABLES not in names else [])],
        "of": chosen,
        "problem": problem,
        "lines": [_short(f"{iso(line.at)} {line.text}") for line in end if part in line.text],
    }


def logs_revision(folder: Path | None) -> object:
    """A value that changes when a log does."""
    files = [] if folder is None else [folder / name for name, _ in LOGS.values()]
    return [path.stat().st_size for path in files if path.exists()]
