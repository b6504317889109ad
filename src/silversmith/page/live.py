"""Changes, as server-sent events: each view asks for those of its own URL, and loads itself again when it changed.

https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import orjson
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from silversmith.page.context import ViewContext
from silversmith.page.flow import flow
from silversmith.page.logs import logs_revision
from silversmith.page.recent import LastFiles, Overview

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
    after = request.query_params.get("after", "")
    start = int(after) if after.isascii() and after.isdigit() else 0
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
    ended, numbers = context.watch.since(after), flow(glance.status, glance.rates)
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

    def newest(files: LastFiles) -> object:
        return files.newest_of(key, names) if path == "/file" else files.number

    number = context.watch.ask(lambda files, _, __: newest(files))
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
