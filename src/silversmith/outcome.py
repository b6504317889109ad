"""How the processing of one object ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Verdict(StrEnum):
    """How the processing of one object ended."""

    COMMITTED = "committed"  #: a new silver object
    DUPLICATE = "duplicate"  #: silver was already made of this version by this code
    GONE = "gone"  #: there is no such bronze object (any more)
    QUARANTINED = "quarantined"  #: the data is at fault: an error document says why


@dataclass(frozen=True)
class Outcome:
    """What became of one object. Sizes in bytes.

    ``stages``: the seconds that went into each of :data:`silversmith.stages.STAGES`. ``age``: the seconds from the time
    in the event to the end, as far as there was one. Two outcomes are the same whatever time they took.
    """

    verdict: Verdict
    transform: str
    key: str
    silver: str
    etag: str = ""
    version: str = ""
    size: int = 0
    format: str = ""
    rows_read: int = 0
    rows_written: int = 0
    rows_rejected: int = 0
    error: Mapping[str, Any] | None = None
    stages: Mapping[str, float] = field(default_factory=dict, compare=False)
    age: float | None = field(default=None, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            **vars(self),
            "verdict": self.verdict.value,
            "error": dict(self.error) if self.error else None,
            "stages": dict(self.stages),
        }
