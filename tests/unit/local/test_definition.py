"""A pipeline's definition that changes while the engine runs."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from silversmith.local.definition import Definition
from silversmith.pipeline import load
from silversmith.template import compile_for_engine

PIPELINE = """
from silversmith import Deployment, Pipeline

pipeline = Pipeline("shop")
pipeline.sql("orders/*.csv", "SELECT * FROM rows", name="orders")

def longer(template):
    template["Resources"]["OrdersQueue"]["Properties"]["VisibilityTimeout"] = 100

deployment = Deployment(patch=longer)
"""


def test_a_patch_that_changes_is_a_change_of_the_definition(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "pipeline.py"
    path.write_text(PIPELINE)
    definition = Definition(str(path), load(str(path)))
    assert definition.changed() is None
    path.write_text(PIPELINE.replace("= 100", "= 7200"))
    pipeline = definition.changed()
    assert pipeline is not None
    queue = compile_for_engine(pipeline)["Resources"]["OrdersQueue"]["Properties"]
    assert queue["VisibilityTimeout"] == 7200
    with caplog.at_level(logging.ERROR):
        path.write_text(PIPELINE.replace("VisibilityTimeout", "NoSuchTimeout"))
        assert definition.changed() is None
        path.write_text(PIPELINE.replace("OrdersQueue", "NoSuchQueueAtAll"))
        assert definition.changed() is None
    refused, failed = (record.getMessage() for record in caplog.records)
    assert "no property of AWS::SQS::Queue NoSuchTimeout" in refused
    assert "the patch longer failed" in failed


def test_what_a_patch_reads_is_compared_as_the_engine_began_with_it(tmp_path: Path) -> None:
    path, seconds = tmp_path / "pipeline.py", tmp_path / "seconds.txt"
    text = PIPELINE.replace("= 100", f"= int(Path({str(seconds)!r}).read_text())").replace(
        "from silversmith", "from pathlib import Path\nfrom silversmith", 1
    )
    seconds.write_text("100")
    path.write_text(text)
    definition = Definition(str(path), load(str(path)))
    seconds.write_text("7200")
    path.write_text(text + "\n")
    assert definition.changed() is not None
    path.write_text(text)
    assert definition.changed() is None
