"""Ctrl-C and its like: the first asks a run to end, the second ends it at once."""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stop:
    """While the block lasts, a signal only makes :attr:`asked` true. Call it to know.

    Args:
        at_once: what the second signal does, given its number.
    """

    def __init__(self, at_once: Callable[[int], None]) -> None:
        self.asked: int | None = None
        self._at_once = at_once
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Stop:
        for number in _SIGNALS:
            if signal.getsignal(number) != signal.SIG_IGN:  # nohup, for one, wants it to stay ignored
                self._before[number] = signal.signal(number, self._heard)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def __call__(self) -> bool:
        """Whether the run shall end."""
        return self.asked is not None

    def _heard(self, number: int, _frame: FrameType | None) -> None:
        if self.asked is not None:
            self._at_once(number)
        self.asked = number
