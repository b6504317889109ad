"""What ended in each slot of time: the numbers of the page, kept in the journal.

They are added up in the transaction of the outcomes, so they are right for a whole day, and reading them costs the same
however many files there were (docs/decisions/0182-the-journal-keeps-the-numbers-of-days.md).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from silversmith.local.histogram import bucket_of
from silversmith.local.journal import TALLIES, Journal

#: The beginnings of names: the rows that broke a rule or column, and the files whose milliseconds are in a bucket of a
#: histogram. The other names are ``done``, ``partial``, ``failed``, ``rows``, ``rows_read`` and ``rejected``.
BROKEN, LATENCY = "broken:", "latency:"


def ended(verdict: str, detail: Mapping[str, Any], milliseconds: float | None) -> Counter[str]:
    """The numbers of one file that ended. ``milliseconds``: since it landed or was sent again; None: nobody knows."""
    if verdict != "committed":
        return Counter({"failed": 1} if verdict in {"failed", "quarantined"} else {})
    rejected = int(detail.get("rows_rejected") or 0)
    numbers = Counter(
        done=1,
        partial=int(rejected > 0),
        rows=int(detail.get("rows_written") or 0),
        rows_read=int(detail.get("rows_read") or 0),
        rejected=rejected,
    )
    broken = detail.get("broken")
    for name, rows in broken.items() if isinstance(broken, dict) else ():
        if isinstance(rows, int):
            numbers[f"{BROKEN}{name}"] += rows
    if milliseconds is not None:
        numbers[f"{LATENCY}{bucket_of(milliseconds)}"] += 1
    return numbers


def add(journal: Journal, transform: str, numbers: Mapping[str, int], at: float) -> None:
    """Add numbers of a transform to the slots of a time (Unix seconds), in the transaction that is open."""
    values = [(name, value) for name, value in numbers.items() if value]
    rows = [(width, int(at // width), transform, name, value) for width in TALLIES for name, value in values]
    if rows:
        journal.change_many("add_tally", rows)


def milliseconds_since(journal: Journal, key: str, version: str, queue: str, now: float) -> float | None:
    """The time since a version landed, or was sent again to this queue or to all; None: the trace does not say, or the
    clock was set back."""
    row = journal.row("begin_of_time", key=key, version=version, queue=queue)
    return (now - row[0]) * 1000 if row is not None and row[0] <= now else None
