"""The process that serves the page beside an engine: ``beside.py`` starts it, and tells it what on standard input."""

from __future__ import annotations

import os
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import orjson

from silversmith.errors import SilversmithError
from silversmith.local.lake import LakeFolder
from silversmith.page.places import LocalPlace
from silversmith.page.server import serve

#: By so much the engine goes before it. https://man7.org/linux/man-pages/man2/nice.2.html
NICE = 10


def main() -> int:
    """Serve until standard input is at its end."""
    order = orjson.loads(sys.stdin.buffer.readline())
    with suppress(OSError):
        os.nice(NICE)
    listening = socket.socket(fileno=order["socket"])
    place = LocalPlace(LakeFolder(Path(order["lake"])), order["target"])
    try:
        serve(place, listening, order["token"], began=_follow)
    except SilversmithError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def _follow(end: Callable[[], None]) -> None:
    """End with the engine."""

    def wait() -> None:
        sys.stdin.buffer.read()
        end()

    threading.Thread(target=wait, name="follow", daemon=True).start()


if __name__ == "__main__":
    sys.exit(main())
