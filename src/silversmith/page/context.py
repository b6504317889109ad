"""What every view needs: the backend, the watch over it, a thread pool for slow questions, and answers as HTML.

Templates are Jinja2 with autoescape. A key, a cell or an error message may hold anything: Jinja2 escapes markup, and
control characters and those that change the direction of a line are spelled out, as in the terminal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Any, TypeVar
from urllib.parse import parse_qs, urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse

from silversmith.operations.target import Target
from silversmith.operations.text import duration, shown, size
from silversmith.page.auth import same
from silversmith.page.backend import Backend, quiet
from silversmith.page.plots import millis
from silversmith.page.watch import Glance, Watch
from silversmith.pipeline import Pipeline


def visible(value: Any) -> Any:
    """What is put in for every ``{{ … }}``."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return shown(value)
    return value


def block(text: str) -> Markup:
    """A text of several lines, for inside ``<pre>``: each line shown, the lines kept."""
    return Markup("\n").join(escape(shown(line)) for line in text.expandtabs(4).splitlines())


def exact(text: str) -> Markup:
    """A text as it is, for what nobody sees: the value of a hidden field."""
    return escape(text)


def number(value: int | None) -> str:
    """With commas; a dash where it is not known."""
    return "-" if value is None else f"{value:,}"


def instant(at: float) -> str:
    """A time in ISO 8601, for ``<time datetime>``."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")


def clock(at: float) -> str:
    """A time of day in UTC; a browser with scripts turns it into its own."""
    return datetime.fromtimestamp(at, UTC).strftime("%H:%M:%S")


def link(path: str, **values: str | int | None) -> str:
    """A URL of the page, with what is not None in its query."""
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
    )
    environment.globals.update(link=link)
    return environment


def render(template: str, values: Mapping[str, Any]) -> str:
    """A template of the package, as HTML."""
    return _environment().get_template(template).render(values)


_Found = TypeVar("_Found")

#: A form is not longer, in bytes: an event that somebody pastes is at most 256 KiB on AWS, and grows in its encoding.
LONGEST_FORM = 1024 * 1024


class ViewContext:
    """Args:
    backend: what the page shows.
    watch: the looks at it.
    csrf: what a form must bring.
    """

    def __init__(self, backend: Backend, watch: Watch, csrf: str) -> None:
        self.backend = backend
        self.watch = watch
        self._csrf = csrf

    @staticmethod
    def of(request: Request) -> ViewContext:
        """The context of the application that was asked."""
        context = request.app.state.context
        assert isinstance(context, ViewContext)
        return context

    async def ask(
        self,
        question: Callable[[Pipeline, Target], _Found],
        *,
        writable: bool = False,
        tell: Callable[[str], None] = quiet,
    ) -> _Found:
        """Ask the operations something, in a thread. ``writable`` and ``tell`` as :meth:`Backend.opened` has them."""

        def asked() -> _Found:
            with self.backend.opened(writable=writable, tell=tell) as (pipeline, target):
                return question(pipeline, target)

        return await run_in_threadpool(asked)

    async def look(self) -> Glance:
        """As :meth:`Watch.recent`, in a thread."""
        return await run_in_threadpool(self.watch.recent)

    def answer(self, request: Request, template: str, values: Mapping[str, Any], *, status: int = 200) -> HTMLResponse:
        """A page. To the values come those that every page shows."""
        shared = {
            "pipeline": self.backend.pipeline,
            "place": self.watch.glance.status.lake if self.watch.glance.status else "",
            "csrf": self._csrf,
            "path": request.url.path,
            "query": "",
        }
        return HTMLResponse(render(template, {**shared, **values}), status)

    async def form(self, request: Request) -> dict[str, str]:
        """What a form of ours sent.

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
        """Raises HTTPException 403 unless this is what our forms bring."""
        if not same(csrf, self._csrf):
            raise HTTPException(403, "The form is not of this page, or of one that was started earlier. Load it again.")
