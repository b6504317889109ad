"""Two listings side by side: the bronze objects of a transform, and its silver objects. Pure; memory is bounded.

Silver's keys are made of bronze's, yet they sort in another order: ``a`` comes before ``a-1``, but ``a.parquet`` after
``a-1.parquet``. This happens only where one key begins with another whole one, so it is enough to hold back the keys
that the newest one begins with: at most as many as a key has characters. A key that was cut short has a digest in it
and sorts anywhere: such keys are not paired, but looked up one by one.

docs/decisions/0010-reconcile-compares-listings.md
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from silversmith.lineage import silver_key
from silversmith.stores import Head

ENDING = ".parquet"

#: How lineage.py ends a silver key that it had to cut short.
_CUT = re.compile(r"~[0-9a-f]{64}\.parquet\Z")


class Pair(NamedTuple):
    """A bronze object and the silver object of its name; one of them may be None.

    ``key`` is the bronze key. ``paired`` False: the listings cannot tell whether there is the other one; for a silver
    object the bronze key is not known either, and empty.
    """

    key: str
    bronze: Head | None
    silver: Head | None
    paired: bool = True


def pairs(transform: str, bronze: Iterable[Head], silver: Iterable[Head]) -> Iterator[Pair]:
    """Every object of both listings, once, in the order of the silver keys (but for those that are not paired).

    Args:
        transform: whose silver it is.
        bronze: the bronze objects that the transform wants, in the order of their keys.
        silver: what there is below ``{transform}/`` in silver, in the order of its keys. What cannot be the silver
            object of anything is left out.
    """
    left, right = _in_silver_order(transform, bronze), _named(transform, silver)
    here, there = next(left, None), next(right, None)
    while here is not None or there is not None:
        if here is not None and not here.paired:
            yield here
            here = next(left, None)
        elif there is not None and not there.paired:
            yield there
            there = next(right, None)
        elif there is None or (here is not None and here.key + ENDING < there.key + ENDING):
            assert here is not None
            yield here
            here = next(left, None)
        elif here is None or there.key != here.key:
            yield there
            there = next(right, None)
        else:
            yield Pair(here.key, here.bronze, there.silver)
            here, there = next(left, None), next(right, None)


def overtaken(key: str) -> Iterator[str]:
    """The keys that come before ``key`` in bronze, but whose silver objects come after its own. Shortest first."""
    for length in range(1, len(key)):
        if key[length:] + ENDING < ENDING:
            yield key[:length]


def _in_silver_order(transform: str, bronze: Iterable[Head]) -> Iterator[Pair]:
    """What is held back is a chain, each the beginning of the next; the last one is the first in silver."""
    held: list[Pair] = []
    for head in bronze:
        key = head.key
        if _CUT.search(silver_key(transform, key)):
            yield Pair(key, head, None, paired=False)
            continue
        while held and not _comes_before(key, held[-1].key):
            yield held.pop()
        held.append(Pair(key, head, None))
    while held:
        yield held.pop()


def _comes_before(later: str, earlier: str) -> bool:
    """Whether a later key of bronze is an earlier one of silver. If not, then none that follows it is either."""
    return later.startswith(earlier) and later + ENDING < earlier + ENDING


def _named(transform: str, silver: Iterable[Head]) -> Iterator[Pair]:
    for head in silver:
        name = head.key.removeprefix(f"{transform}/")
        if _CUT.search(name):
            yield Pair("", None, head, paired=False)
        elif name.endswith(ENDING) and name != ENDING:
            yield Pair(name.removesuffix(ENDING), None, head)
