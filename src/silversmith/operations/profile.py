"""The trace of all files as it grows, and where the time of files goes by stage: ``silversmith run --profile``."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import orjson

from silversmith.function.outcome import STAGES
from silversmith.local.journal import Journal
from silversmith.local.tallies import Histogram
from silversmith.operations.target import Hop

#: The seconds between two looks at the journal, and the most hops that are read together.
EVERY = 0.5
BATCH = 1_000


class Follower:
    """Reports each hop once.

    Args:
        journal: a connection that is used in one thread only.
        report: called with the key and the hop.
        since: from those on that happened then, in Unix seconds; None: that come after the follower was made.
    """

    def __init__(self, journal: Journal, report: Callable[[str, Hop], None], *, since: float | None = None) -> None:
        self._journal = journal
        self._report = report
        ((newest,),) = journal.rows("newest_hop")
        self._after = (newest or 0) if since is None else journal.hop_before(since)

    def catch_up(self) -> None:
        """Report all hops since the last call."""
        while rows := self._journal.rows("hops_after", after=self._after, most=BATCH):
            for number, key, version, at, room, name, what, detail in rows:
                self._after = number
                self._report(key, Hop(version, at, room, name, what, orjson.loads(detail)))


@contextmanager
def following(
    path: Path, report: Callable[[str, Hop], None], *, looked: Callable[[], object] = lambda: None
) -> Iterator[None]:
    """While the block lasts, and once more at its end, report new hops in the journal of this path, in a thread.
    ``looked`` is called after each look."""
    begun, ended = threading.Event(), threading.Event()

    def work() -> None:
        journal = Journal(path, readonly=True)
        try:
            follower = Follower(journal, report)
            begun.set()
            while not ended.wait(EVERY):
                follower.catch_up()
                looked()
            follower.catch_up()
            looked()
        finally:
            begun.set()
            journal.close()

    thread = threading.Thread(target=work, name="hops", daemon=True)
    thread.start()
    begun.wait()
    try:
        yield
    finally:
        ended.set()
        thread.join()


#: The stage before a worker has a file: the wait in the queue until a worker takes the batch.
QUEUED = "queued"


class _Stage:
    def __init__(self) -> None:
        self.total = 0.0
        self.slowest = ""
        self.times = Histogram()

    def add(self, seconds: float, key: str) -> None:
        self.total += seconds
        if seconds >= self.times.most:
            self.slowest = key
        self.times.add(seconds)

    def quantile(self, share: float) -> float:
        return self.times.quantile(share) or 0.0


@dataclass(frozen=True)
class StageTimes:
    """One stage of one transform over all its files: seconds. ``share`` is of the time of all stages; ``slowest`` is
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
    """Adds up the stages of files. Its size does not depend on their number."""

    def __init__(self) -> None:
        self._stages: dict[str, dict[str, _Stage]] = defaultdict(lambda: defaultdict(_Stage))

    def add_hop(self, key: str, hop: Hop) -> None:
        """Add the stages of a hop, if it is one through a function."""
        if hop.room == "function" and "queued" in hop.detail:
            stages = {QUEUED: float(hop.detail["queued"]), **(hop.detail.get("stages") or {})}
            self.add(str(hop.detail.get("transform") or hop.name), key, stages)

    def add(self, transform: str, key: str, seconds: Mapping[str, float]) -> None:
        """Add one file, with its seconds by stage."""
        for stage, taken in seconds.items():
            self._stages[transform][stage].add(taken, key)

    def stages(self) -> list[StageTimes]:
        """By transform, and in the order in which files come to the stages."""
        times = []
        for transform, stages in sorted(self._stages.items()):
            whole = sum(stage.total for stage in stages.values()) or 1.0
            for name in (QUEUED, *STAGES):
                if name in stages:
                    stage = stages[name]
                    times.append(
                        StageTimes(
                            transform, name, stage.times.count, stage.total, stage.total / whole,
                            stage.quantile(0.5), stage.quantile(0.99), stage.times.most, stage.slowest,
                        )
                    )  # fmt: skip
        return times
