"""The first page: the flow, the last files, the plots."""

from __future__ import annotations

from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from silversmith.page.desk import Desk
from silversmith.page.history import SPANS, Span
from silversmith.page.plots import draw
from silversmith.page.stored import stored

#: So many files are shown.
FEW = 30


def span_of(request: Request) -> Span:
    """How far back the plots look, as the URL says."""
    return SPANS.get(request.query_params.get("span", ""), SPANS["10m"])


async def overview(request: Request) -> Response:
    """``/``"""
    desk = Desk.of(request)
    watch, span = desk.watch, span_of(request)
    glance = await desk.look()
    last = watch.newest(FEW) if glance.remembers or glance.status is None else await desk.ask(partial(stored, most=FEW))
    values = {
        "title": desk.place.pipeline.name,
        "glance": glance,
        "deployed": desk.place.deployed,
        "files": last,
        "newest": max((seen.number for seen in last), default=0),
        "plots": draw(watch.points(span), span, counted=glance.remembers),
        "span": span,
        "spans": SPANS.values(),
        "prefixes": sorted({each.pattern.literal_prefix for each in desk.place.pipeline.transforms} - {""}),
    }
    return desk.answer(request, "overview.html", values)
