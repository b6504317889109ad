"""NDJSON: every line counts, and a wrong one is named."""

from __future__ import annotations

import json as python_json
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any, ClassVar

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from silversmith.errors import DataError
from silversmith.formats import ROW, Json, Table, json, read
from silversmith.formats.archives.content import Content
from silversmith.formats.json.rows import Block, Blocks, Columns
from silversmith.formats.json.select import Selection
from silversmith.formats.json.values import Kind
from silversmith.stores import Source
from tests.examples import examples

Opener = Callable[..., Source]
HOW = pytest.mark.parametrize("how", ["in_memory", "in_file"])


@pytest.fixture
def opened(how: str, request: pytest.FixtureRequest) -> Opener:
    opener: Opener = request.getfixturevalue(how)
    return lambda data, key="data.ndjson": opener(data, key)


def rows_of(table: Table) -> list[dict[str, Any]]:
    rows = table.rows.collect()
    assert table.height == rows.height
    return rows.drop(ROW).to_dicts()


@HOW
def test_lines_become_rows(opened: Opener) -> None:
    table = read(opened(b'\xef\xbb\xbf{"a":1}\r\n\n \t\n{"b":"x"}\n7'))
    assert rows_of(table) == [
        {"a": 1, "b": None, "value": None},
        {"a": None, "b": "x", "value": None},
        {"a": None, "b": None, "value": 7},
    ]
    assert table.format == "ndjson"


@HOW
def test_a_key_that_stands_twice_rejects_its_line(opened: Opener) -> None:
    table = read(opened(b'{"a":1}\n{"a":1,"a":2}\n{"a":3}\n'))
    assert table.rows.collect()[ROW].to_list() == [1, 3]
    assert table.malformed is not None
    assert table.malformed[ROW].to_list() == [2]


@HOW
@pytest.mark.parametrize(
    ("data", "code", "line", "column"),
    [
        (b"", "EmptyFile", 1, 1),
        (b'{"a":1}\n\nxx\n{"a":2}', "UnreadableJson", 3, 1),
        (b'{"a":1} {"a":2}\n', "UnreadableJson", 1, 9),
        (b'{"a":\n1}\n', "UnreadableJson", 1, 6),
        (b'{"a":1}\n{"a":2', "UnreadableJson", 2, 7),
        (b'1,2\n[3\n4]', "UnreadableJson", 1, 2),
        (b'{"a":1}\n{"a":"\xff"}\n', "NotUtf8", 2, 7),
        (b'{"a":1}\n' + b"[" * 5000, "TooDeep", 2, 1026),
        (b'{"a":1}\n\x0b\n', "UnreadableJson", 2, 1),
    ],
)  # fmt: skip
def test_a_wrong_line_is_named(opened: Opener, data: bytes, code: str, line: int, column: int) -> None:
    with pytest.raises(DataError) as caught:
        read(opened(data))
    assert (caught.value.code, caught.value.place.line, caught.value.place.column) == (code, line, column)


@HOW
def test_json_by_name_may_be_lines_and_the_reader_may_say_so(opened: Opener) -> None:
    data = b'{"a":1}\n{"a":2}\n'
    assert read(opened(data, "data.json")).format == "ndjson"
    assert read(opened(data, "data.json"), Json(lines=True)).format == "ndjson"
    assert read(opened(b'{"a":\n1}', "data.ndjson"), Json(lines=False)).format == "json"
    assert read(opened(data, "data.json"), Json(lines=False)).dialect["layout"] == "concatenated"


def test_later_words_among_numbers_make_all_text(in_file: Opener) -> None:
    records = [{"a": 1, "b": {"c": 1}}, {"a": 2}, {"a": "x"}, {"b": {"c": "y", "d": None}}]
    data = b"".join(python_json.dumps(line).encode() + b"\n" for line in records)
    table = json.read_lines(Content("x.ndjson", None, in_file(data).path), {}, block=20)
    assert rows_of(table) == [
        {"a": "1", "b": {"c": "1", "d": None}},
        {"a": "2", "b": None},
        {"a": "x", "b": None},
        {"a": None, "b": {"c": "y", "d": None}},
    ]


def test_a_line_has_a_limit(in_file: Opener) -> None:
    with pytest.raises(DataError) as caught:
        read(in_file(b'{"a":"' + b"x" * 33 * 1024 * 1024 + b'"}', "data.ndjson"))
    assert caught.value.code == "TooLarge"


RECORDS = st.lists(
    st.dictionaries(
        st.sampled_from(["a", "b", "c"]),
        st.one_of(
            st.none(),
            st.booleans(),
            st.integers(-(2**66), 2**66),
            st.integers(-5, 5),
            st.floats(allow_nan=False, allow_infinity=False),
            st.text(max_size=3),
            st.lists(st.integers(-3, 3), max_size=2),
            st.dictionaries(st.sampled_from(["x", "y"]), st.integers() | st.text(max_size=2), max_size=2),
        ),
        max_size=3,
    ),
    max_size=10,
)


@given(records=RECORDS, block=st.integers(1, 80))
@settings(max_examples=examples(200), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_blocks_are_what_the_whole_is(in_file: Opener, records: list[dict[str, Any]], block: int) -> None:
    data = "\n".join(map(python_json.dumps, [*records, {}])).encode()
    whole = json.read_lines(Content("x.ndjson", data, None), {})
    parts = json.read_lines(Content("x.ndjson", None, in_file(data).path), {}, block=block)
    assert parts.rows.collect_schema() == whole.rows.collect_schema()
    assert parts.rows.collect().equals(whole.rows.collect())
    assert whole.rows.select(pl.len()).collect().item() == len(records) + 1


class CountedBlocks(Selection):
    """Selects everything, and counts the blocks."""

    counts: ClassVar[list[int]] = []

    def of(self, blocks: Blocks) -> Blocks:
        def counted(kinds: Mapping[str, Kind]) -> Iterable[Block | Columns]:
            taken = list(blocks(kinds))
            self.counts.append(len(taken))
            return taken

        return counted


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"], ids=["no end", "a line's end", "a line's end of Windows"])
def test_a_small_file_is_one_block_however_it_ends(end: bytes) -> None:
    table = json.read_lines(Content("x.ndjson", b'{"a":1}\n{"a":2}' + end, None), {}, CountedBlocks())
    assert rows_of(table) == [{"a": 1}, {"a": 2}]
    assert CountedBlocks.counts.pop() == 1


@given(st.binary(max_size=40))
@settings(max_examples=examples(200), deadline=None)
def test_no_bytes_at_all_crash_it(data: bytes) -> None:
    with suppress(DataError):
        table = json.read_lines(Content("x.ndjson", data, None), {})
        assert table.rows.collect().height <= data.count(b"," if table.format == "json" else b"\n") + 1
