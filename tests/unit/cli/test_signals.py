"""The first signal asks, the second ends."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from silversmith.cli.screen import Stop


@pytest.fixture(autouse=True)
def not_ignored() -> Iterator[None]:
    """A shell starts its background jobs with SIGINT ignored, and what is ignored stays so."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, signal.default_int_handler) for number in numbers}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_asks_and_the_second_ends(number: int) -> None:
    ended: list[int] = []
    with Stop(ended.append) as stop:
        assert not stop()
        os.kill(os.getpid(), number)
        assert stop()
        assert stop.asked == number
        assert ended == []
        os.kill(os.getpid(), signal.SIGINT)
        assert ended == [signal.SIGINT]


def test_ignored_signals_stay_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Stop(lambda _: None) as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop()
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_afterwards_signals_do_what_they_did_before() -> None:
    before = signal.getsignal(signal.SIGINT)
    with Stop(lambda _: None):
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before
