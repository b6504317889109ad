"""The pattern tester."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from silversmith.page.desk import Desk
from silversmith.page.matching import NothingToTry, Tried, tried


async def patterns(request: Request) -> Response:
    """``/patterns``: a key in the URL (``?text=``), or what was pasted into the form."""
    desk = Desk.of(request)
    fields = await desk.form(request) if request.method == "POST" else request.query_params
    text = fields.get("text", "")
    problem, found = "", list[Tried]()
    if text:
        try:
            found = tried(text, desk.place.pipeline)
        except NothingToTry as error:
            problem = str(error)
    values = {"title": "Pattern tester", "text": text, "tried": found, "problem": problem}
    return desk.answer(request, "patterns.html", values)
