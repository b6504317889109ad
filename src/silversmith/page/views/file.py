"""One file's whole story."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from silversmith.lineage import rejected_key, silver_key
from silversmith.operations.target import DeadMessage, Target
from silversmith.operations.trace import OfTransform, Trace, trace
from silversmith.page.desk import Desk
from silversmith.page.preview import Preview, preview
from silversmith.pipeline import Pipeline

#: Of so many hops the story is told, the newest.
MOST_HOPS = 500


@dataclass(frozen=True)
class Chapter:
    """What one transform made of the file, and how that looks."""

    found: OfTransform
    silver: Preview | None
    rejected: Preview | None


async def file(request: Request) -> Response:
    """``/file?key=``"""
    key = request.query_params.get("key", "")
    if not key:
        raise HTTPException(404)
    desk = Desk.of(request)
    story, chapters, dead = await desk.ask(lambda pipeline, target: _tell(key, pipeline, target))
    values = {"title": key, "query": key, "story": story, "chapters": chapters, "dead": dead}
    return desk.answer(request, "file.html", values, status=200 if story.known else 404)


def _tell(key: str, pipeline: Pipeline, target: Target) -> tuple[Trace, list[Chapter], list[DeadMessage]]:
    story = trace(key, pipeline, target, most=MOST_HOPS)
    chapters = [
        Chapter(
            found,
            preview(target.lake.silver, silver_key(found.transform, key)) if found.silver else None,
            preview(target.lake.quarantine, rejected_key(found.transform, key)) if found.rejected else None,
        )
        for found in story.transforms
    ]
    dead = [message for message in target.dead() if message.key == key] if story.known else []
    return story, chapters, dead[:20]
