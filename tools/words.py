"""Refuse wording that a stranger stumbles over, in the docs and in the messages of the source. Run by ``make lint``."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

#: Pages of the past, which keep their words.
PAST = ("CHANGELOG.md", "docs/decisions/", "bench/")

#: What is refused, and what to write instead.
REFUSED = {
    r"\bmend(s|ed|ing)?\b": "correct, repair or fix",
    r"\banew\b": "again",
    r"\bcannot be(?=[.:;,\"']| is\b)": "say what is wrong with it",
    r"\b(is|are|was|were|be) told\b(?! apart)": "say who reports it: 'the command reports', 'is reported'",
    r"\brings? (nothing|an alarm)|\balarm rings\b": "raises an alarm",
    r"\bfound out\b": "detected",
    r"\bthat (is|are) none\b": "that is not a …",
    r"\bfor ever\b": "forever",
    r"\bas ever\b": "as always",
    r"\bOf what\b|\bThat which\b": "begin with the noun",
    r"(?m)(?:^|[.!?|] )Who(ever)? [a-z]+\b(?![^.|\n]*\?)": "Anyone who …, If you …",
    r"(?m)(?:^|[.!?] )What\b(?=[^?|]*?\.)(?![^.|]*\?)": "begin with the noun: 'Files that …', 'The rest …'",
}

#: Titles that do not say what the page is about.
TITLES = {"Ten minutes", "Operate", "By itself", "Compared with others"}

_CODE = re.compile(r"^```.*?^```$|`[^`\n]*`|^    .*$", re.MULTILINE | re.DOTALL)


def pages() -> Iterator[Path]:
    """The Markdown that users and contributors read."""
    for path in sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")]):
        if not path.relative_to(ROOT).as_posix().startswith(PAST):
            yield path


def messages(path: Path) -> Iterator[tuple[int, str]]:
    """The texts of a module that are not docstrings, with their lines."""
    tree = ast.parse(path.read_text("utf-8"))
    docstrings = {
        id(node.value)
        for parent in ast.walk(tree)
        if isinstance(parent, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
        for node in parent.body
        if isinstance(node, ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.lineno, node.value


def faults(text: str) -> Iterator[tuple[int, str]]:
    """Each refused wording of a text: its position, and what to write instead."""
    for pattern, instead in REFUSED.items():
        for match in re.finditer(pattern, text):
            yield match.start(), f"{match[0].strip()!r}: {instead}"


def complaints() -> Iterator[str]:
    """All that is refused, with file and line."""
    for path in pages():
        text = path.read_text("utf-8")
        prose = _CODE.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), text)
        name = path.relative_to(ROOT)
        for at, fault in faults(prose):
            yield f"{name}:{prose.count(chr(10), 0, at) + 1}: {fault}"
        title = text.partition("\n")[0].removeprefix("# ")
        if title in TITLES:
            yield f"{name}:1: {title!r}: the title must say what the page is about"
    for path in [*(ROOT / "src").rglob("*.py")]:
        for line, text in messages(path):
            for _, fault in faults(text):
                yield f"{path.relative_to(ROOT)}:{line}: {fault}"
    toml = ROOT / "src/silversmith/operations/error_codes.toml"
    for at, fault in faults(toml.read_text("utf-8")):
        yield f"{toml.relative_to(ROOT)}:{toml.read_text('utf-8').count(chr(10), 0, at) + 1}: {fault}"


if __name__ == "__main__":
    lines = sorted(complaints())
    for complaint in lines:
        print(complaint)
    sys.exit(1 if lines else 0)
