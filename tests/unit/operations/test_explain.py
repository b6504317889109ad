"""Every error code is explained, every example ends with its error, and the pages of docs/errors are of today."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from silversmith.cli.application import call
from silversmith.operations.explain import explanations
from tests.error_examples import CODES, GROUPS, PAGES, ROOT, example_of, index, outcome, page

SOURCE = ROOT / "src/silversmith"

#: Calls whose first argument is an error code.
RAISED_BY = {"DataError", "SchemaRefused", "Changed", "_quarantined", "_failed", "_no_partition"}

#: Codes that no call names as a text: names of exceptions, and those that are put together.
OTHERS = {
    "AccessDenied", "Archived", "AwsFailed", "Contended", "FunctionDied", "FunctionError", "GoldFailed",
    "LookupMissing", "LookupUnusable", "NotAnEvent", "NotOurs", "PreconditionFailed", "SecretMissing", "SourceChanged",
    "TransformError", "Undelivered", "UnreadableArrow", "UnreadableAvro", "UnreadableBzip2", "UnreadableDocument",
    "UnreadableGzip", "UnreadableTar", "UnreadableXz", "UnreadableZstd", "ViewFailed",
}  # fmt: skip

WITH_EXAMPLE = [code for code in explanations() if example_of(code) is not None]


def raised() -> set[str]:
    codes = set()
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            match node:
                case ast.Call(func=function, args=[first, *_]) if ast.unparse(function).rpartition(".")[2] in RAISED_BY:
                    choices = [first.body, first.orelse] if isinstance(first, ast.IfExp) else [first]
                    codes |= {str(choice.value) for choice in choices if isinstance(choice, ast.Constant)}
    return codes


def test_every_code_is_explained_and_no_other() -> None:
    assert len(raised()) > 50
    assert set(explanations()) == raised() | OTHERS


def test_the_other_codes_are_in_the_source() -> None:
    text = "".join(path.read_text("utf-8") for path in SOURCE.rglob("*.py"))
    put_together = {code for code in OTHERS if code.startswith("Unreadable") and code != "UnreadableDocument"}
    assert [code for code in OTHERS - put_together if code not in text] == []


def test_an_explanation_says_what_to_do() -> None:
    for code, explanation in explanations().items():
        assert CODES[code]["group"] in GROUPS, code
        assert explanation.do, code
        assert all(sentence.endswith(".") for sentence in (explanation.meaning, *explanation.do)), code


@pytest.mark.parametrize("code", WITH_EXAMPLE)
def test_an_example_ends_with_its_error(code: str) -> None:
    example = example_of(code)
    assert example is not None
    error = outcome(example)
    assert (error.get("code"), error.get("help")) == (code, f"silversmith explain {code}")


@pytest.mark.parametrize("code", explanations())
def test_a_page_is_of_today(code: str) -> None:
    path = PAGES / f"{code}.md"
    assert path.read_text("utf-8") == page(explanations()[code]), "write the pages again: make errors"


def test_the_page_of_all_codes_is_of_today() -> None:
    assert (ROOT / "docs/errors.md").read_text("utf-8") == index(), "write the pages again: make errors"
    assert {path.stem for path in PAGES.glob("*.md")} == set(explanations()), "write the pages again: make errors"


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["explain", "missingcolumn"]) == 0
    shown = capsys.readouterr().out
    assert "The contract names a column that the file does not have." in shown
    assert "docs/errors/MissingColumn.md" in shown
    assert call(["explain", "MisingColumn"]) == 1
    assert "Did you mean MissingColumn?" in capsys.readouterr().err
    assert call(["explain", "NotOurs", "--json"]) == 0
    assert '"code": "NotOurs"' in capsys.readouterr().out


def test_check_names_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.json").write_text("[{]")
    assert call(["check", str(tmp_path / "a.json")]) == 1
    assert "more: silversmith explain UnreadableJson" in capsys.readouterr().out
