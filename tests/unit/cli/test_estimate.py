"""``silversmith estimate``, as a person or a program calls it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.unit.cli.conftest import Call

PIPELINE = """
from silversmith import Pipeline

pipeline = Pipeline("shop")
pipeline.sql("orders/*.csv", "select * from rows", name="orders", batch_size=10)
pipeline.sql("late/*.csv", "select * from rows", name="late")
"""


def test_the_answer_names_what_is_slow(call: Call) -> None:
    code, out, errors = call("estimate", "--files", "1000000", "--size", "4096", "--transform", "orders")
    assert (code, errors) == (0, "")
    assert "1,000,000 files of 4.1 kB land in 5 min" in out
    assert "assumed" in out
    assert "503 Slow Down" in out
    assert "Lambda: 167 invocations at once would keep up with the files" in out


def test_as_json(call: Call) -> None:
    options = ["--files", "1000", "--size", "4096", "--rate", "10", "--transform", "late", "--seconds", "0.5"]
    code, out, errors = call("estimate", *options, "--json")
    assert (code, errors) == (0, "")
    document = json.loads(out)
    assert document["burst"] == {"files": 1000, "size": 4096, "rate": 10.0, "prefixes": 1}
    assert (document["file_seconds"], document["source"]) == (0.5, "as you say")
    assert document["landed"] == 100.0
    assert document["gold"] is None
    assert document["limits"] == []
    assert document["total_dollars"] == sum(document["dollars"].values())


def test_a_pipeline_with_several_transforms_needs_one(call: Call) -> None:
    code, _, errors = call("estimate", "--files", "1", "--size", "1")
    assert code == 2
    assert "add --transform and one of orders, late" in errors


def test_impossible_numbers_are_a_wrong_call(call: Call) -> None:
    for option, value in [
        ("--files", "0"),
        ("--size", "0"),
        ("--rate", "0"),
        ("--seconds", "901"),
        ("--prefixes", "0"),
    ]:
        options = {"--files": "1", "--size": "1", "--transform": "late", option: value}
        code, _, errors = call("estimate", *(word for pair in options.items() for word in pair))
        assert (code, option in errors) == (2, True), errors


def test_a_lake_that_has_run_is_measured(call: Call) -> None:
    from pathlib import Path

    Path("lake/dl-bronze-layer/orders").mkdir(parents=True)
    Path("lake/dl-bronze-layer/orders/a.csv").write_text("x\n1\n")
    code, out, _ = call("estimate", "--files", "10", "--size", "10", "--transform", "orders")
    assert code == 0
    assert "assumed" in out, "nothing has run there"
