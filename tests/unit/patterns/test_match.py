"""Patterns over whole events: nesting, names with dots, ``$or``, arrays, repeated keys."""

from __future__ import annotations

from typing import Any

import pytest

from silversmith.patterns import InvalidPattern, compile_pattern

EC2 = {
    "version": "0",
    "id": "ddddd4-aaaa-7777-4444-345dd43cc333",
    "detail-type": "EC2 Instance State-change Notification",
    "source": "aws.ec2",
    "time": "2017-10-02T16:24:49Z",
    "resources": ["arn:aws:ec2:us-east-1:123456789012:instance/i-000000aaaaaa00000"],
    "detail": {"c-count": 5, "d-count": 3, "x-limit": 301.8, "source-ip": "10.0.0.33", "state": "running"},
}


def matches(pattern: Any, event: Any) -> bool:
    return compile_pattern(pattern).matches(event)


def test_all_fields_must_match() -> None:
    pattern = {"source": ["aws.ec2"], "detail": {"state": ["initializing", "running"], "c-count": [5]}}
    assert matches(pattern, EC2)
    assert not matches({**pattern, "region": ["us-east-1"]}, EC2)
    assert not matches({**pattern, "source": ["aws.s3"]}, EC2)
    assert matches(
        {
            "time": [{"prefix": "2017-10-02"}],
            "resources": [{"suffix": "aaaaaa00000"}],
            "detail": {
                "state": [{"anything-but": "initializing"}],
                "c-count": [{"numeric": [">", 0, "<=", 5]}],
                "x-limit": [{"anything-but": [100, 200, 300]}],
                "source-ip": [{"cidr": "10.0.0.0/8"}],
                "nothing": [{"exists": False}],
            },
        },
        EC2,
    )


def test_names_are_distinguished_by_case() -> None:
    assert not matches({"Source": ["aws.ec2"]}, EC2)


def test_json_in_a_string_is_a_string() -> None:
    assert not matches({"detail": {"a": ["b"]}}, {"detail": '{"a": "b"}'})


def test_a_leaf_never_matches_an_object_and_an_object_never_a_leaf() -> None:
    assert not matches({"detail": [{"exists": True}]}, EC2)
    assert matches({"detail": [{"exists": False}]}, EC2)
    assert not matches({"source": {"name": ["aws.ec2"]}}, EC2)
    assert matches({"source": {"name": [{"exists": False}]}}, EC2)


@pytest.mark.parametrize("pattern", [{"a": {"b": {"c": ["x"]}}}, {"a.b.c": ["x"]}, {"a": {"b.c": ["x"]}}])
@pytest.mark.parametrize(
    "event", [{"a": {"b": {"c": "x"}}}, {"a.b.c": "x"}, {"a": {"b.c": "x"}}, {"a.b": {"c": "x"}}, {"a.b": [{"c": "x"}]}]
)
def test_dots_in_names_are_as_good_as_nesting(pattern: Any, event: Any) -> None:
    assert matches(pattern, event)
    assert not matches({"a": {"b": {"c": [{"exists": False}]}}}, event)


def test_names_may_be_empty_or_dots() -> None:
    assert matches({"": {"": ["x"]}}, {"": {"": "x"}})
    assert matches({".": ["x"]}, {"": {"": "x"}})
    assert not matches({"": ["x"]}, {"a": "x"})


PEOPLE = {
    "employees": [
        [{"first": "John", "last": "Doe", "ids": [1234, 1000]}, {"first": "Anna", "last": "Smith"}],
        [{"first": "Peter", "last": "Jones", "ids": []}],
    ]
}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"first": ["Anna"]}, True),
        ({"first": ["Alice"]}, False),
        ({"first": ["Anna"], "last": ["Smith"]}, True),
        ({"first": ["Anna"], "last": ["Jones"]}, False),
        ({"first": ["Anna"], "last": ["Doe"]}, False),
        ({"first": ["John"], "ids": [1000]}, True),
        ({"first": ["Anna"], "ids": [1000]}, False),
        ({"first": ["Anna"], "ids": [{"exists": False}]}, True),
        ({"first": ["John"], "ids": [{"exists": False}]}, False),
        ({"first": ["Peter"], "ids": [{"exists": False}]}, True),  # an empty array has no value
        ({"first": ["Anna"], "ids": [{"exists": True}]}, False),
        # absence is judged in the order of the names: "aaa" before anything is chosen, "zzz" after
        ({"first": ["Anna"], "zzz": [{"exists": False}]}, True),
        ({"age": [{"exists": False}], "first": ["Anna"]}, True),
    ],
)
def test_values_of_different_elements_do_not_go_together(fields: Any, expected: bool) -> None:
    assert matches({"employees": fields}, PEOPLE) is expected


def test_absence_is_judged_in_the_order_of_the_names() -> None:
    event = {"d": [{"a": 1}, {"b": 2}]}
    assert matches({"d": {"a": [1], "b": [{"exists": False}]}}, event)  # in the element that was chosen for a
    assert not matches({"d": {"a": [{"exists": False}], "b": [2]}}, event)  # before one is chosen: anywhere


def test_arrays_side_by_side_are_independent() -> None:
    event = {"a": [{"x": 1}, {"x": 2}], "b": [{"y": 1}, {"y": 2}]}
    assert matches({"a": {"x": [1]}, "b": {"y": [2]}}, event)


def test_values_in_the_array_itself_go_with_any_element() -> None:
    event = {"a": ["top", {"x": 1}, {"x": 2}]}
    assert matches({"a": ["top"], "a.x": [2]}, event)
    assert not matches({"a": ["other"], "a.x": [2]}, event)


def test_one_list_at_two_places_of_an_event_is_two_arrays() -> None:
    same = [{"x": 1, "y": 1}, {"x": 2, "y": 2}]
    assert matches({"a": {"x": [1], "y": [1]}, "b": {"x": [2], "y": [2]}}, {"a": same, "b": same})


def test_many_arrays_side_by_side_cost_their_sum() -> None:
    # tried one combination after the other, this would take 200 ** 8 steps
    names = [f"n{number}" for number in range(8)]
    event: Any = {"d": {name: [{"x": 1, "y": at} for at in range(200)] for name in names}}
    event["d"]["z"] = [{"x": 1}, {"y": 1}]
    pattern = {"d": {name: {"x": [1], "y": [{"numeric": [">=", 0]}]} for name in names} | {"z": {"x": [1], "y": [1]}}}
    assert not matches(pattern, event)


def test_a_long_array_costs_its_length() -> None:
    event = {"d": [{"a": 1, "b": 0, "c": at} for at in range(20_000)]}
    assert not matches({"d": {"a": [1], "b": [0], "c": [-1]}}, event)
    assert matches({"d": {"a": [1], "b": [0], "c": [19_999]}}, event)


def test_nested_lists_as_deep_as_memory_are_no_trouble() -> None:
    deep: Any = "x"
    for _ in range(3000):
        deep = [deep]
    assert matches({"a": ["x"]}, {"a": deep})
    assert not matches({"a": {"b": ["x"]}}, {"a": deep})
    assert not matches({"a": {"b": ["x"], "c": ["y"]}}, {"a": deep})


def test_or() -> None:
    pattern = {
        "source": ["aws.cloudwatch"],
        "$or": [
            {"metricName": ["CPUUtilization", "ReadLatency"]},
            {"metricType": ["MetricType"], "$or": [{"metricId": [1234]}, {"spaceId": [1000]}]},
            {"scope": ["Service"]},
        ],
    }
    matcher = compile_pattern(pattern)
    assert matcher.matches({"source": "aws.cloudwatch", "metricName": "ReadLatency"})
    assert matcher.matches({"source": "aws.cloudwatch", "metricType": "MetricType", "spaceId": 1000})
    assert matcher.matches({"source": "aws.cloudwatch", "scope": "Service", "metricName": "x"})
    assert not matcher.matches({"source": "aws.cloudwatch", "metricType": "MetricType"})
    assert not matcher.matches({"source": "aws.s3", "metricName": "ReadLatency"})
    assert not matcher.matches({"source": "aws.cloudwatch"})


def test_two_or_are_both_needed() -> None:
    pattern = {"$or": [{"a": [1]}, {"b": [1]}], "detail": {"$or": [{"c": [1]}, {"d": [1]}]}}
    assert matches(pattern, {"b": 1, "detail": {"d": 1}})
    assert not matches(pattern, {"a": 1, "b": 1, "detail": {"e": 1}})
    assert not matches(pattern, {"detail": {"c": 1, "d": 1}})


def test_or_and_the_array_around_it() -> None:
    pattern = {"d": {"a": [1], "$or": [{"b": [1]}, {"c": [1]}]}}
    assert matches(pattern, {"d": [{"a": 1, "c": 1}, {"b": 1}]})
    assert not matches(pattern, {"d": [{"a": 1}, {"b": 1}, {"c": 1}]})


def test_the_last_word_on_a_path_wins() -> None:
    assert matches('{"d": {"a": [{"prefix": "us-"}], "a": [{"anything-but": "us-east"}]}}', {"d": {"a": "eu-west"}})
    assert matches('{"d": {"a": [1]}, "d": {"b": [2]}}', {"d": {"a": 1, "b": 2}})
    assert not matches('{"d": {"a": [1]}, "d": {"b": [2]}}', {"d": {"b": 2}})  # both are needed: other paths
    assert matches({"a": [1], "$or": [{"a": [2]}, {"b": [3]}]}, {"a": 2})
    assert not matches({"$or": [{"a": [2]}, {"b": [3]}], "a": [1]}, {"a": 2})


@pytest.mark.parametrize(
    ("pattern", "event"),
    [
        ({"$or": [{"cidr": "10.0.0.0/24"}]}, {"$or": "10.0.0.3"}),
        ({"$or": ["a", "b"]}, {"$or": "b"}),
        ({"$or": {"metricType": ["x"], "namespace": ["y"]}}, {"$or": {"metricType": "x", "namespace": "y"}}),
        ({"d": {"$or": [{"numeric": [">", 0, "<=", 5]}, {"cidr": "10.0.0.0/8"}]}}, {"d": {"$or": 3}}),
        ({"d": {"$or": [{"numeric": [">", 0, "<=", 5]}, {"numeric": [">", 10]}]}}, {"d": {"$or": 11}}),
        ({"d": {"$or": [{"prefix": "a"}, {"exists": False}]}}, {"d": 1}),
    ],
)
def test_or_in_any_other_form_is_the_name_of_a_field(pattern: Any, event: Any) -> None:
    assert matches(pattern, event)
    assert not matches(pattern, {"$or": 7, "d": {"$or": 7}})


@pytest.mark.parametrize(
    "pattern",
    [
        {"$or": [{"metricName": ["CPUUtilization"]}]},
        {"d": {"$or": [{"source": ["x"]}, {"detail-type": ["y"]}, [{"foo": ["wrong"]}]]}},
        {"$or": [{"prefix": "a"}, {"b": ["c"]}]},
        {"$or": [{"a": {"prefix": ["x"]}}, {"b": ["c"]}]},
        {"$or": []},
        {"$or": "a"},
        {"$or": [{"a": [1]}, {"b": [1]}], "d": {"$or": ["as a name"]}},
    ],
)
def test_or_that_is_neither(pattern: Any) -> None:
    with pytest.raises(InvalidPattern, match=r"\$or"):
        compile_pattern(pattern)


@pytest.mark.parametrize("event", [None, 1, "text", [], [{"source": "aws.ec2"}], b"", object()])
def test_values_that_are_no_object_do_not_match(event: Any) -> None:
    assert not compile_pattern({"source": [{"exists": False}]}).matches(event)
