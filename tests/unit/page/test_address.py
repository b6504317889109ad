"""The address of the page."""

from __future__ import annotations

import socket

import pytest

from silversmith.page.process import NoPort, listen, url


def test_it_listens_on_this_machine_only() -> None:
    with listen(0) as listener:
        host, port = listener.getsockname()
        assert host == "127.0.0.1"
        assert url(listener, "secret") == f"http://127.0.0.1:{port}/?token=secret"
        with socket.create_connection((host, port), timeout=10):
            pass


def test_a_port_that_is_taken_is_said() -> None:
    with listen(0) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(NoPort, match=f"port {port}: something else listens there. Name another one"):
            listen(port)


def test_the_page_takes_another_port_if_the_usual_one_is_taken() -> None:
    with listen(None) as first, listen(None) as second:
        assert first.getsockname() != second.getsockname()
