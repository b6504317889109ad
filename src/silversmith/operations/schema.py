"""Which columns a transform's silver has, and how they came to be: what is recorded beside silver, on both targets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from silversmith.operations.target import Target
from silversmith.pipeline import Transform
from silversmith.schemas import Entry, Schemas


@dataclass(frozen=True)
class OfCode:
    """The columns, with their types, that one code's silver has since ``version``. ``current``: it is the code that
    the pipeline has now."""

    code: str
    version: int
    current: bool
    columns: Mapping[str, str]


@dataclass(frozen=True)
class History:
    """All that is recorded of a transform, the oldest first. ``version`` 0: nothing is. ``owner``: whose silver it is;
    empty: nobody said."""

    transform: str
    lake: str
    version: int
    schemas: Sequence[OfCode]
    history: Sequence[Entry]
    owner: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            **vars(self),
            "schemas": [vars(one) for one in self.schemas],
            "history": [{**vars(one), "changes": list(one.changes)} for one in self.history],
        }


def history(transform: Transform, target: Target) -> History:
    """What is recorded of a transform's silver.

    Raises:
        AccessDenied, OSError: silver cannot be read.
    """
    document = Schemas(target.lake.silver, transform.name).look().document
    return History(
        transform.name,
        target.place,
        document.version,
        [
            OfCode(
                one.code,
                one.version,
                one.code == transform.fingerprint,
                {name: repr(kind) for name, kind in one.columns.items()},
            )
            for one in document.schemas
        ],
        document.history,
        document.owner,
    )
