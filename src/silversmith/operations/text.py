"""Texts and times for people and programs: hostile characters spelled out, sizes, durations, ISO 8601. Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime


def shown(text: object) -> str:
    """A text on one line, of visible characters only; the others as escapes: ``\\n``, ``\\x1b``, ``\\u202e``.

    A key, a file's name or an error message is data that strangers write. ``shown(shown(text)) == shown(text)``.
    """
    found = str(text)
    return found if found.isprintable() else "".join(map(_visible, found))


def _visible(character: str) -> str:
    if character.isprintable():
        return character
    # "unicode_escape" knows every code point, lone surrogates too.
    return character.encode("unicode_escape").decode("ascii")


def lines(text: str, indent: str = "") -> list[str]:
    """A text of several lines, each shown and indented, so that no line of it can pass for one of ours."""
    return [indent + shown(line) for line in text.expandtabs(4).splitlines() or [""]]


def count(number: int, noun: str, plural: str = "") -> str:
    """``1 file``, ``2,000 files``."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def size(number: int) -> str:
    """Bytes for a person: ``812 B``, ``3.4 MB``."""
    value = float(number)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def duration(seconds: float | None) -> str:
    """A length of time for a person: ``0.4 s``, ``12 s``, ``3 min``, ``5 h``, ``2 d``; ``-`` where it is not known."""
    if seconds is None:
        return "-"
    if seconds < 10:
        return f"{seconds:.1f} s"
    for unit, length, up_to in (("s", 1, 120), ("min", 60, 7200), ("h", 3600, 172_800)):
        if seconds < up_to:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds / 86400:.0f} d"


def millis(value: float) -> str:
    """Milliseconds for a person: ``0.4 ms``, ``85 ms``, ``1.2 s``, ``3 min``."""
    if value < 1000:
        return f"{value:.0f} ms" if value >= 10 or not value else f"{value:.1f} ms"
    if value < 120_000:
        return f"{value / 1000:.2g} s" if value < 10_000 else f"{value / 1000:.0f} s"
    return f"{value / 60_000:.0f} min"


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
