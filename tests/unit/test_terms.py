"""A contract that cannot be is refused where it is declared, with what to write instead."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from silversmith.contract import Contract
from silversmith.errors import DefinitionError
from silversmith.formats import ROW

IDS = {"id": pl.Int64}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"schema": ["id"]}, "map column names"),
        ({"schema": {"": pl.Int64}}, "no name"),
        ({"schema": {1: pl.Int64}}, "no name"),
        ({"schema": {ROW: pl.Int64}}, "no name"),
        ({"schema": {"id": int}}, "write pl.Int64"),
        ({"schema": {"id": bool}}, "write pl.Boolean"),
        ({"schema": {"id": "Int64"}}, "which no column can have"),
        ({"schema": {"id": pl.List}}, r"pl.List\(pl.Int64\)"),
        ({"schema": {"id": pl.Enum}}, r"pl.Enum\("),
        ({"schema": {"id": pl.Null}}, "which no column can have"),
        ({"rules": [pl.col("id") > 0]}, "map names"),
        ({"rules": {" ": pl.col("id") > 0}}, "no name"),
        ({"rules": {"positive": "id > 0"}}, "no Polars expression"),
        ({"rules": {"positive": True}}, "no Polars expression"),
        ({"rules": {"positive": pl.all() > 0}}, "name each"),
        ({"rules": {"positive": pl.all_horizontal(pl.col("^a.*$") > 0)}}, "name each"),
        ({"rules": {"odd": pl.col("id").map_batches(lambda ids: ids % 2 == 1)}}, "Python function"),
        ({"schema": IDS, "required": "id"}, "collection"),
        ({"schema": IDS, "required": ["it"]}, "no column 'it'; it has id"),
        ({"schema": IDS, "unique": [3]}, "collection"),
        ({"unique": ["id"]}, "it has none"),
        ({"on_extra_column": "ignore"}, "'keep', 'drop', 'reject'"),
        ({"on_missing_column": "keep"}, "'reject', 'fill'"),
        ({"max_rejected": -1}, "max_rejected"),
        ({"max_rejected": 1.5}, "max_rejected"),
        ({"max_rejected": True}, "max_rejected"),
        ({"max_rejected": "10%"}, "max_rejected"),
        ({"max_rejected": float("nan")}, "max_rejected"),
    ],
)
def test_what_cannot_be(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(DefinitionError, match=said):
        Contract(**arguments)


def test_classes_and_instances_of_types_are_the_same() -> None:
    one, other = Contract({"id": pl.Int64, "at": pl.Datetime}), Contract({"id": pl.Int64(), "at": pl.Datetime("us")})
    assert one.wanted == other.wanted == {"id": pl.Int64(), "at": pl.Datetime("us")}
    assert one.fingerprint() == other.fingerprint()


def test_a_contract_cannot_be_changed_behind_its_fingerprint() -> None:
    schema: dict[str, Any] = dict(IDS)
    contract = Contract(schema)
    schema["more"] = pl.Int64
    assert list(contract.wanted) == ["id"]
    with pytest.raises(TypeError):
        contract.schema["more"] = pl.Int64()  # type: ignore[index]


def test_the_fingerprint_tells_every_difference() -> None:
    base: dict[str, Any] = {"schema": {"id": pl.Int64, "n": pl.String}, "rules": {"r": pl.col("id") > 0}}
    changes: list[dict[str, Any]] = [
        {},
        {"schema": {"id": pl.Int64, "n": pl.Categorical}},
        {"schema": {"n": pl.String, "id": pl.Int64}},
        {"rules": {"r": pl.col("id") > 1}},
        {"rules": {"r": pl.col("id").is_in(list(range(1000)))}},
        {"rules": {"r": pl.col("id").is_in(list(range(1001)))}},
        {"rules": {"s": pl.col("id") > 0}},
        {"required": ["id"]},
        {"unique": ["id"]},
        {"on_extra_column": "drop"},
        {"on_missing_column": "fill"},
        {"max_rejected": 1},
        {"max_rejected": 1.0},
    ]
    prints = [Contract(**{**base, **change}).fingerprint() for change in changes]
    assert len(set(prints)) == len(changes)


def test_the_fingerprint_is_the_same_in_every_process() -> None:
    contract = Contract({"id": pl.Int64}, {"positive": pl.col("id") > 0}, required=["id"])
    assert contract.fingerprint() == "8e23ac93a79ff03aed154dbe451881c277c0bfd93409cb0e971a78c8145d0f8c"
    rules = {"a": pl.col("id") > 0, "b": pl.col("id") < 9}
    backwards = dict(reversed(rules.items()))
    assert Contract(IDS, rules).fingerprint() == Contract(IDS, backwards).fingerprint()
