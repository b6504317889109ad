"""The list of files, the search by key, the whole story of one file with previews, and the upload."""

from __future__ import annotations

import io
import shutil
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import polars as pl
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from silversmith.contract import REASONS, ROW_NUMBER
from silversmith.lineage import rejected_key, silver_key
from silversmith.operations.put import put_own
from silversmith.operations.reports import OfTransform, Trace, near, trace
from silversmith.operations.target import Target
from silversmith.page.context import ViewContext, link, render
from silversmith.page.recent import stored
from silversmith.pipeline import Pipeline
from silversmith.stores import Store
from silversmith.stores.keys import InvalidKey, check

#: So much is shown: rows, columns, and characters of a cell.
ROWS, COLUMNS, CELL = 20, 40, 200

#: A larger object is not fetched only to look at it, in bytes.
LARGEST = 256 * 1024 * 1024


@dataclass(frozen=True)
class Preview:
    """The first rows. ``kinds`` are the columns' types; a cell that is None is a null. ``problem``: why there are none.

    ``columns_in_all`` and ``rows_in_all`` count what there is.
    """

    columns: Sequence[str]
    kinds: Sequence[str]
    rows: Sequence[Sequence[str | None]]
    columns_in_all: int
    rows_in_all: int
    problem: str = ""


def preview(store: Store, key: str) -> Preview | None:
    """None where there is no such object."""
    head = store.head(key)
    if head is None:
        return None
    if head.size > LARGEST:
        return _none(f"it has {head.size:,} bytes: too large to look into from here")
    with store.open(key) as source:
        if source is None:
            return None
        where = io.BytesIO(source.data) if source.data is not None else source.path
        assert where is not None
        try:
            return _read(pl.scan_parquet(where))
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
            return _none(f"it cannot be read as Parquet: {error}")


def _read(rows: pl.LazyFrame) -> Preview:
    schema = rows.collect_schema()
    names = sorted(schema.names(), key=lambda name: name not in {ROW_NUMBER, REASONS})  # why comes first
    shown = names[:COLUMNS]
    first = rows.select(shown).head(ROWS).collect()
    return Preview(
        columns=shown,
        kinds=[str(schema[name]) for name in shown],
        rows=[[cell(value) for value in row] for row in first.rows()],
        columns_in_all=len(names),
        rows_in_all=int(rows.select(pl.len()).collect().item()),
    )


def cell(value: Any) -> str | None:
    """A value as a text, cut short."""
    if value is None:
        return None
    is_texts = isinstance(value, list) and all(isinstance(item, str) for item in value)
    text = "; ".join(value) if is_texts else str(value)
    return text if len(text) <= CELL else text[: CELL - 1] + "…"


def _none(problem: str) -> Preview:
    return Preview([], [], [], 0, 0, problem)


#: Of so many hops the story is told, the newest.
MOST_HOPS = 500

#: So many of its dead messages are named.
MOST_DEAD = 20


@dataclass(frozen=True)
class Chapter:
    """What one transform made of the file, and how that looks."""

    part: OfTransform
    silver: Preview | None
    rejected: Preview | None


@dataclass(frozen=True)
class Told:
    """The story, and what of it lies in dead-letter queues: which one, or who gave up, and why. ``no_history``: why
    nothing else is remembered, where it is so."""

    story: Trace
    chapters: Sequence[Chapter]
    dead: Sequence[tuple[str, str]]
    no_history: str


async def file(request: Request) -> Response:
    """``/file?key=``"""
    key = request.query_params.get("key", "")
    if not key:
        raise HTTPException(404)
    context, notes = ViewContext.of(request), list[str]()
    view = await context.ask(lambda pipeline, target: _tell(key, pipeline, target), tell=notes.append)
    values = {"title": key, "query": key, **vars(view), "notes": notes}
    return context.answer(request, "file.html", values, status=200 if view.story.known else 404)


def _tell(key: str, pipeline: Pipeline, target: Target) -> Told:
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
    return Told(story, chapters, dead[:MOST_DEAD], "" if target.remembers else target.no_history)


def _dead(key: str, story: Trace, target: Target) -> list[tuple[str, str]]:
    """Where nothing is remembered, the queues were what the story came from: they are not read twice."""
    if target.remembers:
        return [(message.queue, message.reason) for message in target.dead() if message.key == key]
    steps = [step for version in story.versions for step in version.steps if step.what == "dead"]
    return [(step.name, str(step.detail.get("reason", ""))) for step in steps]


#: So many files are in one piece of the list; the browser asks for the next when somebody gets there. With 100, putting
#: a piece in took five frames of the screen; with 40 it takes two.
PIECE = 40

#: So many keys a search finds.
MOST_FOUND = 200

OUTCOMES = ("committed", "quarantined", "failed", "duplicate", "gone")


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
    """``/search?q=``: straight to the file whose key it is, else the keys that look like it."""
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


#: So much of a file is in memory at a time, in bytes.
UPLOAD_CHUNK = 1024 * 1024

#: So much room stays on the disk, in bytes.
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
    """How many bytes may still be written there."""
    return max(0, shutil.disk_usage(folder).free - SPARE)


async def receive(stream: AsyncIterator[bytes], path: Path, most: int) -> int:
    """Write what comes to a file, piece by piece. Returns how many bytes that were.

    Raises:
        HTTPException: 507: there are more than ``most``.
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
