"""Matching of the names of a file's columns with a contract's: exactly, or in any spelling that it allows."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final

import polars as pl

from silversmith.formats.table import clean_name

_WORDS = re.compile(r"(?<=[^\W_A-Z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def snake_case(name: str) -> str:
    """``Item No.`` and ``ItemNo`` as ``item_no``: letters and digits of any script, and underscores between words."""
    words = re.sub(r"[\W_]+", "_", _WORDS.sub("_", clean_name(name))).strip("_").lower()
    return words or name


def _without_case(name: str) -> str:
    return clean_name(name).casefold()


#: By the value of the contract's option, what of a name counts. ``exact`` has no entry: all of it does.
SPELLINGS: Final[Mapping[str, Callable[[str], str]]] = {"any_case": _without_case, "snake_case": snake_case}


class Respelled(dict[str, pl.DataType]):
    """Types by column, for a reader that looks up the names of its file, in any spelling that counts as the same."""

    def __init__(self, dtypes: Mapping[str, pl.DataType], spelling: Callable[[str], str]) -> None:
        super().__init__((spelling(name), dtype) for name, dtype in dtypes.items())
        self._spelling = spelling

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and super().__contains__(self._spelling(name))

    def __getitem__(self, name: str) -> pl.DataType:
        return super().__getitem__(self._spelling(name))

    def get(self, name: str, default: pl.DataType | None = None) -> pl.DataType | None:  # type: ignore[override]
        """As of any mapping."""
        return super().get(self._spelling(name), default)

    def __or__(self, dtypes: Mapping[str, pl.DataType]) -> Respelled:  # type: ignore[override]
        return Respelled({**self, **dtypes}, self._spelling)
