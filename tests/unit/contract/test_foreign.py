"""Schemas of other libraries as contracts. Against the real ones, where they are installed."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

import polars as pl
import pytest

from silversmith import Contract, Pipeline
from silversmith.contract.foreign import accepted
from silversmith.errors import DefinitionError
from tests.unit.test_contract import both_ways, reasons, table


def test_a_contract_is_itself_and_nothing_is_nothing() -> None:
    contract = Contract()
    assert accepted(contract) is contract
    assert accepted(None) is None


@pytest.mark.parametrize("value", [{"a": pl.Int64}, "flights", pl.DataFrame, object()])
def test_values_that_are_no_contract(value: Any) -> None:
    with pytest.raises(DefinitionError, match=r"must be a silversmith\.Contract"):
        accepted(value)
    with pytest.raises(DefinitionError, match=r"test_foreign\.py:\d+: .*must be a silversmith\.Contract"):
        Pipeline("shop").transform("*", contract=value)


def far(_: Any) -> pl.Expr:
    return (pl.col("distance") > 1) | (pl.col("id") > 2)


@pytest.mark.skipif(find_spec("dataframely") is None, reason="Dataframely is not installed")
class TestDataframely:
    @pytest.fixture
    def schema(self) -> Any:
        dy: Any = import_module("dataframely")
        body = {
            "__annotations__": {},
            "id": dy.Int64(primary_key=True),
            "carrier": dy.String(nullable=True, min_length=2, regex="[A-Z]+"),
            "distance": dy.Float64(min=0, max_exclusive=100),
            "other": dy.Int32(nullable=True, alias="O ther", check=lambda cells: cells > 0),
            "far": dy.rule()(far),
        }
        return type(dy.Schema)("Flight", (dy.Schema,), body)

    def test_all_that_it_says_is_said(self, schema: Any) -> None:
        contract = accepted(schema)
        assert contract is not None
        rows = table(
            {
                "id": ["1", "1", "2", "x", "3", "4"],
                "carrier": ["AA", "AA", "A", None, "aa", None],
                "distance": ["5", "5", "100", "", "-1", "1"],
                "O ther": ["1", "1", "0", None, None, None],
                "extra": [1, 2, 3, 4, 5, 6],
            }
        )
        good, rejected = both_ways(contract, rows)
        assert good.rows() == [(1, "AA", 5.0, 1), (4, None, 1.0, None)]
        assert good.schema == {"id": pl.Int64, "carrier": pl.String, "distance": pl.Float64, "O ther": pl.Int32}
        messages = reasons(rejected)
        assert [sorted(reason.partition(":")[0] for reason in messages[row]) for row in sorted(messages)] == [
            ["id"],
            ["O ther check", "carrier min_length", "distance max_exclusive"],
            ["distance", "id"],
            ["carrier regex", "distance min"],
        ]

    def test_its_own_verdict_is_the_same(self, schema: Any) -> None:
        contract = accepted(schema)
        assert contract is not None
        frame = pl.DataFrame(
            {
                "id": [1, 2, 3, None],
                "carrier": ["AA", None, "b", "CC"],
                "distance": [0.5, 2.0, 3.0, 4.0],
                "O ther": [1, None, 3, 4],
            },
            schema_overrides={"O ther": pl.Int32},
        )
        theirs, _ = schema.filter(frame)
        ours, _ = both_ways(contract, table({name: frame[name] for name in frame.columns}))
        assert ours.equals(theirs)

    def test_it_declares_a_transform(self, schema: Any) -> None:
        pipeline = Pipeline("shop")
        pipeline.transform("*", contract=schema, name="t")(lambda rows: rows)
        again = Pipeline("shop")
        again.transform("*", contract=schema, name="t")(lambda rows: rows)
        assert isinstance(pipeline.find("t").contract, Contract)
        assert pipeline.find("t").fingerprint == again.find("t").fingerprint


@pytest.mark.skipif(find_spec("pandera") is None, reason="Pandera is not installed")
class TestPandera:
    @pytest.fixture
    def pa(self) -> Any:
        return import_module("pandera.polars")

    def test_all_that_a_schema_says_is_said(self, pa: Any) -> None:
        check = pa.Check
        schema = pa.DataFrameSchema(
            {
                "a": pa.Column(pl.Int64, [check.gt(0), check.in_range(0, 5, include_max=False)], unique=True),
                "b": pa.Column(
                    pl.String, [check.str_matches("x"), check.str_length(1, 3), check.ne("xx")], nullable=True
                ),
                "c": pa.Column(float, check.isin([1.0, 2.0]), default=1.0),
            },
            unique=["b", "c"],
            strict="filter",
        )
        contract = accepted(schema)
        assert contract is not None
        rows = table(
            {
                "a": ["1", "5", "0", "1", "2", "3"],
                "b": ["x1", "ax", "x234", "x2", "xx", None],
                "c": ["", "3", None, "1", "1", "2"],
                "d": [1, 2, 3, 4, 5, 6],
            }
        )
        good, rejected = both_ways(contract, rows)
        assert good.rows() == [(1, "x1", 1.0), (3, None, 2.0)]
        assert {
            row: [reason.partition(":")[0] for reason in messages] for row, messages in reasons(rejected).items()
        } == {
            2: ["a in_range", "b str_matches", "c isin"],
            3: ["a greater_than", "b str_length"],
            4: ["a"],
            5: ["b not_equal_to"],
        }

    def test_a_model(self, pa: Any) -> None:
        fields = {
            "__annotations__": {"a": int, "b": str},
            "a": pa.Field(gt=0, le=5),
            "b": pa.Field(isin=["x"], nullable=True, alias="B b"),
            "Config": type("Config", (), {"strict": True}),
        }
        model = type(pa.DataFrameModel)("Model", (pa.DataFrameModel,), fields)
        contract = accepted(model)
        assert contract is not None
        assert contract.schema == {"a": pl.Int64, "B b": pl.String}
        assert contract.required == ("a",)
        assert contract.on_extra_column == "reject"
        assert sorted(reasons(both_ways(contract, table({"a": ["1", "6"], "B b": ["x", "y"]}))[1])) == [2]

    def test_columns_that_may_be_missing(self, pa: Any) -> None:
        schema = pa.DataFrameSchema({"a": pa.Column(int), "b": pa.Column(int, nullable=True, required=False)})
        contract = accepted(schema)
        assert contract is not None
        assert both_ways(contract, table({"a": ["1"]}))[0].columns == ["a"]

    def test_terms_that_a_contract_does_not_have_are_refused(self, pa: Any) -> None:
        column = pa.Column
        refused = {
            "is a Python function": pa.DataFrameSchema({"a": column(int, pa.Check(lambda data: data))}),
            "own checks": pa.DataFrameSchema({"a": column(int)}, checks=[pa.Check(lambda data: data)]),
            "the type None": pa.DataFrameSchema({"a": column()}),
            "names each": pa.DataFrameSchema({"^a.*$": column(int, regex=True)}),
            "not be null": pa.DataFrameSchema({"a": column(int, required=False)}),
            "one word": pa.DataFrameSchema(
                {"a": column(int, nullable=True), "b": column(int, nullable=True, required=False)}
            ),
        }
        for said, schema in refused.items():
            with pytest.raises(DefinitionError, match=said):
                accepted(schema)
