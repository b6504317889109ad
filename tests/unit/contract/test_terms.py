"""An invalid contract is refused at its declaration, with a correction."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import polars as pl
import pytest

from silversmith.contract import Contract
from silversmith.errors import DefinitionError
from silversmith.formats import ROW

IDS = {"id": pl.Int64}


@pytest.mark.parametrize(
    ("arguments", "message"),
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
        ({"schema": IDS, "rules": {"odd": pl.col("ID") > 0}}, "'ID', which the schema has not; is 'id' meant"),
        ({"schema": {"size": pl.Int64}, "rules": {"odd": pl.col("sizes") > 0}}, "is 'size' meant"),
        ({"schema": IDS, "rules": {"odd": pl.col("x") > 0}, "on_extra_column": "reject"}, "add it to the schema"),
        ({"schema": IDS, "rules": {"odd": pl.col("id") * 2}}, "'odd' is Int64, where it should be true or false"),
        ({"schema": IDS, "rules": {"odd": pl.col("id").str.contains("x")}}, "does not go with the types"),
        ({"schema": IDS, "required": "id"}, "collection"),
        ({"schema": IDS, "required": ["it"]}, "no column 'it'; it has id"),
        ({"schema": IDS, "unique": [3]}, "collection"),
        ({"unique": ["id"]}, "it has none"),
        ({"on_extra_column": "ignore"}, "'keep', 'drop', 'reject'"),
        ({"on_missing_column": "drop"}, "'reject', 'keep', 'fill'"),
        ({"schema": IDS, "allowed": [1]}, "allowed must map columns"),
        ({"schema": IDS, "allowed": {"it": [1]}}, "no column 'it'"),
        ({"schema": IDS, "allowed": {"id": []}}, "give the values"),
        ({"schema": IDS, "allowed": {"id": "12"}}, "give the values"),
        ({"schema": IDS, "allowed": {"id": [1, "x"]}}, "allowed: 'id' has 'x', which is no Int64"),
        ({"schema": IDS, "allowed": {"id": [None]}}, "has None, which is no Int64"),
        ({"schema": IDS, "ranges": {"id": 5}}, "lowest and the highest"),
        ({"schema": IDS, "ranges": {"id": (None, None)}}, "lowest and the highest"),
        ({"schema": IDS, "ranges": {"id": (5, 1)}}, "nothing is between"),
        ({"schema": IDS, "ranges": {"id": (0.5, 1)}}, "has 0.5, which is no Int64"),
        ({"schema": {"n": pl.String}, "ranges": {"n": ("a", "b")}}, "which has no range"),
        ({"schema": IDS, "patterns": {"id": "[0-9]"}}, "only pl.String has patterns"),
        ({"schema": {"n": pl.String}, "patterns": {"n": "("}}, "no regular expression"),
        ({"schema": {"n": pl.String}, "patterns": {"n": 5}}, "give a regular expression"),
        ({"rename": ["a"]}, "rename must map"),
        ({"rename": {"a": ""}}, "no two names"),
        ({"rename": {"a": "c", "b": "c"}}, "'a' becomes 'c', which 'b' has to do with"),
        ({"rename": {"a": "b", "b": "c"}}, "'a' becomes 'b', which 'b' has to do with"),
        ({"schema": IDS, "defaults": {"id": "x"}}, "defaults: 'id' has 'x'"),
        ({"schema": IDS, "defaults": {"id": None}}, "defaults: 'id' has None"),
        ({"rows": 5}, "fewest and the most"),
        ({"rows": (5, 1)}, "fewest and the most"),
        ({"rows": (-1, None)}, "fewest and the most"),
        ({"schema": IDS, "fresh": {"id": timedelta(1)}}, "only pl.Date and pl.Datetime"),
        ({"schema": {"day": pl.Date}, "fresh": {"day": 2}}, "give a timedelta"),
        ({"max_rejected": -1}, "max_rejected"),
        ({"max_rejected": 1.5}, "max_rejected"),
        ({"max_rejected": True}, "max_rejected"),
        ({"max_rejected": "10%"}, "max_rejected"),
        ({"max_rejected": float("nan")}, "max_rejected"),
    ],
)
def test_invalid_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        Contract(**arguments)


def test_classes_and_instances_of_types_are_the_same() -> None:
    of_classes, of_instances = (
        Contract({"id": pl.Int64, "at": pl.Datetime}),
        Contract({"id": pl.Int64(), "at": pl.Datetime("us")}),
    )
    assert of_classes.declared == of_instances.declared == {"id": pl.Int64(), "at": pl.Datetime("us")}
    assert of_classes.fingerprint() == of_instances.fingerprint()


def test_a_contract_cannot_be_changed_behind_its_fingerprint() -> None:
    schema: dict[str, Any] = dict(IDS)
    contract = Contract(schema)
    schema["more"] = pl.Int64
    assert list(contract.declared) == ["id"]
    with pytest.raises(TypeError):
        contract.schema["more"] = pl.Int64()  # type: ignore[index]


def test_the_fingerprint_shows_every_difference() -> None:
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
        {"allowed": {"id": [1, 2]}},
        {"allowed": {"id": [1, 3]}},
        {"ranges": {"id": (1, None)}},
        {"ranges": {"id": (None, 1)}},
        {"patterns": {"n": "a"}},
        {"rename": {"N": "n"}},
        {"defaults": {"id": 0}},
        {"defaults": {"n": "0"}},
        {"rows": (1, None)},
        {"rows": (None, 1)},
        {"schema": {"id": pl.Int64, "n": pl.String, "d": pl.Date}},
        {"schema": {"id": pl.Int64, "n": pl.String, "d": pl.Date}, "fresh": {"d": timedelta(1)}},
    ]
    prints = [Contract(**{**base, **change}).fingerprint() for change in changes]
    assert len(set(prints)) == len(changes)


def test_the_fingerprint_is_the_same_in_every_process() -> None:
    contract = Contract({"id": pl.Int64}, {"positive": pl.col("id") > 0}, required=["id"])
    assert contract.fingerprint() == "8e23ac93a79ff03aed154dbe451881c277c0bfd93409cb0e971a78c8145d0f8c"
    rules = {"a": pl.col("id") > 0, "b": pl.col("id") < 9}
    backwards = dict(reversed(rules.items()))
    assert Contract(IDS, rules).fingerprint() == Contract(IDS, backwards).fingerprint()
