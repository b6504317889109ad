"""Columns by their place in each record, lists whose elements are records, and arrays at a pointer in large files."""

from __future__ import annotations

import json as python_json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from silversmith.errors import DataError, DefinitionError
from silversmith.formats import ROW, Json, Table, json, read
from silversmith.formats.archives.content import Content
from silversmith.formats.json import select
from silversmith.formats.json.values import LARGEST
from silversmith.lineage import brief
from silversmith.stores import Source
from tests.examples import examples

Opener = Callable[..., Source]

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=12,
)
OBJECTS = st.dictionaries(st.sampled_from(["a", "b", "c", "d/~"]), VALUES, max_size=4)


def rows_of(table: Table) -> list[dict[str, Any]]:
    rows = table.rows.collect()
    assert table.height == rows.height
    return rows.drop(ROW).to_dicts()


def read_json(value: Any, options: Json) -> Table:
    return json.read(Content("x.json", python_json.dumps(value).encode(), None), options, {})


@pytest.mark.parametrize("form", ["array", "lines", "concatenated", "pointer"])
def test_columns_and_what_is_left(form: str) -> None:
    records: list[dict[str, Any]] = [
        {"id": 1, "user": {"name": "Ann", "tags": ["x", {"y": 1}], "age": 7}, "new": True},
        {"id": 2, "user": {"name": "-"}},
        {"id": 3, "user": "root"},
        {"id": 4, "user": None, "new": None},
    ]
    options: dict[str, Any] = {
        "columns": {"name": "/user/name", "id": "/id", "tags": "/user/tags"},
        "extra": "rest",
        "null_values": ["-"],
    }
    texts = [python_json.dumps(record) for record in records]
    forms: dict[str, tuple[str, dict[str, Any]]] = {
        "array": (python_json.dumps(records), {}),
        "lines": ("\n".join(texts), {"lines": True}),
        "concatenated": ("".join(texts), {"concatenated": True}),
        "pointer": (python_json.dumps({"v": 1, "Records": records}), {"pointer": "/Records"}),
    }
    data, more = forms[form]
    content = Content("x.json", data.encode(), None)
    reader = Json(**options, **more)
    table = json.read_lines(content, {}, reader.selection) if form == "lines" else json.read(content, reader, {})
    assert table.rows.collect()[ROW].to_list() == [1, 2, 3, 4]
    assert rows_of(table) == [
        {"id": 1, "name": "Ann", "tags": '["x",{"y":1}]', "rest": '{"user":{"age":7},"new":true}'},
        {"id": 2, "name": None, "tags": None, "rest": None},
        {"id": 3, "name": None, "tags": None, "rest": '{"user":"root"}'},
        {"id": 4, "name": None, "tags": None, "rest": '{"new":null}'},
    ]


@given(records=st.lists(OBJECTS.filter(bool), min_size=1, max_size=5))
@settings(max_examples=examples(200), deadline=None)
def test_nothing_is_lost(records: list[dict[str, Any]]) -> None:
    """A value is in its column, or in the rest."""
    reader = Json(columns={"ab": "/a/b", "b": "/b", "odd": "/d~1~0"}, extra="rest")
    for record, row in zip(records, rows_of(read_json(records, reader)), strict=True):
        rest = python_json.loads(row.get("rest") or "{}")
        for key, value in record.items():
            if key == "a" and isinstance(value, dict):
                left = {name: inner for name, inner in value.items() if name != "b"}
                assert rest.get("a", {}) == left
            elif key in {"b", "d/~"}:
                cell = row["b" if key == "b" else "odd"]
                assert (cell is None) == (value is None)
                assert cell in (None, value, str(value)) or python_json.loads(cell) == value
            elif key == "a" and value is None:
                assert "a" not in rest
            else:
                assert rest[key] == value


def test_elements_of_a_list_are_records() -> None:
    """Also where a record has no list, an empty one, or is malformed."""
    text = '{"g":1,"in":{"e":[{"m":"a"},{"m":"b"}]}}\n{"g":2}\n{"g":3,"g":4}\n{"g":5,"in":{"e":[]}}\n'
    text += '{"g":6,"in":{"e":["c"]}}'
    reader = Json(each="/in/e", columns={"g": "/g", "m": "/in/e/m"}, extra="rest")
    for options in (Json(**vars(reader) | {"concatenated": True}), reader):
        content = Content("x.json", text.encode(), None)
        table = (
            json.read(content, options, {}) if options.concatenated else json.read_lines(content, {}, options.selection)
        )
        assert rows_of(table) == [
            {"g": 1, "m": "a", "rest": None},
            {"g": 1, "m": "b", "rest": None},
            {"g": 2, "m": None, "rest": None},
            {"g": 6, "m": None, "rest": '{"in":{"e":"c"}}'},
        ]
        assert table.rows.collect()[ROW].to_list() == [1, 2, 3, 5]
        assert table.malformed is not None
        assert table.malformed[ROW].to_list() == [4]
        assert table.origins is None


def test_null_values_alone() -> None:
    assert rows_of(read_json([{"a": "-", "b": "x"}, {"a": 1, "b": "-"}], Json(null_values=["-"]))) == [
        {"a": None, "b": "x"},
        {"a": 1, "b": None},
    ]


@given(
    before=OBJECTS,
    after=OBJECTS,
    records=st.lists(OBJECTS, max_size=4),
    deep=st.booleans(),
    piece=st.integers(1, 50),
    indent=st.sampled_from([None, 1]),
)
@settings(max_examples=examples(100), deadline=None)
def test_an_array_is_cut_out_of_a_document(
    before: dict[str, Any],
    after: dict[str, Any],
    records: list[dict[str, Any]],
    *,
    deep: bool,
    piece: int,
    indent: int | None,
) -> None:
    value: Any = {"x": before, "é~[": records, "y": after}
    path, value = ("/0/é~0[", [value]) if deep else ("/é~0[", value)
    data = b"\xef\xbb\xbf" + python_json.dumps(value, indent=indent, ensure_ascii=not deep).encode()
    carved = select.carve(Content("x.json", data, None), path, piece=piece)
    assert carved is not None
    assert python_json.loads(carved.array.read()) == records
    rest = python_json.loads(carved.rest)
    assert (rest[0] if deep else rest) == {"x": before, "é~[": [], "y": after}
    assert carved.rest.count(b"\n") == data.count(b"\n")
    start = data.decode().index('~[": [')
    assert carved.line == data.decode()[:start].count("\n") + 1


@pytest.mark.full
def test_a_pointer_into_a_file_of_any_size(in_file: Opener) -> None:
    size = LARGEST // 1000
    records = [{"id": number, "text": "]" * 990} for number in range(size + 10)]
    data = python_json.dumps({"version": "1", "Records": records, "end": {"Records": 5}}).encode()
    assert len(data) > LARGEST
    table = read(in_file(data, "x.json"), Json(pointer="/Records", columns={"id": "/id"}))
    assert table.dialect["layout"] == "array"
    assert table.rows.collect()["id"].to_list() == list(range(size + 10))
    for broken, code in (
        (data[:-1], "UnreadableJson"),
        (data.replace(b'"end"', b'"Records": [], "end"'), "UnreadableJson"),
        (data.replace(b'"Records"', b'"Others"'), "TooLarge"),
    ):
        with pytest.raises(DataError) as caught:
            read(in_file(broken, "x.json"), Json(pointer="/Records")).rows.collect()
        assert caught.value.code == code


@given(data=st.text('[]{}",:\\0a', max_size=40).map(str.encode), piece=st.integers(1, 20))
@settings(max_examples=examples(500), deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_cut_out_text_is_json_only_if_the_whole_is(data: bytes, piece: int) -> None:
    with suppress(DataError):
        carved = select.carve(Content("x.json", data, None), "/a", piece=piece)
        if carved is None:
            return
        try:
            array, rest = python_json.loads(carved.array.read()), python_json.loads(carved.rest)
        except ValueError:
            return
        whole = python_json.loads(data)
        assert whole == rest | {"a": array}


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        ({"v": 1, "Records": [{"a": 1}, {}]}, "rows are at /Records: reader=Json(pointer='/Records') reads 2"),
        ({"a/b": [{"a": 1}]}, "rows are at /a~1b: reader=Json(pointer='/a~1b') reads 1"),
        ({"a": [{"a": 1}], "b": [1]}, None),
        ({"a": []}, None),
        ({"a": [1]}, None),
        ({"a": {"b": [{"c": 1}]}}, None),
        ([{"a": [{"b": 1}]}], None),
    ],
)
def test_the_pointer_that_would_give_rows(value: Any, hint: str | None) -> None:
    table = read_json(value, Json())
    assert table.dialect.get("hint") == hint
    assert "hint" not in brief(table.dialect)
    assert "hint" not in read_json(value, Json(columns={"a": "/a"})).dialect


@pytest.mark.parametrize(
    "options",
    [
        {"columns": {}},
        {"columns": ["a"]},
        {"columns": {"a": "a"}},
        {"columns": {"": "/a"}},
        {"columns": {"__row__": "/a"}},
        {"columns": {"a": "/a", "b": "/a"}},
        {"columns": {"a": "/a", "b": "/a/b"}},
        {"columns": {"a": "/a/b", "b": "/a"}},
        {"each": "a"},
        {"extra": "a"},
        {"columns": {"a": "/a"}, "extra": "a"},
        {"columns": {"a": "/a"}, "extra": ""},
        {"null_values": "-"},
        {"null_values": [1]},
    ],
)
def test_invalid_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(DefinitionError, match="Json"):
        Json(**options)
