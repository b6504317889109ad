"""Processes that are begun before it is known what for: their shares of the CPUs, and how they end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import psutil
from hypothesis import given
from hypothesis import strategies as st

from silversmith.local.prewarmed import PrewarmedWorkers, Share, shares, spawn


def spawned() -> set[int]:
    """The children of this process that were spawned to be workers."""
    children = psutil.Process().children()
    return {child.pid for child in children if any("spawn_main" in word for word in child.cmdline())}


def test_a_spare_is_taken_by_who_wants_just_its_share() -> None:
    with PrewarmedWorkers(2, frozenset({0})) as spares:
        share = Share(1, frozenset({0}))
        assert spares.take(Share(2)) is None
        first, second = spares.take(share), spares.take(share)
        assert first is not None
        assert second is not None
        assert spares.take(share) is None
    processes = [first.process, second.process]
    assert all(process.is_alive() for process in processes), "who has taken one ends it"
    for spawned in (first, second):
        spawned.end()
    assert not any(process.is_alive() for process in processes)


def test_those_that_nobody_takes_end_with_the_block() -> None:
    before = spawned()
    with PrewarmedWorkers(2):
        assert len(spawned() - before) == 2
    assert spawned() == before


def test_what_a_spare_prints_before_it_is_employed_is_not_the_commands() -> None:
    spawned = spawn(Share(1))
    try:
        spawned.connection.send("nothing that can be unpacked as a place and a configuration")
        told = b""
        while piece := os.read(spawned.output.fileno(), 65536):
            told += piece
        assert b"ValueError" in told
    finally:
        spawned.end()


def test_a_spare_ends_when_nobody_will_employ_it_any_more() -> None:
    spawned = spawn(Share(1))
    spawned.connection.close()
    spawned.process.join(60)
    assert spawned.process.exitcode == 0
    spawned.output.close()


def test_a_spare_dies_with_the_engine_however_that_ends() -> None:
    code = (
        "import os, signal; from silversmith.local.prewarmed import spawn, Share\n"
        "if __name__ == '__main__':\n"
        "    print(spawn(Share(1)).process.pid, flush=True)\n"
        "    signal.pause()\n"
    )
    engine = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert engine.stdout is not None
    spare = psutil.Process(int(engine.stdout.readline()))
    engine.send_signal(signal.SIGKILL)
    engine.wait()
    engine.stdout.close()
    spare.wait(60)


@given(st.integers(1, 40), st.frozensets(st.integers(0, 200), min_size=1, max_size=40))
def test_shares_use_every_cpu_and_none_more_than_another(number: int, cpus: frozenset[int]) -> None:
    found = shares(number, cpus)
    assert len(found) == number
    assert all(share.threads == max(1, len(cpus) // number) for share in found)
    pinned = [cpu for share in found if share.cpus is not None for cpu in share.cpus]
    if found[0].threads > 1:
        assert not pinned, "with room for more than one thread each may go anywhere"
    else:
        assert len(pinned) == number
        assert set(pinned) <= cpus
        counts = [pinned.count(cpu) for cpu in cpus]
        assert max(counts) - min(counts) <= 1
