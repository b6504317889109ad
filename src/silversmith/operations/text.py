"""Texts, sizes and times for people and programs. Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

from silversmith.errors import count as count  # noqa: PLC0414 -- the texts of operations have it, too


def shown(text: object) -> str:
    """A text on one line, with invisible characters as escapes: ``\\n``, ``\\x1b``, ``\\u202e``.

    A key, a file's name or an error message is data that strangers write. ``shown(shown(text)) == shown(text)``.
    """
    # "unicode_escape" knows every code point, lone surrogates too.
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in str(text)
    )


def lines(text: str, indent: str = "") -> list[str]:
    """The lines of a text, each shown and indented, so that no line of it passes for one of ours."""
    return [indent + shown(line) for line in text.expandtabs(4).splitlines() or [""]]


_FRAME = re.compile(r'  File "(?P<file>.*)", line (?P<line>\d+), in (?P<function>.*)')


def headline(message: str) -> str:
    """One line that says what was wrong: of a traceback the innermost place and the first line of the error.

    ``pipeline.py:21 in sales(): KeyError: 'total'``
    """
    text = message.strip("\n").splitlines() or [""]
    frames = [(number, frame) for number, line in enumerate(text) if (frame := _FRAME.fullmatch(line.rstrip()))]
    if frames:
        number, frame = frames[-1]
        place = f"{Path(frame['file']).name}:{frame['line']} in {frame['function']}()"
    elif text[0].rstrip().endswith(":"):  # of a query, which has no place in the code
        number, place = 0, text[0].strip().removesuffix(":")
    else:
        return text[0].strip()
    error = next((line for line in text[number + 1 :] if line.strip() and not line.startswith(" ")), "")
    kind, colon, words = error.partition(": ")
    return f"{place}: {kind.rpartition('.')[2]}{colon}{words}".strip()


def essence(message: str) -> str:
    """The essence of an error for a person: its :func:`headline`, and the lines of code of a traceback that led to it.

    Polars goes on for a screen about its plan: of the error itself only the first paragraph is kept.
    """
    text = message.strip("\n").expandtabs(4).splitlines()
    frames = [number for number, line in enumerate(text) if _FRAME.fullmatch(line.rstrip())]
    if not frames:
        return "\n".join(text)
    last = next((at for at in range(frames[-1] + 1, len(text)) if text[at] and not text[at].startswith(" ")), len(text))
    end = next((at for at in range(last, len(text)) if not text[at].strip()), len(text))
    rest = text[last + 1 : end] if last < len(text) else []
    return "\n".join([headline(message), *rest, *text[frames[0] : last]])


def size(number: int) -> str:
    """Bytes for a person: ``812 B``, ``3.4 MB``."""
    value = float(number)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def duration(seconds: float | None) -> str:
    """A length of time for a person: ``0.4 s``, ``12 s``, ``3 min``, ``5 h``, ``2 d``; ``-`` for an unknown one."""
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
    """Parse an ISO 8601 time, to Unix seconds; None for any other text."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()


_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def length(text: str) -> float | None:
    """Parse a length of time, to seconds: ``90s``, ``10m``, ``1.5h``, ``3d``, ``1w``; None for any other text."""
    match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)([smhdw])", text.strip(), re.ASCII)
    return float(match[1]) * _SECONDS[match[2]] if match else None


def iso(seconds: float | None) -> str | None:
    """Unix seconds in ISO 8601, UTC, to the millisecond."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


def age(since: float | None, now: float) -> float | None:
    """How many seconds ago a time was; None for an unknown one."""
    return None if since is None else max(0.0, round(now - since, 3))
