"""Where everything is, in numbers, as a run shows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """Where everything is. ``rejected`` counts rows, the others files or messages, in this run."""

    found: int
    waiting: int
    in_flight: int
    done: int
    duplicates: int
    rows: int
    rejected: int
    quarantined: int
    retries: int
    dead: int


def progress(counters: Mapping[str, int], *, waiting: int, in_flight: int) -> Progress:
    """What the journal's counters say, counted since the run began."""

    def total(*names: str) -> int:
        return sum(counters.get(name, 0) for name in names)

    return Progress(
        found=total("bucket.created"),
        waiting=waiting,
        in_flight=in_flight,
        done=total("function.committed"),
        duplicates=total("function.duplicate", "function.gone"),
        rows=total("function.rows"),
        rejected=total("function.rejected"),
        quarantined=total("function.quarantined"),
        retries=total("function.failed"),
        dead=total("dead"),
    )
