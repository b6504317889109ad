"""Array consistency and absence, compared with EventBridge's own procedure written down naively."""

from __future__ import annotations

from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from silversmith.patterns import compile_pattern
from tests.examples import examples

Members = dict[int, int]
Flat = list[tuple[str, Any, Members]]


def flatten(event: dict[str, Any]) -> Flat:
    """Every value with its dotted name, and for each array it is in an element of, the number of the element."""
    actual: Flat = []
    arrays = 0

    def walk(value: Any, names: list[str], members: Members) -> None:
        nonlocal arrays
        if isinstance(value, dict):
            for name, item in value.items():
                walk(item, [*names, name], members)
        elif isinstance(value, list):
            array, arrays = arrays, arrays + 1
            for position, item in enumerate(value):
                walk(item, names, {**members, array: position} if isinstance(item, dict | list) else members)
        else:
            actual.append((".".join(names), value, members))

    walk(event, [], {})
    return actual


def agree(one: Members, other: Members) -> bool:
    return all(other.get(array, at) == at for array, at in one.items())


def oracle(pattern: dict[str, list[Any]], event: dict[str, Any]) -> bool:
    """Fields in the order of their names, every choice tried. Leaves hold strings, and "absent" for exists: false."""
    values = flatten(event)

    def search(names: list[str], chosen: Members) -> bool:
        if not names:
            return True
        name, *rest = names
        present = [(value, members) for path, value, members in values if path == name and agree(members, chosen)]
        if "absent" in pattern[name] and not present and search(rest, chosen):
            return True
        return any(value in pattern[name] and search(rest, chosen | members) for value, members in present)

    return search(sorted(pattern), {})


def leaf(values: list[str]) -> list[Any]:
    return [{"exists": False} if value == "absent" else value for value in values]


NAMES = st.sampled_from(["a", "b", "c", "a.b", "b.c"])
VALUES = st.sampled_from(["x", "y"])
EVENTS = st.dictionaries(
    NAMES,
    st.recursive(
        VALUES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3), max_leaves=12
    ),
    max_size=3,
)
PATHS = st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=3).map(".".join)
PATTERNS = st.dictionaries(
    PATHS, st.lists(st.sampled_from(["x", "y", "absent"]), min_size=1, max_size=2), min_size=1, max_size=4
)


@settings(max_examples=examples(600), deadline=None)
@given(pattern=PATTERNS, event=EVENTS)
@example(pattern={"a.b": ["x"], "a.c": ["y"]}, event={"a": [{"b": "x"}, {"c": "y"}]})
@example(pattern={"a.b": ["absent"], "a.c": ["y"]}, event={"a": [{"b": "x"}, {"c": "y"}]})
@example(pattern={"a.b": ["x"], "a.c": ["absent"]}, event={"a": [{"b": "x"}, {"c": "y"}]})
@example(pattern={"a": ["x"], "a.b": ["y"], "a.c": ["x"]}, event={"a": ["x", [{"b": "y"}, "x"], {"c": "x"}]})
@example(pattern={"a.b": ["x"], "a.c": ["y"]}, event={"a": {"c": "y"}, "a.b": [["x"]]})
def test_as_eventbridge_does_it(pattern: dict[str, list[str]], event: dict[str, Any]) -> None:
    given_pattern = {path: leaf(values) for path, values in pattern.items()}
    assert compile_pattern(given_pattern).matches(event) is oracle(pattern, event)


@settings(max_examples=examples(200), deadline=None)
@given(
    rows=st.lists(st.tuples(VALUES, VALUES, VALUES), max_size=6),
    values=st.tuples(VALUES, VALUES, VALUES),
    deep=st.booleans(),
)
def test_rows_of_a_table_match_as_rows(rows: list[tuple[str, ...]], values: tuple[str, ...], deep: bool) -> None:
    table: list[Any] = [dict(zip("abc", row, strict=True)) for row in rows]
    event = {"t": [[row] for row in table] if deep else table}
    pattern = {"t": {name: [value] for name, value in zip("abc", values, strict=True)}}
    assert compile_pattern(pattern).matches(event) is (values in rows)


def test_the_same_list_under_two_names_is_two_arrays() -> None:
    elements = [{"x": 1}, {"x": 2}]
    matcher = compile_pattern({"a": {"x": [1]}, "b": {"x": [2]}})
    assert matcher.matches({"a": elements, "b": elements})
