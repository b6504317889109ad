"""Failures by cause: what one change would mend is one thing to look at. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from silversmith.operations.failures import Failures

#: What a cause is called of which no code is known, by who gave up.
TITLES = {
    "quarantine": "Without a code",
    "queue": "Received too often",
    "subscription": "Undelivered by the topic",
    "rule": "Undelivered by the rule",
    "unknown": "Of what is no more",
}


@dataclass
class Cause:
    """Failures of one transform with one code. ``transform`` None: what a rule gave up on, whoever wants it.

    ``where`` as ``Failed`` has it. ``message`` and ``hint`` are of the first; ``keys`` are the first few.
    """

    transform: str | None
    code: str
    where: str
    message: str
    hint: str
    count: int = 0
    keys: list[str] = field(default_factory=list)

    @property
    def title(self) -> str:
        """What it is called: by its code, or where nobody told one, by who gave up."""
        return self.code or TITLES[self.where]

    @property
    def can_redrive(self) -> bool:
        """Whether there is something to give it back to."""
        return self.where != "unknown"


#: So many keys are named of each.
NAMED = 20


def causes(found: Failures) -> list[Cause]:
    """Grouped, the most frequent first."""
    groups: dict[tuple[str | None, str, str], Cause] = {}

    def add(transform: str | None, code: str, where: str, told: tuple[str, str], key: str) -> None:
        cause = groups.setdefault((transform, code, where), Cause(transform, code, where, *told))
        cause.count += 1
        if len(cause.keys) < NAMED:
            cause.keys.append(key)

    for document in found.quarantined:
        told = (document.message, document.hint)
        add(document.transform, document.code, "quarantine", told, document.key)
    for message in found.dead:
        error = message.error or {}
        log = f"Its log: {message.log_group}, stream {message.log_stream}, request {message.request_id}"
        hint = str(error.get("hint") or "") or (log if message.log_stream else "")
        told = (str(error.get("message") or message.reason), hint)
        add(message.transform, str(error.get("code", "")), message.kind.value, told, message.key)
    return ordered(groups.values())


def ordered(groups: Iterable[Cause]) -> list[Cause]:
    """The most frequent first, then by name."""
    return sorted(groups, key=lambda cause: (-cause.count, cause.transform or "", cause.code))
