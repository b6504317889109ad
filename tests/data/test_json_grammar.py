"""JSON as RFC 8259 says it, sign by sign: what is valid is read, what is not is refused with its place.

https://www.rfc-editor.org/rfc/rfc8259
"""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest

from silversmith.errors import DataError
from silversmith.formats import ROW, read
from silversmith.stores import Head, Source

DEEP = 40

#: Valid, and the rows that come of it; None: any.
VALID: dict[str, tuple[bytes, list[object] | None]] = {
    # one value of each kind alone, and what may stand around it
    "true": (b"true", [{"value": True}]),
    "false": (b"false", [{"value": False}]),
    "null": (b"null", [{"value": None}]),
    "zero": (b"0", [{"value": 0}]),
    "integer": (b"42", [{"value": 42}]),
    "negative": (b"-7", [{"value": -7}]),
    "minus zero": (b"-0", [{"value": 0}]),
    "fraction": (b"0.5", [{"value": 0.5}]),
    "negative fraction": (b"-0.1", [{"value": -0.1}]),
    "exponent": (b"1e2", [{"value": 100.0}]),
    "capital exponent": (b"1E2", [{"value": 100.0}]),
    "exponent with plus": (b"1e+2", [{"value": 100.0}]),
    "exponent with minus": (b"1e-2", [{"value": 0.01}]),
    "exponent with zeros": (b"1e002", [{"value": 100.0}]),
    "fraction and exponent": (b"123.456e78", [{"value": 123.456e78}]),
    "zero to a power": (b"0e1", [{"value": 0.0}]),
    "zero to a power with plus": (b"0E+1", [{"value": 0.0}]),
    "fraction of zeros": (b"0.000", [{"value": 0.0}]),
    "text": (b'"silver"', [{"value": "silver"}]),
    "empty text": (b'""', [{"value": ""}]),
    "blank text": (b'" "', [{"value": " "}]),
    "blanks around": (b" \t\r\n5\n\r\t ", [{"value": 5}]),
    "a line end after": (b"5\n", [{"value": 5}]),
    "a line end before": (b"\n5", [{"value": 5}]),
    # arrays
    "empty array": (b"[]", []),
    "empty array with blanks": (b"[ \n ]", []),
    "array of one": (b"[1]", [{"value": 1}]),
    "array of integers": (b"[1,2,3]", [{"value": 1}, {"value": 2}, {"value": 3}]),
    "array with blanks": (b" [ 1 , 2 ] ", [{"value": 1}, {"value": 2}]),
    "array with line ends": (b"[\n1\n,\r\n2\n]", [{"value": 1}, {"value": 2}]),
    "array of nulls": (b"[null,null]", [{"value": None}, {"value": None}]),
    "nulls among numbers": (b"[1,null,2]", [{"value": 1}, {"value": None}, {"value": 2}]),
    "whole and broken numbers": (b"[1,2.5]", [{"value": 1.0}, {"value": 2.5}]),
    "array of booleans": (b"[true,false]", [{"value": True}, {"value": False}]),
    "array of text": (b'["a","b"]', [{"value": "a"}, {"value": "b"}]),
    "array of empty text": (b'[""]', [{"value": ""}]),
    "array of all kinds": (b'[null,1,"a",{}]', [{"value": None}, {"value": "1"}, {"value": "a"}, {"value": None}]),
    "array of numbers, text and arrays": (b'[1,"a",[2]]', [{"value": "1"}, {"value": "a"}, {"value": "[2]"}]),
    "array in array": (b"[[1],[2,3]]", [{"value": [1]}, {"value": [2, 3]}]),
    "empty array in array": (b"[[]]", [{"value": []}]),
    "empty array in array with blanks": (b"[[] \n]", [{"value": []}]),
    "arrays in arrays": (b"[" * DEEP + b"]" * DEEP, None),
    # objects
    "empty object": (b"{}", [{"value": None}]),
    "empty object with blanks": (b"{ \n }", [{"value": None}]),
    "empty objects": (b"[{},{}]", [{"value": None}, {"value": None}]),
    "object": (b'{"a":1}', [{"a": 1}]),
    "object with blanks": (b' { "a" : 1 , "b" : 2 } ', [{"a": 1, "b": 2}]),
    "object with line ends": (b'{\n"a"\n:\n1\n}', [{"a": 1}]),
    "objects": (b'[{"a":1},{"a":2}]', [{"a": 1}, {"a": 2}]),
    "other keys": (b'[{"a":1},{"b":2}]', [{"a": 1, "b": None}, {"a": None, "b": 2}]),
    "an empty object among others": (b'[{"a":1},{}]', [{"a": 1}, {"a": None}]),
    "empty key": (b'{"":1}', [{"": 1}]),
    "long key": (b'{"' + b"k" * 300 + b'":1}', [{"k" * 300: 1}]),
    "key of blanks": (b'{" ":1}', [{" ": 1}]),
    "key with an escape": (b'{"a\\u0062":1}', [{"ab": 1}]),
    "key with NUL": (b'{"a\\u0000b":1}', [{"a\0b": 1}]),
    "key with a quote": (b'{"a\\"b":1}', [{'a"b': 1}]),
    "key with a colon": (b'{"a\\":":1}', [{'a":': 1}]),
    "key in other letters": ('{"ключ":1}'.encode(), [{"ключ": 1}]),
    "object in object": (b'{"a":{"b":1}}', [{"a": {"b": 1}}]),
    "array in object": (b'{"a":[1,2]}', [{"a": [1, 2]}]),
    "empty array in object": (b'{"a":[]}', [{"a": []}]),
    "key twice, and the value": (b'{"a":1,"a":1}', [{"a": 1}]),
    "key twice": (b'{"a":1,"a":2}', []),  # no row can hold both values: rejected, with the reason
    "key twice in another case": (b'{"a":1,"A":2}', [{"a": 1, "A": 2}]),
    "many keys": (b"{" + b",".join(b'"k%d":%d' % (n, n) for n in range(500)) + b"}", None),
    # numbers at the ends of what columns hold
    "most of 64 bits": (b"[9223372036854775807]", [{"value": 2**63 - 1}]),
    "least of 64 bits": (b"[-9223372036854775808]", [{"value": -(2**63)}]),
    "most without a sign": (b"[18446744073709551615]", [{"value": 2**64 - 1}]),
    "more than 64 bits": (b"[18446744073709551616]", [{"value": "18446744073709551616"}]),
    "less than 64 bits": (b"[-9223372036854775809]", [{"value": "-9223372036854775809"}]),
    "many digits": (b"[" + b"1" * 300 + b"]", [{"value": "1" * 300}]),
    "many digits after the point": (b"[0." + b"3" * 300 + b"]", None),
    "close to zero": (b"[-0." + b"0" * 80 + b"1]", [{"value": -1e-81}]),
    "large exponent": (b"[1e300]", [{"value": 1e300}]),
    "exponent below all numbers": (b"[1e-400]", [{"value": 0.0}]),
    # text
    "escapes": (b'["\\"\\\\\\/\\b\\f\\n\\r\\t"]', [{"value": '"\\/\b\f\n\r\t'}]),
    "escaped letter": (b'["\\u0061"]', [{"value": "a"}]),
    "escape in capitals": (b'["\\u00C9"]', [{"value": "É"}]),
    "escape in small letters": (b'["\\u00e9"]', [{"value": "é"}]),
    "escaped NUL": (b'["\\u0000"]', [{"value": "\0"}]),
    "escaped control": (b'["\\u0012"]', [{"value": "\x12"}]),
    "escaped pair": (b'["\\ud83d\\ude00"]', [{"value": "\U0001f600"}]),
    "two escaped pairs": (b'["\\uD801\\uDC37\\uD834\\uDD1E"]', [{"value": "\U00010437\U0001d11e"}]),
    "escaped backslash before u": (b'["\\\\u0061"]', [{"value": "\\u0061"}]),
    "escaped byte order mark": (b'["\\uFEFF"]', [{"value": "\ufeff"}]),
    "escaped noncharacter": (b'["\\uFFFF"]', [{"value": "\uffff"}]),
    "DEL is no control": (b'["\x7f"]', [{"value": "\x7f"}]),
    "two bytes": ('["é"]'.encode(), [{"value": "é"}]),
    "three bytes": ('["€"]'.encode(), [{"value": "€"}]),
    "four bytes": ('["\U0001f600"]'.encode(), [{"value": "\U0001f600"}]),
    "the last character": ('["\U0010ffff"]'.encode(), [{"value": "\U0010ffff"}]),
    "line separator": ('["\u2028"]'.encode(), [{"value": "\u2028"}]),
    "signs of JSON in text": (b'["[{}],:\\""]', [{"value": '[{}],:"'}]),
    "a comment in text": (b'["a/*b*/c/d//e"]', [{"value": "a/*b*/c/d//e"}]),
    "a lone quote in text": (b'["it\'s"]', [{"value": "it's"}]),
    "long text": (b'["' + b"x" * 100_000 + b'"]', [{"value": "x" * 100_000}]),
}

#: Not JSON, and the line and column where that shows; None: anywhere.
INVALID: dict[str, tuple[bytes, tuple[int, int] | None]] = {
    # arrays
    "array not closed": (b"[1", (1, 3)),
    "array not closed, empty": (b"[", (1, 2)),
    "array not closed after a comma": (b"[1,", (1, 4)),
    "array closed as an object": (b"[1}", (1, 3)),
    "array closed twice": (b"[1]]", (1, 4)),
    "array only closed": (b"]", (1, 1)),
    "comma at the end": (b"[1,]", (1, 3)),
    "two commas at the end": (b"[1,,]", (1, 4)),
    "two commas": (b"[1,,2]", (1, 4)),
    "comma at the beginning": (b"[,1]", (1, 2)),
    "comma alone": (b"[,]", (1, 2)),
    "comma after": (b"[1],", (1, 4)),
    "no comma": (b"[1 2]", (1, 4)),
    "no comma between texts": (b'["a" "b"]', (1, 6)),
    "no comma between arrays": (b"[[1][2]]", (1, 5)),
    "colon for comma": (b"[1:2]", (1, 3)),
    "semicolon for comma": (b"[1;2]", (1, 3)),
    "many open arrays": (b"[" * 500, None),
    "very many open arrays": (b"[" * 100_000, None),
    # objects
    "object not closed": (b'{"a":1', (1, 7)),
    "object not closed, empty": (b"{", (1, 2)),
    "object closed as an array": (b'{"a":1]', (1, 7)),
    "object only closed": (b"}", (1, 1)),
    "object closed twice": (b'{"a":1}}', (1, 8)),
    "comma at the end of an object": (b'{"a":1,}', (1, 7)),
    "comma alone in an object": (b"{,}", (1, 2)),
    "two commas in an object": (b'{"a":1,,"b":2}', (1, 8)),
    "key without a value": (b'{"a"}', (1, 5)),
    "key and colon without a value": (b'{"a":}', (1, 6)),
    "value without a key": (b"{:1}", (1, 2)),
    "two colons": (b'{"a"::1}', (1, 6)),
    "comma for colon": (b'{"a",1}', (1, 5)),
    "no colon": (b'{"a" 1}', (1, 6)),
    "key without quotes": (b"{a:1}", (1, 2)),
    "key in lone quotes": (b"{'a':1}", (1, 2)),
    "number for a key": (b"{1:1}", (1, 2)),
    "null for a key": (b"{null:1}", (1, 2)),
    "array for a key": (b"{[1]:1}", (1, 2)),
    "no comma in an object": (b'{"a":1 "b":2}', (1, 8)),
    "text after an object": (b'{"a":1}x', (1, 8)),
    "many open objects": (b'{"a":' * 50_000, None),
    # numbers
    "plus": (b"[+1]", (1, 2)),
    "plus and minus": (b"[+-1]", (1, 2)),
    "minus alone": (b"[-]", (1, 3)),
    "two minuses": (b"[--1]", (1, 3)),
    "minus and a blank": (b"[- 1]", (1, 3)),
    "zero before": (b"[01]", None),
    "minus and zero before": (b"[-01]", None),
    "two zeros": (b"[00]", None),
    "point at the beginning": (b"[.5]", (1, 2)),
    "minus and point": (b"[-.5]", (1, 3)),
    "point at the end": (b"[1.]", (1, 4)),
    "two points": (b"[1.2.3]", (1, 5)),
    "point before the exponent": (b"[1.e2]", (1, 4)),
    "exponent without digits": (b"[1e]", (1, 4)),
    "exponent with plus alone": (b"[1e+]", (1, 5)),
    "exponent twice": (b"[1e2e3]", (1, 5)),
    "exponent of a fraction": (b"[1e2.5]", (1, 5)),
    "exponent with two signs": (b"[1e+-2]", (1, 5)),
    "exponent alone": (b"[e2]", (1, 2)),
    "hexadecimal": (b"[0x1F]", (1, 3)),
    "octal": (b"[0o17]", (1, 3)),
    "digits with underscores": (b"[1_000]", (1, 3)),
    "digits with blanks": (b"[1 000]", (1, 4)),
    "digits of another script": ("[\u0661]".encode(), None),
    "wide digits": ("[\uff11]".encode(), None),
    "NaN": (b"[NaN]", (1, 2)),
    "Infinity": (b"[Infinity]", (1, 2)),
    "minus Infinity": (b"[-Infinity]", (1, 3)),
    "inf": (b"[inf]", (1, 2)),
    "letters after digits": (b"[1a]", (1, 3)),
    "a float as C writes it": (b"[1.0f]", (1, 5)),
    # words
    "true in capitals": (b"[TRUE]", (1, 2)),
    "true as Python writes it": (b"[True]", (1, 2)),
    "true cut off": (b"[tru]", None),
    "false cut off": (b"[fals]", None),
    "null cut off": (b"[nul]", None),
    "true with more": (b"[truex]", None),
    "None": (b"[None]", (1, 2)),
    "undefined": (b"[undefined]", (1, 2)),
    "a bare word": (b"silver", (1, 1)),
    "a bare word in an array": (b"[silver]", (1, 2)),
    "two words": (b"true false", (1, 6)),
    "two numbers": (b"1 2", (1, 3)),
    "two arrays": (b"[1][2]", (1, 4)),
    "two texts": (b'"a""b"', (1, 4)),
    "a sign": (b"*", (1, 1)),
    "a comma": (b",", (1, 1)),
    "a colon": (b":", (1, 1)),
    "an ampersand after": (b"1&", (1, 2)),
    # text
    "text not closed": (b'"a', None),
    "text not closed in an array": (b'["a]', None),
    "quote alone": (b'"', None),
    "lone quotes": (b"['a']", (1, 2)),
    "text closed by an escaped quote": (b'["a\\"]', None),
    "a tab in text": (b'["a\tb"]', None),
    "a line end in text": (b'["a\nb"]', None),
    "a control in text": (b'["a\x1fb"]', None),
    "NUL in text": (b'["a\0b"]', None),
    "an unknown escape": (b'["\\x41"]', None),
    "an escaped lone quote": (b'["\\\'"]', None),
    "an escaped control": (b'["\\\x01"]', None),
    "a backslash at the end": (b'["\\', None),
    "an escape cut off": (b'["\\u00"]', None),
    "an escape with other letters": (b'["\\u00g0"]', None),
    "an escape with a capital U": (b'["\\U0061"]', None),
    "an escaped emoji": ('["\\\U0001f600"]'.encode(), None),
    "half a pair and half an escape": (b'["\\uD83D\\u"]', None),
    # around
    "a comment": (b"/* a */ 1", (1, 1)),
    "a comment at the end": (b"[1] // a", (1, 5)),
    "a comment in an array": (b"[1,/* a */2]", (1, 4)),
    "a hash": (b"# a\n[1]", (1, 1)),
    "a hash after": (b'{"a":1}#', (1, 8)),
    "form feed": (b"[1,\x0c2]", (1, 4)),
    "vertical tab": (b"[1,\x0b2]", (1, 4)),
    "no-break space": ("[1,\u00a02]".encode(), (1, 4)),
    "line separator between": ("[1,\u20282]".encode(), (1, 4)),
    "byte order mark in the middle": ("[\ufeff1]".encode(), (1, 2)),
    "NUL after": (b"1\0", (1, 2)),
    "NUL in an array": (b"[\0]", (1, 2)),
    "the second line": (b"[1,\n 2,\n x]", (3, 2)),
    "YAML": (b"a: 1\n", (1, 1)),
    "XML": (b"<a/>", (1, 1)),
    "nothing": (b"", None),
    "blanks": (b" \n\t", None),
    "a byte order mark alone": (b"\xef\xbb\xbf", None),
}

#: No UTF-8: the line of the byte.
NOT_UTF8: dict[str, tuple[bytes, int]] = {
    "a lone byte": (b'["\xe5"]', 1),
    "a byte of Latin-1": (b'[1,\n"caf\xe9"]', 2),
    "a lone continuation": (b'["\x80"]', 1),
    "overlong": (b'["\xc0\xaf"]', 1),
    "half a pair": (b'["\xed\xa0\x80"]', 1),
    "beyond Unicode": (b'["\xf4\xbf\xbf\xbf"]', 1),
    "cut off": (b'["\xe0\xff"]', 1),
    "outside of text": (b"[\xff]", 1),
    "after an escape": (b'["\\u\xe5"]', 1),
    "in a number": (b"[0\xe5]", 1),
}


@pytest.fixture(params=["in memory", "as a file"])
def as_source(request: pytest.FixtureRequest, tmp_path: Path) -> object:
    def source(data: bytes, key: str = "a.json") -> Source:
        head = Head(key, "etag", len(data), datetime.now(UTC))
        if request.param == "in memory":
            return Source(head, data, None)
        path = tmp_path / "data"
        path.write_bytes(data)
        return Source(head, None, path)

    return source


def test_there_are_enough() -> None:
    assert len(VALID) + len(INVALID) + len(NOT_UTF8) >= 200


@pytest.mark.parametrize("name", VALID)
def test_valid_is_read(name: str, as_source: object) -> None:
    data, expected = VALID[name]
    json.loads(data)  # another parser thinks so, too
    table = read(as_source(data))  # type: ignore[operator]
    rows = table.rows.drop(ROW).collect()
    assert table.height == rows.height
    if expected is not None:
        assert rows.to_dicts() == expected
    if name == "key twice":
        assert table.malformed is not None
        assert table.malformed["reason"].to_list() == ['the key "a" stands twice in one object']


@pytest.mark.parametrize("name", INVALID)
def test_invalid_is_refused(name: str, as_source: object) -> None:
    data, place = INVALID[name]
    with pytest.raises(DataError) as caught:
        read(as_source(data))  # type: ignore[operator]
    error = caught.value
    assert error.code in {"UnreadableJson", "EmptyFile", "TooDeep"}
    assert error.message
    assert error.hint
    if place is not None:
        assert (error.place.line, error.place.column) == place
    if error.code == "UnreadableJson":
        assert error.place.line is not None
        assert isinstance(error.place.column, int)


@pytest.mark.parametrize("name", NOT_UTF8)
def test_not_utf8_is_refused(name: str, as_source: object) -> None:
    data, line = NOT_UTF8[name]
    with pytest.raises(DataError) as caught:
        read(as_source(data))  # type: ignore[operator]
    assert (caught.value.code, caught.value.place.line) == ("NotUtf8", line)


@pytest.mark.parametrize(
    "data",
    [
        b'["\\ud800"]',  # half a pair
        b'["\\udc00\\ud800"]',  # a pair the wrong way round
        b"[1e400]",  # beyond all numbers
        b"[" * 500 + b"]" * 500,  # deeper than tables are
        b'\xef\xbb\xbf{"a":1}',  # with a byte order mark
        '{"a":1}'.encode("utf-16"),
        '{"a":1}'.encode("utf-16-be"),
    ],
)
def test_json_that_parsers_may_treat_freely_gives_rows_or_an_error(data: bytes, as_source: object) -> None:
    with suppress(DataError):
        assert read(as_source(data)).rows.collect().height == 1  # type: ignore[operator]
