"""Serves the page over a socket that is open already, until it is told to end."""

from __future__ import annotations

import socket
from collections.abc import Callable

import uvicorn

from silversmith.page.application import application
from silversmith.page.backend import Backend
from silversmith.page.watch import Watch

#: A browser that watches holds one connection; so many in all are served at a time.
MOST_CONNECTIONS = 200


def serve(
    backend: Backend, listening: socket.socket, token: str, *, began: Callable[[Callable[[], None]], None]
) -> None:
    """Serve until the server ends: by a signal, or by what ``began`` was given.

    Args:
        backend: what the page shows.
        listening: where browsers connect to.
        token: what lets them in.
        began: called before the serving begins, with what ends it, from any thread.
    """
    watch = Watch(backend)
    port = listening.getsockname()[1]
    app = application(backend, watch, token=token, cookie=f"silversmith-{port}")
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        lifespan="off",
        ws="none",
        http="h11",
        loop="asyncio",
        limit_concurrency=MOST_CONNECTIONS,
        timeout_graceful_shutdown=1,
    )
    server = _Server(config, watch)
    began(server.end)
    watch.start()
    try:
        server.run(sockets=[listening])
    finally:
        watch.stop()


class _Server(uvicorn.Server):
    """Ends its watch with itself: else the streams of events would hold it up."""

    def __init__(self, config: uvicorn.Config, watch: Watch) -> None:
        super().__init__(config)
        self._watch = watch

    def end(self) -> None:
        """Serve no more."""
        self._watch.stop()
        self.should_exit = True

    def handle_exit(self, sig: int, frame: object) -> None:  # noqa: ARG002 -- uvicorn calls it so
        self.end()
