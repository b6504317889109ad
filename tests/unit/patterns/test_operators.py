"""The matches of each operator, value by value. The facts are those of the AWS pages that the operators' files name."""

from __future__ import annotations

from typing import Any

import pytest

from silversmith.patterns import compile_pattern

# (the array in the pattern, values of the field that match, values that do not)
TABLE: dict[str, tuple[list[Any], list[Any], list[Any]]] = {
    "string": (["running"], ["running"], ["Running", "running ", "", None, 1, True]),
    "strings": (["a", "b"], ["a", "b"], ["c", "ab"]),
    "empty string": ([""], [""], [None, " ", 0, False]),
    "unicode": (["zürich 😀"], ["zürich 😀"], ["zurich 😀", "zu\u0308rich 😀"]),
    "number": ([300], [300, 300.0, 3.0e2], [301, "300", 300.5, True]),
    "numbers": ([1, 2.5], [1, 1.0, 2.5], [2, "1", True, None]),
    "zero": ([0], [0, 0.0, -0.0], [False, None, "", "0"]),
    "one": ([1], [1, 1.0], [True, "1"]),
    "account number": ([123456789012], [123456789012], [123456789013, "123456789012"]),
    "integer beyond doubles": ([10**30 + 1], [10**30 + 1], [10**30, float(10**30)]),
    "true": ([True], [True], [False, 1, 1.0, "true"]),
    "false": ([False], [False], [True, 0, 0.0, None, "false", ""]),
    "null": ([None], [None], ["null", 0, False, ""]),
    "kinds together": (["a", 1, None], ["a", 1, 1.0, None], [True, False, "1", "null", 2]),
    "exactly": ([{"exactly": "a"}], ["a"], ["A", "ab", 1]),
    "address": (["10.0.0.1"], ["10.0.0.1", "010.0.0.1"], ["10.0.0.10", "10.0.0", 10]),
    "address 6": (["2001:db8::1"], ["2001:db8::1", "2001:DB8:0:0:0:0:0:1"], ["2001:db8::2", "::1"]),
    "no address": (["08:23"], ["08:23"], ["8:23"]),
    "prefix": ([{"prefix": "us-"}], ["us-east-1", "us-"], ["eu-us-", "US-east-1", "u", 1, None, True]),
    "empty prefix": ([{"prefix": ""}], ["", "anything"], [1, None, True]),
    "prefix in any case": (
        [{"prefix": {"equals-ignore-case": "EventB"}}],
        ["EventBridge", "EVENTB", "eventbus"],
        ["event", "an eventb", 1],
    ),
    "suffix": ([{"suffix": ".png"}], ["a.png", ".png"], ["a.PNG", "a.png ", "png", 1, None]),
    "empty suffix": ([{"suffix": ""}], ["", "anything"], [1, None]),
    "suffix in any case": (
        [{"suffix": {"equals-ignore-case": ".png"}}],
        ["a.png", "A.PNG", ".pNg"],
        ["a.png.bak", "png", "\u00a0png", 1],
    ),
    "equals-ignore-case": (
        [{"equals-ignore-case": "alice-1"}],
        ["alice-1", "Alice-1", "ALICE-1"],
        ["alice", "alice-11", 1, None],
    ),
    "equals-ignore-case, empty": ([{"equals-ignore-case": ""}], [""], [" ", None, 0]),
    "equals-ignore-case, umlaut": ([{"equals-ignore-case": "Zürich"}], ["zürich", "ZÜRICH", "zÜrich"], ["zurich", "Z"]),
    "equals-ignore-case, sharp s": ([{"equals-ignore-case": "straße"}], ["STRASSE", "Straße"], ["strasse", "STRAẞE"]),
    "equals-ignore-case, look-alike": ([{"equals-ignore-case": "k"}], ["k", "K"], ["\N{KELVIN SIGN}"]),
    "equals-ignore-case, beyond the BMP": ([{"equals-ignore-case": "a😀"}], ["a😀", "A😀"], ["a", "😀"]),
    "prefix in any case, umlaut": ([{"prefix": {"equals-ignore-case": "ü"}}], ["über", "Über", "Ü"], ["uber", ""]),
    "suffix in any case, sharp s": ([{"suffix": {"equals-ignore-case": "ß"}}], ["Fuß", "FUSS"], ["Fuss", "Fu"]),
    "numeric =": ([{"numeric": ["=", 3.018e2]}], [301.8], [301.81, "301.8", True, None]),
    "numeric <": ([{"numeric": ["<", 10]}], [9.999999, 0, -5e9], [10, 11, "9", None, False, -6e9]),
    "numeric <=": ([{"numeric": ["<=", 10]}], [10, 10.0, -1], [10.000001, True]),
    "numeric >": ([{"numeric": [">", 0]}], [0.000001, 1, 5e9], [0, -1, True, "1", 5000000001]),
    "numeric >=": ([{"numeric": [">=", 0]}], [0, 0.0, -0.0, 1], [-0.000001, False]),
    "numeric range": ([{"numeric": [">", 0, "<=", 5]}], [0.1, 1, 5, 5.0], [0, 5.1, -1, "3"]),
    "numeric range, closed and open": ([{"numeric": [">=", -1.5, "<", 1]}], [-1.5, 0, 0.99], [1, -1.6]),
    "numeric bounds": ([{"numeric": [">=", -5e9, "<=", 5e9]}], [-5e9, 5e9, 0], [5e9 + 1, -5e9 - 1]),
    "not a number": ([{"numeric": ["<", 10]}], [1], [float("nan"), float("-inf")]),
    "anything-but string": (
        [{"anything-but": "initializing"}],
        ["running", "", 5, None, True, "Initializing"],
        ["initializing"],
    ),
    "anything-but strings": ([{"anything-but": ["stopped", "overloaded"]}], ["a", 1, None], ["stopped", "overloaded"]),
    "anything-but number": ([{"anything-but": 123}], [124, "123", None, True, 123.5], [123, 123.0]),
    "anything-but 1": ([{"anything-but": 1}], [True, 0, "1"], [1, 1.0]),
    "anything-but numbers": ([{"anything-but": [100, 200]}], [101, "100", None], [100, 200.0]),
    "anything-but prefix": ([{"anything-but": {"prefix": "init"}}], ["running", 12, None, "Init"], ["init", "initial"]),
    "anything-but prefixes": ([{"anything-but": {"prefix": ["a", "b"]}}], ["c", 1, ""], ["ab", "b"]),
    "anything-but suffix": ([{"anything-but": {"suffix": ".png"}}], ["a.jpg", 1, None, ""], ["a.png"]),
    "anything-but suffixes": ([{"anything-but": {"suffix": [".png", ".jpg"]}}], ["a.gif"], ["a.png", "a.jpg"]),
    "anything-but wildcard": ([{"anything-but": {"wildcard": "*/lib/*"}}], ["/usr/bin", 1, None], ["/usr/lib/x"]),
    "anything-but wildcards": ([{"anything-but": {"wildcard": ["a*", "*b"]}}], ["c", "bxa"], ["ax", "xb"]),
    "anything-but empty wildcard": ([{"anything-but": {"wildcard": ""}}], ["a", None], [""]),
    "anything-but in any case": (
        [{"anything-but": {"equals-ignore-case": "initializing"}}],
        ["running", None, 1],
        ["initializing", "INITIALIZING"],
    ),
    "anything-but several in any case": ([{"anything-but": {"equals-ignore-case": ["a", "B"]}}], ["c"], ["A", "b"]),
    "cidr": ([{"cidr": "10.0.0.0/24"}], ["10.0.0.0", "10.0.0.255"], ["10.0.1.0", "9.255.255.255", "x", 10, None]),
    "cidr, base not at the start": ([{"cidr": "10.0.0.77/24"}], ["10.0.0.0", "10.0.0.255"], ["10.0.1.0"]),
    "cidr, everything": ([{"cidr": "0.0.0.0/0"}], ["0.0.0.0", "255.255.255.255"], ["::1", "1.2.3", "256.1.1.1"]),
    "cidr 6": ([{"cidr": "2001:db8::/32"}], ["2001:db8::", "2001:0db8:ffff::1"], ["2001:db9::", "10.0.0.1", "::"]),
    "cidr, mapped address": ([{"cidr": "10.0.0.0/8"}], ["::ffff:a00:1"], ["::ffff:b00:1", "::a00:1"]),
    "cidr, no address": ([{"cidr": "10.0.0.0/8"}], [], ["localhost", "10.0.0.0/8", "10.0.0.1 ", "0000010.0000000.0.1"]),
    "exists": ([{"exists": True}], ["", 0, None, False, "x"], [{"a": 1}, [], [{}], [[]]]),
    "does not exist": ([{"exists": False}], [{"a": 1}, [], [{}], [[]]], ["", 0, None, False, ["x"], [[None]]]),
    "wildcard": ([{"wildcard": "dir/*.png"}], ["dir/a.png", "dir/.png", "dir/x/y.png"], ["dir/a.PNG", "dir.png", 1]),
    "wildcard without stars": ([{"wildcard": "abc"}], ["abc"], ["ab", "abcd", None]),
    "wildcard, only a star": ([{"wildcard": "*"}], ["", "anything"], [1, None, True]),
    "wildcard, empty": ([{"wildcard": ""}], [""], ["a", None]),
    "wildcard, both ends": ([{"wildcard": "*a*"}], ["a", "xax", "aa"], ["", "b"]),
    "wildcard, pieces do not overlap": ([{"wildcard": "aba*aba"}], ["abaaba", "abaxaba"], ["aba", "ababa"]),
    "wildcard, pieces in order": ([{"wildcard": "*b*a"}], ["ba", "xbya"], ["ab", "aab"]),
    "wildcard, the last piece first": ([{"wildcard": "*ab*b"}], ["abb", "abxb"], ["ab", "xab"]),
    "wildcard, escapes": ([{"wildcard": r"\*a\\*"}], [r"*a\ ".strip(), r"*a\b"], ["xa", "*a", r"a\ ".strip()]),
    "wildcard, newline": ([{"wildcard": "a*b"}], ["a\nb", "a\x00b"], ["a\n"]),
    "alternatives": ([{"prefix": "a"}, {"numeric": [">", 5]}, None], ["ab", 6, None], ["ba", 5, False]),
    "absent or": (["a", {"exists": False}], ["a", [], {}], ["b", ["b"]]),
    "array of values": (["b"], [["a", "b"], [["b"]], ["b", {"c": 1}]], [["a"], [], [{"b": "b"}], {"b": "b"}]),
    "anything-but in an array": ([{"anything-but": "a"}], [["a", "b"]], [["a"], ["a", "a"], []]),
}


def cases(flag: bool) -> list[Any]:
    actual = []
    for name, (leaf, hits, misses) in TABLE.items():
        actual += [pytest.param(leaf, value, id=f"{name}: {value!r}") for value in (hits if flag else misses)]
    return actual


@pytest.mark.parametrize(("leaf", "value"), cases(True))
def test_matches(leaf: list[Any], value: Any) -> None:
    assert compile_pattern({"f": leaf}).matches({"f": value})
    assert compile_pattern({"deep": {"er": {"f": leaf}}}).matches({"deep": {"er": {"f": value, "g": 1}}, "h": 2})
    assert compile_pattern({"d": {"e": [1], "f": leaf}}).matches({"d": [{"e": 1, "f": value}, {"e": 2, "f": "zz"}]})


@pytest.mark.parametrize(("leaf", "value"), cases(False))
def test_does_not_match(leaf: list[Any], value: Any) -> None:
    assert not compile_pattern({"f": leaf}).matches({"f": value})
    assert not compile_pattern({"deep": {"er": {"f": leaf}}}).matches({"deep": {"er": {"f": value, "g": 1}}, "h": 2})
    assert not compile_pattern({"d": {"e": [1], "f": leaf}}).matches({"d": [{"e": 1, "f": value}, {"e": 2}]})


@pytest.mark.parametrize("name", [name for name, (leaf, _, _) in TABLE.items() if {"exists": False} not in leaf])
def test_a_field_that_is_missing_meets_nothing(name: str) -> None:
    leaf = TABLE[name][0]
    assert not compile_pattern({"f": leaf}).matches({"g": 1})
    assert not compile_pattern({"d": {"f": leaf}}).matches({"d": "text"})
    assert not compile_pattern({"d": {"f": leaf}}).matches({"d": None})
