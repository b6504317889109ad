"""The progress of a round, of each branch of it, and what rounds leave to later ones: JSON values of a lease."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import Any

from silversmith.pipeline import Transform


@dataclass(frozen=True)
class Cursor:
    """The place of a round in one transform: after a key, or in the ranges of keys that are left.

    Attributes:
        transform: its name.
        after: without a lineage, the key after which the comparison goes on.
        waiting: how many messages its queue had at its turn.
        missed: how many of its files so far look as if their events were lost.
        settled: for how many seconds objects are left to their events; None: its turn has not come.
        ranges: with a lineage, the keys that are left; None: all.
        prove: silver is listed, too.
        counts: of what was compared so far.
        inventory: the manifest of the S3 Inventory that is read in the place of bronze's listing; empty: none.
    """

    transform: str
    after: str = ""
    waiting: int = 0
    missed: int = 0
    settled: float | None = None
    ranges: Sequence[Sequence[str]] | None = None
    prove: bool = False
    counts: Mapping[str, int] = field(default_factory=dict)
    inventory: str = ""

    @property
    def place(self) -> tuple[object, ...]:
        """The part that changes with progress."""
        return self.transform, self.after, [tuple(keys) for keys in self.ranges or ()]


def together(cursors: Iterable[Cursor]) -> Cursor:
    """What all branches did for one transform."""
    first, *others = cursors
    counts = Counter(first.counts)
    for each in others:
        counts.update(each.counts)
    return replace(first, missed=first.missed + sum(each.missed for each in others), counts=counts)


@dataclass(frozen=True)
class RoundProgress:
    """The progress of a round, or of a branch of it, as its lease keeps it.

    Attributes:
        begun: when the round began.
        cursors: of the transforms that are left, in order; None: the round has not come to the first one.
        missing: the number of files of finished transforms whose events were lost.
        marks: what the next rounds must know of these transforms: see :class:`Window`.
        finished: in a branch, the transforms that it is through with.
        skipped: in a branch, the transforms that were left alone.
        branches: into so many branches the round is split; 0: it is not.
    """

    begun: datetime
    cursors: Sequence[Cursor] | None = None
    missing: int = 0
    marks: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    finished: Sequence[Cursor] = ()
    skipped: Sequence[str] = ()
    branches: int = 0

    @property
    def place(self) -> tuple[object, ...] | None:
        """Where it is; None: before its first transform."""
        return (
            (len(self.cursors), *(self.cursors[0].place if self.cursors else ())) if self.cursors is not None else None
        )

    @staticmethod
    def of(values: Mapping[str, Any], now: datetime) -> RoundProgress:
        """From the lease's JSON values; empty ones, or those of another version of Silversmith: of a round that begins
        now."""
        if not values:
            return RoundProgress(now)
        try:
            cursors = values["cursors"]
            return RoundProgress(
                datetime.fromisoformat(values["begun"]),
                [Cursor(**each) for each in cursors] if cursors is not None else None,
                values["missing"],
                values["marks"],
                [Cursor(**each) for each in values["finished"]],
                values["skipped"],
                values["branches"],
            )
        except (KeyError, TypeError, ValueError):
            return RoundProgress(now)

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {**asdict(self), "begun": self.begun.isoformat()}


@dataclass(frozen=True)
class Window:
    """The time in which an object must have landed for the round to count it as missing: since the end of the last
    round's window, so that each is counted once. In the first round, and after the pattern changed, nothing counts: an
    object that landed before the transform wanted it has no event."""

    since: datetime | None
    until: datetime

    @staticmethod
    def of(transform: Transform, memory: Mapping[str, Any], until: datetime) -> Window:
        """``memory`` is what the rounds before have left."""
        mark = mark_of(transform, memory)
        if mark.get("pattern") != transform.pattern.text:
            return Window(None, until)
        return Window(datetime.fromisoformat(mark["until"]), until)

    def has(self, modified: datetime | None) -> bool:
        """Whether an object of this time counts."""
        return self.since is not None and modified is not None and self.since <= modified < self.until

    def mark(self, transform: Transform) -> dict[str, str]:
        """The mark for the next round."""
        return {"pattern": transform.pattern.text, "until": self.until.isoformat()}


def mark_of(transform: Transform, memory: Mapping[str, Any]) -> Mapping[str, Any]:
    """The last round's mark about a transform."""
    mark = memory.get(transform.name)
    return mark if isinstance(mark, dict) else {}
