"""The kernel's inotify on Linux: what happened in which folder. https://man7.org/linux/man-pages/man7/inotify.7.html

Watchdog is not used on Linux. It says nothing to its user when the kernel drops events or allows no further watch, so
files would go unseen, and it holds everything back for half a second after each file that is moved away.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from typing import NamedTuple

CLOSE_WRITE = 0x8
MOVED_FROM = 0x40
MOVED_TO = 0x80
CREATE = 0x100
DELETE = 0x200
DELETE_SELF = 0x400
MOVE_SELF = 0x800
UNMOUNT = 0x2000
OVERFLOW = 0x4000
IGNORED = 0x8000
IS_FOLDER = 0x4000_0000

_ONLY_FOLDERS = 0x0100_0000
_NO_LINKS = 0x0200_0000
_NOT_UNLINKED = 0x0400_0000
_WATCHED = CLOSE_WRITE | MOVED_FROM | MOVED_TO | CREATE | DELETE | _ONLY_FOLDERS | _NO_LINKS | _NOT_UNLINKED

#: A read takes up to this many bytes: about as many events as the kernel queues.
_BUFFER = 512 * 1024

_HEADER = struct.Struct("iIII")


class Event(NamedTuple):
    """Something happened to ``name`` in the watched folder, or to the folder itself where ``name`` is empty."""

    watch: int
    mask: int
    name: str


class Inotify:
    """One queue of events of any number of folders. Every method may raise OSError."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = _checked(self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))

    def fileno(self) -> int:
        """The descriptor to wait on."""
        return self._descriptor

    def add(self, folder: str, extra: int = 0) -> int:
        """Watch a folder, not a link to one. The number of its watch: the same one while it is watched already."""
        return _checked(self._libc.inotify_add_watch(self._descriptor, os.fsencode(folder), _WATCHED | extra))

    def remove(self, watch: int) -> None:
        """End a watch; nothing happens where it has ended already."""
        self._libc.inotify_rm_watch(self._descriptor, watch)

    def read(self) -> list[Event]:
        """The events that are waiting; none if none are."""
        try:
            data = os.read(self._descriptor, _BUFFER)
        except BlockingIOError:
            return []
        events = []
        at = 0
        while at < len(data):
            watch, mask, _, length = _HEADER.unpack_from(data, at)
            at += _HEADER.size
            events.append(Event(watch, mask, os.fsdecode(data[at : at + length].rstrip(b"\0"))))
            at += length
        return events

    def close(self) -> None:
        """End all watches."""
        os.close(self._descriptor)


def _checked(result: int) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def is_limit(error: OSError) -> bool:
    """Whether the machine allows no further watch (ENOSPC) or queue (EMFILE)."""
    return error.errno in {errno.ENOSPC, errno.EMFILE}
