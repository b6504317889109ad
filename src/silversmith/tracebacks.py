"""The traceback of code that the user wrote: their frames alone, without Silversmith's and Polars'."""

from __future__ import annotations

import traceback
from pathlib import Path

import polars as pl

#: Of a user's traceback, the innermost frames that are kept.
FRAMES = 12

#: Frames of Silversmith's and Polars' own, which are of no use to who looks for a bug of theirs.
_FOREIGN = (str(Path(__file__).parent), str(Path(pl.__file__).parent))


def told(who: str, error: BaseException) -> str:
    """What a person should know of an error in their code: ``who`` failed, where, the innermost frame last, and how."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(_FOREIGN)]
    lines = traceback.format_list(frames[-FRAMES:]) + traceback.format_exception_only(error)
    return f"{who} failed:\n{''.join(lines).rstrip()}"
