"""The local engine: one loop that takes in files, delivers messages, and keeps the workers busy."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from silversmith.errors import NotOurs
from silversmith.local.definition import Definition
from silversmith.local.invocation import FunctionConfig, WorkerConfig
from silversmith.local.journal import Compaction, Journal, open_or_rebuild
from silversmith.local.kinds import UnsupportedTemplate
from silversmith.local.lake import LakeFolder, LakeLock
from silversmith.local.processes import TABLE_WORKER, PrewarmedWorkers
from silversmith.local.resend import Rounds, Route, TableRounds, route_of_tables, routes
from silversmith.local.services.bucket import Inbox
from silversmith.local.services.function import FunctionService
from silversmith.local.services.queue import expire, recount
from silversmith.local.stack import read
from silversmith.local.watcher import Search, Watcher
from silversmith.local.wiring import Delivery, build, worker_functions
from silversmith.local.workers import LOOK, Dispatch, Dispatcher, Worker, WorkerPool
from silversmith.pipeline import Pipeline, with_moments
from silversmith.schemas.recorded import require_ours
from silversmith.stores import IN_MEMORY
from silversmith.template import compile_for_engine

#: The most files that the bucket takes in one transaction.
INTAKE = 500

#: The seconds between two looks at files that were not whole.
RECHECK = 1.0

#: The first round of reconciliation begins when the work that was there at the start is done, or so many seconds after
#: it: while files are on their way, it would mostly look at those.
LATEST_ROUND = 60.0

#: The most refused files that the log names.
REFUSALS = 1000

#: At its start the engine looks at so many files of bronze, whether there is a large one.
SEEN_FIRST = 200

#: The clock is corrected by this much now and then, in seconds; nobody notices less.
TOLERANCE = 1.0

_log = logging.getLogger("silversmith")


@dataclass(frozen=True)
class TableState:
    """A table or view that was changed in this run, as it is now."""

    rows: int
    version: int


@dataclass(frozen=True)
class Progress:
    """The state of a run. ``rejected`` counts rows, the others files or messages, in this run. ``tables``: those that
    changed in it, by name. ``markers`` stand for folders and jobs, and were passed over. ``partial`` counts files
    of which some rows were rejected and the others are in silver, ``outdated`` silver that older code made and that is
    left as it is."""

    found: int
    waiting: int
    in_flight: int
    done: int
    duplicates: int
    rows: int
    rejected: int
    quarantined: int
    retries: int
    dead: int
    tables: Mapping[str, TableState] = field(default_factory=dict)
    markers: int = 0
    partial: int = 0
    outdated: int = 0


def steady() -> float:
    """Seconds that nobody sets, and that go on while the computer sleeps, where the system has such a clock."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Clock:
    """The time of day, compared with a clock that nobody sets.

    Messages wait until a time of day, because they must also wait while no engine runs. So when the clock is set, their
    times are moved with it: else a message could be hidden for a day, or its retention end at once.

    Args:
        now: the time of day, in Unix seconds.
        steady: seconds since whenever.
    """

    def __init__(self, now: Callable[[], float] = time.time, steady: Callable[[], float] = steady) -> None:
        self.now = now
        self._steady = steady
        self._ahead = now() - steady()

    def jump(self) -> float:
        """By how many seconds the time of day was set forward since the last call; 0.0 if it was not."""
        ahead = self.now() - self._steady()
        jump = ahead - self._ahead
        if abs(jump) < TOLERANCE:
            return 0.0
        self._ahead = ahead
        return jump


def move_times(journal: Journal, jump: float) -> None:
    """Move every time that a message waits for by so many seconds."""
    with journal.transaction():
        journal.change("move_messages", jump=jump)
        journal.change("move_outbox", jump=jump)


class Engine:
    """Runs a pipeline's template over a lake.

    Args:
        lake: the folder.
        pipeline: the definition.
        target: where workers load the same definition from (``pipeline.py`` or ``package.module:attribute``).
        workers: how many worker processes.
        clock: the time of day.
        prewarmed: processes that were started to be its workers; None: there are none.
        delivery: makes what delivers messages from service to service; tests disturb them there.
        changed: replace silver that other code or other lookups made.

    Raises:
        LakeInUse: another engine runs over this lake.
        NotOurs: another pipeline has the silver of a transform here. Nothing was done.
    """

    def __init__(
        self,
        lake: LakeFolder,
        pipeline: Pipeline,
        *,
        target: str,
        workers: int,
        clock: Clock | None = None,
        prewarmed: PrewarmedWorkers | None = None,
        delivery: Callable[..., Delivery] = Delivery,
        changed: bool = False,
    ) -> None:
        with ExitStack() as closing:
            self._clock = clock or Clock()
            self._make_delivery = delivery
            self._changed = changed
            self._lake = lake
            self._number = workers
            self._prewarmed = prewarmed
            self._bronze = pipeline.bronze
            self._definition = Definition(target, pipeline)
            self._successor: Pipeline | None = None
            _create(lake, pipeline)
            closing.callback(LakeLock(lake).release)
            _require_ours(lake, pipeline)
            lake.sweep()
            self._open(closing, pipeline)
            self._hurry = False
            self._tables: dict[str, TableState] = {}
            self._set_up(pipeline)
            closing.callback(self._stop_workers)
            self._refusals: set[str] = set()
            self._rechecked = 0.0
            self._before = self._totals()
            self._closing = closing.pop_all()

    def _open(self, closing: ExitStack, pipeline: Pipeline) -> None:
        """Open everything that outlives a change of the definition: the journal and the watcher."""
        self._journal = open_or_rebuild(self._lake.journal, warn=_log.warning)
        closing.callback(self._journal.close)
        self._started = self._clock.now()
        self._move_times_back()
        self._wake_reading, self._wake_writing = os.pipe()
        os.set_blocking(self._wake_writing, False)
        closing.callback(os.close, self._wake_reading)
        closing.callback(os.close, self._wake_writing)
        self._store = self._lake.store(pipeline.bronze, foreign_writers=True)
        self._inbox = Inbox(self._store, self._wake)
        closing.callback(self._inbox.close)
        self._watcher = Watcher(
            self._lake.bucket(pipeline.bronze),
            on_files=self._inbox.add,
            on_gone=self._inbox.remove,
            on_folder_gone=self._inbox.remove_folder,
            on_refused=self._warn_of_refused,
            on_overflow=self._search_again,
        )
        closing.callback(self._watcher.stop)
        self._search = Search(
            self._watcher,
            self._store,
            self._inbox,
            lambda *file, trusting: self._services.bucket.unchanged(*file, trusting=trusting),
        )
        self._compaction = Compaction(
            self._journal,
            bucket=pipeline.bronze,
            expire=expire,
            sweep=lambda: self._services.bucket.sweep(lambda key: self._store.glance(key) is not None),
        )

    def _set_up(self, pipeline: Pipeline) -> None:
        """Make everything that depends on the definition."""
        now = datetime.fromtimestamp(self._clock.now(), UTC)
        pipeline = with_moments(pipeline, self._lake.first_runs(pipeline, now=now))
        stack = read(compile_for_engine(pipeline))
        self._services = services = build(
            stack,
            self._journal,
            bronze=pipeline.bronze,
            silver=pipeline.silver,
            quarantine=pipeline.quarantine,
            clock=self._clock.now,
            delivery=self._make_delivery,
        )
        config = WorkerConfig(self._definition.target, self._lake.path.resolve(), worker_functions(stack))
        self._rounds = Rounds(
            pipeline,
            self._lake.stores(pipeline),
            self._store,
            self._journal,
            routes(stack),
            since=self._since,
            changed=self._changed,
        )
        log = self._lake.logs / "functions.log"
        workers = WorkerPool(
            config,
            number=self._number,
            log=log,
            prewarmed=self._prewarmed,
            is_large_first=has_large_file(self._lake.bucket(pipeline.bronze)),
        )
        self._dispatchers = [Dispatcher(services.functions, workers, self._lake.path)]
        self._table_rounds: TableRounds | None = None
        for function in worker_functions(stack, "SILVERSMITH_TABLES"):
            self._set_up_tables(pipeline, function, route_of_tables(stack))
        for dispatcher in self._dispatchers:
            dispatcher.hurry = self._hurry

    def _set_up_tables(self, pipeline: Pipeline, function: FunctionConfig, route: Route | None) -> None:
        """A process of their own makes the tables; one, for of two commits to one table one begins again."""
        if self._services.tables is None or route is None:
            raise UnsupportedTemplate(f"the function {function.name} has no mapping, so that nothing would call it")
        self._table_rounds = TableRounds(self._journal, route, bronze=pipeline.bronze, silver=pipeline.silver)
        config = WorkerConfig(pipeline.tables.to_json(), self._lake.path.resolve(), (function,), main=TABLE_WORKER)
        pool = WorkerPool(config, number=1, log=self._lake.logs / "tables.log")
        self._dispatchers.append(Dispatcher([self._services.tables], pool, self._lake.path))

    @property
    def _functions(self) -> list[FunctionService]:
        return [function for dispatcher in self._dispatchers for function in dispatcher.functions]

    @property
    def _busy(self) -> list[Worker]:
        return [worker for dispatcher in self._dispatchers for worker in dispatcher.pool.busy]

    def run(self, *, until_idle: bool, stopped: Callable[[], bool], tick: Callable[[Progress], None]) -> Progress:
        """Work until ``stopped()``, or with ``until_idle`` until there is nothing left to do.

        Args:
            until_idle: return when idle; waits (retries, batching windows) are then cut short.
            stopped: asked several times a second.
            tick: shown the progress as often.
        """
        now = self._clock.now()
        self._hurry = until_idle
        for dispatcher in self._dispatchers:
            dispatcher.hurry = until_idle
        with self._journal.transaction():
            recount(self._journal)
            for queue in self._services.queues.values():
                queue.release_all(now)
        self._watcher.start()
        shown = 0.0
        while not stopped():
            self._step()
            if time.monotonic() - shown >= 0.2:
                shown = time.monotonic()
                tick(self.progress())
            if until_idle and self._is_done():
                break
            self._rest()
        self._drain()
        tick(self.progress())
        return self.progress()

    def failed_files(self) -> int:
        """How many files ended in quarantine or in a dead-letter queue since this engine began, and how many tables and
        views the last round could not bring up to date."""
        since = self._started
        dead = sum(
            self._journal.rows("dead_since", queue=queue.settings.arn, since=since)[0][0]
            for queue in self._services.dead_letters
        )
        rounds = len(self._table_rounds.failed) if self._table_rounds is not None else 0
        return int(self._journal.rows("quarantined_since", since=since)[0][0] + dead + rounds)

    def close(self) -> None:
        """Stop everything. The next run finishes what was not finished."""
        self._closing.close()

    def progress(self) -> Progress:
        """The state now."""
        now = self._clock.now()
        in_flight = sum(len(invocation.messages) for function in self._functions for invocation in function.running)
        queued = sum(
            queue.depth(now)[0] for queue in self._services.queues.values() if queue not in self._services.dead_letters
        )
        totals = self._totals()

        def counted(*names: str) -> int:
            return sum(totals.get(name, 0) - self._before.get(name, 0) for name in names)

        return Progress(
            found=counted("bucket.created"),
            waiting=queued - in_flight + self._inbox.pending,
            in_flight=in_flight,
            done=counted("function.committed"),
            duplicates=counted("function.duplicate", "function.gone", "function.removed"),
            rows=counted("function.rows"),
            rejected=counted("function.rejected"),
            quarantined=counted("function.quarantined"),
            retries=counted("function.failed"),
            dead=counted("dead"),
            tables=dict(sorted(self._tables.items())),
            markers=counted("function.marker"),
            partial=counted("function.partial"),
            outdated=self._rounds.outdated,
        )

    def _totals(self) -> Mapping[str, int]:
        return dict(self._journal.rows("counters"))

    def _step(self) -> None:
        """One turn: take in files, deliver messages, hand out batches."""
        self._search.step(self._clock.now())
        self._take_in()
        if jump := self._clock.jump():
            self._move_times(jump)
        now = self._clock.now()
        if abs(now - self._rechecked) >= RECHECK:
            self._rechecked = now
            self._watcher.recheck(now)
            self._successor = self._definition.changed() or self._successor
            for dispatcher in self._dispatchers:
                dispatcher.paused = self._successor is not None
        if self._successor is not None and not self._busy:
            self._change_to(self._successor)
        if self._rounds.finished or self._rounds.busy or now - self._started >= LATEST_ROUND or self._is_idle():
            self._rounds.step(now)
        self._begin_table_round(now)
        self._compaction.step(now)
        self._services.delivery.deliver(now)
        for dispatcher in self._dispatchers:
            dispatcher.dispatch_all(now)

    def _rest(self) -> None:
        """Wait for something to happen."""
        now = self._clock.now()
        if self._hurry and self._only_waits():
            self._hasten(now)
            return
        self._listen(self._pause(now))
        self._enforce()

    def _enforce(self) -> None:
        for dispatcher in self._dispatchers:
            dispatcher.pool.enforce(self._clock.now())

    def _begin_table_round(self, now: float) -> None:
        """Have the process of tables compare them with silver, once silver itself was compared with bronze."""
        rounds, function = self._table_rounds, self._services.tables
        if rounds is None or function is None or not rounds.is_due(now) or not self._rounds.finished:
            return
        idle = self._dispatchers[-1].pool.idle
        if idle and self._successor is None and (now - self._started >= LATEST_ROUND or self._is_idle()):
            rounds.begin()
            idle[0].send(Dispatch(function.settings, now, ended=self._end_table_round))

    def _end_table_round(self, answer: Mapping[str, Any] | None, reason: str) -> None:
        assert self._table_rounds is not None
        self._table_rounds.end(answer, reason, self._clock.now())
        for name, why in self._table_rounds.failed.items():
            _log.error("tables: %s failed: %s", name, why)

    def _take_in(self) -> None:
        while files := self._inbox.take(INTAKE):
            self._services.bucket.notice(files, carry=self._services.delivery.carry)
        keys, folders = self._inbox.take_gone()
        if keys or folders:
            gone = [key for key in keys if self._store.glance(key) is None]
            self._services.bucket.forget(gone, folders=folders)

    def _move_times_back(self) -> None:
        """While no engine ran the clock may have been set back to before the journal's last hop."""
        newest, *_ = self._journal.row("newest_time") or (self._started,)
        self._since = max(self._started, newest)
        if newest > self._started + TOLERANCE:
            move_times(self._journal, self._started - newest)

    def _move_times(self, jump: float) -> None:
        """Every message waits as long as before the clock was set."""
        _log.warning("the clock was set %s by %.0f s", "forward" if jump > 0 else "back", abs(jump))
        move_times(self._journal, jump)
        self._started += jump
        for worker in self._busy:
            assert worker.current is not None
            worker.current.start(worker.current.started + jump)

    def _change_to(self, pipeline: Pipeline) -> None:
        """Go on with a new definition. No worker is at work; queued messages are done by the new code."""
        self._successor = None
        for dispatcher in self._dispatchers:
            dispatcher.paused = False
        if pipeline.bronze != self._bronze:
            _log.error("the bronze bucket's name has changed to %s: start the engine again", pipeline.bronze)
            return
        _create(self._lake, pipeline)
        try:
            _require_ours(self._lake, pipeline)
        except NotOurs as error:
            _log.error("the pipeline's new definition is not taken: %s, and start the engine again", error)
            return
        self._stop_workers()
        # An outcome of the old definition may not be what the new one would have made.
        self._since = max(self._since, self._clock.now())
        self._set_up(pipeline)
        _log.warning("the pipeline's definition has changed: going on with the new one")

    def _pause(self, now: float) -> float:
        """For how many seconds nothing can happen unless the engine is woken."""
        if self._rounds.busy or self._search.ready:
            return 0.0
        if self._inbox.pending:
            return 0.005
        due = [LOOK + now if self._busy else now + 0.2]
        for dispatcher in self._dispatchers:
            if dispatcher.pool.idle:
                times = (function.next_due(now) for function in dispatcher.functions)
                due += [time for time in times if time is not None]
        return max(0.0, min(due) - now)

    def _listen(self, pause: float) -> None:
        """Handle the workers' reports for so long, in seconds, or until there is something to do: a worker has become
        idle or has died, or a file landed and a worker is idle. Other files are taken in with those that land later."""
        end = time.monotonic() + pause
        woken = False
        while not woken:
            connections = {
                connection: (dispatcher, worker)
                for dispatcher in self._dispatchers
                for connection, worker in dispatcher.pool.connections.items()
            }
            ready = wait([*connections, self._wake_reading], timeout=max(0.0, end - time.monotonic()))
            woken = not ready or time.monotonic() >= end
            for source in ready:
                if source == self._wake_reading:
                    os.read(self._wake_reading, 65536)
                    woken |= bool(self._dispatchers[0].pool.idle)
                elif isinstance(source, Connection):
                    dispatcher, worker = connections[source]
                    for report in dispatcher.pool.reports(worker):
                        dispatcher.handle(worker, report, self._clock.now())
                        states = report.get("tables", {}).items()
                        self._tables |= {name: TableState(state["rows"], state["version"]) for name, state in states}
                        woken |= "died" in report or worker.current is None

    def _only_waits(self) -> bool:
        """Whether messages wait for their time, and nothing else is to be done."""
        if self._inbox.pending or self._busy or self._is_idle():
            return False
        return all(dispatcher.pool.idle for dispatcher in self._dispatchers)

    def _hasten(self, now: float) -> None:
        with self._journal.transaction():
            for function in self._functions:
                self._services.queues[function.settings.queue.arn].hasten(now)
                function.hasten()

    def _is_idle(self) -> bool:
        """Nothing is found, on its way, queued or being worked on. Dead-letter queues may hold messages."""
        if self._inbox.pending or self._busy or self._search.busy or self._successor:
            return False
        if (row := self._journal.row("next_due")) and row[0] is not None:
            return False
        queues = [self._services.queues[function.settings.queue.arn] for function in self._functions]
        return all(queue.next_visible() is None for queue in queues)

    def _is_done(self) -> bool:
        if not self._is_idle() or not self._rounds.finished:
            return False
        if self._table_rounds is not None and not self._table_rounds.finished:
            return False
        return not self._search.last(self._clock.now())

    def _stop_workers(self) -> None:
        for dispatcher in self._dispatchers:  # those of the latest definition
            dispatcher.pool.stop()

    def _drain(self) -> None:
        """Let running batches end, for a little while; the next run does the others."""
        patience = time.monotonic() + 5
        while self._busy and time.monotonic() < patience:
            self._listen(0.05)
            self._enforce()

    def _search_again(self, reason: str) -> None:
        _log.warning("looking through all of bronze again: %s", reason)
        self._search.again()
        self._wake()

    def _warn_of_refused(self, path: str, reason: str) -> None:
        """Warn once for each path, up to a limit."""
        if path not in self._refusals and len(self._refusals) < REFUSALS:
            self._refusals.add(path)
            _log.warning("%s is not taken: %s", path, reason)

    def _wake(self) -> None:
        with suppress(BlockingIOError):  # then it is awake already
            os.write(self._wake_writing, b"w")


def has_large_file(folder: Path, most: int = SEEN_FIRST) -> bool:
    """Whether one of the first files below a folder is large, as the system has them: to sort them would take long."""
    folders, seen = [str(folder)], 0
    with suppress(OSError):  # a file that has gone, or a folder of somebody else's: the search tells of it
        while folders and seen < most:
            with os.scandir(folders.pop()) as entries:
                for entry in islice(entries, most - seen):
                    seen += 1
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                    elif entry.stat(follow_symlinks=False).st_size > IN_MEMORY:
                        return True
    return False


def _create(lake: LakeFolder, pipeline: Pipeline) -> None:
    """The folders of the lake; that of gold only where there are tables."""
    gold = (pipeline.gold,) if pipeline.tables else ()
    lake.create(pipeline.bronze, pipeline.silver, pipeline.quarantine, *gold)


def _require_ours(lake: LakeFolder, pipeline: Pipeline) -> None:
    """
    Raises:
        NotOurs: another pipeline has the silver of a transform in this lake.
    """
    stores = lake.stores(pipeline)
    names = [transform.name for transform in pipeline.transforms]
    require_ours(lake.owner(pipeline), stores.silver, stores.quarantine, names)
