"""One file's whole story."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from silversmith.lineage import rejected_key, silver_key
from silversmith.operations.target import Target
from silversmith.operations.trace import OfTransform, Trace, trace
from silversmith.page.desk import Desk
from silversmith.page.preview import Preview, preview
from silversmith.pipeline import Pipeline

#: Of so many hops the story is told, the newest.
MOST_HOPS = 500

#: So many of its dead messages are named.
MOST_DEAD = 20


@dataclass(frozen=True)
class Chapter:
    """What one transform made of the file, and how that looks."""

    found: OfTransform
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
    desk, notes = Desk.of(request), list[str]()
    found = await desk.ask(lambda pipeline, target: _tell(key, pipeline, target), tell=notes.append)
    values = {"title": key, "query": key, **vars(found), "notes": notes}
    return desk.answer(request, "file.html", values, status=200 if found.story.known else 404)


def _tell(key: str, pipeline: Pipeline, target: Target) -> Told:
    story = trace(key, pipeline, target, most=MOST_HOPS)
    chapters = [
        Chapter(
            found,
            preview(target.lake.silver, silver_key(found.transform, key)) if found.silver else None,
            preview(target.lake.quarantine, rejected_key(found.transform, key)) if found.rejected else None,
        )
        for found in story.transforms
    ]
    dead = _dead(key, story, target) if story.known else []
    return Told(story, chapters, dead[:MOST_DEAD], "" if target.remembers else target.no_history)


def _dead(key: str, story: Trace, target: Target) -> list[tuple[str, str]]:
    """Where nothing is remembered, the queues were what the story came from: they are not read twice."""
    if target.remembers:
        return [(message.queue, message.reason) for message in target.dead() if message.key == key]
    steps = [step for version in story.versions for step in version.steps if step.what == "dead"]
    return [(step.name, str(step.detail.get("reason", ""))) for step in steps]
