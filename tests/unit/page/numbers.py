"""Numbers over time, without a journal."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from silversmith.local.journal import TALLIES
from silversmith.local.tallies import ended
from silversmith.page.history import History


@dataclass
class Ended:
    """A file that ended. ``took`` in milliseconds."""

    at: float
    verdict: str = "committed"
    transform: str = "t"
    took: float | None = 5.0
    rows_written: int = 0
    rows_read: int = 0
    rows_rejected: int = 0
    broken: dict[str, int] = field(default_factory=dict)


class Recorded:
    """The slots of the journal."""

    def __init__(self) -> None:
        self._slots: Counter[tuple[int, int, str, str]] = Counter()

    def add(self, file: Ended) -> None:
        for name, value in ended(file.verdict, vars(file), file.took).items():
            for width in TALLIES:
                self._slots[width, int(file.at // width), file.transform, name] += value

    def rows(self, width: int, since: int) -> list[tuple[int, str, str, int]]:
        return [
            (slot, transform, name, value)
            for (each, slot, transform, name), value in self._slots.items()
            if each == width and slot >= since
        ]


def history_of(*files: Ended, now: float) -> History:
    """The page's numbers of these files at a time."""
    recorded, history = Recorded(), History()
    for file in files:
        recorded.add(file)
    history.read(recorded.rows, now)
    return history
