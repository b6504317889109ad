"""Text of strangers is shown as text."""

from __future__ import annotations

import html
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import UndefinedError

from silversmith import Pipeline
from silversmith.operations.text import shown
from silversmith.page.context import block, clock, instant, link, number, render

HOSTILE = "<img src=x onerror=alert(1)>\"'&\u202e\x1b[2J\n\x00\ud800"

ANY = st.text(st.characters(exclude_categories=()), max_size=30)


@given(ANY)
def test_a_value_is_text_and_nothing_in_it_acts(text: str) -> None:
    written = problem(text)
    content = written.rpartition('<p class="problem">')[2].partition("</p>")[0]
    assert "<" not in content
    assert html.unescape(content) == shown(text)


def problem(text: str) -> str:
    shared = {"pipeline": Pipeline("shop"), "place": "", "csrf": "c", "path": "/", "query": "", "title": "t"}
    shared |= {"engine": {"runs": True, "says": ""}, "problem_now": ""}
    return render("problem.html", {**shared, "text": text})


def test_a_hostile_text() -> None:
    written = problem(HOSTILE)
    assert "&lt;img src=x onerror=alert(1)&gt;" in written
    assert r"\u202e\x1b[2J\n\x00\ud800" in written
    written.encode()


@given(ANY)
def test_a_block_keeps_its_lines(text: str) -> None:
    written = str(block(text))
    assert "<" not in written
    assert all(character.isprintable() or character == "\n" for character in written)
    assert len(written.split("\n")) == max(1, len(text.splitlines()))


@given(st.text(max_size=30))
def test_a_link_brings_the_key_as_it_is(key: str) -> None:
    query = parse_qs(urlsplit(link("/file", key=key, before=None)).query, keep_blank_values=True)
    assert query == {"key": [key]}


def test_a_link_without_values() -> None:
    assert link("/files", before=None) == "/files"
    assert "\ud800" not in link("/file", key="\ud800")


def test_a_name_that_is_missing_is_a_bug() -> None:
    with pytest.raises(UndefinedError):
        render("problem.html", {})


def test_words() -> None:
    assert (number(None), number(1234)) == ("-", "1,234")
    assert (instant(0.5), clock(3661)) == ("1970-01-01T00:00:00.500+00:00", "1970-01-01 01:01:01")
