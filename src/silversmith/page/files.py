"""The list of files, each with the state that it has now, and the search by key."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from silversmith.operations.reports import near
from silversmith.operations.target import Target
from silversmith.page.context import ViewContext, link, render
from silversmith.page.recent import FileEvent, stored
from silversmith.pipeline import Pipeline
from silversmith.stores.keys import InvalidKey, check

#: So many files are in one piece of the list; the browser asks for the next one at its end. To insert 100 took five
#: frames of the screen, 40 take two.
PIECE = 40

#: So many objects of silver are listed where there is no history.
MOST_STORED = 100

#: A search finds at most so many keys.
MOST_FOUND = 200

#: What the list may be sorted by, and the value of a file that decides. ``when`` comes first by default.
SORTS: Mapping[str, Callable[[FileEvent], Any]] = {
    "when": lambda event: event.at,
    "key": lambda event: event.key,
    "transform": lambda event: event.transform,
    "state": lambda event: event.state,
    "size": lambda event: event.size,
    "rows": lambda event: event.rows,
    "rejected": lambda event: event.rejected,
    "took": lambda event: event.total,
}

#: Sorted by these, the least comes first; by the others, the greatest.
ASCENDING = ("key", "transform", "state")


@dataclass(frozen=True)
class Order:
    """How the list is sorted: by one of :data:`SORTS`. What has no value there comes last."""

    by: str
    ascending: bool

    @classmethod
    def of(cls, query: Mapping[str, str]) -> Order:
        """As the URL says: ``sort=rows``, ``sort=-rows`` for the other way round."""
        text = query.get("sort", "")
        by = text.removeprefix("-")
        by = by if by in SORTS else "when"
        return cls(by, (by in ASCENDING) != text.startswith("-"))

    @property
    def text(self) -> str:
        """As in the URL."""
        return self.by if self.ascending == (self.by in ASCENDING) else f"-{self.by}"

    def link_of(self, by: str) -> str:
        """The link that sorts by this column: the other way round if it is sorted by it already."""
        return f"-{by}" if self.text == by else by

    def apply(self, files: Sequence[FileEvent]) -> list[FileEvent]:
        """The files in this order; those that are the same in it stay as they are."""
        value = SORTS[self.by]
        known = [event for event in files if value(event) is not None]
        return [
            *sorted(known, key=value, reverse=not self.ascending),
            *(event for event in files if value(event) is None),
        ]


async def files(request: Request) -> Response:
    """``/files?q=&state=&transform=&sort=&skip=``. With ``piece``: only the rows."""
    context = ViewContext.of(request)
    query = request.query_params
    chosen = {name: query.get(name, "") for name in ("q", "state", "transform")}
    skipped = query.get("skip", "")
    skip = int(skipped) if skipped.isascii() and skipped.isdigit() else 0
    glance, order = await context.look(), Order.of(query)
    if glance.remembers:
        listed = context.watch.ask(lambda files, _, __: files.files(chosen))
    else:
        listed = await context.ask(lambda pipeline, target: stored(pipeline, target, MOST_STORED, chosen=chosen))
    shown = order.apply(listed)[skip : skip + PIECE]
    older = skip + PIECE < len(listed)
    next_piece = link("/files", **chosen, sort=order.text, skip=skip + PIECE) if older else None
    values = {"files": shown, "older": next_piece, "scale": context.watch.scale()}
    if "piece" in query:
        return HTMLResponse(render("_piece.html", values))
    shared = {
        "title": "Files",
        "chosen": chosen,
        "order": order,
        "total": len(listed),
        "no_history": glance.no_history,
    }
    return context.answer(request, "files.html", {**values, **shared})


async def search(request: Request) -> Response:
    """``/search?q=``: redirects to the file with this key, or lists keys that look like it."""
    context = ViewContext.of(request)
    text = request.query_params.get("q", "").strip()
    try:
        check(text)
    except InvalidKey as error:
        values = {"title": "Search", "query": text, "problem": str(error) if text else "", "keys": []}
        return context.answer(request, "search.html", values)
    remembered = context.watch.keys(text, MOST_FOUND)

    def ask(_: Pipeline, target: Target) -> list[str] | None:
        bronze = target.lake.bronze
        if text in remembered or bronze.head(text) is not None:
            return None
        begins = [head.key for head in islice(bronze.list(text), MOST_FOUND)]
        keys = list(dict.fromkeys([*begins, *remembered]))[:MOST_FOUND]
        return keys or near(text, target.lake)

    keys = await context.ask(ask)
    if keys is None:
        return RedirectResponse(link("/file", key=text), 303)
    return context.answer(request, "search.html", {"title": "Search", "query": text, "problem": "", "keys": keys})
