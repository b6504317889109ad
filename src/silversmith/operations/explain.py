"""Explanations of error codes, from the table ``error_codes.toml``: for ``silversmith explain`` and the docs."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib import resources
from typing import Any

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


@dataclass(frozen=True)
class Example:
    """A file that ends with the error: its transform's ``options``, its ``key``, and its text or how to make it."""

    options: str
    key: str
    file: str
    make: str


@dataclass(frozen=True)
class Explanation:
    """An error code: what happened, and what to do about it, step by step."""

    code: str
    group: str
    meaning: str
    do: tuple[str, ...]
    example: Example | None

    def to_dict(self) -> dict[str, Any]:
        """The explanation as JSON values."""
        steps = [_plain(step) for step in self.do]
        return {"code": self.code, "meaning": _plain(self.meaning), "do": steps, "page": page(self.code)}


def _plain(text: str) -> str:
    """The text without Markdown's links."""
    return re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)


def page(code: str) -> str:
    """The page about a code, as a path in the repository."""
    return f"docs/errors/{code}.md"


@cache
def explanations() -> Mapping[str, Explanation]:
    """All error codes with their explanations, in the order of the table."""
    text = resources.files(__package__).joinpath("error_codes.toml").read_text("utf-8")
    return {code: _explanation(code, entry) for code, entry in tomllib.loads(text).items()}


def near(code: str) -> str:
    """The code that a misspelt one is most like; empty if none is."""
    return next(iter(get_close_matches(code, explanations(), 1)), "")


def _explanation(code: str, entry: Mapping[str, object]) -> Explanation:
    steps = entry["do"]
    assert isinstance(steps, list)
    example = None
    if "file" in entry or "make" in entry:
        options, key, file, make = (str(entry.get(name, "")) for name in ("options", "key", "file", "make"))
        example = Example(options, key or "orders.csv", file, make)
    return Explanation(code, str(entry["group"]), str(entry["meaning"]), tuple(map(str, steps)), example)
