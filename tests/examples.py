"""How many examples hypothesis takes: in the fast tier a fifth of those that the full tier takes."""

from __future__ import annotations

import os

#: ``make fuzz`` sets how many examples every property takes, and means random ones.
FUZZED = int(os.environ.get("SILVERSMITH_EXAMPLES", "0"))

#: Whether this run is the fast tier; ``conftest.py`` finds that out before it imports any test.
is_fast = False


def examples(number: int) -> int:
    """The examples of a property that takes so many in the full tier."""
    if FUZZED:
        return FUZZED
    return min(number, max(10, number // 5)) if is_fast else number
