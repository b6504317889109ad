"""Authorization of the page: the browser of this machine that has the token, and no other site's pages.

The token comes in the URL, as Jupyter's does, and stays in a cookie.
https://jupyter-server.readthedocs.io/en/latest/operators/security.html
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from urllib.parse import parse_qsl, urlencode, urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection
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
    return secrets.token_urlsafe(24)


def csrf_token(token: str) -> str:
    """The token of forms: derived from the page's token, without revealing it."""
    return hmac.new(token.encode(), b"silversmith form", hashlib.sha256).hexdigest()


def same(text: str, expected: str) -> bool:
    """Compare two texts in constant time."""
    return hmac.compare_digest(text.encode("utf-8", "surrogatepass"), expected.encode("utf-8", "surrogatepass"))


def authorize(request: HTTPConnection, *, token: str, cookie: str) -> Response | None:
    """Decide about a request: the answer that refuses it, or that keeps the right token as a cookie; None: it may
    pass."""
    host = request.headers.get("host", "")
    method, path, query = request.scope["method"], request.scope["path"], request.scope["query_string"]
    if _name(host) not in NAMES:
        return _refused(421, "This page answers only to 127.0.0.1 and localhost.")
    if method not in SAFE and not _is_own_origin(request.headers, host):
        return _refused(403, "The request comes from another site, and was refused.")
    if path.startswith("/static/"):
        return None
    fields = parse_qsl(query.decode("latin-1"), keep_blank_values=True)
    if method in SAFE and any(name == "token" and same(value, token) for name, value in fields):
        rest = urlencode([(name, value) for name, value in fields if name != "token"])
        location = "/" + path.lstrip("/\\")  # "//elsewhere" would be another host
        entered = RedirectResponse(f"{location}?{rest}" if rest else location, 303)
        entered.set_cookie(cookie, token, httponly=True, samesite="strict", path="/")
        return entered
    if same(request.cookies.get(cookie, ""), token):
        return None
    return _refused(
        403, "Open the page by the URL that silversmith printed: its token lets you in. Each start prints a new one."
    )


def _refused(status: int, why: str) -> Response:
    return HTMLResponse(REFUSED.format(why=why), status)


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
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        if scope["type"] != "http":  # a websocket: there is none
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        answer = authorize(HTTPConnection(scope), token=self._token, cookie=self._cookie) or self._app
        await answer(scope, receive, guarded)


#: ``why`` is always a text of ours.
REFUSED = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Silversmith</title>
<link rel="stylesheet" href="/static/page.css"></head>
<body class="alone"><main><h1>Silversmith</h1><p>{why}</p></main></body></html>
"""
