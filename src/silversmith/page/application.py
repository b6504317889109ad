"""The page as an ASGI application: which URL is what."""

from __future__ import annotations

from importlib import resources

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from silversmith.errors import SilversmithError
from silversmith.page import failures, files, overview, pattern_tester, transforms
from silversmith.page.auth import AuthMiddleware, csrf_token
from silversmith.page.backend import Backend
from silversmith.page.context import ViewContext
from silversmith.page.watch import Watch

#: What is served as it is.
STATIC = {
    "page.css": "text/css; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}

ROUTES = [
    Route("/", overview.overview),
    Route("/live", overview.live),
    Route("/files", files.files),
    Route("/search", files.search),
    Route("/file", files.file),
    Route("/failures", failures.failures),
    Route("/redrive", failures.redrive, methods=["GET", "POST"]),
    Route("/transforms", transforms.transforms),
    Route("/transforms/{name}", transforms.transform),
    Route("/patterns", pattern_tester.patterns, methods=["GET", "POST"]),
    Route("/upload", files.upload, methods=["POST"]),
]


def application(backend: Backend, watch: Watch, *, token: str, cookie: str) -> ASGIApp:
    """The page of a place. ``token`` and ``cookie``: see :class:`AuthMiddleware`."""
    app = Starlette(
        routes=[*ROUTES, Route("/static/{name}", static)],
        exception_handlers={SilversmithError: _refused, HTTPException: _refused, Exception: _broken},
    )
    app.state.context = ViewContext(backend, watch, csrf_token(token))
    return AuthMiddleware(app, token=token, cookie=cookie)


async def static(request: Request) -> Response:
    """A style, a script, a picture: from the package, and nothing else."""
    name = request.path_params["name"]
    if name not in STATIC:
        raise HTTPException(404)
    body = resources.files("silversmith.page").joinpath("static", name).read_bytes()
    return Response(body, media_type=STATIC[name], headers={"cache-control": "no-cache"})


async def _refused(request: Request, error: Exception) -> Response:
    """What was wrong with the question, or could not be done."""
    status = error.status_code if isinstance(error, HTTPException) else 400
    texts = {404: "There is no such page.", 405: "This cannot be asked for in this way."}
    text = texts.get(status) or (error.detail if isinstance(error, HTTPException) else str(error))
    return ViewContext.of(request).answer(
        request, "problem.html", {"title": "Not possible", "text": text}, status=status
    )


async def _broken(request: Request, error: Exception) -> Response:
    """A bug of ours, or AWS does not answer: no traceback, and the next page works."""
    text = f"{type(error).__name__}: {error}"
    return ViewContext.of(request).answer(
        request, "problem.html", {"title": "That went wrong", "text": text}, status=500
    )
