"""Where everything is, and where the time of files goes, in numbers, as a run shows it."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from silversmith.function.outcome import STAGES


@dataclass(frozen=True)
class Progress:
    """Where everything is. ``rejected`` counts rows, the others files or messages, in this run."""

    found: int
    waiting: int
    in_flight: int
    done: int
    duplicates: int
    rows: int
    rejected: int
    quarantined: int
    retries: int
    dead: int


def progress(counters: Mapping[str, int], *, waiting: int, in_flight: int) -> Progress:
    """What the journal's counters say, counted since the run began."""

    def total(*names: str) -> int:
        return sum(counters.get(name, 0) for name in names)

    return Progress(
        found=total("bucket.created"),
        waiting=waiting,
        in_flight=in_flight,
        done=total("function.committed"),
        duplicates=total("function.duplicate", "function.gone"),
        rows=total("function.rows"),
        rejected=total("function.rejected"),
        quarantined=total("function.quarantined"),
        retries=total("function.failed"),
        dead=total("dead"),
    )


#: The hops before a worker has a file, in their order: the seconds from the hop before to this one. ``function`` is the
#: wait in the queue until a worker takes the batch; the bucket's, from the file's landing, is not known to anybody.
HOPS = ("rule", "topic", "queue", "function")

#: So many rows of a key's trace hold the way of its newest version, and of some before it.
RECENT = 40

#: Times are counted by size in classes, so that a profile does not grow with the files: so many for each doubling.
_CLASSES = 8


def waiting(hops: Sequence[tuple[Any, ...]], version: str, *, until: float) -> dict[str, float]:
    """What a version of an object has waited at each hop, from the newest rows of its trace
    (queries.sql: recent_hops).

    ``until`` is when its batch was invoked, in Unix seconds. What came to the queue by ``redrive`` and the like was at
    none of the hops.
    """
    waits: dict[str, float] = {}
    since: float | None = None
    for of, at, room, *_ in reversed(hops):
        if of != version:
            continue
        if room == "bucket":
            since, waits = at, {}
        elif room in HOPS[:-1] and since is not None:
            waits[room] = max(0.0, at - since)
            since = at
    return waits if since is None else {**waits, "function": max(0.0, until - since)}


@dataclass
class _Stage:
    total: float = 0.0
    most: float = 0.0
    slowest: str = ""
    classes: Counter[int] = field(default_factory=Counter)

    def add(self, seconds: float, key: str) -> None:
        self.total += seconds
        self.classes[round(math.log2(max(seconds, 1e-6)) * _CLASSES)] += 1
        if seconds >= self.most:
            self.most, self.slowest = seconds, key

    def quantile(self, share: float) -> float:
        """To within a twentieth, and never more than the most."""
        rank = share * self.classes.total()
        for size, number in sorted(self.classes.items()):
            rank -= number
            if rank <= 0:
                return min(self.most, math.exp2(size / _CLASSES))
        return self.most


@dataclass(frozen=True)
class Measured:
    """One stage of one transform over all its files: seconds. ``share`` is of all that its files took; ``slowest`` is
    the key of the file that took ``most``."""

    transform: str
    stage: str
    files: int
    total: float
    share: float
    p50: float
    p99: float
    most: float
    slowest: str


class Profile:
    """Adds up what files took. Its size does not depend on how many they are."""

    def __init__(self) -> None:
        self._found: dict[str, dict[str, _Stage]] = defaultdict(lambda: defaultdict(_Stage))

    def add(self, transform: str, key: str, seconds: Mapping[str, float]) -> None:
        """One more file, with its seconds by stage."""
        for stage, taken in seconds.items():
            self._found[transform][stage].add(taken, key)

    def stages(self) -> list[Measured]:
        """By transform, and in the order in which files come to the stages."""
        found = []
        for transform, stages in sorted(self._found.items()):
            whole = sum(stage.total for stage in stages.values()) or 1.0
            for name in (*HOPS, *STAGES):
                if name in stages:
                    stage = stages[name]
                    found.append(
                        Measured(
                            transform, name, stage.classes.total(), stage.total, stage.total / whole,
                            stage.quantile(0.5), stage.quantile(0.99), stage.most, stage.slowest,
                        )
                    )  # fmt: skip
        return found
