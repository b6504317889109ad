"""No text can do anything to a terminal, and columns are straight whatever is in them."""

from __future__ import annotations

import io
from contextlib import redirect_stdout

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from silversmith.cli.screen import say_table
from silversmith.operations.text import count, duration, essence, headline, lines, shown, size

anything = st.text(st.characters())  # lone surrogates too


@given(anything)
def test_shown_text_is_one_line_of_visible_characters(text: str) -> None:
    line = shown(text)
    assert line.isprintable()
    assert line.encode().decode() == line


@given(anything)
def test_shown_text_can_be_shown_again(text: str) -> None:
    assert shown(shown(text)) == shown(text)


@given(st.text(st.characters(categories=["L", "N", "P", "S"])))
def test_visible_text_stays_as_it_is(text: str) -> None:
    assert shown(text) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\nb", "a\\nb"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("\x9b31m", "\\x9b31m"),
        ("\x00\x7f", "\\x00\\x7f"),
        ("abc\u202etxt.exe", "abc\\u202etxt.exe"),
        ("\udcff", "\\udcff"),
        ("\U000e0041", "\\U000e0041"),
        ("a\u2028b", "a\\u2028b"),
        ("[red]not markup[/red] :smile:", "[red]not markup[/red] :smile:"),
        ("naïve/日本語.csv", "naïve/日本語.csv"),
    ],
)
def test_hostile_text_is_spelled_out(text: str, expected: str) -> None:
    assert shown(text) == expected


@given(anything, st.text(" >", max_size=4))
def test_no_line_of_a_text_begins_before_its_indent(text: str, indent: str) -> None:
    indented = lines(text, indent)
    assert indented
    assert all(line.startswith(indent) and line.isprintable() for line in indented)


def test_several_lines_stay_several_lines() -> None:
    assert lines("one\n\ttwo\nthree", "  ") == ["  one", "      two", "  three"]


def printed(rows: list[tuple[object, ...]], right: tuple[int, ...] | list[int] = ()) -> list[str]:
    with redirect_stdout(io.StringIO()) as out:
        say_table(rows, right=right)
    return out.getvalue().splitlines()


@given(st.lists(st.tuples(anything, anything, anything), min_size=1, max_size=6))
def test_columns_begin_below_each_other(rows: list[tuple[str, str, str]]) -> None:
    table = printed([(*row, "end") for row in rows])
    starts = {cell_len(line[: line.rindex("end")]) for line in table}
    assert len(starts) == 1


def test_numbers_are_set_to_the_right() -> None:
    assert printed([("name", "rows"), ("a", 5), ("b", 12_345)], right=[1]) == [
        "name   rows",
        "a         5",
        "b     12345",
    ]


def test_counts_know_their_plural() -> None:
    assert [count(0, "file"), count(1, "file"), count(2000, "file")] == ["0 files", "1 file", "2,000 files"]


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (3_400_000, "3.4 MB"),
        (5 * 10**9, "5.0 GB"),
        (2 * 10**15, "2000.0 TB"),
    ],
)
def test_sizes(number: int, expected: str) -> None:
    assert size(number) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(None, "-"), (0.42, "0.4 s"), (59, "59 s"), (119, "119 s"), (180, "3 min"), (7200, "2 h"), (200_000, "2 d")],
)
def test_durations(seconds: float | None, expected: str) -> None:
    assert duration(seconds) == expected


@given(st.text())
def test_a_headline_is_one_line_of_any_message(message: str) -> None:
    assert len(headline(message).splitlines()) <= 1


def test_a_headline_names_the_innermost_place_and_the_error_itself() -> None:
    message = """the transform 'sales' failed:
  File "/somewhere/pipeline.py", line 21, in sales
    return clean(rows)
  File "/somewhere/cleaning.py", line 7, in clean
    return rows.select("total")
polars.exceptions.ColumnNotFoundError: unable to find column "total": there is none

Resolved plan until failure:
\t---> FAILED HERE RESOLVING 'select' <---
\t[1] 'select'
"""
    assert headline(message) == (
        'cleaning.py:7 in clean(): ColumnNotFoundError: unable to find column "total": there is none'
    )
    assert headline("the file is empty\nor so") == "the file is empty"


def test_a_headline_names_the_error_of_a_query_which_has_no_place_in_the_code() -> None:
    message = "the transform 'carriers' failed:\npolars.exceptions.ColumnNotFoundError: no column \"c\"\n\nPlan:"
    assert headline(message) == "the transform 'carriers' failed: ColumnNotFoundError: no column \"c\""
    assert headline("it failed:") == "it failed:"


@given(st.text())
def test_the_essence_of_a_message_that_is_no_traceback_is_the_message(message: str) -> None:
    assert essence(message).split() == message.expandtabs(4).split()


def test_the_essence_of_a_traceback_begins_with_its_headline_and_ends_with_the_code() -> None:
    message = """the transform 'sales' failed:
  File "/somewhere/pipeline.py", line 21, in sales
    return clean(rows)
ValueError: first
second

a screen of more
"""
    assert essence(message).splitlines() == [
        "pipeline.py:21 in sales(): ValueError: first",
        "second",
        '  File "/somewhere/pipeline.py", line 21, in sales',
        "    return clean(rows)",
    ]
