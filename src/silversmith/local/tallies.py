"""What ended in each slot of time: the numbers of the page, kept in the journal; and histograms of times.

They are added up in the transaction of the outcomes, so they are right for a whole day, and reading them costs the same
however many files there were (docs/decisions/0182-the-journal-keeps-the-numbers-of-days.md).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

from silversmith.local.journal import TALLIES, Journal

#: Each bucket of a histogram ends so many times as high as the one before it.
GROWTH = 1.02

#: A quantile is at most so far from the exact one, as a share of it.
RELATIVE_ERROR = (GROWTH - 1) / (GROWTH + 1)

_LOG_GROWTH = math.log(GROWTH)

#: A smaller value counts as this one.
SMALLEST = 1e-6


def bucket_of(value: float) -> int:
    """The number of the bucket that a value is in."""
    return math.ceil(math.log(max(value, SMALLEST)) / _LOG_GROWTH)


class Histogram:
    """Values, such as times, in buckets of a fixed relative width: every quantile has the same relative error.

    Two histograms add up to the histogram of all their values, so a quantile is the same whatever parts it was put
    together from. There are as many buckets as powers of :data:`GROWTH` between the least and the greatest value: 1,400
    from a microsecond to a fortnight. https://www.vldb.org/pvldb/vol12/p2195-masson.pdf
    """

    def __init__(self) -> None:
        self._buckets: Counter[int] = Counter()
        self.count = 0
        self.most = 0.0

    def add(self, value: float) -> None:
        """Add a value."""
        self._buckets[bucket_of(value)] += 1
        self.count += 1
        self.most = max(self.most, value)

    def add_bucket(self, bucket: int, values: int) -> None:
        """Add so many values of a bucket, of which no more is known."""
        self._buckets[bucket] += values
        self.count += values
        self.most = max(self.most, GROWTH**bucket)

    def merge(self, part: Histogram) -> None:
        """Add all values of another histogram."""
        self._buckets.update(part._buckets)
        self.count += part.count
        self.most = max(self.most, part.most)

    def quantile(self, share: float) -> float | None:
        """The least value that is no less than this share of the values, to :data:`RELATIVE_ERROR`; None without
        values. It is never more than the greatest."""
        rank = share * self.count
        for bucket in sorted(self._buckets):
            rank -= self._buckets[bucket]
            if rank <= 1e-9:
                return min(self.most, 2 * GROWTH**bucket / (GROWTH + 1))
        return self.most if self.count else None


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
