"""Child processes: their shares of the CPUs, what they run, and how they end."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from silversmith.local.processes import CpuShare, PrewarmedWorkers, shares, spawn


def test_a_prewarmed_worker_is_taken_for_its_own_share_only() -> None:
    with PrewarmedWorkers(2, frozenset({0})) as prewarmed:
        share = CpuShare(1, frozenset({0}))
        assert prewarmed.take(CpuShare(2)) is None
        first, second = prewarmed.take(share), prewarmed.take(share)
        assert first is not None
        assert second is not None
        assert prewarmed.take(share) is None
    processes = [first.process, second.process]
    assert all(process.is_alive() for process in processes), "who has taken one ends it"
    for spawned in (first, second):
        spawned.end()
    assert not any(process.is_alive() for process in processes)


def test_prewarmed_workers_that_nobody_takes_end_with_the_block() -> None:
    before = set(multiprocessing.active_children())
    with PrewarmedWorkers(2):
        started = set(multiprocessing.active_children()) - before
        assert len(started) == 2
    assert not any(process.is_alive() for process in started)


def test_output_of_a_child_before_its_arguments_is_not_the_commands() -> None:
    spawned = spawn(CpuShare(1))
    try:
        spawned.connection.send("too many arguments")
        output = b""
        while piece := os.read(spawned.output.fileno(), 65536):
            output += piece
        assert b"TypeError" in output
    finally:
        spawned.end()


def test_a_child_ends_when_nobody_sends_it_arguments_any_more() -> None:
    spawned = spawn(CpuShare(1))
    spawned.connection.close()
    spawned.process.join(60)
    assert spawned.process.exitcode == 0
    spawned.output.close()


@pytest.mark.full
def test_a_child_dies_with_its_parent_however_that_ends() -> None:
    code = (
        "import os, signal; from silversmith.local.processes import CpuShare, spawn\n"
        "if __name__ == '__main__':\n"
        "    print(spawn(CpuShare(1)).process.pid, flush=True)\n"
        "    signal.pause()\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    child.wait(60)


@given(st.integers(1, 40), st.frozensets(st.integers(0, 200), min_size=1, max_size=40))
def test_shares_use_every_cpu_and_none_more_than_another(number: int, cpus: frozenset[int]) -> None:
    result = shares(number, cpus)
    assert len(result) == number
    assert all(share.threads == max(1, len(cpus) // number) for share in result)
    pinned = [cpu for share in result if share.cpus is not None for cpu in share.cpus]
    if result[0].threads > 1:
        assert not pinned, "with room for more than one thread each may go anywhere"
    else:
        assert len(pinned) == number
        assert set(pinned) <= cpus
        counts = [pinned.count(cpu) for cpu in cpus]
        assert max(counts) - min(counts) <= 1
