"""The list of files, the search by key, the whole story of one file with previews, and the upload."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from silversmith.lineage import rejected_key, silver_key
from silversmith.operations.preview import Preview, preview
from silversmith.operations.reports import Trace, TransformTrace, near, trace
from silversmith.operations.send import put_own
from silversmith.operations.target import Target
from silversmith.page.context import ViewContext, link, render
from silversmith.page.recent import stored
from silversmith.pipeline import Pipeline
from silversmith.stores.keys import InvalidKey, check

#: So many hops are shown, the newest.
MOST_HOPS = 500

#: So many of its dead messages are shown.
MOST_DEAD = 20


@dataclass(frozen=True)
class Chapter:
    """What one transform made of the file, with previews."""

    part: TransformTrace
    silver: Preview | None
    rejected: Preview | None


async def file(request: Request) -> Response:
    """``/file?key=``"""
    key = request.query_params.get("key", "")
    if not key:
        raise HTTPException(404)
    context, notes = ViewContext.of(request), list[str]()
    view = await context.ask(lambda pipeline, target: _story(key, pipeline, target), tell=notes.append)
    values = {"title": key, "query": key, **view, "notes": notes}
    return context.answer(request, "file.html", values, status=200 if view["story"].known else 404)


def _story(key: str, pipeline: Pipeline, target: Target) -> dict[str, Any]:
    """The template's values. ``dead``: the queue, or who gave up, and why; ``no_history``: why there is none."""
    story = trace(key, pipeline, target, most=MOST_HOPS)
    chapters = [
        Chapter(
            part,
            preview(target.lake.silver, silver_key(part.transform, key)) if part.silver else None,
            preview(target.lake.quarantine, rejected_key(part.transform, key)) if part.rejected else None,
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


#: So many files are in one piece of the list; the browser asks for the next one at its end. To insert 100 took five
#: frames of the screen, 40 take two.
PIECE = 40

#: A search finds at most so many keys.
MOST_FOUND = 200

OUTCOMES = ("committed", "quarantined", "failed", "duplicate", "gone", "removed", "marker", "archived")


async def files(request: Request) -> Response:
    """``/files?q=&outcome=&transform=&before=``. With ``piece``: only the rows."""
    context = ViewContext.of(request)
    query = request.query_params
    chosen = {name: query.get(name, "") for name in ("q", "outcome", "transform")}
    before = query.get("before", "")
    number = int(before) if before.isascii() and before.isdigit() else None
    glance = await context.look()
    if glance.remembers:
        events = context.watch.newest(PIECE + 1, before=number, chosen=chosen)
    else:
        events = await context.ask(lambda pipeline, target: stored(pipeline, target, PIECE, chosen=chosen))
    shown = events[:PIECE]
    older = link("/files", **chosen, before=shown[-1].number) if len(events) > PIECE else None
    values = {"files": shown, "older": older}
    if "piece" in query:
        return HTMLResponse(render("_piece.html", values))
    shared = {"title": "Files", "chosen": chosen, "outcomes": OUTCOMES, "no_history": glance.no_history}
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


#: So many bytes of an upload are in memory at a time.
UPLOAD_CHUNK = 1024 * 1024

#: So many bytes of the disk stay free.
SPARE = 256 * 1024 * 1024


async def upload(request: Request) -> Response:
    """``POST /upload?key=``, the file as the body. Answers as ``put --json`` does, or with an ``error``."""
    context = ViewContext.of(request)
    context.require(request.headers.get("x-csrf-token", ""))
    key = request.query_params.get("key", "")
    try:
        check(key)
        length = request.headers.get("content-length", "")
        size = int(length) if length.isascii() and length.isdigit() else None
        with context.backend.scratch() as folder:
            path = folder / "body"
            received = await receive(request.stream(), path, room(folder))
            if size is not None and received != size:
                return JSONResponse({"error": "the upload broke off"}, 400)
            stored_file = await context.ask(
                lambda pipeline, target: put_own(path, key, pipeline, target.lake.bronze), writable=False
            )
    except InvalidKey as error:
        return JSONResponse({"error": str(error)}, 400)
    except ClientDisconnect:
        return JSONResponse({"error": "the upload broke off"}, 400)
    except HTTPException as error:
        return JSONResponse({"error": error.detail}, error.status_code)
    return JSONResponse(stored_file.to_dict())


def room(folder: Path) -> int:
    """How many bytes may still be written to the folder's disk."""
    return max(0, shutil.disk_usage(folder).free - SPARE)


async def receive(stream: AsyncIterator[bytes], path: Path, most: int) -> int:
    """Write a stream to a file, piece by piece. Returns its size in bytes.

    Raises:
        HTTPException: 507: it has more than ``most`` bytes.
    """
    size, pending = 0, bytearray()
    with path.open("wb") as file:
        async for piece in stream:
            size += len(piece)
            if size > most:
                raise HTTPException(507, "there is no room on the disk for this file")
            pending += piece
            if len(pending) >= UPLOAD_CHUNK:
                await run_in_threadpool(file.write, pending)
                pending = bytearray()
        file.write(pending)
    return size
