"""The first page: the flow, the last files and the plots, kept up to date by server-sent events.

https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from silversmith.page.context import ViewContext, render
from silversmith.page.plots import draw
from silversmith.page.recent import SPANS, Span, stored

#: So many files are shown.
FEW = 30


def span_of(request: Request) -> Span:
    """How far back the plots look, as the URL says."""
    return SPANS.get(request.query_params.get("span", ""), SPANS["10m"])


async def overview(request: Request) -> Response:
    """``/``"""
    context = ViewContext.of(request)
    watch, span = context.watch, span_of(request)
    glance = await context.look()
    last = (
        watch.newest(FEW) if glance.remembers or glance.status is None else await context.ask(partial(stored, most=FEW))
    )
    values = {
        "title": context.backend.pipeline.name,
        "glance": glance,
        "deployed": context.backend.deployed,
        "files": last,
        "newest": max((seen.number for seen in last), default=0),
        "plots": draw(watch.points(span), span, counted=glance.remembers),
        "span": span,
        "spans": SPANS.values(),
        "prefixes": sorted({each.pattern.literal_prefix for each in context.backend.pipeline.transforms} - {""}),
    }
    return context.answer(request, "overview.html", values)


#: A browser that is told nothing for so long, in seconds, is told that there is nothing.
SILENCE = 15.0

#: The plots are drawn anew at every so many looks.
PLOTS_EVERY = 5


async def live(request: Request) -> Response:
    """``/live?after=NUMBER&span=``: an event for every look, with the files that ended since."""
    context = ViewContext.of(request)
    after = request.query_params.get("after", "")
    number = int(after) if after.isascii() and after.isdigit() else 0
    return StreamingResponse(
        _events(request, context, number, span_of(request)),
        media_type="text/event-stream",
        headers={"x-accel-buffering": "no"},
    )


async def _events(request: Request, context: ViewContext, after: int, span: Span) -> AsyncIterator[bytes]:
    loop, news = asyncio.get_running_loop(), asyncio.Event()

    def heard() -> None:
        loop.call_soon_threadsafe(news.set)

    end = context.watch.hear(heard)
    looks = 0
    try:
        yield b"retry: 2000\n\n"
        while not context.watch.ended and not await request.is_disconnected():
            try:
                await asyncio.wait_for(news.wait(), SILENCE)
            except TimeoutError:
                yield b": nothing new\n\n"
                continue
            news.clear()
            look, after = _look(context, after, span, plots=looks % PLOTS_EVERY == 0)
            looks += 1
            yield b"event: look\ndata: " + orjson.dumps(look) + b"\n\n"
    finally:
        end()


def _look(context: ViewContext, after: int, span: Span, *, plots: bool) -> tuple[dict[str, Any], int]:
    glance = context.watch.glance
    ended = context.watch.since(after)
    look: dict[str, Any] = {
        "values": glance.moment.values,
        "marks": glance.moment.marks,
        "problem": glance.problem,
        "ended": len(ended),
        "failed": sum(seen.outcome in {"failed", "quarantined"} for seen in ended),
        "transforms": [] if glance.status is None else [each.name for each in glance.status.transforms],
    }
    if ended:
        look["files"] = render("_rows.html", {"files": ended[:FEW]})
        after = ended[0].number
    if plots:
        drawn = draw(context.watch.points(span), span, counted=glance.remembers)
        look["plots"] = render("_plots.html", {"plots": drawn})
    return look, after
