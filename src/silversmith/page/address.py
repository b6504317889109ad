"""Where the page listens, and the URL that a person opens."""

from __future__ import annotations

import errno
import socket

from silversmith.errors import SilversmithError

#: The port, unless somebody asks for another one or it is taken.
PORT = 8320

HOST = "127.0.0.1"


class NoPort(SilversmithError):
    """The page cannot listen there."""


def listen(port: int | None) -> socket.socket:
    """A socket that listens on this machine only. ``port`` None: :data:`PORT`, or any that is free; 0: any.

    Raises:
        NoPort: the port that was asked for is taken, or not allowed.
    """
    if port is None:
        try:
            return _listen(PORT)
        except NoPort:
            return _listen(0)
    return _listen(port)


def _listen(port: int) -> socket.socket:
    found = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind((HOST, port))
        found.listen(64)
    except OSError as error:
        found.close()
        taken = error.errno == errno.EADDRINUSE
        why = "something else listens there" if taken else str(error.strerror)
        raise NoPort(f"the page cannot be served on port {port}: {why}. Name another one, or 0 for any.") from error
    return found


def url(listening: socket.socket, token: str) -> str:
    """What a browser opens."""
    return f"http://{HOST}:{listening.getsockname()[1]}/?token={token}"
