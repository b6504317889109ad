"""Many times in little memory, with quantiles of a known error."""

from __future__ import annotations

import math
from collections import Counter

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
