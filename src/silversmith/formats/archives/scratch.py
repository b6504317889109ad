"""Temporary files of a reader: what had to be unpacked, recoded or put right before Polars could scan it."""

from __future__ import annotations

import itertools
import shutil
import tempfile
import weakref
from collections.abc import Callable
from pathlib import Path

_numbers = itertools.count(1)


class Scratch:
    """A folder that is made when the first file is asked for, and removed when nobody needs it any more.

    A scan reads its files late, so they live as long as the table that holds this object.
    """

    def __init__(self, within: Path | None = None) -> None:
        self._within = within
        self._folder: Path | None = None
        self._finalizer: Callable[[], object] = lambda: None

    def file(self, ending: str) -> Path:
        """The path of a new file, which does not exist yet."""
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="silversmith-", dir=self._within))
            self._finalizer = weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        return self._folder / f"{next(_numbers)}{ending}"

    def remove(self) -> None:
        """Remove the files now."""
        self._finalizer()
        self._folder = None
