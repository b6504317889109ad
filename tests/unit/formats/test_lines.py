"""Plain lines: each is a row, whatever is in it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from silversmith.errors import DataError, DefinitionError
from silversmith.formats import ROW, Json, Lines, lines, read
from silversmith.formats.archives.content import Content
from silversmith.stores import Source

Opener = Callable[..., Source]

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=60)


def lines_read(data: bytes, block: int) -> list[str]:
    content = Content("a.log", data, None)
    rows = lines.read_lines(content, Lines(), block=block).rows.collect()
    assert rows[ROW].to_list() == list(range(1, rows.height + 1))
    return rows["line"].to_list()


@given(parts=st.lists(st.tuples(TEXT, st.sampled_from(["\n", "\r\n", "\r"])), min_size=1), block=st.integers(1, 50))
def test_lines_end_where_they_do_however_they_are_cut(parts: list[tuple[str, str]], block: int) -> None:
    text = "x\n" + "".join(line + end for line, end in parts)
    expected = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    assert lines_read(text.encode(), block) == expected[:-1]
    assert lines_read((text + "last").encode(), block) == [*expected[:-1], "last"]


def test_empty_lines_are_rows(in_memory: Opener, in_file: Opener) -> None:
    for opened in (in_memory, in_file):
        table = read(opened(b"a\n\n b \n", "x.log"))
        assert table.rows.collect()["line"].to_list() == ["a", "", " b "]
        assert (table.format, table.height) == ("lines", 3)


def test_numbers_stay_text(in_memory: Opener) -> None:
    assert read(in_memory(b"1\n2\n", "x.log")).rows.collect()["line"].to_list() == ["1", "2"]


def test_a_byte_order_mark_is_no_part_of_it(in_memory: Opener) -> None:
    assert read(in_memory(b"\xef\xbb\xbfa\n", "x.log")).rows.collect()["line"].to_list() == ["a"]


@pytest.mark.parametrize(
    ("data", "code", "line"),
    [
        (b"", "EmptyFile", None),
        (b"a\nb\0\n", "NulByte", 2),
        (b"a\n\xff\xff\n", "NotUtf8", 2),
        (b"a\n" + b"x" * (lines.LONGEST_LINE + 1) + b"\nb", "TooLarge", 2),
    ],
)
def test_errors_of_unreadable_files_say_where(in_memory: Opener, data: bytes, code: str, line: int | None) -> None:
    with pytest.raises(DataError) as caught:
        read(in_memory(data, "x.log"))
    assert (caught.value.code, caught.value.place.line) == (code, line)
    assert caught.value.hint


@pytest.mark.parametrize("encoding", ["klingon", "base64", 5])
def test_an_unknown_encoding_is_refused(encoding: str) -> None:
    with pytest.raises(DefinitionError, match="Lines"):
        Lines(encoding=encoding)


def test_a_log_of_json_is_ndjson_if_all_of_it_is(in_memory: Opener, in_file: Opener) -> None:
    """Only its beginning is looked at first."""
    records = b'{"a":1}\n' * 10_000
    for opened in (in_memory, in_file):
        assert read(opened(records, "x.log")).format == "ndjson"
        table = read(opened(records + b"Killed\n", "x.log"))
        assert (table.format, table.height) == ("lines", 10_001)
        assert table.rows.tail(1).collect()["line"].to_list() == ["Killed"]
    with pytest.raises(DataError, match="not JSON"):
        read(in_memory(records + b"Killed\n", "x.log"), Json())
