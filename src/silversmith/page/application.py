"""The page as an ASGI application, and the server that serves it over an open socket."""

from __future__ import annotations

import socket
from collections.abc import Callable

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from silversmith.errors import SilversmithError
from silversmith.page import failures, files, live, overview, transforms, upload
from silversmith.page.auth import AuthMiddleware, csrf_token
from silversmith.page.backend import Backend
from silversmith.page.context import ViewContext
from silversmith.page.recent import Watch

ROUTES = [
    Route("/", overview.overview),
    Route("/flow", overview.flow_view),
    Route("/live", live.live),
    Route("/files", files.files),
    Route("/search", files.search),
    Route("/file", files.file),
    Route("/download", files.download),
    Route("/replay", files.replay, methods=["GET", "POST"]),
    Route("/failures", failures.failures),
    Route("/redrive", failures.redrive, methods=["GET", "POST"]),
    Route("/explain/{code}", failures.explain),
    Route("/transforms", transforms.transforms),
    Route("/transforms/{name}", transforms.transform),
    Route("/tables", transforms.tables),
    Route("/tables/{name}", transforms.table),
    Route("/logs", live.logs),
    Route("/patterns", transforms.patterns, methods=["GET", "POST"]),
    Route("/upload", upload.upload, methods=["POST"]),
    Route("/undo", upload.undo, methods=["POST"]),
    Mount("/static", StaticFiles(packages=[("silversmith.page", "static")])),
]


def application(backend: Backend, watch: Watch, *, token: str, cookie: str) -> ASGIApp:
    """The page over a backend. ``token`` and ``cookie``: see :class:`AuthMiddleware`."""
    app = Starlette(
        routes=ROUTES,
        exception_handlers={SilversmithError: _refused, HTTPException: _refused, Exception: _broken},
    )
    app.state.context = ViewContext(backend, watch, csrf_token(token))
    app.state.undos = upload.Undos()
    return AuthMiddleware(app, token=token, cookie=cookie)


async def _refused(request: Request, error: Exception) -> Response:
    """The request was wrong, or could not be done."""
    status, text = 400, str(error)
    if isinstance(error, HTTPException):
        known = {404: "There is no such page.", 405: "This page does not take such a request."}
        status, text = error.status_code, known.get(error.status_code, error.detail)
    return _problem(request, "Not possible", text, status)


async def _broken(request: Request, error: Exception) -> Response:
    """A bug of ours, or no answer from AWS: no traceback, and the next page works."""
    return _problem(request, "That went wrong", f"{type(error).__name__}: {error}", 500)


def _problem(request: Request, title: str, text: str, status: int) -> Response:
    values = {"title": title, "text": text}
    return ViewContext.of(request).answer(request, "problem.html", values, status=status)


#: At most so many connections are served at a time. A browser that watches holds one.
MOST_CONNECTIONS = 200


def serve(
    backend: Backend, listening: socket.socket, token: str, *, began: Callable[[Callable[[], None]], None] | None = None
) -> None:
    """Serve until a signal ends the server, or the function that ``began`` gets.

    Args:
        backend: what the page shows.
        listening: where browsers connect to.
        token: lets a browser in.
        began: called before the first request, with a function that ends the server and may be called from any thread.
    """
    watch = Watch(backend)
    port = listening.getsockname()[1]
    app = application(backend, watch, token=token, cookie=f"silversmith-{port}")
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        lifespan="off",
        ws="none",
        http="h11",
        loop="asyncio",
        limit_concurrency=MOST_CONNECTIONS,
        timeout_graceful_shutdown=1,
    )
    server = _Server(config, watch)
    if began is not None:
        began(server.end)
    watch.start()
    try:
        server.run(sockets=[listening])
    finally:
        watch.stop()


class _Server(uvicorn.Server):
    """Ends the watch before itself: otherwise the streams of events would delay its end."""

    def __init__(self, config: uvicorn.Config, watch: Watch) -> None:
        super().__init__(config)
        self._watch = watch

    def end(self) -> None:
        self._watch.stop()
        self.should_exit = True

    def handle_exit(self, sig: int, frame: object) -> None:  # noqa: ARG002 -- uvicorn calls it so
        self.end()
