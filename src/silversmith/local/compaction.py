"""What keeps the journal small: step by step beside the engine's loop, each step a few milliseconds.

What is kept for ever is what bronze itself holds: a row for each object and for each outcome on it. All else ends:
messages with their queue's retention, the trace after some days and some hops a key, outcomes of objects that are gone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from silversmith import faults
from silversmith.local.journal import Journal
from silversmith.local.queue import expire

#: Seconds from one step to the next, while there is something to do and when there is not.
SOON = 0.25
LATER = 60.0

#: Seconds between two searches through all objects and outcomes for what is no more.
SEARCH = 3600.0

#: The counter that remembers up to which hop the trace was looked through.
CURSOR = "compaction.hop"

#: Free pages are given back to the file system when there are more than so many, and more than this share of the file.
FREE_PAGES = 1024
FREE_SHARE = 0.25


@dataclass(frozen=True)
class Keep:
    """What is kept of the past: hops for so many ``seconds``, and of one key the newest ``hops``.

    Outcomes of objects that are no more are kept as long as hops. By default as long as SQS keeps a message at the
    most, and as many hops as ``silversmith trace`` shows.
    """

    seconds: float = 14 * 86_400
    hops: int = 2000


class Compaction:
    """Removes from a journal what need not be kept.

    Args:
        journal: the engine's; steps are to be taken in its thread.
        bucket: the name of the bronze bucket.
        sweep: takes one step of another search for what is no more, and says whether it has more to do.
        keep: how much of the past is kept.
        most: how many rows of each kind one step looks at.
    """

    def __init__(
        self,
        journal: Journal,
        *,
        bucket: str,
        sweep: Callable[[], bool] = lambda: False,
        keep: Keep | None = None,
        most: int = 1000,
    ) -> None:
        self._journal = journal
        self._bucket = bucket
        self._sweep = sweep
        self._keep = keep or Keep()
        self._most = most
        self._due = float("-inf")
        self._search_due = float("-inf")
        self._searches: list[Callable[[], bool]] = []
        self._outcome = ("", "")
        self._now = 0.0

    def step(self, now: float) -> bool:
        """Remove a little, if it is time. ``now`` in Unix seconds. Returns whether a next step is due soon."""
        if 0 < self._due - now <= LATER:  # else it is time, or the clock was set back
            return self._due - now <= SOON
        self._now = now
        if not self._searches and now >= self._search_due:
            self._search_due = now + SEARCH
            self._searches = [self._forget, self._sweep]
        with self._journal.transaction():
            more = [self._expire(), self._age(), self._trim()]
            faults.point("compaction.before_commit")
        self._searches = [search for search in self._searches if search()]
        more += [bool(self._searches), self._shrink()]
        self._due = now + (SOON if any(more) else LATER)
        return any(more)

    def _expire(self) -> bool:
        """Messages of every queue, also of those that the template no longer has."""
        queues = [row[0] for row in self._journal.rows("queues_in_use")]
        return any(expire(self._journal, queue, self._now, self._most) >= self._most for queue in queues)

    def _age(self) -> bool:
        before = self._now - self._keep.seconds
        return self._journal.change("oldest_hops", before=before, most=self._most) >= self._most

    def _trim(self) -> bool:
        """Each hop is looked at once, soon after it was written: only then can its key have too many."""
        after = self._journal.counter(CURSOR)
        newest = self._journal.rows("newest_hop")[0][0] or 0
        if newest < after:  # all hops have been removed: the numbers of the next ones begin anew
            after = 0
        upto = min(after + self._most, newest)
        crowded = self._journal.rows("crowded", after=after, upto=upto, keep=self._keep.hops)
        for key in {row[0] for row in crowded}:
            self._journal.change("trim_hops", key=key, keep=self._keep.hops, most=self._most)
        self._journal.change("set_counter", name=CURSOR, value=upto)
        return upto < newest

    def _forget(self) -> bool:
        """The outcomes of objects that the bucket room does not know any more."""
        transform, key = self._outcome
        looked = self._journal.rows("outcomes_after", transform=transform, key=key, most=self._most)
        old = [(transform, key) for transform, key, at in looked if at < self._now - self._keep.seconds]
        with self._journal.transaction():
            for transform, key in old:
                if self._journal.row("object", bucket=self._bucket, key=key) is None:
                    self._journal.change("forget_outcome", transform=transform, key=key)
        self._outcome = (looked[-1][0], looked[-1][1]) if len(looked) >= self._most else ("", "")
        return len(looked) >= self._most

    def _shrink(self) -> bool:
        total, free = self._journal.pages()
        enough = max(FREE_PAGES, total * FREE_SHARE)
        return free > enough and self._journal.shrink(self._most) > enough
