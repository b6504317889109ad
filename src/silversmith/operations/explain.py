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


@dataclass(frozen=True)
class Explanation:
    """An error code: what happened, and what to do about it, step by step."""

    code: str
    meaning: str
    do: tuple[str, ...]

    @property
    def page(self) -> str:
        """The page about it, as a path in the repository."""
        return f"docs/errors/{self.code}.md"

    def to_dict(self) -> dict[str, Any]:
        """The explanation as JSON values."""
        steps = [_plain(step) for step in self.do]
        return {"code": self.code, "meaning": _plain(self.meaning), "do": steps, "page": self.page}


def _plain(text: str) -> str:
    """The text without Markdown's links."""
    return re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)


@cache
def explanations() -> Mapping[str, Explanation]:
    """All error codes with their explanations, in the order of the table."""
    text = resources.files(__package__).joinpath("error_codes.toml").read_text("utf-8")
    return {
        code: Explanation(code, entry["meaning"], tuple(entry["do"])) for code, entry in tomllib.loads(text).items()
    }


def near(code: str) -> str:
    """The code that a misspelt one is most like; empty if none is."""
    return next(iter(get_close_matches(code, explanations(), 1)), "")
