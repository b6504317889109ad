"""Patterns that AWS refuses are refused, and the error says where, why, and what to write."""

from __future__ import annotations

from typing import Any

import pytest

from silversmith.errors import SilversmithError
from silversmith.patterns import InvalidPattern, compile_pattern

# the leaf's array, part of what is said about it, the place named
LEAVES: list[tuple[list[Any], str, str]] = [
    ([], "Empty arrays are not allowed", "d.f"),
    ([["a"]], "Match value must be String, number, true, false, or null", "d.f[0]"),
    (["a", {}], "Match expression name not found", "d.f[1]"),
    ([{"foo": "a"}], "Unrecognized match type foo", "d.f[0]"),
    ([{"PREFIX": "a"}], "Unrecognized match type PREFIX", "d.f[0]"),
    ([{"prefix": "a", "suffix": "b"}], "Only one key allowed in match expression: prefix, suffix", "d.f[0]"),
    ([{"exactly": 33}], "exact match pattern must be a string", "d.f[0]"),
    ([{"prefix": 3}], "prefix match pattern must be a string", "d.f[0]"),
    ([{"prefix": ["a"]}], "prefix match pattern must be a string", "d.f[0]"),
    ([{"prefix": None}], "prefix match pattern must be a string", "d.f[0]"),
    ([{"prefix": {"suffix": "a"}}], "Unsupported prefix pattern: suffix", "d.f[0].prefix"),
    ([{"prefix": {}}], "Unsupported prefix pattern", "d.f[0].prefix"),
    ([{"prefix": {"equals-ignore-case": "a", "b": 1}}], "Only one key allowed", "d.f[0].prefix"),
    ([{"prefix": {"equals-ignore-case": ["a"]}}], "equals-ignore-case match pattern must be a string", "d.f[0].prefix"),
    ([{"suffix": 3}], "suffix match pattern must be a string", "d.f[0]"),
    ([{"suffix": [".png"]}], "suffix match pattern must be a string", "d.f[0]"),
    ([{"suffix": {"equals-ignore-case": 5}}], "equals-ignore-case match pattern must be a string", "d.f[0].suffix"),
    ([{"equals-ignore-case": 5}], "equals-ignore-case match pattern must be a string", "d.f[0]"),
    ([{"equals-ignore-case": ["a"]}], "equals-ignore-case match pattern must be a string", "d.f[0]"),
    ([{"exists": "true"}], "exists match pattern must be either true or false", "d.f[0]"),
    ([{"exists": None}], "exists match pattern must be either true or false", "d.f[0]"),
    ([{"exists": 1}], "exists match pattern must be either true or false", "d.f[0]"),
    ([{"wildcard": 5}], "wildcard match pattern must be a string", "d.f[0]"),
    ([{"wildcard": ["a*"]}], "wildcard match pattern must be a string", "d.f[0]"),
    ([{"wildcard": "a**b"}], "Consecutive wildcard characters at pos 1", "d.f[0]"),
    ([{"wildcard": r"a\b"}], "Invalid escape character at pos 1", "d.f[0]"),
    ([{"wildcard": "a\\"}], "Invalid escape character at pos 1", "d.f[0]"),
    ([{"cidr": 5}], "cidr match pattern must be a string", "d.f[0]"),
    ([{"cidr": "10.0.0.0"}], "Malformed CIDR, one '/' required", "d.f[0]"),
    ([{"cidr": "10.0.0.0/8/8"}], "Malformed CIDR, one '/' required", "d.f[0]"),
    ([{"cidr": "10.0.0.0/eight"}], "Malformed CIDR, mask bits must be an integer", "d.f[0]"),
    ([{"cidr": "10.0.0.0/-1"}], "IPv4 mask bits must be from 0 to 31", "d.f[0]"),
    ([{"cidr": "10.0.0.0/33"}], "IPv4 mask bits must be from 0 to 31", "d.f[0]"),
    ([{"cidr": "10.0.0.1/32"}], 'write it without the operator: "10.0.0.1"', "d.f[0]"),
    ([{"cidr": "2001:db8::1/128"}], "IPv6 mask bits must be from 0 to 127", "d.f[0]"),
    ([{"cidr": "localhost/8"}], "Nonstandard IP address: localhost", "d.f[0]"),
    ([{"cidr": "10.0.0.256/8"}], "Nonstandard IP address: 10.0.0.256", "d.f[0]"),
    ([{"cidr": "xxxx:db8::/32"}], "Nonstandard IP address: xxxx:db8::", "d.f[0]"),
    ([{"numeric": 5}], "Value of numeric must be an array", "d.f[0]"),
    ([{"numeric": []}], "Invalid member in numeric match: ]", "d.f[0]"),
    ([{"numeric": [5]}], "Invalid member in numeric match: 5", "d.f[0]"),
    ([{"numeric": ["=="]}], "Unrecognized numeric range operator: ==", "d.f[0]"),
    ([{"numeric": ["!=", 5]}], "Unrecognized numeric range operator: !=", "d.f[0]"),
    ([{"numeric": ["="]}], "Value of equals must be numeric", "d.f[0]"),
    ([{"numeric": ["=", "5"]}], "Value of equals must be numeric", "d.f[0]"),
    ([{"numeric": ["<", True]}], "Value of < must be numeric", "d.f[0]"),
    ([{"numeric": [">", 0, "<"]}], "Value of < must be numeric", "d.f[0]"),
    ([{"numeric": ["=", 5, "<", 6]}], "Too many elements in numeric expression", "d.f[0]"),
    ([{"numeric": ["<", 5, ">", 0]}], "Too many elements in numeric expression", "d.f[0]"),
    ([{"numeric": [">", 0, ">", 5]}], "Bad numeric range operator: >", "d.f[0]"),
    ([{"numeric": [">", 0, 5]}], "Bad value in numeric range: 5", "d.f[0]"),
    ([{"numeric": [">", 0, []]}], "Bad value in numeric range: []", "d.f[0]"),
    ([{"numeric": [">", 0, "<", 5, "<", 6]}], "Too many terms in numeric range expression", "d.f[0]"),
    ([{"numeric": [">", 5, "<", 5]}], "Bottom must be less than top", "d.f[0]"),
    ([{"numeric": [">=", 5, "<=", 5]}], "Bottom must be less than top", "d.f[0]"),
    ([{"numeric": [">", 6, "<", 5]}], "Bottom must be less than top", "d.f[0]"),
    ([{"numeric": [">", 5e9]}], "Bottom must be less than top", "d.f[0]"),
    ([{"numeric": ["<", -5e9]}], "Bottom must be less than top", "d.f[0]"),
    ([{"numeric": [">", 5000000001]}], "Value must be between -5000000000 and 5000000000, inclusive", "d.f[0]"),
    ([{"numeric": [">", 0, "<", 1e300]}], "Value must be between -5000000000 and 5000000000, inclusive", "d.f[0]"),
    ([{"numeric": ["=", -5000000001]}], "Value must be between -5000000000 and 5000000000, inclusive", "d.f[0]"),
    ([{"anything-but": None}], "Value of anything-but must be an array or single string/number value", "anything-but"),
    ([{"anything-but": True}], "Value of anything-but must be an array or single string/number value", "anything-but"),
    ([{"anything-but": []}], "Empty arrays are not allowed", "d.f[0].anything-but"),
    ([{"anything-but": ["a", 1]}], "mixed type is not supported", "d.f[0].anything-but"),
    ([{"anything-but": ["a", None]}], "only strings or only numbers", "d.f[0].anything-but"),
    ([{"anything-but": [True]}], "only strings or only numbers", "d.f[0].anything-but"),
    ([{"anything-but": [["a"]]}], "only strings or only numbers", "d.f[0].anything-but"),
    ([{"anything-but": [{"prefix": "a"}]}], "only strings or only numbers", "d.f[0].anything-but"),
    ([{"anything-but": [6e9]}], "Value must be between", "d.f[0].anything-but"),
    ([{"anything-but": {}}], "Anything-But expression name not found", "d.f[0].anything-but"),
    ([{"anything-but": {"numeric": ["=", 1]}}], "Unsupported anything-but pattern: numeric", "d.f[0].anything-but"),
    ([{"anything-but": {"exists": True}}], "Unsupported anything-but pattern: exists", "d.f[0].anything-but"),
    ([{"anything-but": {"prefix": "a", "suffix": "b"}}], "Only one key allowed", "d.f[0].anything-but"),
    ([{"anything-but": {"prefix": ""}}], "Null prefix/suffix not allowed", "d.f[0].anything-but.prefix"),
    ([{"anything-but": {"suffix": ["a", ""]}}], "Null prefix/suffix not allowed", "d.f[0].anything-but.suffix"),
    ([{"anything-but": {"prefix": 27}}], "must be a string or a list of strings", "d.f[0].anything-but.prefix"),
    ([{"anything-but": {"prefix": ["a", 1]}}], "must be a string or a list of strings", "d.f[0].anything-but.prefix"),
    ([{"anything-but": {"prefix": []}}], "Empty arrays are not allowed", "d.f[0].anything-but.prefix"),
    ([{"anything-but": {"wildcard": "a**"}}], "Consecutive wildcard characters", "d.f[0].anything-but.wildcard"),
    ([{"anything-but": {"wildcard": ["a", r"\b"]}}], "Invalid escape character", "d.f[0].anything-but.wildcard"),
    ([{"anything-but": {"wildcard": 1}}], "must be a string or a list of strings", "d.f[0].anything-but.wildcard"),
    ([{"anything-but": {"equals-ignore-case": [1]}}], "must be a string or a list", "anything-but.equals-ignore-case"),
    (
        [{"anything-but": {"prefix": {"equals-ignore-case": "a"}}}],
        "Value of anything-but must be an array or single string/number value",
        "d.f[0].anything-but.prefix",
    ),
]


@pytest.mark.parametrize(("leaf", "problem", "place"), LEAVES)
def test_leaves(leaf: list[Any], problem: str, place: str) -> None:
    with pytest.raises(InvalidPattern) as caught:
        compile_pattern({"d": {"f": leaf}})
    assert problem in str(caught.value)
    assert caught.value.at.endswith(place)
    assert caught.value.at in str(caught.value)


@pytest.mark.parametrize("value", ["a", 1, True, None, 1.5])
def test_a_value_without_brackets(value: Any) -> None:
    with pytest.raises(InvalidPattern, match=r'at d\.f: "f" must be an object or an array.*Write .*"f": \[') as caught:
        compile_pattern({"d": {"f": value}})
    assert caught.value.at == "d.f"


@pytest.mark.parametrize("pattern", ["{}", {}, {"d": {}}, {"$or": [{"a": [1]}, {}]}])
def test_empty_objects(pattern: Any) -> None:
    with pytest.raises(InvalidPattern, match="Empty objects are not allowed"):
        compile_pattern(pattern)


@pytest.mark.parametrize("pattern", ["[1]", "null", '"a"', "1", [{"a": [1]}], None, 7])
def test_no_object(pattern: Any) -> None:
    with pytest.raises(InvalidPattern, match="Filter is not an object"):
        compile_pattern(pattern)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "line 1, column 1"),
        ('{"a": ["b"]', "line 1, column 12"),
        ('{"a":\n ["b" "c"]}', "line 2, column 7"),
        ("{'a': ['b']}", "line 1, column 2"),
        ('{"a": ["b"]} {}', "line 1, column 14"),
        ('{"a": [b"\xff"]}', "line 1, column 8"),
        ('{"a": [NaN]}', "NaN is no JSON number"),
        ('{"a": [-Infinity]}', "-Infinity is no JSON number"),
        (b'{"a": ["\xff"]}', "byte 9 cannot be read"),
        ('{"a": [' + "9" * 5000 + "]}", "it is not JSON"),
    ],
)
def test_text_that_is_not_json(text: str | bytes, problem: str) -> None:
    with pytest.raises(InvalidPattern, match="it is not") as caught:
        compile_pattern(text)
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    "pattern",
    [{1: ["a"]}, {"a": [b"bytes"]}, {"a": [float("nan")]}, {"a": {"b": object()}}, {"a": [{"numeric": ["<", 1j]}]}],
)
def test_dicts_with_what_json_has_not(pattern: Any) -> None:
    with pytest.raises(InvalidPattern, match=r"is not a string|is no JSON value"):
        compile_pattern(pattern)


@pytest.mark.parametrize("pattern", ['{"a":' * 100_000, '{"a":' * 600 + '["x"]' + "}" * 600])
def test_bottomless_text(pattern: str) -> None:
    with pytest.raises(InvalidPattern, match="nested too deeply"):
        compile_pattern(pattern)


def test_a_bottomless_dict() -> None:
    pattern: dict[str, Any] = {"a": ["x"]}
    for _ in range(2000):
        pattern = {"a": pattern}
    with pytest.raises(InvalidPattern, match="nested too deeply"):
        compile_pattern(pattern)


@pytest.mark.parametrize(
    "leaf", ['{"prefix": "a", "prefix": "b"}', '{"prefix": {"equals-ignore-case": "a", "equals-ignore-case": "b"}}']
)
def test_a_repeated_operator(leaf: str) -> None:
    with pytest.raises(InvalidPattern, match="Only one key allowed in match expression"):
        compile_pattern(f'{{"a": [{leaf}]}}')


def test_or_is_limited_to_a_thousand_combinations() -> None:
    ten = [{f"f{number}": [1]} for number in range(10)]
    nested = {"a": {"$or": ten}, "b": {"$or": ten}, "c": {"$or": ten}}
    assert compile_pattern(nested).matches({"a": {"f1": 1}, "b": {"f2": 1}, "c": {"f9": 1}})
    with pytest.raises(InvalidPattern, match="over 1000 rule combinations"):
        compile_pattern({**nested, "d": {"$or": ten[:2]}})
    with pytest.raises(InvalidPattern, match="over 1000 rule combinations"):
        compile_pattern({f"n{number}": {"$or": ten} for number in range(40)})


def test_a_rule_has_at_most_256_fields() -> None:
    assert compile_pattern({f"f{number}": [1] for number in range(256)})
    with pytest.raises(InvalidPattern, match="257 fields, at most 256"):
        compile_pattern({f"f{number}": [1] for number in range(257)})


@pytest.mark.parametrize("name", ["exactly", "prefix", "numeric", "=", "regex", "date-after", "ip-address-in-range"])
def test_reserved_names_inside_or(name: str) -> None:
    with pytest.raises(InvalidPattern, match=f"{name} is a reserved field name which cannot be used inside"):
        compile_pattern({"$or": [{"a": {name: ["x"]}}, {"b": [1]}]})
    assert compile_pattern({"a": {name: ["x"]}}).matches({"a": {name: "x"}})


def test_the_error_is_a_value_error_and_one_of_silversmiths() -> None:
    with pytest.raises(InvalidPattern) as caught:
        compile_pattern({"a": [{"prefix": 1}]})
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, SilversmithError)
    assert caught.value.problem == "prefix match pattern must be a string"
    assert caught.value.hint.startswith("Write")
    assert str(caught.value).startswith("The event pattern is not valid, at a[0]: prefix match")
