"""Differences between rules, filter policies and filter criteria."""

from __future__ import annotations

from typing import Any

import pytest

from silversmith.patterns import Dialect, InvalidPattern, compile_pattern

BODY, ATTRIBUTES = Dialect.SNS_MESSAGE_BODY, Dialect.SNS_MESSAGE_ATTRIBUTES


def refused(pattern: Any, dialect: Dialect) -> str:
    with pytest.raises(InvalidPattern) as caught:
        compile_pattern(pattern, dialect=dialect)
    return str(caught.value)


@pytest.mark.parametrize("dialect", Dialect)
@pytest.mark.parametrize(
    ("leaf", "hit", "miss"),
    [
        ("a", "a", "b"),
        (None, None, "null"),
        ({"prefix": "a"}, "ab", "ba"),
        ({"suffix": "a"}, "ba", "ab"),
        ({"equals-ignore-case": "a"}, "A", "b"),
        ({"anything-but": ["a", "b"]}, "c", "b"),
        ({"anything-but": 5}, 6, 5),
        ({"numeric": [">", 0, "<=", 150]}, 150, 151),
        ({"cidr": "10.0.0.0/24"}, "10.0.0.255", "10.1.1.0"),
        ({"exists": True}, 0, []),
        ({"exists": False}, [], 0),
    ],
)
def test_operators_of_all_dialects(dialect: Dialect, leaf: Any, hit: Any, miss: Any) -> None:
    matcher = compile_pattern({"f": [leaf], "$or": [{"g": [1]}, {"h": [1]}]}, dialect=dialect)
    assert matcher.dialect is dialect
    assert matcher.matches({"f": hit, "h": 1})
    assert not matcher.matches({"f": miss, "h": 1})
    assert not matcher.matches({"f": hit})


@pytest.mark.parametrize("dialect", [BODY, ATTRIBUTES, Dialect.LAMBDA])
@pytest.mark.parametrize(
    ("leaf", "problem"),
    [
        ({"wildcard": "*a"}, "Unrecognized match type wildcard"),
        ({"anything-but": {"suffix": "a"}}, "Unsupported anything-but pattern: suffix"),
        ({"anything-but": {"wildcard": "a*"}}, "Unsupported anything-but pattern: wildcard"),
        ({"anything-but": {"equals-ignore-case": "a"}}, "Unsupported anything-but pattern: equals-ignore-case"),
    ],
)
def test_operators_of_rules_only(dialect: Dialect, leaf: Any, problem: str) -> None:
    assert problem in refused({"f": [leaf]}, dialect)
    assert compile_pattern({"f": [leaf]})


def test_anything_but_prefix() -> None:
    pattern = {"f": [{"anything-but": {"prefix": "order-"}}]}
    assert compile_pattern(pattern, dialect=BODY).matches({"f": "order_number"})
    assert not compile_pattern(pattern, dialect=ATTRIBUTES).matches({"f": "order-cancelled"})
    assert "Supported here: none" in refused(pattern, Dialect.LAMBDA)


def test_affixes_in_any_case_are_not_for_sns() -> None:
    pattern = {"f": [{"prefix": {"equals-ignore-case": "a"}}]}
    assert compile_pattern(pattern, dialect=Dialect.LAMBDA).matches({"f": "Abc"})
    assert "prefix match pattern must be a string" in refused(pattern, BODY)


def test_errors_use_the_word_of_the_service() -> None:
    assert refused({"f": []}, BODY).startswith("The filter policy is not valid, at f:")
    assert refused({"f": []}, Dialect.LAMBDA).startswith("The filter pattern is not valid, at f:")
    with pytest.raises(ValueError, match="'Messages' is not a valid Dialect"):
        compile_pattern({"f": [1]}, dialect="Messages")


def test_the_scope_of_a_filter_policy_names_its_dialect() -> None:
    assert compile_pattern({"a": {"b": [1]}}, dialect="MessageBody").matches({"a": {"b": 1}})
    assert "does not support nested filter policy" in refused({"a": {"b": [1]}}, Dialect("MessageAttributes"))


@pytest.mark.parametrize("dialect", [BODY, ATTRIBUTES])
def test_an_empty_filter_policy_lets_everything_through(dialect: Dialect) -> None:
    assert compile_pattern("{}", dialect=dialect).matches({})
    assert compile_pattern({}, dialect=dialect).matches({"a": 1})
    assert "Empty objects are not allowed" in refused("{}", Dialect.LAMBDA)
    assert "Empty objects are not allowed" in refused({"a": {}}, BODY)


def test_a_filter_policy_has_at_most_five_keys() -> None:
    five = {name: [1] for name in "abcde"}
    assert compile_pattern(five, dialect=ATTRIBUTES).matches(dict.fromkeys("abcde", 1))
    assert "more than 5 keys: it has 6" in refused({**five, "f": [1]}, ATTRIBUTES)
    nested = {"parent": {**five, "f": [1]}}  # only parents are counted; 2 ** 6 = 64 combinations
    assert compile_pattern(nested, dialect=BODY).matches({"parent": dict.fromkeys("abcdef", 1)})


def many(count: int) -> list[str]:
    return [f"value{number}" for number in range(count)]


@pytest.mark.parametrize(
    ("policy", "combinations"),
    [
        ({"key": many(151)}, 151),
        ({"key1": many(100), "key2": many(51)}, 5100),
        ({"a": {"b": {"c": many(4)}}, "d": {"e": many(3)}, "f": many(3)}, 3 * 4 * 2 * 3 * 1 * 3),
        (
            {"s": many(4), "$or": [{"m": many(6)}, {"t": many(4), "$or": [{"i": many(4)}, {"p": many(4)}]}]},
            4 * 6 + 4 * 4 * 4 + 4 * 4 * 4,
        ),
        (
            {
                "$or": [{"m": many(3)}, {"n": many(2)}],
                "d": {"c": many(2), "$or": [{"s": many(1)}, {"t": many(3)}]},
            },
            3 * 4 * 2 + 3 * 4 * 6 + 2 * 4 * 2 + 2 * 4 * 6,
        ),
    ],
)
def test_a_filter_policy_has_at_most_150_combinations(policy: Any, combinations: int) -> None:
    assert f"too complex: {combinations} combinations" in refused(policy, BODY)
    assert compile_pattern(policy)


def test_150_combinations_are_taken() -> None:
    policy = {"s": many(3), "$or": [{"m": many(6)}, {"t": many(4), "$or": [{"i": many(4)}, {"p": many(7)}]}]}
    assert compile_pattern(policy, dialect=ATTRIBUTES).matches({"s": "value0", "m": "value5"})


def test_numbers_of_a_filter_policy() -> None:
    assert "between -1000000000 and 1000000000" in refused({"f": [{"numeric": [">", 2e9]}]}, BODY)
    assert compile_pattern({"f": [2e9]}, dialect=BODY).matches({"f": 2000000000})
