"""The page in a process of its own, beside an engine, and the socket that it listens on.

Nothing that happens to the page reaches the engine, and the engine's loop never waits for it. The process ends with the
engine, even by ``kill -9``: it reads from a pipe that only the engine holds open.
"""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import orjson

from silversmith.errors import SilversmithError
from silversmith.local.lake import LakeFolder

#: The default port; where it is taken, any free one.
PORT = 8320

HOST = "127.0.0.1"


class NoPort(SilversmithError):
    """The page cannot listen there."""


def listen(port: int | None) -> socket.socket:
    """A socket that listens on this machine only. ``port`` None: :data:`PORT`, or any that is free; 0: any.

    Raises:
        NoPort: the port that was asked for is taken, or not allowed.
    """
    try:
        return socket.create_server((HOST, PORT if port is None else port), backlog=64)
    except OSError as error:
        if port is None:
            return listen(0)
        taken = error.errno == errno.EADDRINUSE
        why = "something else listens there" if taken else os.strerror(error.errno or 0)
        raise NoPort(f"the page cannot be served on port {port}: {why}. Name another one, or 0 for any.") from error


def url(listening: socket.socket, token: str) -> str:
    """The URL for a browser."""
    return f"http://{HOST}:{listening.getsockname()[1]}/?token={token}"


#: How long the process has to end by itself, in seconds.
PATIENCE = 3.0


class PageProcess:
    """The process, while the block lasts.

    Args:
        folder: the lake.
        target: the pipeline, as the command line names it.
        listening: where it serves; closed here, because then the other process owns it.
        token: lets a browser in.
    """

    def __init__(self, folder: LakeFolder, target: str, listening: socket.socket, token: str) -> None:
        self.url = url(listening, token)
        folder.logs.mkdir(parents=True, exist_ok=True)
        self._log: Path = folder.logs / "page.log"
        order = {"lake": str(folder.path), "target": target, "socket": listening.fileno(), "token": token}
        with listening, self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "silversmith.page.process"],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                pass_fds=[listening.fileno()],
                start_new_session=True,  # Ctrl-C is for the engine: this follows it
                env={**os.environ, "POLARS_MAX_THREADS": "1"},  # a preview needs no more, and the workers do
            )
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.write(orjson.dumps(order) + b"\n")
            self._process.stdin.flush()

    @property
    def pid(self) -> int:
        return self._process.pid

    def __enter__(self) -> PageProcess:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


#: The page's niceness: the engine comes first. https://man7.org/linux/man-pages/man2/nice.2.html
NICE = 10


def main() -> int:
    """Serve the page until standard input is at its end: what :class:`PageProcess` runs."""
    from silversmith.page.application import serve
    from silversmith.page.backend import LocalBackend

    order = orjson.loads(sys.stdin.buffer.readline())
    with suppress(OSError):
        os.nice(NICE)
    listening = socket.socket(fileno=order["socket"])
    backend = LocalBackend(LakeFolder(Path(order["lake"])), order["target"])
    try:
        serve(backend, listening, order["token"], began=_follow)
    except SilversmithError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def _follow(end: Callable[[], None]) -> None:
    """End the server with the engine."""

    def wait() -> None:
        sys.stdin.buffer.read()
        end()

    threading.Thread(target=wait, name="follow", daemon=True).start()


if __name__ == "__main__":
    sys.exit(main())
