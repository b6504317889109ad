"""Files: their list, each with the state that it has now; the search by key; and the whole story of one, with previews
and the lines around its error, its download, and its replay."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import PurePosixPath
from typing import Any, BinaryIO
from urllib.parse import quote

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response, StreamingResponse

from silversmith.keypatterns import KeyPattern
from silversmith.lineage import rejected_key, silver_key
from silversmith.operations.preview import LARGEST, Preview, preview
from silversmith.operations.reports import Trace, TransformTrace, near, trace
from silversmith.operations.send import Range
from silversmith.operations.send import replay as operation
from silversmith.operations.target import Target
from silversmith.page.context import ViewContext, link, natural, render
from silversmith.page.recent import FileEvent, stored
from silversmith.pipeline import Pipeline
from silversmith.stores import Source
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
    skip = natural(query.get("skip", "")) or 0
    glance, order = await context.look(), Order.of(query)
    if glance.remembers:
        listed = context.watch.ask(lambda files, *_: files.files(chosen))
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
    remembered = context.watch.ask(lambda files, *_: files.keys(text, MOST_FOUND))

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


#: So many hops are shown, the newest.
MOST_HOPS = 500

#: So many of its dead messages are shown.
MOST_DEAD = 20


@dataclass(frozen=True)
class Chapter:
    """The result of the file in one transform, with previews and the lines of the file around its error."""

    part: TransformTrace
    silver: Preview | None
    rejected: Preview | None
    lines: Sequence[RawLine]


#: So many lines before and after the one with the error are shown, and so many characters of each.
AROUND = 3
LINE = 400

#: A line further down is not looked for, in bytes.
FURTHEST = 64 * 1024 * 1024


@dataclass(frozen=True)
class RawLine:
    """A line of the file as it is: its number from 1, and whether the error is in it. Bytes that are no UTF-8 are
    escapes."""

    number: int
    text: str
    is_wrong: bool


def raw_lines(file: BinaryIO, wrong: int) -> list[RawLine]:
    """The lines around the one with this number, from 1. None of a file that is no text."""
    lines: list[RawLine] = []
    read = 0
    for number in range(1, wrong + AROUND + 1):
        line = file.readline(FURTHEST - read)
        read += len(line)
        if not line or b"\0" in line or read >= FURTHEST:
            break
        if number >= wrong - AROUND:
            text = line[: LINE * 4].decode("utf-8", "backslashreplace").rstrip("\r\n")
            lines.append(RawLine(number, text if len(text) <= LINE else f"{text[: LINE - 1]}…", number == wrong))
    return lines if any(line.is_wrong for line in lines) else []


def _lines(part: TransformTrace, story: Trace, target: Target) -> list[RawLine]:
    """The lines around the error of a file that is still the one that failed."""
    place = part.error.place if part.error is not None and part.state == "quarantined" else {}
    wrong = place.get("line")
    if not isinstance(wrong, int) or isinstance(wrong, bool) or wrong < 1 or story.bronze is None:
        return []
    if story.bronze.size > LARGEST or story.bronze.archived:
        return []
    with target.lake.bronze.open(story.key) as source:
        if source is None:
            return []
        with _opened(source) as file:
            return raw_lines(file, wrong)


def _opened(source: Source) -> BinaryIO:
    if source.data is not None:
        return io.BytesIO(source.data)
    assert source.path is not None
    return source.path.open("rb")


async def file(request: Request) -> Response:
    """``/file?key=``"""
    key = request.query_params.get("key", "")
    if not key:
        raise HTTPException(404)
    context, notes = ViewContext.of(request), list[str]()
    view = await context.ask_gold(_story, key, tell=notes.append)
    sent = natural(request.query_params.get("sent", ""))
    values = {"title": key, "query": key, **view, "notes": notes, "sent": sent}
    return context.answer(request, "file.html", values, status=200 if view["story"].known else 404)


def _story(key: str, pipeline: Pipeline, target: Target) -> dict[str, Any]:
    """The template's values. ``dead``: the queue, or who gave up, and why; ``no_history``: why there is none."""
    story = trace(key, pipeline, target, most=MOST_HOPS)
    chapters = [
        Chapter(
            part,
            preview(target.lake.silver, silver_key(part.transform, key)) if part.silver else None,
            preview(target.lake.quarantine, rejected_key(part.transform, key)) if part.rejected else None,
            _lines(part, story, target),
        )
        for part in story.transforms
    ]
    dead = _dead(key, story, target) if story.known else []
    no_history = "" if target.remembers else target.no_history
    return {"story": story, "chapters": chapters, "dead": dead[:MOST_DEAD], "no_history": no_history}


def _dead(key: str, story: Trace, target: Target) -> list[tuple[str, str]]:
    """Without a history, the story came from the queues: they are not read twice."""
    if target.remembers:
        return [(message.queue, message.reason) for message in target.dead() if message.key == key]
    steps = [step for version in story.versions for step in version.steps if step.what == "dead"]
    return [(step.name, str(step.detail.get("reason", ""))) for step in steps]


#: So many bytes of a download are in memory at a time.
DOWNLOAD_CHUNK = 1024 * 1024


async def download(request: Request) -> Response:
    """``/download?key=``: the bronze object's bytes, to be saved and never shown: they are a stranger's."""
    key = request.query_params.get("key", "")
    if not key:
        raise HTTPException(404)
    context = ViewContext.of(request)

    def open_bronze(_: Pipeline, target: Target) -> tuple[int, BinaryIO] | None:
        with target.lake.bronze.open(key) as source:  # the file stays open when its name is gone
            return None if source is None else (source.head.size, _opened(source))

    opened = await context.ask(open_bronze)
    if opened is None:
        raise HTTPException(404)
    size, content = opened

    def pieces() -> Iterator[bytes]:
        with content:
            while piece := content.read(DOWNLOAD_CHUNK):
                yield piece

    name = quote(PurePosixPath(key).name.encode("utf-8", "replace") or b"file", safe="")
    headers = {
        "content-disposition": f"attachment; filename*=UTF-8''{name}",
        "content-length": str(size),
        "content-security-policy": "sandbox; default-src 'none'",
    }
    return StreamingResponse(pieces(), media_type="application/octet-stream", headers=headers)


async def replay(request: Request) -> Response:
    """``/replay?key=&transform=``: GET asks, POST makes silver of this file again, as ``replay --force`` does."""
    context = ViewContext.of(request)
    fields = dict(request.query_params) if request.method == "GET" else await context.form(request)
    key, transform = fields.get("key", ""), fields.get("transform", "")
    names = [each.name for each in context.backend.pipeline.matching(key)] if key else []
    if transform not in names:
        raise HTTPException(404, "No transform of this name takes this key.")
    if request.method == "POST":

        def send(pipeline: Pipeline, target: Target) -> int:
            chosen = Range(KeyPattern.exactly(key))
            batches = operation(pipeline, target, chosen, transform=transform, force=time.time())
            return sum(len(batch.keys) for batch in batches)

        sent = await context.ask(send, writable=True)
        return RedirectResponse(link("/file", key=key, sent=sent), 303)
    return context.answer(request, "replay.html", {"title": "Make silver again", "key": key, "transform": transform})
