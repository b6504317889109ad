"""Jobs in threads, or in the caller's own; and a caller that gives up."""

from __future__ import annotations

import threading
from functools import partial

import pytest

from silversmith.function.batch import IoPool


def test_jobs_run_at_once() -> None:
    pool: IoPool[bool] = IoPool(3)
    together = threading.Barrier(3)
    for _ in range(3):
        pool.submit(lambda: together.wait(20) >= 0)  # each waits for the two others
    assert [pool.next_done() for _ in range(3)] == [True] * 3
    assert pool.pending == 0


def test_without_threads_a_job_runs_in_the_caller_s() -> None:
    pool: IoPool[int] = IoPool(0)
    pool.submit(threading.get_ident)
    assert (pool.next_done(), pool.size, pool.has_threads) == (threading.get_ident(), 1, False)


@pytest.mark.parametrize("threads", [0, 2])
def test_an_error_is_raised_where_the_result_is_asked_for(threads: int) -> None:
    pool: IoPool[None] = IoPool(threads)

    def fail() -> None:
        raise KeyError("no")

    pool.submit(fail)
    with pytest.raises(KeyError):
        pool.next_done()


@pytest.mark.parametrize("threads", [0, 4])
def test_after_a_caller_has_given_up_the_pool_serves_the_next_batch(threads: int) -> None:
    pool: IoPool[str] = IoPool(threads)
    ended: list[int] = []
    for number in range(6):
        pool.submit(partial(_end, ended, number))
    pool.abandon()
    assert pool.pending == 0
    assert sorted(ended) == (list(range(6)) if threads else []), "nothing goes on behind its back"
    pool.submit(lambda: "new")
    assert pool.next_done() == "new"


def _end(ended: list[int], number: int) -> str:
    ended.append(number)
    return "old"
