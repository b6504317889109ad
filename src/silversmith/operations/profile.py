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
from silversmith.operations.target import Hop, News

#: The seconds between two looks at the journal, and the most hops that are read together.
EVERY = 0.5
BATCH = 1_000


def news(journal: Journal, after: int, most: int) -> list[News]:
    """Up to ``most`` hops of all keys with a number above ``after``, in order."""
    return [
        News(number, key, Hop(version, at, room, name, what, orjson.loads(detail)))
        for number, key, version, at, room, name, what, detail in journal.rows("hops_after", after=after, most=most)
    ]


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
        while batch := news(self._journal, self._after, BATCH):
            for each in batch:
                self._after = each.number
                self._report(each.key, each.hop)


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


class _Stage(Histogram):
    """The seconds of all files, their sum, and the key of the file that took the most."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0.0
        self.slowest = ""


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
        for name, taken in seconds.items():
            stage = self._stages[transform][name]
            stage.total += taken
            stage.slowest = key if taken >= stage.most else stage.slowest
            stage.add(taken)

    def stages(self) -> list[StageTimes]:
        """By transform, and in the order in which files come to the stages."""
        return [
            StageTimes(
                transform, name, stage.count, stage.total,
                stage.total / (sum(each.total for each in stages.values()) or 1.0),
                stage.quantile(0.5) or 0.0, stage.quantile(0.99) or 0.0, stage.most, stage.slowest,
            )
            for transform, stages in sorted(self._stages.items())
            for name in (QUEUED, *STAGES)
            if (stage := stages.get(name)) is not None
        ]  # fmt: skip
