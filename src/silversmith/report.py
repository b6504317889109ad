"""What became of one message, as it is told to whoever counts: the engine, the log, the metrics."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from silversmith.errors import UNWRITABLE, SilversmithError, told
from silversmith.outcome import Outcome, Verdict
from silversmith.stages import STAGES


@dataclass(frozen=True)
class Report:
    """What became of one message. ``error`` is what went wrong, ``key`` with which bronze object (empty: before any),
    ``retry_in`` the seconds until it should come back, ``waited`` those in which others of its batch came first.
    ``system``: the system is at fault, nothing is charged to the file. ``dead``: it was the last try, and the message
    goes to the dead-letter queue."""

    message_id: str
    outcomes: tuple[Outcome, ...]
    error: Mapping[str, Any] | None = None
    key: str = ""
    retry_in: float | None = None
    waited: float = 0.0
    system: bool = False
    dead: bool = False

    def to_dict(self) -> dict[str, Any]:
        """As JSON values; of several objects in one message, the sums of their rows and the worst of their outcomes."""
        worst = min(self.outcomes, key=lambda outcome: _WORST_FIRST.index(outcome.verdict), default=None)
        found: dict[str, Any] = worst.to_dict() if worst else {"verdict": "dropped"}
        for name in ("rows_read", "rows_written", "rows_rejected"):
            found[name] = sum(getattr(outcome, name) for outcome in self.outcomes)
        found["stages"] = self._stages()
        if self.error is not None:
            found |= {"verdict": "failed", "failed": True, "key": self.key}
            found |= {"error": dict(self.error), "retry_in": self.retry_in, "system": self.system, "dead": self.dead}
        return found

    def _stages(self) -> dict[str, float]:
        """By stage, in the order of :data:`~silversmith.stages.STAGES`; of what failed only the waiting is known."""
        total = {"batch": self.waited}
        for outcome in self.outcomes:
            for stage, seconds in outcome.stages.items():
                total[stage] = total.get(stage, 0.0) + seconds
        return {stage: round(total[stage], 6) for stage in STAGES if stage in total}


_WORST_FIRST = [Verdict.QUARANTINED, Verdict.COMMITTED, Verdict.GONE, Verdict.DUPLICATE]


def describe(error: BaseException) -> dict[str, Any]:
    """An error as JSON values: its kind and the text for a person. A disk that cannot be written is a kind."""
    text = str(error) if isinstance(error, SilversmithError) else f"{type(error).__name__}: {error}"
    if isinstance(error, OSError) and error.errno in UNWRITABLE:
        return {"code": errno.errorcode[error.errno], "message": text}
    return {"code": type(error).__name__, "message": told(text[:4000])}
