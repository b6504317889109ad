"""docs/testing.md: its files are a project whose tests pass, and it leaves nothing out."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import silversmith.testing
from silversmith.testing import Result, events, strategies
from silversmith.testing.result import Contents
from tests.unit.kit import LOAD

pytest_plugins = ["pytester"]

PAGE = (Path(__file__).parents[3] / "docs/testing.md").read_text("utf-8")
FILES = re.findall(r"^```python file=(\S+)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


@pytest.mark.full
def test_the_page_from_beginning_to_end(pytester: pytest.Pytester) -> None:
    for name, text in FILES:
        path = pytester.path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, "utf-8")
    pytester.makeini("[pytest]\npythonpath = .\n")
    pytester.makeconftest(
        "from hypothesis import settings\n"
        "settings.register_profile('few', max_examples=50, derandomize=True, database=None, deadline=None)\n"
        "settings.load_profile('few')\n"
    )
    done = pytester.runpytest_subprocess(*LOAD, "-p", "no:cacheprovider")
    done.assert_outcomes(passed=sum(text.count("def test_") for _, text in FILES))


def test_every_name_is_on_the_page() -> None:
    result = Result(Contents())
    names = [name for name in vars(result) if not name.startswith("_")]
    names += [name for name in dir(result) if name.startswith("assert_")]
    names += [*strategies.__all__, *events.__all__]
    assert set(names) - set(re.findall(r"\w+", PAGE)) <= {"LambdaContext", "unwrap"}
    assert set(silversmith.testing.__all__) >= {"Result", "run", "run_engine"}
