"""At which message of its batch a worker is: an integer that the engine can still read when the worker is dead."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

#: Of no message yet.
NOWHERE = -1


class Place:
    """An integer in memory that two processes share, by a file that both have mapped.

    Args:
        path: the file. Who makes it must do so before the other opens it; the other removes it.
        new: whether this is who makes it.
    """

    def __init__(self, path: Path, *, new: bool) -> None:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT | os.O_EXCL if new else 0), 0o600)
        try:
            if new:
                os.ftruncate(descriptor, mmap.PAGESIZE)
            else:
                path.unlink()
            self._numbers = memoryview(mmap.mmap(descriptor, mmap.PAGESIZE)).cast("i")
        finally:
            os.close(descriptor)
        if new:
            self.value = NOWHERE

    @property
    def value(self) -> int:
        return int(self._numbers[0])

    @value.setter
    def value(self, value: int) -> None:
        self._numbers[0] = value
