"""Authorization of requests."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import HTTPConnection
from starlette.responses import Response

from silversmith.page.auth import HEADERS, authorize, csrf_token
from tests.unit.page.conftest import HOST, TOKEN, Visitor


def ask(
    method: str = "GET",
    path: str = "/",
    query: str = "",
    cookie: str = TOKEN,
    host: str = "127.0.0.1:8320",
    **more: str,
) -> Response | None:
    headers = {"host": host, "cookie": f"c={cookie}"}
    headers |= {name.replace("_", "-"): value for name, value in more.items()}
    scope = {"type": "http", "method": method, "path": path, "query_string": query.encode()}
    scope["headers"] = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    return authorize(HTTPConnection(scope), token=TOKEN, cookie="c")


def status(answer: Response | None) -> int | None:
    return None if answer is None else answer.status_code


def location(answer: Response | None) -> tuple[int, str] | None:
    return None if answer is None else (answer.status_code, answer.headers["location"])


def test_the_cookie_lets_in_and_nothing_else() -> None:
    assert ask() is None
    assert status(ask(cookie="")) == 403
    assert status(ask(cookie="secrets")) == 403
    assert status(ask(cookie="", query="token=wrong")) == 403


def test_the_token_in_the_url_becomes_a_cookie() -> None:
    assert location(ask(cookie="", path="/file", query="key=a%2Fb&token=secret")) == (
        303,
        "/file?key=a%2Fb",
    )
    assert location(ask(cookie="", path="//evil.example/", query="token=secret")) == (303, "/evil.example/")


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8320", "127.0.0.1.evil.example", "", "[", "localhost.", "x@y"]
)
def test_another_name_for_this_machine_is_refused(host: str) -> None:
    assert status(ask(host=host)) == 421


@pytest.mark.parametrize("host", ["localhost:9000", "127.0.0.1", "[::1]:8320"])
def test_this_machine_s_own_names_pass(host: str) -> None:
    assert ask(host=host) is None


def test_changing_requests_come_from_the_page_itself() -> None:
    own = "http://127.0.0.1:8320"
    assert ask("POST", origin=own) is None
    assert ask("POST", origin=own, sec_fetch_site="same-origin") is None
    for origin in ("", "null", "http://evil.example", "http://127.0.0.1:9999", "https://127.0.0.1:8320"):
        assert status(ask("POST", origin=origin)) == 403
    assert status(ask("POST", origin=own, sec_fetch_site="cross-site")) == 403
    assert status(ask("POST", origin=own, cookie="", query="token=secret")) == 403


@given(st.text(st.characters(max_codepoint=255)), st.text())
def test_no_text_gets_past_by_accident(cookie: str, query: str) -> None:
    if cookie != TOKEN and f"token={TOKEN}" not in query:
        assert status(ask(cookie=cookie, query=query)) == 403


def test_the_csrf_token_does_not_tell_the_token() -> None:
    assert TOKEN not in csrf_token(TOKEN)
    assert csrf_token(TOKEN) != csrf_token("another")


def test_over_http(visitor: Visitor) -> None:
    visitor.client.cookies.clear()
    refused = visitor.client.get("/")
    assert refused.status_code == 403
    entered = visitor.client.get(f"/files?token={TOKEN}")
    assert (entered.status_code, entered.headers["location"]) == (303, "/files")
    kept = entered.headers["set-cookie"].lower()
    assert all(word in kept for word in ("httponly", "samesite=strict", "path=/"))
    for answer in (refused, entered, visitor.client.get("/"), visitor.client.get("/none")):
        assert {name: answer.headers[name] for name in HEADERS} == HEADERS
    assert visitor.client.get("/", headers={"host": "evil.example"}).status_code == 421
    assert visitor.client.get("/", headers={"origin": "http://evil.example"}).status_code == 200, HOST
    assert "unsafe" not in HEADERS["content-security-policy"]
