"""What failed, by cause, and trying it again."""

from __future__ import annotations

import time
from itertools import islice
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from silversmith.operations.failures import Failures, RejectedFiles, Wanted
from silversmith.operations.failures import failures as look
from silversmith.operations.failures import rejected as look_rejected
from silversmith.operations.redrive import Chosen, Failed
from silversmith.operations.redrive import redrive as operation
from silversmith.operations.target import Target
from silversmith.page.causes import causes
from silversmith.page.desk import Desk
from silversmith.page.rendering import link
from silversmith.patterns.keys import KeyPattern
from silversmith.pipeline import Pipeline

#: So many failures are read, of each kind.
MOST = 2000

#: So many are named before they are tried again.
NAMED = 50

#: What a cause without a code, or without a transform, is called in a URL: nothing else is.
NONE = "-"


async def failures(request: Request) -> Response:
    """``/failures``"""
    desk = Desk.of(request)

    def ask(pipeline: Pipeline, target: Target) -> tuple[Failures, RejectedFiles]:
        now = time.time()
        return look(pipeline, target, Wanted(most=MOST), now=now), look_rejected(pipeline, target, Wanted(most=100))

    notes = list[str]()
    found, rejected = await desk.ask(ask, tell=notes.append)
    again = request.query_params.get("sent", "")
    values = {
        "title": "Failures",
        "found": found,
        "causes": causes(found),
        "rejected": rejected,
        "most": MOST,
        "notes": notes,
        "deployed": desk.place.deployed,
        "sent": int(again) if again.isascii() and again.isdigit() else None,
        "running": desk.watch.glance.status is not None and desk.watch.glance.status.running,
    }
    return desk.answer(request, "failures.html", values)


async def redrive(request: Request) -> Response:
    """``/redrive?transform=&error=&where=&key=``: asked first, and only then done."""
    desk = Desk.of(request)
    if request.method == "POST":
        chosen = _chosen(await desk.form(request))
        sent = await desk.ask(lambda pipeline, target: _send(pipeline, target, chosen), writable=True)
        return RedirectResponse(link("/failures", sent=sent), 303)
    fields = {name: values[0] for name, values in parse_qs(request.url.query).items()}
    chosen = _chosen(fields)
    named, total, lost = await desk.ask(lambda pipeline, target: _count(pipeline, target, chosen))
    values = {
        "title": "Try again",
        "fields": {name: fields[name] for name in ("transform", "error", "where", "key") if name in fields},
        "named": named,
        "total": total,
        "lost": lost,
    }
    return desk.answer(request, "redrive.html", values)


def _chosen(fields: dict[str, str]) -> Chosen:
    key, error = fields.get("key"), fields.get("error")
    transform = fields.get("transform")
    return Chosen(
        transform=None if transform == NONE else transform,
        pattern=KeyPattern.exactly(key) if key else None,
        error="" if error == NONE else error,
        where=fields.get("where"),
    )


def _send(pipeline: Pipeline, target: Target, chosen: Chosen) -> int:
    return sum(batch.sent for batch in operation(pipeline, target, chosen))


def _count(pipeline: Pipeline, target: Target, chosen: Chosen) -> tuple[list[Failed], int, int]:
    total, lost, named = 0, 0, list[Failed]()
    for batch in operation(pipeline, target, chosen, dry_run=True):
        total += len(batch.failed)
        lost += sum(failed.lost for failed in batch.failed)
        named += islice(batch.failed, max(0, NAMED - len(named)))
    return named, total, lost
