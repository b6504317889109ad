"""Real worker processes: how they work, die, are ended and replaced, and how little their output takes."""

from __future__ import annotations

import logging
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import psutil
import pytest

from silversmith.events import ObjectEvent, object_created
from silversmith.local import workers
from silversmith.local.engine import has_large_file
from silversmith.local.iam import Policy
from silversmith.local.invocation import WorkerConfig
from silversmith.local.lake import LakeFolder
from silversmith.local.processes import PrewarmedWorkers, usable_cpus
from silversmith.local.services import ReceivedMessage
from silversmith.local.services.function import Invocation
from silversmith.local.stack import read
from silversmith.local.wiring import worker_functions
from silversmith.local.workers import LOG_BYTES, Dispatch, Worker, WorkerPool
from silversmith.pipeline import load
from silversmith.stores import IN_MEMORY
from silversmith.template import compile as compile_template
from tests.unit.local.settings import function_settings

HEADER = """
import multiprocessing, os, signal, sys, time
import polars as pl
from silversmith import Pipeline

IN_WORKER = multiprocessing.parent_process() is not None
pipeline = Pipeline("p")

@pipeline.transform("*.csv", timeout=30, memory=512)
def rows(rows):
    first = rows.collect()["x"][0]
    {body}
    return rows
"""

#: No test waits longer for a process, in seconds.
PATIENCE = 60


class Pool:
    """Workers over a lake with a pipeline, and their reports so far."""

    def __init__(
        self,
        folder: Path,
        body: str,
        *,
        number: int,
        start: str,
        policy: Policy | None,
        cpus: frozenset[int] | None,
        prewarmed: PrewarmedWorkers | None,
        is_large_first: bool,
    ) -> None:
        self.lake = LakeFolder(folder / "lake")
        definition = folder / "pipeline.py"
        definition.write_text(HEADER.replace("{body}", body))
        pipeline = load(str(definition))
        definition.write_text(start + HEADER.replace("{body}", body))
        self.lake.create(pipeline.bronze, pipeline.silver, pipeline.quarantine)
        self.bronze = self.lake.bucket(pipeline.bronze)
        self.silver = self.lake.bucket(pipeline.silver)
        self.transform = pipeline.transforms[0]
        functions = worker_functions(read(compile_template(pipeline)))
        if policy is not None:
            functions = tuple(replace(function, policy=policy) for function in functions)
        self.name = functions[0].name
        config = WorkerConfig(str(definition), self.lake.path, functions)
        self.events: list[dict[str, Any]] = []
        self.last: Worker | None = None
        self.workers = WorkerPool(
            config,
            number=number,
            log=self.lake.logs / "functions.log",
            cpus=cpus,
            prewarmed=prewarmed,
            is_large_first=is_large_first,
        )

    def until(self, true: Callable[[], object], *, now: float | None = None) -> None:
        """Listen until something is true; ``now``: with an eye on time and memory."""
        deadline = time.monotonic() + PATIENCE
        while not true():
            assert time.monotonic() < deadline, self.events
            connections = self.workers.connections
            for ready in wait(list(connections), timeout=0.05):
                self.last = worker = connections[ready]  # type: ignore[index]
                for event in self.workers.reports(worker):
                    worker.ready = worker.ready or "ready" in event
                    self.events.append(event)
            if now is not None:
                self.workers.enforce(now)

    def ready(self) -> Worker:
        self.until(lambda: self.workers.idle)
        return self.workers.idle[0]

    def invocation(self, *values: int, size: int | None = None) -> Invocation:
        """A batch with a file for each value; events that tell a ``size`` may be worked on beside others."""
        messages: dict[str, ReceivedMessage] = {}
        for value in values:
            key = f"{value}.csv"
            (self.bronze / key).write_text(f"x\n{value}\n")
            body = object_created(ObjectEvent("dl-bronze-layer", key, size=size), reason="PutObject")
            messages[key] = ReceivedMessage(value, key, key, "v", body, 0.0, 1, 0.0, f"{value}-receipt")
        settings = function_settings(self.name, "rows", timeout=30)
        return Invocation(settings, messages, started=1000.0)

    def dispatch(self, *values: int, size: int | None = None) -> Dispatch:
        """A dispatch of one batch."""
        return Dispatch.of([self.invocation(*values, size=size)])

    def reports(self, word: str) -> list[Any]:
        return [event[word] for event in self.events if word in event]

    def ended(self) -> dict[str, Any]:
        """The outcomes of messages that have ended, by their ids, in the order of their ends."""
        return {message: outcome for messages in self.reports("ended") for message, outcome in messages.items()}

    def log(self) -> str:
        """The output of the transforms."""
        return (self.lake.logs / "functions.log").read_text()

    def deaths(self) -> list[str]:
        return self.reports("died")


@contextmanager
def opened(
    folder: Path,
    body: str = "pass",
    *,
    number: int = 1,
    start: str = "",
    policy: Policy | None = None,
    cpus: frozenset[int] | None = None,
    prewarmed: PrewarmedWorkers | None = None,
    is_large_first: bool = False,
) -> Iterator[Pool]:
    pool = Pool(
        folder,
        body,
        number=number,
        start=start,
        policy=policy,
        cpus=cpus,
        prewarmed=prewarmed,
        is_large_first=is_large_first,
    )
    try:
        yield pool
    finally:
        pool.workers.stop()


def test_a_worker_reports_each_message_as_it_begins_and_ends(tmp_path: Path) -> None:
    with opened(tmp_path) as pool:
        worker = pool.ready()
        worker.send(pool.dispatch(1, 2))
        assert pool.workers.busy == [worker]
        assert pool.workers.idle == []
        pool.until(lambda: pool.reports("done"))
        assert [sorted(event) for event in pool.events] == [
            ["ready"], ["ended"], ["done", "ended"],
        ]  # fmt: skip
        assert (list(pool.ended()), worker.began) == (["1.csv", "2.csv"], None)
        assert pool.reports("done") == [[{"batchItemFailures": []}]]
        assert [outcome["verdict"] for outcome in pool.ended().values()] == ["committed", "committed"]
        assert sorted(path.name for path in (pool.silver / "rows").iterdir()) == ["1.csv.parquet", "2.csv.parquet"]
        assert list(pool.lake.engine_scratch.iterdir()) == []


@pytest.mark.parametrize("room", [0, 65_536])
def test_a_worker_goes_on_with_the_batch_it_was_given_ahead(
    tmp_path: Path, room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In both cases: it has the batch already, or there was no room for it in the pipe."""
    monkeypatch.setattr(workers, "_ROOM", room)
    with opened(tmp_path) as pool:
        worker = pool.ready()
        first, second = pool.dispatch(1, 2), pool.dispatch(3)
        worker.send(first)
        assert pool.workers.open == [worker]
        worker.send(second)
        assert (worker.current, worker.following, pool.workers.open) == (first, second, [])
        pool.until(lambda: pool.reports("done"))
        worker.finish(1007.0)
        assert (worker.current, worker.following, second.started) == (second, None, 1007.0)
        pool.until(lambda: len(pool.reports("done")) == 2)
        worker.finish(1008.0)
        assert (worker.current, pool.workers.idle) == (None, [worker])
        assert list(pool.ended()) == ["1.csv", "2.csv", "3.csv"]


def test_several_batches_at_once_end_together_and_each_by_itself(tmp_path: Path) -> None:
    with opened(tmp_path, "if first == 4: raise ValueError('four')") as pool:
        worker = pool.ready()
        batches = [pool.invocation(1, 2), pool.invocation(3, 4), pool.invocation(5)]
        worker.send(Dispatch.of(batches))
        pool.until(lambda: pool.reports("done"))
        assert pool.reports("done") == [
            [
                {"batchItemFailures": []},
                {"batchItemFailures": [{"itemIdentifier": "4.csv"}]},
                {"batchItemFailures": []},
            ]
        ]
        assert sorted(path.name for path in (pool.silver / "rows").iterdir()) == [
            f"{number}.csv.parquet" for number in (1, 2, 3, 5)
        ]


def test_a_worker_that_dies_with_several_batches_was_at_one_message(tmp_path: Path) -> None:
    with opened(tmp_path, "if first == 4: os._exit(7)") as pool:
        worker = pool.ready()
        worker.send(Dispatch.of([pool.invocation(1, 2), pool.invocation(3, 4), pool.invocation(5)]))
        pool.until(pool.deaths)
        assert worker.began == "4.csv"


def test_a_worker_that_dies_has_not_begun_the_following_dispatch(tmp_path: Path) -> None:
    with opened(tmp_path, "if first == 2: os._exit(7)") as pool:
        worker = pool.ready()
        worker.send(pool.dispatch(1, 2))
        worker.send(pool.dispatch(3, 4, 5))
        pool.until(pool.deaths)
        assert worker.current is not None
        assert worker.following is not None
        assert worker.began == "2.csv"


def test_workers_are_prewarmed_processes_as_long_as_there_are_any(tmp_path: Path) -> None:
    with PrewarmedWorkers(1) as prewarmed, opened(tmp_path, prewarmed=prewarmed) as pool:
        first = pool.ready()
        first.send(pool.dispatch(1))
        pool.until(lambda: pool.reports("done"))
        first.process.kill()
        pool.until(pool.deaths)
        second = pool.ready()
        second.send(pool.dispatch(2))
        pool.until(lambda: len(pool.reports("done")) == 2)
        assert list(pool.ended()) == ["1.csv", "2.csv"]


def test_a_prewarmed_process_that_has_died_is_replaced(tmp_path: Path) -> None:
    before = set(multiprocessing.active_children())
    with PrewarmedWorkers(1) as prewarmed:
        (child,) = set(multiprocessing.active_children()) - before
        child.kill()
        child.join()
        with opened(tmp_path, prewarmed=prewarmed) as pool:
            pool.ready().send(pool.dispatch(1))
            pool.until(lambda: pool.reports("done"))
            assert len(pool.deaths()) == 1


def test_an_object_of_another_bucket_is_not_looked_at(tmp_path: Path) -> None:
    with opened(tmp_path) as pool:
        invocation = pool.invocation(1)
        body = object_created(ObjectEvent("another-bucket", "1.csv"), reason="PutObject")
        invocation.messages["1.csv"] = ReceivedMessage(1, "1.csv", "1.csv", "v", body, 0.0, 1, 0.0, "1-receipt")
        pool.ready().send(Dispatch.of([invocation]))
        pool.until(lambda: pool.reports("done"))
        assert [outcome["verdict"] for outcome in pool.ended().values()] == ["dropped"]
        assert list(pool.silver.iterdir()) == []


def test_a_function_may_do_what_its_role_allows_and_nothing_else(tmp_path: Path) -> None:
    with opened(tmp_path, policy=Policy.parse("NothingAllowed")) as pool:
        pool.ready().send(pool.dispatch(1))
        pool.until(lambda: pool.reports("done"))
        (outcome,) = pool.ended().values()
        assert (outcome["verdict"], outcome["error"]["code"]) == ("failed", "AccessDenied")
        assert pool.reports("done") == [[{"batchItemFailures": [{"itemIdentifier": "1.csv"}]}]]
        assert list(pool.silver.iterdir()) == []


@pytest.mark.full
def test_a_worker_that_dies_says_how_and_is_replaced(tmp_path: Path) -> None:
    with opened(
        tmp_path, "if first == 2: os.kill(os.getpid(), signal.SIGSEGV)\n    if first == 3: os._exit(7)"
    ) as pool:
        for value, reason in ((2, "killed by signal 11 (SIGSEGV)"), (3, "exit code 7")):
            worker = pool.ready()
            worker.send(pool.dispatch(1, value, 4))
            pool.until(pool.deaths)
            assert reason in pool.deaths()[0]
            assert pool.last is worker
            assert list(pool.ended()) == ["1.csv"]
            assert worker.began == f"{value}.csv"
            pool.events.clear()
        worker = pool.ready()
        worker.send(pool.dispatch(4))
        pool.until(lambda: pool.reports("done"))


@pytest.mark.full
def test_many_workers_share_the_cpus_and_one_more_has_all_for_what_is_large(tmp_path: Path) -> None:
    with opened(
        tmp_path, "print('threads:', first, pl.thread_pool_size())", number=2, cpus=frozenset(range(4))
    ) as pool:
        pool.ready().send(pool.dispatch(1))
        wide = pool.workers.for_large()
        assert wide is not None
        wide.send(pool.dispatch(2))
        assert pool.workers.for_large() is None, "it is at work"
        pool.until(lambda: len(pool.reports("done")) == 2)
        wide.current = None
        assert pool.workers.for_large() is wide
        assert wide not in pool.workers.idle, "it is kept for what is large"
        wide.process.kill()
        pool.until(pool.deaths)
        again = pool.workers.for_large()
        assert again not in {None, wide}
        pool.until(lambda: {"threads: 1 2", "threads: 2 4"} <= set(pool.log().splitlines()))


def test_the_last_output_is_in_the_log_once_the_pool_has_stopped(tmp_path: Path) -> None:
    with opened(tmp_path, "for number in range(3000): print('line', number)") as pool:
        pool.ready().send(pool.dispatch(1))
        pool.until(lambda: pool.reports("done"))
    assert pool.log().count("line") == 3000
    assert pool.workers._log.handlers == []


def test_a_large_file_is_seen_in_any_folder_among_the_first_files(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/small.csv").write_bytes(b"x")
    assert not has_large_file(tmp_path)
    with (tmp_path / "a/b/large.csv").open("wb") as file:
        file.truncate(IN_MEMORY + 1)
    assert has_large_file(tmp_path)
    assert not has_large_file(tmp_path, most=2)
    assert not has_large_file(tmp_path / "none")


@pytest.mark.full
def test_the_first_worker_has_all_cpus_where_a_large_file_is_first(tmp_path: Path) -> None:
    """Though the pipeline uses Polars when it is loaded. Another worker is started in its place when it is needed."""
    with opened(
        tmp_path,
        "print('threads:', first, pl.thread_pool_size())",
        start="import polars as pl\npl.LazyFrame({'x': [1]}).collect()\n",
        number=2,
        cpus=frozenset(range(4)),
        is_large_first=True,
    ) as pool:
        small = pool.ready()
        pool.workers.refill()
        assert pool.workers.open == [small], "nothing waits"
        wide = pool.workers.for_large()
        assert wide is not None
        wide.send(pool.dispatch(2))
        small.send(pool.dispatch(1))
        pool.workers.refill()
        pool.until(lambda: len(pool.reports("done")) == 2)
        pool.ready().send(pool.dispatch(3))
        pool.until(lambda: {"threads: 1 2", "threads: 2 4", "threads: 3 2"} <= set(pool.log().splitlines()))


@pytest.mark.full
def test_the_number_of_threads_that_the_user_has_set_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLARS_MAX_THREADS", "3")
    with opened(
        tmp_path,
        "print('threads:', first, pl.thread_pool_size())",
        number=2,
        cpus=frozenset({0, 1}),
        is_large_first=True,
    ) as pool:
        pool.until(lambda: len(pool.workers.idle) == 2)
        pool.ready().send(pool.dispatch(1))
        pool.until(lambda: "threads: 1 3" in pool.log().splitlines())


def test_a_printed_line_comes_in_one_piece_whatever_pythons_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else lines of two workers, which share a log, would get into each other."""
    monkeypatch.setenv("PYTHONUNBUFFERED", "1")
    pieces: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            pieces.append(record.getMessage())

    with opened(tmp_path, "for number in range(200): print('one', 'line', number)") as pool:
        logs = pool.workers._log  # what comes of it in the file is one text, however it came
        logs.addHandler(Keep())
        pool.ready().send(pool.dispatch(1))
        pool.until(lambda: "line 199\n" in "".join(pieces[-3:]))
    assert all(piece.endswith("\n") for piece in pieces)


def test_there_is_no_extra_worker_if_each_has_all_cpus(tmp_path: Path) -> None:
    with opened(tmp_path, number=1, cpus=frozenset(range(4))) as pool:
        assert pool.workers.for_large() is None


@pytest.mark.full
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system does not let one choose CPUs")
def test_a_worker_with_one_thread_and_its_replacement_stay_on_one_cpu(tmp_path: Path) -> None:
    usable = usable_cpus()
    number = len(usable) + 1
    with opened(tmp_path, number=number) as pool:
        pool.ready().process.kill()
        pool.until(pool.deaths)
        pool.until(lambda: len(pool.workers.idle) == number)
        actual = [psutil.Process(worker.process.pid).cpu_affinity() for worker in pool.workers.idle]
        assert sorted(actual) == sorted([cpu] for cpu in [*usable, min(usable)])
    assert usable_cpus() == usable, "the engine itself may go on anywhere"


def test_a_worker_whose_cpu_is_not_to_be_had_works_on_another(tmp_path: Path) -> None:
    usable = usable_cpus()
    with opened(tmp_path, number=1, cpus=frozenset({1000})) as pool:
        pool.ready().send(pool.dispatch(1))
        pool.until(lambda: pool.reports("done"))
    assert usable_cpus() == usable


@pytest.mark.full
def test_the_replacement_of_a_dead_worker_finishes_each_file_before_the_next(tmp_path: Path) -> None:
    """Else the first of two files would never be done where the second always kills."""
    with opened(tmp_path, "if first == 2: os._exit(7)") as pool:
        for done in ([], ["1.csv"]):
            worker = pool.ready()
            worker.send(pool.dispatch(1, 2, size=4))
            pool.until(pool.deaths)
            assert list(pool.ended()) == done
            pool.events.clear()


@pytest.mark.full
def test_a_worker_that_had_died_before_it_got_a_batch_is_noticed(tmp_path: Path) -> None:
    with opened(tmp_path) as pool:
        worker = pool.ready()
        worker.process.kill()
        worker.process.join()
        worker.send(pool.dispatch(1))
        pool.until(pool.deaths)
        assert "had died before it got the batch" in pool.deaths()[0] or "SIGKILL" in pool.deaths()[0]
        assert pool.ready() is not worker


def test_the_timeout_ends_a_worker(tmp_path: Path) -> None:
    with opened(tmp_path, "while True: time.sleep(0.01)") as pool:
        worker = pool.ready()
        dispatch = pool.dispatch(1)
        worker.send(dispatch)
        pool.until(lambda: worker.began)
        pool.workers.enforce(dispatch.deadline - 0.001)
        assert worker.process.is_alive()
        pool.until(pool.deaths, now=dispatch.deadline)
        assert pool.deaths() == ["the function timed out after 30 s (its timeout)"]


def test_the_memory_limit_ends_a_worker(tmp_path: Path) -> None:
    hoard = "hoard = []\n    while True: hoard.append(b'x' * 10_000_000); time.sleep(0.001)"
    with opened(tmp_path, hoard) as pool:
        pool.ready().send(pool.dispatch(1))
        pool.until(pool.deaths, now=1000.0)
        (reason,) = pool.deaths()
        assert "its limit is 512 MB" in reason
        used = int(reason.split("used ")[1].split(" MB")[0])
        assert 512 <= used < 2048


@pytest.mark.full
def test_a_gigabyte_of_output_takes_little_room(tmp_path: Path) -> None:
    shout = "for n in range(17_000): os.write(1 + n % 2, b'noise ' * 10_000 + b'\\n')\n    print('the end')"
    with opened(tmp_path, shout) as pool:
        before = psutil.Process().memory_info().rss
        pool.ready().send(pool.dispatch(1))
        pool.until(lambda: pool.reports("done"))
        logs = list(pool.lake.logs.iterdir())
        assert sum(path.stat().st_size for path in logs) <= 2 * LOG_BYTES + 2 * 65_536
        assert psutil.Process().memory_info().rss - before < 100 * 1024 * 1024
        newest = pool.lake.logs / "functions.log"
        pool.until(lambda: newest.read_text("utf-8").endswith("the end\n"))


def test_output_that_is_no_text_is_kept_readable(tmp_path: Path) -> None:
    with opened(tmp_path, r"os.write(2, b'\xff\xfe caf\xc3\xa9 \x00\n')") as pool:
        pool.ready().send(pool.dispatch(1))
        log = pool.lake.logs / "functions.log"
        pool.until(lambda: log.read_text("utf-8").endswith("\n"))
        assert log.read_text("utf-8") == "\\xff\\xfe café \x00\n"


@pytest.mark.full
def test_a_worker_that_cannot_start_dies_unready(tmp_path: Path) -> None:
    with opened(tmp_path, start="import os\nos._exit(9)\n") as pool:
        pool.until(lambda: len(pool.deaths()) >= 2)
        assert all("exit code 9" in reason for reason in pool.deaths())
        assert not pool.reports("ready")


def test_a_definition_that_broke_meanwhile_is_reported(tmp_path: Path) -> None:
    with opened(tmp_path, start="raise RuntimeError('broken by now')\n") as pool:
        pool.until(lambda: pool.reports("broken"))
        assert "broken by now" in pool.reports("broken")[0]


@pytest.mark.full
def test_stop_leaves_no_process(tmp_path: Path) -> None:
    with opened(tmp_path, "while True: time.sleep(0.01)", number=2) as pool:
        worker = pool.ready()
        worker.send(pool.dispatch(1))
        pool.until(lambda: worker.began)
        processes = [worker.process for worker in pool.workers.connections.values()]
        assert len(processes) == 2
        pool.workers.stop()
        assert not any(process.is_alive() for process in processes)
        pool.workers.stop()
