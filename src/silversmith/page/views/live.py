"""What is new, as it happens: server-sent events.

https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from silversmith.page.desk import Desk
from silversmith.page.history import Span
from silversmith.page.plots import draw
from silversmith.page.rendering import render
from silversmith.page.views.overview import FEW, span_of

#: A browser that is told nothing for so long, in seconds, is told that there is nothing.
SILENCE = 15.0

#: The plots are drawn anew at every so many looks.
PLOTS_EVERY = 5


async def live(request: Request) -> Response:
    """``/live?after=NUMBER&span=``: an event for every look, with the files that ended since."""
    desk = Desk.of(request)
    after = request.query_params.get("after", "")
    number = int(after) if after.isascii() and after.isdigit() else 0
    return StreamingResponse(
        _events(request, desk, number, span_of(request)),
        media_type="text/event-stream",
        headers={"x-accel-buffering": "no"},
    )


async def _events(request: Request, desk: Desk, after: int, span: Span) -> AsyncIterator[bytes]:
    loop, news = asyncio.get_running_loop(), asyncio.Event()

    def heard() -> None:
        loop.call_soon_threadsafe(news.set)

    end = desk.watch.hear(heard)
    looks = 0
    try:
        yield b"retry: 2000\n\n"
        while not desk.watch.ended and not await request.is_disconnected():
            try:
                await asyncio.wait_for(news.wait(), SILENCE)
            except TimeoutError:
                yield b": nothing new\n\n"
                continue
            news.clear()
            found, after = _look(desk, after, span, plots=looks % PLOTS_EVERY == 0)
            looks += 1
            yield b"event: look\ndata: " + orjson.dumps(found) + b"\n\n"
    finally:
        end()


def _look(desk: Desk, after: int, span: Span, *, plots: bool) -> tuple[dict[str, Any], int]:
    glance = desk.watch.glance
    ended = desk.watch.since(after)
    found: dict[str, Any] = {
        "values": glance.moment.values,
        "marks": glance.moment.marks,
        "problem": glance.problem,
        "ended": len(ended),
        "failed": sum(seen.outcome in {"failed", "quarantined"} for seen in ended),
        "transforms": [] if glance.status is None else [each.name for each in glance.status.transforms],
    }
    if ended:
        found["files"] = render("_rows.html", {"files": ended[:FEW]})
        after = ended[0].number
    if plots:
        drawn = draw(desk.watch.points(span), span, counted=glance.remembers)
        found["plots"] = render("_plots.html", {"plots": drawn})
    return found, after
