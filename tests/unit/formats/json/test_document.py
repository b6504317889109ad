"""JSON documents: RFC 8259 as it is written, nothing damaged in silence."""

from __future__ import annotations

import json as python_json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from silversmith.errors import DataError, DefinitionError
from silversmith.formats import ROW, Json, Table, json, read
from silversmith.formats.archives.content import Content
from silversmith.formats.json.values import LARGEST
from silversmith.stores import Source
from tests.examples import examples

Opener = Callable[..., Source]
HOW = pytest.mark.parametrize("how", ["in_memory", "in_file"])


@pytest.fixture
def opened(how: str, request: pytest.FixtureRequest) -> Opener:
    opener: Opener = request.getfixturevalue(how)
    return lambda data, key="data.json": opener(data, key)


def rows_of(table: Table) -> list[dict[str, Any]]:
    rows = table.rows.collect()
    assert table.height == rows.height
    return rows.drop(ROW).to_dicts()


@HOW
@pytest.mark.parametrize(
    ("data", "rows"),
    [
        (b'[{"a":1,"b":"x"},{"a":2}]', [{"a": 1, "b": "x"}, {"a": 2, "b": None}]),
        (b' \n{"a" : 1 }\n', [{"a": 1}]),
        (b"\xef\xbb\xbf[{}]", [{"value": None}]),
        (b'[{"a":null},{}]', [{"a": None}, {"a": None}]),
        (b"[1,2]", [{"value": 1}, {"value": 2}]),
        (b'["x",null]', [{"value": "x"}, {"value": None}]),
        (b"[[1],[2,3]]", [{"value": [1]}, {"value": [2, 3]}]),
        (b'[{"a":1},5]', [{"a": 1, "value": None}, {"a": None, "value": 5}]),
        (b"-0.5e1", [{"value": -5.0}]),
        (b'"x"', [{"value": "x"}]),
        (b'[{"a":1},{"a":"x"}]', [{"a": "1"}, {"a": "x"}]),
        (b'[{"a":123456789012345678901234567890}]', [{"a": "123456789012345678901234567890"}]),
        (b'[{"a":-9223372036854775809}]', [{"a": "-9223372036854775809"}]),
        (b'[{"a":18446744073709551615}]', [{"a": 2**64 - 1}]),
        (b'[{"a":9007199254740993},{"a":1.5}]', [{"a": "9007199254740993"}, {"a": "1.5"}]),
        (b'[{"a":"\\ud83d\\ude00 \\u0000"}]', [{"a": "😀 \0"}]),
        (b'[{"a":{"b":[{"c":1}]}}]', [{"a": {"b": [{"c": 1}]}}]),
        (b'[{"":1,"a\\u0000b":2,"*":3,"^x$":4}]', [{"": 1, "a\0b": 2, "*": 3, "^x$": 4}]),
        (b'[{"a":"},{"},{"a":"[,]"}]', [{"a": "},{"}, {"a": "[,]"}]),
        (b'[{"a":1,"a":1}]', [{"a": 1}]),
        (b'[{"a":"\\":","b":"c\\\\"}]', [{"a": '":', "b": "c\\"}]),
    ],
)
def test_valid_documents_become_rows(opened: Opener, data: bytes, rows: list[dict[str, Any]]) -> None:
    table = read(opened(data))
    assert rows_of(table) == rows
    assert table.rows.collect()[ROW].to_list() == list(range(1, len(rows) + 1))
    assert table.malformed is None
    assert table.format == "json"


@HOW
@pytest.mark.parametrize(
    "data",
    [b'[{"a":1,"a":2},{"a":3}]', b'[ { "a" : 1 , "a" : 2 } , { "a" : 3 } ]', b'[{"b":{"a":1,"a":true}},{"b":{"a":3}}]'],
)
def test_a_key_that_stands_twice_rejects_its_record(opened: Opener, data: bytes) -> None:
    table = read(opened(data))
    assert table.rows.collect()[ROW].to_list() == [2]
    assert table.malformed is not None
    ((number, text, reason),) = table.malformed.rows()
    assert number == 1
    assert text.count('"a"') == 2
    assert reason == 'the key "a" stands twice in one object'


@HOW
@pytest.mark.parametrize(
    ("data", "code", "line", "column"),
    [
        (b"", "EmptyFile", 1, 1),
        (b" \n\n", "EmptyFile", 1, 1),
        (b'[{"a":1},]', "UnreadableJson", 1, 9),
        (b'[,{"a":1}]', "UnreadableJson", 1, 2),
        (b'[{"a":1},,{"a":2}]', "UnreadableJson", 1, 10),
        (b'[{"a":1}\n {"a":2}]', "UnreadableJson", 2, 2),
        (b'[{"a":1}]\nx', "UnreadableJson", 2, 1),
        (b'[{"a":NaN}]', "UnreadableJson", 1, 7),
        (b'[{"a":01}]', "UnreadableJson", 1, 7),
        (b"[{'a':1}]", "UnreadableJson", 1, 3),
        (b'[{"a":1', "UnreadableJson", 1, 8),
        (b'[{"a":"\\ud800"}]', "UnreadableJson", 1, 8),
        (b'[{"a":1e400}]', "UnreadableJson", 1, 7),
        (b'[{"a":"\x01"}]', "UnreadableJson", 1, 8),
        (b'[{"a":"\xff"}]', "NotUtf8", 1, 8),
        (b"[" * 100_000, "TooDeep", 1, 1026),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "TooDeep", 1, 5122),
        (b"[" * 1010 + b"]" * 1010, "TooDeep", None, None),
        (b'[{"__row__":1}]', "ReservedColumn", None, "__row__"),
        (b'[{"a":' + b"1" * 5000 + b"}]", "UnreadableJson", 1, 7),
    ],
)
def test_invalid_documents_are_refused_at_their_place(
    opened: Opener, data: bytes, code: str, line: int, column: int
) -> None:
    with pytest.raises(DataError) as caught:
        read(opened(data))
    assert (caught.value.code, caught.value.place.line, caught.value.place.column) == (code, line, column)
    assert caught.value.hint
    assert len(caught.value.place.text or "") < 200


@HOW
def test_no_records_have_the_wanted_columns(opened: Opener) -> None:
    table = read(opened(b"[]"), declared={"a": pl.Int64()})
    assert table.rows.collect_schema() == {"a": pl.Int64, ROW: pl.UInt64}
    assert rows_of(table) == []


@HOW
def test_a_pointer_leads_to_the_records(opened: Opener) -> None:
    data = b'{"response":{"a/b":[{"x":1},{"x":2}],"n":3}}'
    assert rows_of(read(opened(data), Json(pointer="/response/a~1b"))) == [{"x": 1}, {"x": 2}]
    assert rows_of(read(opened(data), Json(pointer="/response/a~1b/1"))) == [{"x": 2}]
    for pointer in ("/response/c", "/response/n/x", "/response/a~1b/2"):
        with pytest.raises(DataError) as caught:
            read(opened(data), Json(pointer=pointer))
        assert caught.value.code == "MissingPointer"


def test_keys_that_are_data_are_reported(in_memory: Opener) -> None:
    data = python_json.dumps([{str(number): 1} for number in range(6000)]).encode()
    with pytest.raises(DataError) as caught:
        read(in_memory(data, "data.json"))
    assert caught.value.code == "TooManyColumns"


def test_a_document_that_is_no_array_has_a_limit(in_file: Opener) -> None:
    data = b'{"a":"' + b"x" * LARGEST + b'"}'
    with pytest.raises(DataError) as caught:
        read(in_file(data, "data.json"))
    assert caught.value.code == "TooLarge"
    with pytest.raises(DataError, match="one element"):
        read(in_file(b"[" + data + b"]", "data.json"))


@pytest.mark.parametrize(
    "wrong",
    [
        {"lines": 1},
        {"pointer": "a"},
        {"pointer": 3},
        {"lines": True, "pointer": "/a"},
        {"concatenated": 1},
        {"concatenated": True, "lines": True},
        {"concatenated": True, "pointer": "/a"},
    ],
)
def test_invalid_options_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(DefinitionError, match=r"Json\("):
        Json(**wrong)


@HOW
@pytest.mark.parametrize(
    "data",
    [
        b'{"a":1}{"a":2}{"a":3}',
        b'\xef\xbb\xbf {"a":1} \t{"a":2}\r\n{"a":3}\n',
        b'{\n "a": 1\n}\n{\n "a": 2\n}\n{"a":3}',
    ],
)
def test_objects_one_after_the_other_are_records(opened: Opener, data: bytes) -> None:
    table = read(opened(data))
    assert rows_of(table) == [{"a": 1}, {"a": 2}, {"a": 3}]
    assert (table.format, table.dialect["layout"]) == ("json", "concatenated")


@HOW
def test_anything_else_one_after_the_other_must_be_said(opened: Opener) -> None:
    for data in (b'[{"a":1}][{"a":2}]', b'{"a":1}[{"a":2}]', b'[{"a":1}]\n{"a":2}'):
        with pytest.raises(DataError) as caught:
            read(opened(data))
        assert caught.value.code == "UnreadableJson"
        assert caught.value.place.line is not None
        assert rows_of(read(opened(data), Json(concatenated=True))) == [{"a": 1}, {"a": 2}]
    assert rows_of(read(opened(b"1 2 true"), Json(concatenated=True))) == [
        {"value": "1"},
        {"value": "2"},
        {"value": "true"},
    ]


@HOW
@pytest.mark.parametrize(
    ("data", "code", "line", "column"),
    [
        (b'{"a":1}{"a":2}x', "UnreadableJson", 1, 15),
        (b'{"a":1}\n {"a":}', "UnreadableJson", 2, 7),
        (b'{"a":1}{"a":NaN}', "UnreadableJson", 1, 13),
        (b'{"a":1}{"a":2}[3]', "UnreadableJson", 1, 15),
        (b'{"a":1}{"a":2', "UnreadableJson", 1, 14),
        (b'{"a":1}\n{"a":"\xff"}', "NotUtf8", 2, 7),
    ],
)
def test_faults_between_or_in_documents_have_their_place(
    opened: Opener, data: bytes, code: str, line: int, column: int | None
) -> None:
    with pytest.raises(DataError) as caught:
        read(opened(data))
    place = caught.value.place
    assert (caught.value.code, place.line) == (code, line)
    assert place.column in {column, 7 + column if column else None, 1}


JSON: st.SearchStrategy[Any] = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**66), 2**66),
        st.floats(allow_nan=False, allow_infinity=False),
        st.sampled_from(['"', '":', "\\", "},{", '\\":', "x"]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(["a", 'b"', "c\\", ":"]), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(values=st.lists(JSON, max_size=8), indent=st.sampled_from([None, 1]), block=st.integers(1, 60))
@settings(max_examples=examples(200), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_blocks_of_an_array_are_what_the_whole_is(
    in_file: Opener, values: list[Any], indent: int | None, block: int
) -> None:
    data = python_json.dumps(values, indent=indent).encode()
    whole = json.read(Content("x.json", data, None), Json(), {})
    source = in_file(data)
    parts = json.read(Content("x.json", None, source.path), Json(), {}, block=block)
    assert parts.rows.collect().equals(whole.rows.collect())
    assert parts.rows.collect_schema() == whole.rows.collect_schema()


@pytest.mark.parametrize("value", [["x"], [["x"]], {"b": ["x"]}, "x", ["x", None], [None, '"']])
@pytest.mark.parametrize("before", [None, [None], {"b": None}, False, "w", 1])
@pytest.mark.parametrize("block", [1, 5])
def test_lists_of_one_text_are_no_text(in_file: Opener, before: Any, value: Any, block: int) -> None:
    """In a later block, where the column's type seems to be known."""
    data = python_json.dumps([{"a": before}] * 3 + [{"a": value}] * 3).encode()
    whole = json.read(Content("x.json", data, None), Json(), {})
    source = in_file(data)
    parts = json.read(Content("x.json", None, source.path), Json(), {}, block=block)
    assert parts.rows.collect_schema() == whole.rows.collect_schema()
    assert parts.rows.collect().equals(whole.rows.collect())


@given(
    values=st.lists(st.dictionaries(st.sampled_from(["a", "b}{", '"']), JSON, max_size=2), min_size=2, max_size=6),
    between=st.sampled_from(["", " ", "\n", "\r\n"]),
    block=st.integers(1, 40),
)
@settings(max_examples=examples(100), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_documents_one_after_the_other_are_the_array_of_them(
    in_file: Opener, values: list[Any], between: str, block: int
) -> None:
    array = json.read(Content("x.json", python_json.dumps(values).encode(), None), Json(), {})
    source = in_file(between.join(python_json.dumps(value, indent=1) for value in values).encode())
    sequence = json.read(Content("x.json", None, source.path), Json(), {}, block=block)
    assert sequence.rows.collect().equals(array.rows.collect())


@given(values=st.lists(JSON, min_size=1, max_size=4), cut=st.integers(0, 200), junk=st.sampled_from(',]}[{":x\n\\\xff'))
@settings(max_examples=examples(200), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damaged_documents_are_read_right_or_refused(in_file: Opener, values: list[Any], cut: int, junk: str) -> None:
    good = python_json.dumps(values)
    data = (good[:cut] + junk + good[cut:]).encode("latin-1")
    outcomes = []
    source = in_file(data)
    for content in (Content("x.json", data, None), Content("x.json", None, source.path)):
        try:
            outcomes.append(json.read(content, Json(), {}, block=7).rows.collect().to_dicts())
        except DataError as error:
            outcomes.append([{"error": error.code, "line": error.place.line}])
    assert outcomes[0] == outcomes[1]


@given(st.binary(max_size=40))
@settings(max_examples=examples(200), deadline=None)
def test_no_bytes_at_all_crash_it(data: bytes) -> None:
    with suppress(DataError):
        table = json.read(Content("x.json", data, None), Json(), {})
        assert table.rows.collect().height <= data.count(b"," if table.format == "json" else b"\n") + 1


def test_the_source_is_what_the_readers_take(in_memory: Opener) -> None:
    source: Source = in_memory(b"[]", "data.json")
    assert read(source).in_memory
