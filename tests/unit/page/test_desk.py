"""Forms, and what they must bring."""

from __future__ import annotations

from urllib.parse import urlencode

import pytest

from silversmith.page.context import LONGEST_FORM
from tests.unit.page.conftest import HOST, Visitor

HEADERS = {"origin": HOST, "content-type": "application/x-www-form-urlencoded"}


def send(visitor: Visitor, body: bytes) -> int:
    return visitor.client.post("/patterns", content=body, headers=HEADERS).status_code


@pytest.mark.parametrize("csrf", ["", "wrong", "\ud800", "é"])
def test_a_form_of_somebody_else(visitor: Visitor, csrf: str) -> None:
    assert send(visitor, urlencode({"csrf": csrf, "text": "a"}, errors="replace").encode()) == 403


def test_a_form_without_a_token(visitor: Visitor) -> None:
    assert send(visitor, b"text=a") == 403
    assert send(visitor, b"") == 403
    assert send(visitor, b"\xff\x00%ff") == 403


def test_how_long_a_form_may_be(visitor: Visitor) -> None:
    start = f"csrf={visitor.csrf}&text=".encode()
    room = LONGEST_FORM - len(start)
    assert send(visitor, start + b"a" * (room + 1)) == 413
    assert send(visitor, start + b"a" * 100) == 200


def test_the_first_of_repeated_fields_counts(visitor: Visitor) -> None:
    assert send(visitor, f"csrf=wrong&csrf={visitor.csrf}&text=a".encode()) == 403
    assert send(visitor, f"csrf={visitor.csrf}&csrf=wrong&text=a".encode()) == 200
