"""The plugin as a user's pytest has it."""

from __future__ import annotations

import multiprocessing.sharedctypes  # noqa: F401 -- pytester forgets modules that are imported in it, this one by half
import subprocess
import sys
from pathlib import Path

import pytest

from silversmith.testing import run_engine
from silversmith.testing.running import NotIdle
from tests.unit.kit import LOAD

pytest_plugins = ["pytester"]

PIPELINE = """
import polars as pl
from silversmith import Contract, Pipeline

pipeline = Pipeline("shop")

@pipeline.transform("orders/*.csv", contract=Contract({"id": pl.Int64}))
def orders(rows):
    if rows.select(pl.col("id").max()).collect().item() == 13:
        raise KeyError("unlucky")
    return rows.with_columns(twice=pl.col("id") * 2)
"""

TESTS = """
import polars as pl
import pytest

def test_good(pipeline_run):
    result = pipeline_run({"orders/1.csv": "id\\n1\\n"})
    result.assert_silver("orders", "orders/1.csv", pl.DataFrame({"id": [1], "twice": [2]}))

def test_wrong(pipeline_run):
    result = pipeline_run({"orders/1.csv": "id\\n1\\n"})
    result.assert_silver("orders", "orders/1.csv", pl.DataFrame({"id": [1], "twice": [3]}))

def test_loaded_once(pipeline, request):
    assert pipeline.name == "shop"
    assert request.getfixturevalue("pipeline") is pipeline
"""


def run(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    return pytester.runpytest_inprocess(*LOAD, "-p", "no:cacheprovider", *arguments)


def test_the_pipeline_above_the_tests_is_the_one(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(pipeline=PIPELINE)
    (pytester.mkdir("tests") / "test_it.py").write_text(TESTS)
    result = run(pytester)
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(
        ["*AssertionError: silver of orders/1.csv by orders is not as expected:", '*row 1, "twice": 2, expected 3']
    )


def test_the_pipeline_that_is_named(pytester: pytest.Pytester) -> None:
    (pytester.mkdir("code") / "shop.py").write_text(PIPELINE)
    pytester.makeini("[pytest]\nsilversmith_pipeline = code/shop.py:pipeline\n")
    pytester.makepyfile("def test_it(pipeline):\n    assert pipeline.name == 'shop'\n")
    run(pytester).assert_outcomes(passed=1)


def test_a_pipeline_of_the_tests_own(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(
        f"import pytest\n{PIPELINE}\nmine = pipeline\n@pytest.fixture\ndef pipeline():\n    return mine"
    )
    pytester.makepyfile(
        "def test_it(pipeline_run, pipeline):\n"
        "    pipeline_run({'orders/1.csv': 'id\\n1\\n'}).assert_clean()\n"
        "    pipeline_run({'orders/1.csv': 'id\\n1\\n'}, pipeline=pipeline).assert_clean()\n"
    )
    run(pytester).assert_outcomes(passed=1)


def test_no_pipeline_is_found(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_it(pipeline_run):\n    pipeline_run({})\n")
    result = run(pytester)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*there is no pipeline.py in * or above*silversmith_pipeline*"])


def test_an_invalid_definition_is_reported(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(pipeline="from silversmith import Pipeline\npipeline = Pipeline('No Name')\n")
    pytester.makepyfile("def test_it(pipeline):\n    pass\n")
    result = run(pytester)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*the pipeline 'No Name' is not valid*"])


def test_the_whole_engine(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(pipeline=PIPELINE)
    pytester.makepyfile(
        """
        def test_it(engine_run):
            result = engine_run({"orders/1.csv": "id\\n1\\nx\\n", "orders/2.csv": "no\\n1\\n", "other": "?"},
                                {"orders/13.csv": "id\\n13\\n"})
            assert result.silver["orders", "orders/1.csv"]["twice"].to_list() == [2]
            result.assert_rejected("orders", "orders/1.csv", {2: "is not Int64"})
            result.assert_error("orders", "orders/2.csv", "MissingColumn")
            assert "KeyError: 'unlucky'" in result.failures["orders", "orders/13.csv"]["message"]
            assert result.unmatched == ("other",)
        """
    )
    run(pytester).assert_outcomes(passed=1)


def test_an_engine_that_is_not_done_in_time(tmp_path: Path) -> None:
    (tmp_path / "pipeline.py").write_text(PIPELINE)
    with pytest.raises(NotIdle, match="not done within 0 s"):
        run_engine(str(tmp_path / "pipeline.py"), {"orders/1.csv": "id\n1\n"}, folder=tmp_path / "lake", timeout=0)


def test_tests_that_do_not_use_it_do_not_pay_for_it() -> None:
    code = "import sys, silversmith.testing.plugin\nprint({'polars', 'hypothesis', 'boto3'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
