"""The examples of the error codes, and the pages of docs/errors, which show what each example ends with."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import re
import sys
import tomllib
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import xlsxwriter  # type: ignore[import-untyped]

import silversmith
from silversmith import Pipeline
from silversmith.operations.explain import Explanation, explanations
from silversmith.testing import run

ROOT = Path(__file__).parents[1]
PAGES = ROOT / "docs/errors"

#: The table of the codes, with more than what the command shows of it.
CODES = tomllib.loads((ROOT / "src/silversmith/operations/error_codes.toml").read_text("utf-8"))

#: The groups of codes, in the order of the pages, with their titles.
GROUPS = {
    "contract": "The contract refuses the file",
    "schema": "The columns do not fit silver",
    "reading": "The file cannot be read",
    "archives": "The archive or compressed file cannot be read",
    "tables": "Tables and views",
    "code": "Your code, or the delivery of a message",
    "system": "The system",
    "check": "Only in `silversmith check` and in lists of failures",
}

_NOTE = "<!-- Written by `make errors` from src/silversmith/operations/error_codes.toml. Do not edit. -->"


_INTRODUCTION = """
Every error has a code, a message, the place in the file where one is known, and a hint. `silversmith failures` shows
them, and so do [the page](page.md) and the error document in the quarantine bucket. The document's field `help` names
the command that explains the code: `silversmith explain MissingColumn` prints what the page about that code says.

A code that is not listed here was raised by your own [reader](readers.md) or transform with
`DataError("Code", "message")`, or is the name of a Python exception.
""".strip()


@dataclass(frozen=True)
class Example:
    """A file that ends with the error: its transform's ``options``, its ``key``, and its text or how to make it."""

    options: str = ""
    key: str = "orders.csv"
    file: str = ""
    make: str = ""


def example_of(code: str) -> Example | None:
    """The example of an error code; None: it has none."""
    values = {name: value for name, value in CODES[code].items() if name in {"options", "key", "file", "make"}}
    return Example(**values) if {"file", "make"} & values.keys() else None


def zipped(members: Mapping[str, str | bytes]) -> bytes:
    """A zip archive of these files."""
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w") as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name, (2026, 1, 1, 0, 0, 0)), content)
    return body.getvalue()


def workbook(sheets: Mapping[str, Sequence[Sequence[object]]]) -> bytes:
    """An .xlsx workbook with these sheets, row by row."""
    body = io.BytesIO()
    with xlsxwriter.Workbook(body, {"in_memory": True}) as book:
        for name, rows in sheets.items():
            sheet = book.add_worksheet(name)
            for number, row in enumerate(rows):
                sheet.write_row(number, 0, row)
    return body.getvalue()


def write(writer: Callable[[io.BytesIO], Any]) -> bytes:
    """The bytes that a frame's ``write_…`` method writes."""
    body = io.BytesIO()
    writer(body)
    return body.getvalue()


#: What an example's expressions may use.
NAMES: dict[str, Any] = {
    **{name: getattr(silversmith, name) for name in silversmith.__all__},
    "pl": pl,
    "timedelta": timedelta,
    "gzip": gzip,
    "bz2": bz2,
    "lzma": lzma,
    "zipped": zipped,
    "workbook": workbook,
    "write": write,
}


def outcome(example: Example) -> dict[str, Any]:
    """The error that the file of an example ends with, as its error document has it; empty if it becomes silver."""
    pipeline = Pipeline("shop")
    options = eval(f"dict({example.options})", dict(NAMES)) if example.options else {}
    pipeline.transform("orders/*", name="orders", **options)(lambda rows: rows)
    content = eval(example.make, dict(NAMES)) if example.make else example.file
    result = run(pipeline, {f"orders/{example.key}": content})
    document = result.errors.get(("orders", f"orders/{example.key}"))
    return dict(document["error"]) if document else {}


def page(explanation: Explanation) -> str:
    """The page about one code."""
    parts = [f"# {explanation.code}", _NOTE, explanation.meaning]
    steps = "\n".join(f"- {step}" for step in explanation.do)
    parts += ["## What to do", steps]
    if (example := example_of(explanation.code)) is not None:
        parts += ["## Example", *_shown(example)]
    title = GROUPS[CODES[explanation.code]["group"]]
    parts.append(f"[All error codes](../errors.md#{_anchor(title)})")
    return "\n\n".join(parts) + "\n"


def _shown(example: Example) -> list[str]:
    error = outcome(example)
    options = f", {example.options}" if example.options else ""
    code = f'@pipeline.transform("orders/*"{options})\ndef orders(rows):\n    return rows'
    if example.make:
        content = [f"and `orders/{example.key}` with these bytes:", f"```text\n{example.make}\n```"]
    else:
        content = [f"and `orders/{example.key}`:", f"```text\n{example.file.rstrip()}\n```"]
    lines = "\n".join(filter(None, (f"{error['code']}: {error['message']}", error["hint"])))
    message = re.sub(r"landed at [\d-]+ [\d:]+", "landed at 2026-11-30 12:00:00", lines)
    return [
        "With this transform",
        f"```python\n{code}\n```",
        *content,
        "Silversmith reports:",
        f"```text\n{message}\n```",
    ]


def index() -> str:
    """The page with all codes."""
    parts = ["# Error codes", _NOTE, _INTRODUCTION]
    for group, title in GROUPS.items():
        rows = [
            f"| [{explanation.code}](errors/{explanation.code}.md) | {explanation.meaning} |"
            for explanation in explanations().values()
            if CODES[explanation.code]["group"] == group
        ]
        parts += [f"## {title}", "\n".join(["| code | what happened |", "| --- | --- |", *rows])]
    listed = "\n".join(f"errors/{code}" for code in explanations())
    parts.append(f"```{{toctree}}\n:hidden:\n\n{listed}\n```")
    return "\n\n".join(parts) + "\n"


def _anchor(title: str) -> str:
    return "".join(letter for letter in title.lower().replace(" ", "-") if letter.isalnum() or letter in "-_")


def pages() -> dict[Path, str]:
    """All pages, by their paths."""
    return {
        ROOT / "docs/errors.md": index(),
        **{PAGES / f"{code}.md": page(explanation) for code, explanation in explanations().items()},
    }


if __name__ == "__main__":
    PAGES.mkdir(exist_ok=True)
    texts = pages()
    for path in PAGES.glob("*.md"):
        if path not in texts:
            path.unlink()
    for path, text in texts.items():
        path.write_text(text, "utf-8")
    sys.stdout.write(f"{len(texts)} pages\n")
