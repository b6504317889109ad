"""The clock by which a file system stamps its files, which is not this machine's: it moves in steps, and may be a
server's."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

#: How long, in seconds, and how often it is waited for the clock's next step. Linux' moves every 1 to 10 ms.
_PAUSE, _TIMES = 0.005, 10


class FileClock:
    """The clock of the file system that ``folder``, which may be written to, is on. ``sleep`` takes seconds."""

    def __init__(self, folder: Path, sleep: Callable[[float], None] = time.sleep) -> None:
        self._folder = folder
        self._sleep = sleep

    def has_passed(self, stat: os.stat_result) -> bool:
        """Whether the clock is past the time at which a file was last changed: then whoever writes to it from now on
        leaves another time. Waits for that, but for 50 ms at most.

        False, too, where the file is on another file system, or its time lies in the future. It is the inode's time
        that counts: only the kernel sets it.
        """
        for _ in range(_TIMES):
            now = self._now()
            if now.st_dev != stat.st_dev:
                return False
            if now.st_ctime_ns > stat.st_ctime_ns:
                return True
            self._sleep(_PAUSE)
        return False

    def _now(self) -> os.stat_result:
        """What a file that is made now is stamped with."""
        path = self._folder / os.urandom(12).hex()
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            return os.fstat(descriptor)
        finally:
            os.close(descriptor)
            path.unlink(missing_ok=True)
