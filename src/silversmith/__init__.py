"""Files land in bronze. Silversmith makes them silver."""

from __future__ import annotations

from typing import TYPE_CHECKING

from silversmith.errors import DataError, DefinitionError

if TYPE_CHECKING:
    from silversmith.contract import Contract
    from silversmith.formats import Csv, Json
    from silversmith.pipeline import Pipeline

__all__ = ["Contract", "Csv", "DataError", "DefinitionError", "Json", "Pipeline"]

#: Where the names are that need Polars: what does without it (most of the local engine) starts without it.
_LATE = {
    "Contract": "silversmith.contract",
    "Csv": "silversmith.formats",
    "Json": "silversmith.formats",
    "Pipeline": "silversmith.pipeline",
}


def __getattr__(name: str) -> object:
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    found = globals()[name] = getattr(import_module(_LATE[name]), name)
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
