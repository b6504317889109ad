"""The page beside an engine: in a process of its own, and of lower priority.

So nothing that becomes of it reaches the engine, and the engine's loop never waits for it. It ends when the engine
does, even by ``kill -9``: it reads from a pipe that nobody else holds, and that is at its end then.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import orjson

from silversmith.local.lake import LakeFolder
from silversmith.page.address import url

#: How long the process has to end by itself, in seconds.
PATIENCE = 3.0


class Beside:
    """The process, while the block lasts.

    Args:
        folder: the lake.
        target: the pipeline, as the command line names it.
        listening: where it serves; closed here, because it is the other process's then.
        token: what lets a browser in.
    """

    def __init__(self, folder: LakeFolder, target: str, listening: socket.socket, token: str) -> None:
        self.url = url(listening, token)
        folder.logs.mkdir(parents=True, exist_ok=True)
        self._log: Path = folder.logs / "page.log"
        order = {"lake": str(folder.path), "target": target, "socket": listening.fileno(), "token": token}
        with listening, self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "silversmith.page"],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                pass_fds=[listening.fileno()],
                start_new_session=True,  # Ctrl-C is for the engine: this follows it
                env=_environment(os.environ),
            )
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.write(orjson.dumps(order) + b"\n")
            self._process.stdin.flush()

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    def __enter__(self) -> Beside:
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


def _environment(given: Mapping[str, str]) -> dict[str, str]:
    """Polars takes one thread: a preview needs no more, and the workers do."""
    return {**given, "POLARS_MAX_THREADS": "1"}
