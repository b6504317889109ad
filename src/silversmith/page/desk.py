"""What every view needs: the place, the watch over it, threads for what takes a while, and an answer that is a page."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar
from urllib.parse import parse_qs

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse

from silversmith.operations.target import Target
from silversmith.page.gate import same
from silversmith.page.places import Place, quiet
from silversmith.page.rendering import render
from silversmith.page.watch import Glance, Watch
from silversmith.pipeline import Pipeline

_Found = TypeVar("_Found")

#: A form is not longer, in bytes: an event that somebody pastes is at most 256 KiB on AWS, and grows in its encoding.
LONGEST_FORM = 1024 * 1024


class Desk:
    """Args:
    place: what the page shows.
    watch: the looks at it.
    csrf: what a form must bring.
    """

    def __init__(self, place: Place, watch: Watch, csrf: str) -> None:
        self.place = place
        self.watch = watch
        self._csrf = csrf

    @staticmethod
    def of(request: Request) -> Desk:
        """The desk of the application that was asked."""
        desk = request.app.state.desk
        assert isinstance(desk, Desk)
        return desk

    async def ask(
        self,
        question: Callable[[Pipeline, Target], _Found],
        *,
        writable: bool = False,
        tell: Callable[[str], None] = quiet,
    ) -> _Found:
        """Ask the operations something, in a thread. ``writable`` and ``tell`` as :meth:`Place.opened` has them."""

        def asked() -> _Found:
            with self.place.opened(writable=writable, tell=tell) as (pipeline, target):
                return question(pipeline, target)

        return await run_in_threadpool(asked)

    async def look(self) -> Glance:
        """As :meth:`Watch.recent`, in a thread."""
        return await run_in_threadpool(self.watch.recent)

    def answer(self, request: Request, template: str, values: Mapping[str, Any], *, status: int = 200) -> HTMLResponse:
        """A page. To the values come those that every page shows."""
        shared = {
            "pipeline": self.place.pipeline,
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
        found = parse_qs(bytes(body).decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=20)
        values = {name: every[0] for name, every in found.items()}
        self.require(values.pop("csrf", ""))
        return values

    def require(self, csrf: str) -> None:
        """Raises HTTPException 403 unless this is what our forms bring."""
        if not same(csrf, self._csrf):
            raise HTTPException(403, "The form is not of this page, or of one that was started earlier. Load it again.")
