"""All files that are remembered, and the search by key."""

from __future__ import annotations

from itertools import islice

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from silversmith.operations.target import Target
from silversmith.operations.trace import near
from silversmith.page.desk import Desk
from silversmith.page.rendering import link, render
from silversmith.page.stored import stored
from silversmith.pipeline import Pipeline
from silversmith.stores.keys import InvalidKey, check

#: So many files are in one piece of the list; the browser asks for the next when somebody gets there. With 100, putting
#: a piece in took five frames of the screen; with 40 it takes two.
PIECE = 40

#: So many keys a search finds.
MOST_FOUND = 200

OUTCOMES = ("committed", "quarantined", "failed", "duplicate", "gone")


async def files(request: Request) -> Response:
    """``/files?q=&outcome=&transform=&before=``. With ``piece``: only the rows."""
    desk = Desk.of(request)
    query = request.query_params
    wanted = {name: query.get(name, "") for name in ("q", "outcome", "transform")}
    before = query.get("before", "")
    number = int(before) if before.isascii() and before.isdigit() else None
    glance = await desk.look()
    if glance.remembers:
        found = desk.watch.newest(PIECE + 1, before=number, wanted=wanted)
    else:
        found = await desk.ask(lambda pipeline, target: stored(pipeline, target, PIECE, wanted=wanted))
    shown = found[:PIECE]
    older = link("/files", **wanted, before=shown[-1].number) if len(found) > PIECE else None
    values = {"files": shown, "older": older}
    if "piece" in query:
        return HTMLResponse(render("_piece.html", values))
    shared = {"title": "Files", "wanted": wanted, "outcomes": OUTCOMES, "no_history": glance.no_history}
    return desk.answer(request, "files.html", {**values, **shared})


async def search(request: Request) -> Response:
    """``/search?q=``: straight to the file whose key it is, else the keys that look like it."""
    desk = Desk.of(request)
    text = request.query_params.get("q", "").strip()
    try:
        check(text)
    except InvalidKey as error:
        values = {"title": "Search", "query": text, "problem": str(error) if text else "", "found": []}
        return desk.answer(request, "search.html", values)
    remembered = desk.watch.keys(text, MOST_FOUND)

    def ask(_: Pipeline, target: Target) -> list[str] | None:
        bronze = target.lake.bronze
        if text in remembered or bronze.head(text) is not None:
            return None
        begins = [head.key for head in islice(bronze.list(text), MOST_FOUND)]
        found = list(dict.fromkeys([*begins, *remembered]))[:MOST_FOUND]
        return found or near(text, target.lake)

    found = await desk.ask(ask)
    if found is None:
        return RedirectResponse(link("/file", key=text), 303)
    return desk.answer(request, "search.html", {"title": "Search", "query": text, "problem": "", "found": found})
