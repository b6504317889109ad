"""Named points at which a test can have this process killed: the crash suite visits them all.

Set ``SILVERSMITH_FAULT=name`` or ``name:n`` (the n-th time that the point is passed). Without it a point costs one
attribute look-up and a comparison.
"""

from __future__ import annotations

import os
import signal

#: Every point there is, so that the crash suite can visit them all and a misspelt one is noticed.
POINTS = (
    "bucket.before_commit",
    "bucket.after_commit",
    "bucket.forgotten",
    "bus.before_commit",
    "bus.after_commit",
    "topic.before_commit",
    "topic.after_commit",
    "queue.before_commit",
    "queue.after_commit",
    "queue.buried",
    "function.received",
    "function.before_commit",
    "function.after_commit",
    "resend.before_commit",
    "resend.after_commit",
    "redrive.before_commit",
    "redrive.after_commit",
    "compaction.before_commit",
    "journal.migrated",
    "process.opened",
    "process.written",
    "process.recorded",
    "process.rejected",
    "process.committed",
    "process.cleared",
    "process.quarantined",
    "process.unquarantined",
    "process.removed",
    "store.written",
    "store.placed",
    "store.deleted",
    "tables.looked",
    "tables.read",
    "tables.prepared",
    "tables.committed",
    "tables.view_computed",
    "tables.view_committed",
    "tables.compacted",
    "erase.bronze",
    "erase.results",
    "erase.schemas",
    "erase.rows",
    "erase.closed",
    "erase.data",
    "erase.checkpoint",
    "erase.log",
    "erase.records",
)

_name, _, _count = os.environ.get("SILVERSMITH_FAULT", "").partition(":")
_left = int(_count or 1)

if _name and _name not in POINTS:
    raise SystemExit(f"SILVERSMITH_FAULT names no fault point: {_name!r}. There are: {', '.join(POINTS)}")


def point(name: str) -> None:
    """Die here, as by ``kill -9``, if a test asked for it."""
    global _left  # noqa: PLW0603 -- the count is the one thing a fault point remembers
    if name != _name:
        return
    _left -= 1
    if _left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
