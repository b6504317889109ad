"""Shared by all views: the backend, the watch over it, a thread pool for slow questions, and answers as HTML.

Templates are Jinja2 with autoescape. A key, a cell or an error message may hold anything: Jinja2 escapes markup, and
control characters and those that change the direction of a line are spelled out, as in the terminal.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import cache, partial
from typing import Any, TypeVar, cast
from urllib.parse import parse_qs, urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse

from silversmith.operations.explain import explanations
from silversmith.operations.reports import Status
from silversmith.operations.target import Target
from silversmith.operations.text import count, duration, headline, millis, shown, size
from silversmith.page.auth import same
from silversmith.page.backend import Backend, ignore
from silversmith.page.recent import STATES, Overview, Watch
from silversmith.pipeline import Pipeline


def visible(value: Any) -> Any:
    """Escapes the value of every ``{{ … }}``."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return shown(value)
    return value


def block(text: str) -> Markup:
    """A text of several lines, for inside ``<pre>``: each line shown, the lines kept."""
    return Markup("\n").join(escape(shown(line)) for line in text.expandtabs(4).splitlines())


def exact(text: str) -> Markup:
    """A text as it is, for the value of a hidden field."""
    return escape(text)


def number(value: int | None) -> str:
    """A number with commas; a dash where it is unknown."""
    return "-" if value is None else f"{value:,}"


def natural(text: str) -> int | None:
    """The number in a URL or a header; None for any other text."""
    return int(text) if text.isascii() and text.isdigit() else None


def instant(at: float) -> str:
    """A time in ISO 8601, for ``<time datetime>``."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")


def clock(at: float) -> str:
    """A date and a time of day in UTC; a browser with scripts turns it into its own, without today's date."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S")


def share(value: float | None) -> str:
    """A share in percent: ``0 %``, ``< 0.1 %``, ``2.4 %``; a dash for an unknown one."""
    if value is None:
        return "-"
    return "< 0.1 %" if 0 < value < 0.001 else f"{value * 100:.3g} %"


def link(path: str, **values: str | int | None) -> str:
    """A URL of the page, with a query of the values that are not None."""
    query = urlencode({name: value for name, value in values.items() if value is not None}, errors="replace")
    return f"{path}?{query}" if query else path


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("silversmith.page"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=visible,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        block=block,
        exact=exact,
        number=number,
        size=size,
        duration=duration,
        millis=millis,
        instant=instant,
        clock=clock,
        share=share,
        headline=headline,
    )
    environment.globals.update(link=link, count=count, explained=explained, STATES=STATES)
    return environment


def render(template: str, values: Mapping[str, Any]) -> str:
    return _environment().get_template(template).render(values)


def engine(status: Status | None) -> str:
    if status is None:
        return ""
    if not status.ran and status.running:
        return "deployed"
    return "the engine runs" if status.running else "no engine runs"


_Answer = TypeVar("_Answer")

#: The longest form, in bytes: an event is at most 256 KiB on AWS, and grows in its encoding.
LONGEST_FORM = 1024 * 1024


def explained(code: str) -> str:
    """The page about an error code; empty where there is none."""
    return f"/explain/{code}" if code in explanations() else ""


class ViewContext:
    """The page's state, as views use it.

    Args:
        backend: what the page shows.
        watch: looks at the backend.
        csrf: the token that a form must have.
    """

    def __init__(self, backend: Backend, watch: Watch, csrf: str) -> None:
        self.backend = backend
        self.watch = watch
        self._csrf = csrf
        self._answers: dict[str, tuple[object, float, object]] = {}

    @staticmethod
    def of(request: Request) -> ViewContext:
        return cast("ViewContext", request.app.state.context)

    async def ask(
        self,
        question: Callable[[Pipeline, Target], _Answer],
        *,
        writable: bool = False,
        tell: Callable[[str], None] = ignore,
    ) -> _Answer:
        """Run a question over the target in a thread. ``writable`` and ``tell``: see :meth:`Backend.opened`."""

        def asked() -> _Answer:
            with self.backend.opened(writable=writable, tell=tell) as (pipeline, target):
                return question(pipeline, target)

        return await run_in_threadpool(asked)

    async def ask_gold(
        self, question: Callable[..., _Answer], *arguments: object, tell: Callable[[str], None] = ignore
    ) -> _Answer:
        """The same with a function of a module, which gets the pipeline and the target after these arguments, and may
        read gold: see :meth:`Backend.answer`."""
        answer = await run_in_threadpool(partial(self.backend.answer, question, *arguments, tell=tell))
        return cast("_Answer", answer)

    async def look(self) -> Overview:
        return await run_in_threadpool(self.watch.recent)

    async def cached(
        self, name: str, revision: object, seconds: float, question: Callable[[Pipeline, Target], _Answer]
    ) -> _Answer:
        """The last answer to a question that costs much, for as long as ``revision`` is the same, and for so many
        seconds in any case."""
        before = self._answers.get(name)
        now = time.monotonic()
        if before is not None and (before[0] == revision or now - before[1] < seconds):
            return cast("_Answer", before[2])
        answer = await self.ask(question)
        self._answers[name] = (revision, now, answer)
        return answer

    def answer(self, request: Request, template: str, values: Mapping[str, Any], *, status: int = 200) -> HTMLResponse:
        """Render a page from these values and those that every page shows."""
        now = self.watch.glance.status
        shared = {
            "pipeline": self.backend.pipeline,
            "place": now.lake if now is not None else "",
            "engine": {"runs": now is not None and now.running, "says": engine(now)},
            "problem_now": self.watch.glance.problem if self.watch.glance.number else "",
            "csrf": self._csrf,
            "path": request.url.path,
            "query": "",
        }
        return HTMLResponse(render(template, {**shared, **values}), status)

    async def form(self, request: Request) -> dict[str, str]:
        """The fields of a form of this page.

        Raises:
            HTTPException: 403: it is no form of ours; 413: it is too long.
        """
        body = bytearray()
        async for piece in request.stream():
            body += piece
            if len(body) > LONGEST_FORM:
                raise HTTPException(413, f"This is longer than {LONGEST_FORM:,} bytes.")
        fields = parse_qs(bytes(body).decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=20)
        values = {name: every[0] for name, every in fields.items()}
        self.require(values.pop("csrf", ""))
        return values

    def require(self, csrf: str) -> None:
        """Raises HTTPException 403 unless the token is this page's."""
        if not same(csrf, self._csrf):
            raise HTTPException(403, "The form is not of this page, or of one that was started earlier. Load it again.")
