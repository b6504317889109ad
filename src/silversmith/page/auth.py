"""Authorization of the page: the browser of this machine that has the token, and no other site's pages.

The token comes in the URL, as Jupyter's does, and stays in a cookie.
https://jupyter-server.readthedocs.io/en/latest/operators/security.html
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlencode, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: The host names of this machine. Any other name may be DNS rebinding, and is refused.
NAMES = frozenset({"127.0.0.1", "localhost", "::1"})

#: Methods that change nothing.
SAFE = frozenset({"GET", "HEAD"})

#: The headers of every answer: no foreign script, style or frame, no caching, no referrer to other sites.
#: https://developer.mozilla.org/en-US/docs/Web/HTTP/Guides/CSP
HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",  # with no-referrer a browser would call the origin of our own forms null
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), usb=()",
    "cache-control": "no-store",
}


def new_token() -> str:
    """A random token."""
    return secrets.token_urlsafe(24)


def csrf_token(token: str) -> str:
    """The token of forms: derived from the page's token, without revealing it."""
    return hmac.new(token.encode(), b"silversmith form", hashlib.sha256).hexdigest()


def same(text: str, expected: str) -> bool:
    """Compare two texts in constant time."""
    return hmac.compare_digest(text.encode("utf-8", "surrogatepass"), expected.encode("utf-8", "surrogatepass"))


@dataclass(frozen=True)
class RequestRefused:
    """The request is refused. ``why`` is for a person."""

    status: int
    why: str


@dataclass(frozen=True)
class Enter:
    """The token was right: keep it as a cookie, and go on to ``location``, which does not have it."""

    location: str


@dataclass(frozen=True)
class Caller:
    """The parts of a request that identify its sender."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    cookies: Mapping[str, str]


def authorize(caller: Caller, *, token: str, cookie: str) -> RequestRefused | Enter | None:
    """Decide about a request; None: it may pass."""
    host = caller.headers.get("host", "")
    if _name(host) not in NAMES:
        return RequestRefused(421, "This page answers only to 127.0.0.1 and localhost.")
    if caller.method not in SAFE and not _is_own_origin(caller.headers, host):
        return RequestRefused(403, "The request comes from another site, and was refused.")
    if caller.path.startswith("/static/"):
        return None
    if same(caller.cookies.get(cookie, ""), token):
        return None if "token=" not in caller.query else _enter(caller, token)
    return _enter(caller, token) or RequestRefused(
        403, "Open the page by the URL that silversmith printed: its token lets you in. Each start prints a new one."
    )


def _enter(caller: Caller, token: str) -> Enter | None:
    """With the right token in the URL, redirect to the same URL without it."""
    query = parse_qsl(caller.query, keep_blank_values=True)
    if caller.method not in SAFE or not any(name == "token" and same(value, token) for name, value in query):
        return None
    rest = urlencode([(name, value) for name, value in query if name != "token"])
    path = "/" + caller.path.lstrip("/\\")  # "//elsewhere" would be another host
    return Enter(f"{path}?{rest}" if rest else path)


def _name(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _is_own_origin(headers: Mapping[str, str], host: str) -> bool:
    """A browser names the origin of every request that can change something.

    https://cheatsheetseries.owasp.org/cheatsheets/Cross-Site_Request_Forgery_Prevention_Cheat_Sheet.html
    """
    if headers.get("sec-fetch-site", "same-origin") != "same-origin":
        return False
    return headers.get("origin", "") == f"http://{host}"


class AuthMiddleware:
    """Authorizes every request, and sets :data:`HEADERS` on every answer.

    Args:
        app: the application behind it.
        token: lets a browser in.
        cookie: the name of the cookie that keeps the token. Cookies ignore ports, so it should contain the port.
    """

    def __init__(self, app: ASGIApp, *, token: str, cookie: str) -> None:
        self._app = app
        self._token = token
        self._cookie = cookie

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return  # a websocket: there is none

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        headers = Headers(scope=scope)
        caller = Caller(
            scope["method"],
            scope["path"],
            scope["query_string"].decode("latin-1"),
            headers,
            cookie_parser(headers.get("cookie", "")),
        )
        verdict = authorize(caller, token=self._token, cookie=self._cookie)
        answer = self._app if verdict is None else self._answer(verdict)
        await answer(scope, receive, guarded)

    def _answer(self, verdict: RequestRefused | Enter) -> Response:
        if isinstance(verdict, RequestRefused):
            return HTMLResponse(REFUSED.format(why=verdict.why), verdict.status)
        response = RedirectResponse(verdict.location, 303)
        response.set_cookie(self._cookie, self._token, httponly=True, samesite="strict", path="/")
        return response


#: ``why`` is always a text of ours.
REFUSED = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Silversmith</title>
<link rel="stylesheet" href="/static/page.css"></head>
<body class="alone"><main><h1>Silversmith</h1><p>{why}</p></main></body></html>
"""
