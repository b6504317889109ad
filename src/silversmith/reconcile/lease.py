"""One round at a time: a lease, which is a small object that nothing but conditional puts changes.

Lambda may run an asynchronous invocation twice, late, or never, and a round of reconciliation goes on by invoking
itself. So each invocation names its round and its step in it, and works only if the lease says that this step is the
next one and nobody has it. All others end at once. https://docs.aws.amazon.com/lambda/latest/dg/invocation-async.html

The clock is the invocation's own: it decides only when a round that died is given up, which takes twice as long as
any invocation can live, so clocks may differ by a quarter of an hour.
docs/decisions/0109-one-round-at-a-time.md
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from silversmith.errors import PreconditionFailed, SilversmithError
from silversmith.stores import Store, read_snapshot, replace_snapshot

#: After so long without a change a round is dead: twice Lambda's longest timeout.
LEASE = timedelta(minutes=30)

#: A branch renews the round's lease where less than this is left of it: more than any invocation can live.
RENEWED = timedelta(minutes=20)

#: How often a change of the lease is tried while others change it.
TRIES = 8


def lease_key(function: str) -> str:
    """The key of a function's lease. No transform is called ``_reconcile``: their names begin with a letter."""
    return f"_reconcile/{function}.json"


def branch_key(lease: str, branch: int | str) -> str:
    """The key of the lease of a branch, by the round's."""
    return f"{lease.removesuffix('.json')}/{branch}.json"


class NotNext(SilversmithError):
    """This invocation is not the one that goes on: the lease says who is."""


class Phase(StrEnum):
    """The phase of a step."""

    WAITING = "waiting"  #: its invocation is on its way
    RUNNING = "running"  #: an invocation works on it
    SPLIT = "split"  #: branches of the round work, each with a lease of its own; the last one does this step
    FAILED = "failed"  #: its invocation ended with an error: the same step may be tried again
    DONE = "done"  #: it was the last one


@dataclass(frozen=True)
class Lease:
    """The content of the object.

    ``owner`` is the invocation that changed it last. ``progress`` is how far the round is, and ``memory`` what rounds
    that ended leave to later ones: JSON values that mean nothing here. ``wish``, if not empty, is the event of a round
    that shall follow this one.
    """

    round: str
    step: int
    phase: Phase
    owner: str
    expires: datetime
    progress: Mapping[str, Any] = field(default_factory=dict)
    memory: Mapping[str, Any] = field(default_factory=dict)
    wish: Mapping[str, Any] = field(default_factory=dict)

    def binds(self, now: datetime) -> bool:
        """Whether another round must wait for this one."""
        return self.phase in {Phase.WAITING, Phase.RUNNING, Phase.SPLIT} and now < self.expires

    def to_json(self) -> bytes:
        """The object's bytes."""
        return json.dumps({**asdict(self), "expires": self.expires.isoformat()}, sort_keys=True).encode()

    @staticmethod
    def from_json(body: bytes) -> Lease | None:
        """None: these bytes are no lease, and bind nobody."""
        try:
            values = json.loads(body)
            lease = Lease(**{**values, "phase": Phase(values["phase"])})
            expires = datetime.fromisoformat(str(lease.expires))
            plain = all(isinstance(each, dict) for each in (lease.progress, lease.memory, lease.wish))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return None
        if not plain or not isinstance(lease.step, int) or expires.tzinfo is None:
            return None
        return replace(lease, expires=expires)


#: From what the lease is to what it shall be; raises :class:`NotNext` where it is to stay.
Change = Callable[[Lease | None], Lease]


class Keeper:
    """One invocation's hold on the lease.

    Args:
        store: the bucket with the lease.
        key: of the lease.
        owner: this invocation, and no other: not even a second run of the same event.
        now: the time of day, in UTC.
    """

    def __init__(self, store: Store, key: str, *, owner: str, now: Callable[[], datetime]) -> None:
        self._store = store
        self._key = key
        self._owner = owner
        self._now = now
        #: The lease of the round before, where this invocation has begun a round.
        self.replaced: Lease | None = None

    def read(self) -> Lease | None:
        """The lease as it is now; None: there is none."""
        return Lease.from_json(read_snapshot(self._store, self._key).body)

    def begin(self, round_id: str, step: int, wish: Mapping[str, Any]) -> Lease:
        """Take the lease for a step of a round.

        Args:
            round_id: which round.
            step: which step of it: 0 begins the round.
            wish: not empty: where another round binds, this is to follow it.

        Raises:
            NotNext: somebody else has it, or had it.
        """

        def take(lease: Lease | None) -> Lease:
            now = self._now()
            if lease is not None and lease.round == round_id:
                return self._running(_resumed(lease, step, now))
            if step:
                raise NotNext(f"the lease is with the round {lease.round}" if lease else "there is no lease")
            if lease is None or not lease.binds(now):
                self.replaced = lease
                return self._running(Lease(round_id, 0, Phase.RUNNING, "", now, memory=lease.memory if lease else {}))
            if not wish or lease.wish == wish:
                raise NotNext(f"the round {lease.round} is at its step {lease.step}")
            return replace(lease, wish=wish)

        lease = self._update(take)
        if lease.owner != self._owner:
            raise NotNext(f"the round {lease.round} is at its step {lease.step}; this one follows it")
        return lease

    def resume(self, round_id: str, step: int) -> Lease:
        """Take the lease for a step of a round that has it already.

        Raises:
            NotNext: as of :meth:`begin`.
        """

        def take(lease: Lease | None) -> Lease:
            if lease is None or lease.round != round_id:
                raise NotNext(f"the lease is with the round {lease.round}" if lease else "there is no lease")
            return self._running(_resumed(lease, step, self._now()))

        return self._update(take)

    def prepare(self, round_id: str, progress: Mapping[str, Any]) -> None:
        """Have the lease wait for the first step of a branch, whoever had it."""
        branch = Lease(round_id, 0, Phase.WAITING, self._owner, self._now() + LEASE, progress)
        self._update(lambda _: branch)

    def renew(self, round_id: str) -> Lease:
        """The round's lease, which its branches do not let expire.

        Raises:
            NotNext: another round has it.
        """

        def renewed(lease: Lease | None) -> Lease:
            if lease is None or lease.round != round_id:
                raise NotNext(f"the lease is with the round {lease.round}" if lease else "there is no lease")
            is_short = lease.phase is Phase.SPLIT and lease.expires - self._now() < RENEWED
            return replace(lease, expires=self._now() + LEASE) if is_short else lease

        return self._update(renewed)

    def hand_on(self, lease: Lease, progress: Mapping[str, Any], phase: Phase = Phase.WAITING) -> Lease:
        """The next step is another invocation's, or, where the round is split, that of its last branch.

        Raises:
            NotNext: the lease was lost: this invocation has lived longer than any can.
        """
        waiting = replace(lease, step=lease.step + 1, phase=phase, progress=progress)
        return self._update(self._held(lease, lambda wish: replace(waiting, wish=wish, expires=self._now() + LEASE)))

    def finish(self, lease: Lease, memory: Mapping[str, Any]) -> Lease:
        """The round is done. ``wish`` of what is returned is the round that follows, if one does.

        Raises:
            NotNext: as of :meth:`hand_on`.
        """
        done = replace(lease, phase=Phase.DONE, progress={}, memory=memory)
        return self._update(self._held(lease, lambda wish: replace(done, wish=wish)))

    def fail(self, lease: Lease, step: int) -> None:
        """Let the step be tried again, by this round or another: also where the next one was handed on and did not
        begin.

        Raises:
            NotNext: somebody else has begun already.
        """
        self._update(self._held(lease, lambda wish: replace(lease, step=step, phase=Phase.FAILED, wish=wish)))

    def _running(self, lease: Lease) -> Lease:
        """A round that begins or goes on is the one that was wished for, or looks at all that it would have."""
        wish = {} if lease.wish.get("round") == lease.round else lease.wish
        return replace(lease, phase=Phase.RUNNING, owner=self._owner, expires=self._now() + LEASE, wish=wish)

    def _held(self, lease: Lease, changed: Callable[[Mapping[str, Any]], Lease]) -> Change:
        """A change that only the holder makes. Others may have put a wish into the lease meanwhile."""

        def change(there: Lease | None) -> Lease:
            if there is None or replace(there, wish={}) != replace(lease, wish={}):
                raise NotNext("the lease was taken over")
            return changed(there.wish)

        return change

    def _update(self, change: Change) -> Lease:
        for _ in range(TRIES):
            before = read_snapshot(self._store, self._key)
            lease = Lease.from_json(before.body)
            after = change(lease)
            if after == lease:
                return after
            with suppress(PreconditionFailed):
                replace_snapshot(self._store, before, after.to_json())
                return after
        raise NotNext("others change the lease all the time")


def _resumed(lease: Lease, step: int, now: datetime) -> Lease:
    if lease.phase is Phase.DONE:
        raise NotNext("this round is done")
    if lease.step != step:
        raise NotNext(f"this round is at its step {lease.step}")
    if lease.phase is Phase.RUNNING and now < lease.expires:
        raise NotNext("another invocation is at this step")
    return lease
