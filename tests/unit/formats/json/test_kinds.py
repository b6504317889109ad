"""Kinds of JSON values form a lattice, and a column of the joined kind keeps every value."""

from __future__ import annotations

import json
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from silversmith.errors import DataError
from silversmith.formats.json.values import MIXED, MOST_DEPTH, NULL, Kind, as_text, column, join, kind_of, type_of
from silversmith.formats.table import MOST_COLUMNS
from tests.examples import examples

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.integers(-3, 3),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=4),
)
VALUES: st.SearchStrategy[Any] = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(["a", "b", ""]), inner)),
    max_leaves=6,
)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1, None], pl.Int64),
        ([2**63 - 1, -(2**63)], pl.Int64),
        ([2**63, 0], pl.UInt64),
        ([2**63, -1], pl.String),
        ([2**64], pl.String),
        ([1, 2.5], pl.Float64),
        ([2**53, 0.5], pl.Float64),
        ([2**53 + 1, 0.5], pl.String),
        ([True, False], pl.Boolean),
        ([True, 1], pl.String),
        (["a", 1], pl.String),
        ([None], pl.String),
        ([], pl.String),
        ([{}], pl.String),
        ([[]], pl.List(pl.String)),
        ([[1], [2.5], []], pl.List(pl.Float64)),
        ([[1], 1], pl.String),
        ([[1, "a"]], pl.List(pl.String)),
        ([{"a": 1}, {"b": "x"}], pl.Struct({"a": pl.Int64, "b": pl.String})),
        ([{"a": {}}], pl.Struct({"a": pl.String})),
    ],
)
def test_the_type_that_keeps_all(values: list[Any], expected: pl.DataType) -> None:
    assert type_of(kind_of(values)) == expected


def test_integers_among_floats_deep_within() -> None:
    values = [[{"a": [0, 0.5]}], [{"a": [None, 1, 2.5]}]]
    assert column("a", values, kind_of(values)).to_list() == values


def test_mixed_values_become_text_that_says_the_same() -> None:
    values = ["a", 1, 2.5, True, None, [1, "x"], {"k": 2**70}]
    expected = ["a", "1", "2.5", "true", None, '[1,"x"]', '{"k":1180591620717411303424}']
    assert column("a", values, kind_of(values)).to_list() == expected


def depth(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize("levels", [MOST_DEPTH + 1, 254, 255, 600])
def test_values_nested_deeper_than_a_column_are_text(levels: int) -> None:
    assert column("a", [depth(MOST_DEPTH)], kind_of([depth(MOST_DEPTH)])).to_list() == [depth(MOST_DEPTH)]
    values = [[1], depth(levels), None, {"a": depth(levels)}]
    assert kind_of(values) == MIXED
    cells = column("a", values, MIXED).to_list()
    assert [None if text is None else json.loads(text) for text in cells] == values


def test_there_is_an_end_to_nesting() -> None:
    with pytest.raises(DataError, match="nested too deep"):
        as_text(depth(100_000))


def test_there_is_a_limit_to_keys() -> None:
    with pytest.raises(DataError) as caught:
        kind_of([{str(number): 1} for number in range(MOST_COLUMNS + 1)])
    assert caught.value.code == "TooManyColumns"


@given(st.lists(VALUES, max_size=5), st.lists(VALUES, max_size=5), st.lists(VALUES, max_size=5))
@settings(max_examples=examples(300), deadline=None)
def test_joined_kinds_are_the_kind_of_all_values(first: list[Any], second: list[Any], third: list[Any]) -> None:
    kinds = [kind_of(first), kind_of(second), kind_of(third)]
    assert join(kinds[0], kinds[1]) == join(kinds[1], kinds[0])
    assert join(join(kinds[0], kinds[1]), kinds[2]) == join(kinds[0], join(kinds[1], kinds[2]))
    assert join(join(kinds[0], kinds[1]), kinds[2]) == kind_of([*first, *second, *third])
    assert join(kinds[0], NULL) == kinds[0]


def survives(value: Any, kept: Any, kind: Kind) -> bool:
    """Whether a cell still says what the value said."""
    if value is None:
        return kept is None
    if kind == MIXED or (kind.name == "object" and not kind.fields):
        return bool(kept == as_text(value)) and (isinstance(value, str) or json.loads(kept) == value)
    if kind.name == "list":
        return len(kept) == len(value) and all(
            survives(before, after, kind.item or NULL) for before, after in zip(value, kept, strict=True)
        )
    if kind.name == "object":
        return all(survives(value.get(name), kept[name], inner) for name, inner in kind.fields.items())
    return bool(kept == value)


@given(st.lists(VALUES, max_size=5))
@settings(max_examples=examples(300), deadline=None)
def test_a_column_keeps_every_value(values: list[Any]) -> None:
    kind = kind_of(values)
    for value, kept in zip(values, column("a", values, kind).to_list(), strict=True):
        assert survives(value, kept, kind)
