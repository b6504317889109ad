"""What commands filter by, from the texts that a person writes. Each says what it takes when it cannot read one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from silversmith.operations import WrongCall
from silversmith.operations.text import length, moment

if TYPE_CHECKING:
    from silversmith.patterns.keys import KeyPattern


def key_pattern(text: str | None, option: str) -> KeyPattern | None:
    """A key pattern, as in ``flights/*.csv``.

    Raises:
        WrongCall: it is none, with what to write instead.
    """
    from silversmith.patterns import InvalidPattern
    from silversmith.patterns.keys import KeyPattern

    try:
        return None if text is None else KeyPattern.parse(text)
    except InvalidPattern as error:
        raise WrongCall(f"{option}: {error}") from None


def ago(text: str | None, option: str, now: float) -> float | None:
    """The time (Unix seconds) that lies an age back, as in ``2h``.

    Raises:
        WrongCall: it is no age.
    """
    if text is None:
        return None
    seconds = length(text)
    if seconds is None:
        raise WrongCall(f"{option} {text!r} is no age: write a number and s, m, h, d or w, as in 10m, 2h or 3d")
    return now - seconds


def point(text: str | None, option: str, now: float) -> float | None:
    """A time (Unix seconds): ISO 8601, UTC where it names no zone, or an age before now.

    Raises:
        WrongCall: it is neither.
    """
    if text is None:
        return None
    seconds = length(text)
    found = now - seconds if seconds is not None else moment(text)
    if found is None:
        raise WrongCall(f"{option} {text!r} is no time: write 2026-01-31, 2026-01-31T18:00 (UTC), or an age as in 2h")
    return found
