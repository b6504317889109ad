"""Times as people and programs read them. Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime


def moment(text: str) -> float | None:
    """An ISO 8601 time in Unix seconds; None where it is none."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def length(text: str) -> float | None:
    """A length of time in seconds: ``90s``, ``10m``, ``2h``, ``3d``, ``1w``, also ``1.5h``; None where it is none."""
    found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)([smhdw])", text.strip(), re.ASCII)
    return float(found[1]) * _SECONDS[found[2]] if found else None


def iso(seconds: float | None) -> str | None:
    """Unix seconds in ISO 8601, UTC, to the millisecond."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


def age(since: float | None, now: float) -> float | None:
    """How many seconds ago that was; None where it is not known."""
    return None if since is None else max(0.0, round(now - since, 3))
