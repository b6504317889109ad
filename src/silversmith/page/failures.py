"""Failures grouped by cause, the redrive of one cause, and the explanation of its code. Failures that one change would
repair stand together."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice
from typing import Any
from urllib.parse import parse_qs

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from silversmith.keypatterns import KeyPattern
from silversmith.operations.explain import explanations
from silversmith.operations.failures import Failures, Query, RejectedFiles
from silversmith.operations.failures import failures as look
from silversmith.operations.failures import rejected as look_rejected
from silversmith.operations.send import Failure, FailureSelection
from silversmith.operations.send import redrive as operation
from silversmith.operations.target import Target
from silversmith.page.context import ViewContext, link, natural
from silversmith.pipeline import Pipeline

#: The title of a cause without a code, by where the failure is.
TITLES = {
    "quarantine": "Without a code",
    "queue": "Received too often",
    "subscription": "Undelivered by the topic",
    "rule": "Undelivered by the rule",
    "unknown": "From a queue that the pipeline no longer has",
}


@dataclass
class Cause:
    """Failures of one transform with one code. ``transform`` None: a rule gave up, so every matching transform.

    ``where`` as in ``Failure``. ``message`` and ``hint`` are of the first failure; ``keys`` are the first few.
    """

    transform: str | None
    code: str
    where: str
    message: str
    hint: str
    count: int = 0
    keys: list[str] = field(default_factory=list)

    @property
    def title(self) -> str:
        """Its code, or without one, who gave up."""
        return self.code or TITLES[self.where]

    @property
    def can_redrive(self) -> bool:
        """Whether the pipeline still has what the messages came from."""
        return self.where != "unknown"


#: So many keys of each cause are shown.
NAMED = 20


def causes(failed: Failures) -> list[Cause]:
    groups: dict[tuple[str | None, str, str], Cause] = {}

    def add(transform: str | None, code: str, where: str, explanation: tuple[str, str], key: str) -> None:
        cause = groups.setdefault((transform, code, where), Cause(transform, code, where, *explanation))
        cause.count += 1
        if len(cause.keys) < NAMED:
            cause.keys.append(key)

    for document in failed.quarantined:
        explanation = (document.message, document.hint)
        add(document.transform, document.code, "quarantine", explanation, document.key)
    for message in failed.dead:
        error = message.error or {}
        log = f"Its log: {message.log_group}, stream {message.log_stream}, request {message.request_id}"
        hint = str(error.get("hint") or "") or (log if message.log_stream else "")
        explanation = (str(error.get("message") or message.reason), hint)
        add(message.transform, str(error.get("code", "")), message.kind.value, explanation, message.key)
    return sorted(groups.values(), key=lambda cause: (-cause.count, cause.transform or "", cause.code))


def alike(causes_of_all: Iterable[Cause]) -> list[list[Cause]]:
    """The causes with one code and one place together, whatever their transforms; the most failures first."""
    groups: dict[object, list[Cause]] = {}
    for number, cause in enumerate(causes_of_all):
        groups.setdefault((cause.code, cause.where) if cause.code else number, []).append(cause)
    return sorted(groups.values(), key=lambda group: -sum(cause.count for cause in group))


#: So many failures are read, of each kind.
MOST = 2000

#: So many failures of each kind are grouped for the first page, at the earliest after so many seconds.
MOST_AT_A_GLANCE = 300
ANEW = 5.0


async def causes_now(context: ViewContext) -> list[Cause]:
    """The causes for the first page, of the first :data:`MOST_AT_A_GLANCE` failures of each kind."""
    status = context.watch.glance.status
    revision = None if status is None else [(each.quarantined, each.dead) for each in status.transforms]
    number = context.watch.ask(lambda files, _, __: files.number)

    def ask(pipeline: Pipeline, target: Target) -> list[Cause]:
        return causes(look(pipeline, target, Query(most=MOST_AT_A_GLANCE), now=time.time()))

    return await context.cached("causes", (revision, number), ANEW, ask)


#: So many failures are listed before they are tried again.
LISTED = 50

#: Stands in a URL for a cause without a code, or without a transform.
NONE = "-"


async def failures(request: Request) -> Response:
    """``/failures``"""
    context = ViewContext.of(request)

    def ask(pipeline: Pipeline, target: Target) -> tuple[Failures, RejectedFiles]:
        now = time.time()
        return look(pipeline, target, Query(most=MOST), now=now), look_rejected(pipeline, target, Query(most=100))

    notes = list[str]()
    failed, rejected = await context.ask(ask, tell=notes.append)
    values = {
        "title": "Failures",
        "failed": failed,
        "causes": causes(failed),
        "rejected": rejected,
        "most": MOST,
        "notes": notes,
        "deployed": context.backend.deployed,
        "sent": natural(request.query_params.get("sent", "")),
        "running": context.watch.glance.status is not None and context.watch.glance.status.running,
    }
    return context.answer(request, "failures.html", values)


async def redrive(request: Request) -> Response:
    """``/redrive?transform=&error=&where=&key=``: GET asks, POST does it."""
    context = ViewContext.of(request)
    if request.method == "POST":
        chosen = _chosen(await context.form(request))
        sent = await context.ask(
            lambda pipeline, target: sum(batch.sent for batch in operation(pipeline, target, chosen)), writable=True
        )
        return RedirectResponse(link("/failures", sent=sent), 303)
    fields = {name: values[0] for name, values in parse_qs(request.url.query).items()}
    chosen = _chosen(fields)

    def count(pipeline: Pipeline, target: Target) -> dict[str, Any]:
        total, lost, named = 0, 0, list[Failure]()
        for batch in operation(pipeline, target, chosen, dry_run=True):
            total += len(batch.failures)
            lost += sum(failed.lost for failed in batch.failures)
            named += islice(batch.failures, max(0, LISTED - len(named)))
        return {"named": named, "total": total, "lost": lost}

    asked = {name: fields[name] for name in ("transform", "error", "where", "key") if name in fields}
    values = {"title": "Try again", "fields": asked, **await context.ask(count)}
    return context.answer(request, "redrive.html", values)


def _chosen(fields: dict[str, str]) -> FailureSelection:
    key, error, transform = fields.get("key"), fields.get("error"), fields.get("transform")
    return FailureSelection(
        transform=None if transform == NONE else transform,
        pattern=KeyPattern.exactly(key) if key else None,
        error="" if error == NONE else error,
        where=fields.get("where"),
    )


async def explain(request: Request) -> Response:
    """``/explain/{code}``, as ``silversmith explain`` and the docs have it: it works offline."""
    context = ViewContext.of(request)
    explanation = explanations().get(request.path_params["code"])
    if explanation is None:
        raise HTTPException(404)
    return context.answer(request, "explain.html", {"title": explanation.code, "explained": explanation.to_dict()})
