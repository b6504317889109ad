"""Reconciliation beside the engine's loop: at first soon after the start, then every so often, a few keys at a time.

A round reads no file of bronze: of which bytes one is, the journal knows since the bucket room noticed it. A file that
the bucket room does not know as it is now is on its way there, and left alone. So a round never waits for more than a
few small reads. What the journal takes for unchanged because a file's times say so, only ``silversmith reconcile``,
which reads the bytes, can find.

The first round is about what happened while no engine ran. What this one has brought into silver since, it does not ask
silver about: that would take it longer than all else it does at its end.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

from silversmith.local import resend
from silversmith.local.bucket import DOUBTFUL
from silversmith.local.journal import Journal
from silversmith.local.resend import Places
from silversmith.pipeline import Pipeline
from silversmith.reconcile.compare import Looked, look
from silversmith.stores import Head, Lake, batched
from silversmith.stores.local import LocalStore

#: The pause between the end of one round and the beginning of the next, in seconds.
EVERY = 3600.0

#: How many keys one step looks at: some ten milliseconds.
MOST = 50


class Rounds:
    """Looks for what is missing or stale, step by step, and sends it to its queue.

    Args:
        pipeline: whose transforms.
        lake: its buckets.
        bronze: the folder of the bronze bucket.
        journal: the engine's; steps are to be taken in its thread.
        places: by transform, where its messages can be; see :func:`silversmith.local.resend.places`.
        since: what the journal says was done later than this, in Unix seconds, the first round believes.
        every: seconds between two rounds.
        most: how many keys one step looks at.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        lake: Lake,
        bronze: LocalStore,
        journal: Journal,
        places: Mapping[str, Places],
        *,
        since: float = float("inf"),
        every: float = EVERY,
        most: int = MOST,
    ) -> None:
        self._pipeline = pipeline
        self._lake = lake
        self._bronze = bronze
        self._journal = journal
        self._places = places
        self._since = since
        self._every = every
        self._most = most
        self._due = float("-inf")
        self._round: Iterator[int] | None = None
        self._now = 0.0
        self.finished = 0
        self.sent = 0

    @property
    def busy(self) -> bool:
        """Whether a round has begun and not ended: then the next step should not wait for anything."""
        return self._round is not None

    def step(self, now: float) -> int:
        """Look at the next few keys, if a round is due or under way. Returns how many were sent. ``now``: Unix seconds.

        ``finished`` counts the rounds that ended, ``sent`` what the last one sent until now.
        """
        if self._round is None:
            if 0 < self._due - now <= self._every:  # else it is time, or the clock was set back
                return 0
            self._round, self.sent = self._steps(), 0
        self._now = now
        sent = next(self._round, None)
        if sent is None:
            self._round = None
            self._due = now + self._every
            self.finished += 1
        self.sent += sent or 0
        return sent or 0

    def again(self) -> None:
        """Begin the next round with the next step."""
        self._due = float("-inf")

    def _steps(self) -> Iterator[int]:
        """Every key of every transform; after some of them, how many were sent. Of what lies in a dead-letter queue the
        journal knows, so that nothing else is left alone."""
        for transform in self._pipeline.transforms:
            looked = look(transform, self._lake, etag=partial(self._etag, transform.name), dead=True)
            for some in batched(looked, self._most):
                yield self._send(transform.name, some)

    def _etag(self, transform: str, head: Head) -> str | None:
        bucket = self._pipeline.bronze
        if not self.finished and self._journal.row(
            "done_since", bucket=bucket, key=head.key, transform=transform, since=self._since
        ):
            return None
        found = self._journal.row("object", bucket=bucket, key=head.key)
        glance = self._bronze.glance(head.key)
        if found is None or glance is None or found[0].removesuffix(DOUBTFUL) != glance.identity:
            return None
        return str(found[1])

    def _send(self, transform: str, looked: Sequence[Looked]) -> int:
        findings = [item.finding for item in looked if item.finding and item.finding.is_to_be_sent]
        if not findings:
            return 0
        places = self._places[transform]
        waiting = resend.waiting(self._journal, places, {finding.key: finding.etag for finding in findings})
        events = [finding.event(self._pipeline.bronze) for finding in findings if finding.key not in waiting]
        if events:
            resend.send(self._journal, places.queue, events, reason="reconcile", now=self._now)
        return len(events)
