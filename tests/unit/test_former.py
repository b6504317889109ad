"""A renamed transform takes over the silver of its former name, where it was made of the same bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from silversmith import Pipeline
from silversmith.cli.application import call
from silversmith.errors import DefinitionError
from silversmith.lineage import Lineage
from silversmith.local.lake import LakeFolder
from silversmith.schemas.recorded import Recorded
from silversmith.template import compile as compile_template

BEFORE = """
import polars as pl
from silversmith import Contract, Pipeline

pipeline = Pipeline("shop")
contract = Contract({"id": pl.Int64}, rules={"id is positive": pl.col("id") > 0})

@pipeline.transform("orders/*.csv", contract=contract, name="orders")
def orders(rows):
    return rows.with_columns(made=pl.lit("before"))
"""

AFTER = BEFORE.replace('name="orders")', 'name="sales", was="orders")').replace('"before"', '"after"')


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LakeFolder:
    """A lake with two files that the transform has made silver of under its former name."""
    monkeypatch.chdir(tmp_path)
    Path("pipeline.py").write_text(BEFORE)
    folder = LakeFolder(tmp_path / "lake")
    land("1.csv", "id\n1\n-1\n")
    land("2.csv", "id\n2\n")
    assert call(["run", "--until-idle"]) == 0
    return folder


def land(name: str, text: str) -> None:
    path = Path("lake/dl-bronze-layer/orders") / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def made(lake: LakeFolder, key: str) -> tuple[str, Lineage]:
    """By which code a file's silver under the new name was made, and its lineage."""
    store = lake.store("dl-silver-layer", foreign_writers=False)
    name = f"sales/orders/{key}.parquet"
    body, head = store.read(name), store.head(name)
    assert body is not None
    assert head is not None
    lineage = Lineage.from_metadata(head.metadata)
    assert lineage is not None
    return str(pl.read_parquet(body)["made"][0]), lineage


def test_silver_of_the_same_bytes_is_taken_over_and_the_rest_computed(lake: LakeFolder) -> None:
    land("2.csv", "id\n3\n")
    land("3.csv", "id\n4\n")
    Path("pipeline.py").write_text(AFTER)
    assert call(["run", "--until-idle"]) == 0
    assert [made(lake, name)[0] for name in ("1.csv", "2.csv", "3.csv")] == ["before", "after", "after"]
    lineage = made(lake, "1.csv")[1]
    assert (lineage.transform, lineage.rows_written, lineage.rows_rejected) == ("orders", 1, 1), "who made it"
    quarantine = lake.store("dl-quarantine-layer", foreign_writers=False)
    names = ("orders/orders/1.csv.rejected.parquet", "sales/orders/1.csv.rejected.parquet")
    assert quarantine.read(names[0]) == quarantine.read(names[1]) is not None
    silver = lake.store("dl-silver-layer", foreign_writers=False)
    former, document = (Recorded.read(silver, name).document for name in ("orders", "sales"))
    assert document.history[: len(former.history)] == former.history
    assert document.transform == "sales"
    assert silver.head("orders/orders/1.csv.parquet") is not None, "nothing of the former name is deleted"


@pytest.mark.full
def test_what_was_taken_over_is_settled_and_made_again_by_other_code_when_that_is_asked_for(lake: LakeFolder) -> None:
    Path("pipeline.py").write_text(AFTER)
    assert call(["run", "--until-idle"]) == 0
    first = made(lake, "1.csv")
    assert first[0] == "before"
    assert call(["replay", "orders/1.csv"]) == 0
    assert call(["run", "--until-idle"]) == 0
    assert made(lake, "1.csv")[0] == "after", "silver of other code is made again by an event, as ever"
    assert made(lake, "2.csv")[0] == "before"
    assert call(["run", "--until-idle", "--changed"]) == 0
    assert made(lake, "2.csv")[0] == "after"


def test_without_a_former_name_all_is_computed(lake: LakeFolder) -> None:
    Path("pipeline.py").write_text(AFTER.replace(', was="orders"', ""))
    assert call(["run", "--until-idle"]) == 0
    assert made(lake, "1.csv")[0] == "after"


def test_schemas_that_the_new_name_has_of_its_own_are_not_mixed_with_the_former_ones(lake: LakeFolder) -> None:
    Path("pipeline.py").write_text(AFTER.replace(', was="orders"', ""))
    Path("lake/dl-bronze-layer/orders/2.csv").unlink()
    assert call(["run", "--until-idle"]) == 0
    Path("lake/dl-silver-layer/sales/orders/1.csv.parquet").unlink()
    Path("pipeline.py").write_text(AFTER)
    assert call(["run", "--until-idle"]) == 0
    assert made(lake, "1.csv")[0] == "after"


@pytest.mark.parametrize(
    ("first", "second", "says"),
    [
        ({}, {"was": "sales"}, "it is its name now"),
        ({"name": "orders"}, {"was": "orders"}, "another transform has this name"),
        ({}, {"was": "Orders!"}, "its name must be lower-case letters"),
        ({}, {"was": None}, "its name must be lower-case letters"),
    ],
)
def test_a_former_name_is_nobodys_name(first: dict[str, Any], second: dict[str, Any], says: str) -> None:
    pipeline = Pipeline("shop")
    pipeline.sql("a/*", "SELECT * FROM rows", **{"name": "other", **first})
    with pytest.raises(DefinitionError, match=says):
        pipeline.sql("b/*", "SELECT * FROM rows", **{"name": "sales", **second})


def test_nobody_takes_a_former_name(lake: LakeFolder) -> None:
    pipeline = Pipeline("shop")
    pipeline.sql("a/*", "SELECT * FROM rows", name="sales", was="orders")
    with pytest.raises(DefinitionError, match="another one says was='orders', and would take its silver over"):
        pipeline.sql("b/*", "SELECT * FROM rows", name="orders")


def test_the_role_may_read_what_there_is_under_the_former_name() -> None:
    def sids(was: str) -> set[str]:
        pipeline = Pipeline("shop")
        pipeline.sql("a/*", "SELECT * FROM rows", name="sales", was=was)
        role = compile_template(pipeline)["Resources"]["SalesRole"]["Properties"]["Policies"][0]["PolicyDocument"]
        return {statement["Sid"] for statement in role["Statement"]}

    assert sids("orders") - sids("") == {"ReadFormer"}
