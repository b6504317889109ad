"""Polars reads lines of objects only where what it makes of them is exactly what Python's parsers make of them."""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from silversmith.errors import DataError
from silversmith.formats.json import reader
from silversmith.formats.json.rows import Block, ColumnReader, Columns, elements_as_lines, frame_of, read_objects
from silversmith.formats.json.values import Kind, kind_of
from tests.data.test_json_grammar import INVALID, NOT_UTF8, VALID
from tests.examples import examples


def kinds_of(block: Block) -> dict[str, Kind]:
    kinds: dict[str, Kind] = {}
    frame_of(block, kinds)
    return kinds


def parsed(data: bytes) -> Block:
    return reader._parse_lines(data, reader._lines(data), first=1, line=1)


def numbers_of(data: bytes) -> range:
    return range(1, len(reader._lines(data)) + 1)


def check(data: bytes, kinds: dict[str, Kind]) -> bool:
    """Whether the lines were read as columns; if so, they must be what they are without Polars."""
    columns = read_objects(data, numbers_of(data), kinds)
    if columns is None:
        return False
    block = parsed(data)
    assert not block.malformed
    filled = [{**dict.fromkeys(kinds), **record} for record in block.records]
    expected = frame_of(Block(filled, block.numbers, []), {})
    frame = frame_of(columns, {})
    for name, kind in kinds_of(Block(filled, block.numbers, [])).items():
        assert name in columns.kinds
        if name not in expected.columns:
            assert columns.frame[name].null_count() == frame.height
        elif frame.schema[name] == expected.schema[name]:
            assert frame[name].equals(expected[name], null_equal=True)
        else:  # a column that needs less than what it was read as
            assert frame[name].cast(expected.schema[name]).equals(expected[name], null_equal=True), kind
    return True


@pytest.mark.parametrize(
    ("line", "first"),
    [
        (b'{"a":1,"a":2}', b'{"a":1}'),
        (b'{"a":null,"a":2}', b'{"a":1}'),
        (b'{"a":2,"a":null}', b'{"a":1}'),
        (b'{"a":null,"\\u0061":2}', b'{"a":1}'),
        (b'{"a" :1,"b":2,"b":3}', b'{"a":1,"b":1}'),
        (b'{"a":":","b":2,"b":3}', b'{"a":"x","b":1}'),
        (b'{"a":":null","b":2,"b":3}', b'{"a":"x","b":1}'),
        (b'{"a":"\\\\","b":2,"b":3}', b'{"a":"x","b":1}'),
        (b'{"a":{"b":null,"b":1}}', b'{"a":{"b":1}}'),
        (b'{"a":[{"b":2,"b":1}]}', b'{"a":[{"b":1}]}'),
        (b'{"a":1,"b":2}', b'{"a":1}'),
        (b'{"a":{"b":1,"c":2}}', b'{"a":{"b":1}}'),
        (b'{"a":1}', b'{"a":"x"}'),
        (b'{"a":true}', b'{"a":"x"}'),
        (b'{"a":[1]}', b'{"a":"x"}'),
        (b'{"a":{}}', b'{"a":"x"}'),
        (b'{"a":[1]}', b'{"a":["x"]}'),
        (b'{"a":9007199254740993}', b'{"a":1.5}'),
        (b'{"a":[9007199254740993]}', b'{"a":[1.5]}'),
        (b'{"a":{"b":-9007199254740993}}', b'{"a":{"b":1.5}}'),
        (b'{"a":1.5}', b'{"a":1}'),
        (b'{"a":9223372036854775808}', b'{"a":1}'),
        (b'{"a":"\\ud800"}', b'{"a":"x"}'),
        (b'{"a":"\\\\ud83d\\ude00"}', b'{"a":"x"}'),
        (b'{"a":"\\ude00\\ud83d"}', b'{"a":"x"}'),
        (b"7", b'{"a":1}'),
        (b"{} {}", b'{"a":1}'),
        (b'{"a":1}\x0c', b'{"a":1}'),
    ],
)
def test_values_that_would_change_in_silence_are_left_to_python(line: bytes, first: bytes) -> None:
    kinds = kinds_of(parsed(first))
    assert check(first, kinds)
    data = first + b"\n" + line + b"\n" + first
    assert read_objects(data, range(1, 4), kinds) is None


def test_a_key_that_ends_with_a_backslash_is_left_to_python() -> None:
    data = b'{"a\\\\":1,"b":2,"b":3}'
    assert read_objects(data, range(1, 2), kinds_of(parsed(b'{"a\\\\":1,"b":1}'))) is None


@pytest.mark.parametrize(
    "data",
    [
        b'{"a":null,"b":"x"}\n{"b":null}\n{"a":1}\n{}',
        b'{"a": null, "b": "x"}\r\n\r\n \t\n{"a": 2, "b": "\\"quoted\\": \\\\ and \\ud83d\\ude00 \\u00e9"}\r\n',
        b'{"a" : 1 , "b" : "null"}\n{"a":\t2}',
        b'{"a":{"b":[{"c":null},{"c":2}],"d":[]},"e":[null,1.5]}\n{"e":[]}\n{"a":{}}\n{"a":{"b":[]}}',
        b'{"a":18446744073709551615}\n{"a":0}',
        b'{"a\xc3\xa9":true,"":false}\n{"":null}',
    ],
)
def test_usual_lines_are_read_by_polars(data: bytes) -> None:
    assert check(data, kinds_of(parsed(data)))


VALUES: st.SearchStrategy[Any] = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-3, 3),
        st.integers(-(2**66), 2**66),
        st.floats(allow_nan=False, allow_infinity=False),
        st.sampled_from(['"', ":", '":', ":null", '":null', "\\", "\\u0061", "x", "é", "\U0001f600", "", "\n", "},{"]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(["a", 'b"', "c\\", ":"]), inner, max_size=3)
    ),
    max_leaves=6,
)
RECORDS = st.lists(st.dictionaries(st.sampled_from(["a", "b", 'c"', "\\"]), VALUES, max_size=4), min_size=1, max_size=5)


@given(RECORDS, st.booleans(), st.sampled_from([None, (", ", ": "), (" ,\t", " : ")]), st.integers(0, 5))
@settings(max_examples=examples(400), deadline=None)
def test_any_records_are_read_right_or_not_at_all(
    records: list[dict[str, Any]], ascii_only: bool, separators: tuple[str, str] | None, known: int
) -> None:
    data = "\n".join(
        json.dumps(record, ensure_ascii=ascii_only, separators=separators or (",", ":")) for record in records
    ).encode()
    kinds = kinds_of(parsed("\n".join(map(json.dumps, records[: known or None])).encode()))
    check(data, kinds)
    array = elements_as_lines(data.replace(b"\n", b" ,\n "))
    if check(array, kinds):
        assert parsed(array).records == parsed(data).records


@given(
    RECORDS,
    st.integers(0, 200),
    st.sampled_from(["", *',]}[{":x\n\\\t0', '"a":1,', '"a":null,', "\\ud800"]),
    st.integers(0, 3),
)
@settings(max_examples=examples(400), deadline=None)
def test_damaged_lines_are_read_right_or_not_at_all(
    records: list[dict[str, Any]], cut: int, junk: str, less: int
) -> None:
    good = "\n".join(map(json.dumps, records))
    kinds = kinds_of(parsed(good.encode()))
    check((good[:cut] + junk + good[cut + less :]).encode(), kinds)


@pytest.mark.parametrize("name", [*INVALID, *NOT_UTF8])
def test_invalid_json_is_left_to_python(name: str) -> None:
    data = (INVALID.get(name) or NOT_UTF8[name])[0]
    if b"\n" in data or not data.strip():
        pytest.skip("it is no one line")
    kinds = {"a": kind_of([1.5]), "value": kind_of(["x"])}
    for line in (data, b'{"a":%b}' % data, b'{"value":%b}' % data):
        try:
            parsed(line)
        except DataError:
            assert read_objects(b'{"a":1}\n' + line, range(1, 3), kinds) is None


@pytest.mark.parametrize("name", VALID)
def test_valid_values_are_read_right_or_not_at_all(name: str) -> None:
    value = VALID[name][0].replace(b"\n", b" ").replace(b"\r", b" ")
    data = b'{"a":%b}\n{"a":%b,"b":null}' % (value, value)
    block = parsed(data)
    if not block.malformed:
        check(data, {"a": kind_of([record["a"] for record in block.records]), "b": kind_of([None])})


@given(
    st.lists(st.integers(0, 2**64 - 1), min_size=1),
    st.lists(st.from_regex(r"-?[1-9][0-9]{0,19}\.[0-9]{1,25}(e-?[0-9]{1,2})?", fullmatch=True)),
)
@settings(max_examples=examples(200), deadline=None)
def test_every_float_is_the_nearest_one(bits: list[int], texts: list[str]) -> None:
    values = [struct.unpack("<d", struct.pack("<Q", pattern))[0] for pattern in bits]
    texts = [*texts, *(repr(value) for value in values if -1e15 < value < 1e15)]
    data = "\n".join(f'{{"a":{text}}}' for text in texts).encode()
    columns = read_objects(data, range(1, len(texts) + 1), {"a": kind_of([0.5])})
    if columns is not None:
        assert columns.frame["a"].to_list() == [float(text) for text in texts]


def test_a_file_that_often_is_not_columns_is_not_tried_for_ever() -> None:
    reader = ColumnReader({"a": kind_of([1])}, least=0)
    for _ in range(3):
        assert not reader.is_idle
        assert reader.read(b'{"b":1}', range(1, 2)) is None
    assert reader.is_idle
    assert reader.read(b'{"a":1}', range(1, 2)) is None
    again = ColumnReader({"a": kind_of([1])}, least=0)
    assert isinstance(again.read(b'{"a":1}', range(1, 2)), Columns)
