"""The page about patterns says what is so."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from silversmith.patterns import MOST_WILDCARD_STATES, InvalidPattern, compile_pattern, wildcard_states

PAGE = (Path(__file__).parents[3] / "docs" / "patterns.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(json|python)\n(.*?)```", PAGE, re.DOTALL)
OPERATORS = re.search(r"## Operators\n(.*?)\n## ", PAGE, re.DOTALL)


@pytest.mark.parametrize(("language", "code"), BLOCKS)
def test_examples(language: str, code: str) -> None:
    if language == "python":
        exec(compile(code, "docs/patterns.md", "exec"), {})
    else:
        assert compile_pattern(code).matches({}) is False


def test_every_operator_in_the_table_is_taken() -> None:
    assert OPERATORS
    leaves = [cell.split("` | ")[0] for cell in re.findall(r"^\| `(.*)", OPERATORS[1], re.MULTILINE)]
    assert len(leaves) == 15
    for leaf in leaves:
        for operator in leaf.split("`, `"):
            compile_pattern(f'{{"f": [{operator}]}}')


def test_its_statements_about_wildcards_hold() -> None:
    assert wildcard_states([f"*.{name}" for name in ("csv", "json", "avro", "xlsx", "parquet")]) <= MOST_WILDCARD_STATES
    six = [f"*.{name}" for name in ("csv", "json", "avro", "xlsx", "parquet", "gz")]
    assert wildcard_states(six) > MOST_WILDCARD_STATES


def test_the_error_it_shows() -> None:
    shown = re.search(r"^    (The event pattern.*?)\n\n", PAGE, re.DOTALL | re.MULTILINE)
    assert shown
    with pytest.raises(InvalidPattern) as caught:
        compile_pattern(json.dumps({"detail": {"state": "running"}}))
    assert str(caught.value) == " ".join(shown[1].split())
