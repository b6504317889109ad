"""The local engine: one loop that takes in files, delivers messages, and keeps the workers busy."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait

from silversmith.errors import NotOurs
from silversmith.local.definition import Definition
from silversmith.local.journal import Compaction, Journal, open_or_rebuild
from silversmith.local.lake import LakeFolder, LakeLock
from silversmith.local.processes import PrewarmedWorkers
from silversmith.local.resend import Rounds, routes
from silversmith.local.services.bucket import Inbox
from silversmith.local.services.queue import expire, recount
from silversmith.local.stack import read
from silversmith.local.watcher import Search, Watcher
from silversmith.local.wiring import Delivery, Services, build, worker_functions
from silversmith.local.worker import WorkerConfig
from silversmith.local.workers import LOOK, Dispatcher, WorkerPool
from silversmith.pipeline import Pipeline
from silversmith.schemas.recorded import require_ours
from silversmith.template import compile as compile_template

#: The most files that the bucket takes in one transaction.
INTAKE = 500

#: The seconds between two looks at files that were not whole.
RECHECK = 1.0

#: The first round of reconciliation begins when the work that was there at the start is done, or so many seconds after
#: it: while files are on their way, it would mostly look at those.
LATEST_ROUND = 60.0

#: The most refused files that the log names.
REFUSALS = 1000

#: The clock is corrected by this much now and then, in seconds; nobody notices less.
TOLERANCE = 1.0

_log = logging.getLogger("silversmith")


@dataclass(frozen=True)
class Progress:
    """Where everything is. ``rejected`` counts rows, the others files or messages, in this run."""

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
    ) -> None:
        with ExitStack() as closing:
            self._clock = clock or Clock()
            self._make_delivery = delivery
            self._lake = lake
            self._number = workers
            self._prewarmed = prewarmed
            self._bronze = pipeline.bronze
            self._definition = Definition(target, pipeline)
            self._successor: Pipeline | None = None
            lake.create(pipeline.bronze, pipeline.silver, pipeline.quarantine)
            closing.callback(LakeLock(lake).release)
            _require_ours(lake, pipeline)
            lake.sweep()
            self._open(closing, pipeline)
            self._hurry = False
            self._services, self._workers, self._dispatcher, self._rounds = self._set_up(pipeline)
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
            lambda key, identity, *, trusting: self._services.bucket.unchanged(key, identity, trusting=trusting),
        )
        self._compaction = Compaction(
            self._journal,
            bucket=pipeline.bronze,
            expire=expire,
            sweep=lambda: self._services.bucket.sweep(lambda key: self._store.glance(key) is not None),
        )

    def _set_up(self, pipeline: Pipeline) -> tuple[Services, WorkerPool, Dispatcher, Rounds]:
        """Make everything that depends on the definition."""
        stack = read(compile_template(pipeline))
        services = build(
            stack, self._journal, bronze=pipeline.bronze, clock=self._clock.now, delivery=self._make_delivery
        )
        config = WorkerConfig(self._definition.target, self._lake.path.resolve(), worker_functions(stack))
        rounds = Rounds(
            pipeline, self._lake.stores(pipeline), self._store, self._journal, routes(stack), since=self._since
        )
        workers = WorkerPool(config, number=self._number, logs=self._lake.logs, prewarmed=self._prewarmed)
        dispatcher = Dispatcher(services.functions, workers, self._lake.path)
        dispatcher.hurry = self._hurry
        return services, workers, dispatcher, rounds

    def run(self, *, until_idle: bool, stopped: Callable[[], bool], tick: Callable[[Progress], None]) -> Progress:
        """Work until ``stopped()``, or with ``until_idle`` until there is nothing left to do.

        Args:
            until_idle: return when idle; waits (retries, batching windows) are then cut short.
            stopped: asked several times a second.
            tick: shown the progress as often.
        """
        now = self._clock.now()
        self._hurry = self._dispatcher.hurry = until_idle
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
        self._drain()
        tick(self.progress())
        return self.progress()

    def failed_files(self) -> int:
        """How many files ended in quarantine or in a dead-letter queue since this engine began."""
        since = self._started
        dead = sum(
            self._journal.rows("dead_since", queue=queue.settings.arn, since=since)[0][0]
            for queue in self._services.dead_letters
        )
        return int(self._journal.rows("quarantined_since", since=since)[0][0] + dead)

    def close(self) -> None:
        """Stop everything. The next run finishes what was not finished."""
        self._closing.close()

    def progress(self) -> Progress:
        """Where everything is now."""
        now = self._clock.now()
        in_flight = sum(
            len(invocation.messages) for function in self._services.functions for invocation in function.running
        )
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
        )

    def _totals(self) -> Mapping[str, int]:
        return dict(self._journal.rows("counters"))

    def _step(self) -> None:
        """One turn: take in files, deliver messages, hand out batches, wait for something to happen."""
        self._search.step(self._clock.now())
        self._take_in()
        if jump := self._clock.jump():
            self._move_times(jump)
        now = self._clock.now()
        if abs(now - self._rechecked) >= RECHECK:
            self._rechecked = now
            self._watcher.recheck(now)
            self._successor = self._definition.changed() or self._successor
            self._dispatcher.paused = self._successor is not None
        if self._successor is not None and not self._workers.busy:
            self._change_to(self._successor)
        if self._rounds.finished or self._rounds.busy or now - self._started >= LATEST_ROUND or self._is_idle():
            self._rounds.step(now)
        self._compaction.step(now)
        self._services.delivery.deliver(now)
        self._dispatcher.dispatch_all(now)
        if self._hurry and self._only_waits():
            self._hasten(now)
            return
        self._listen(self._pause(now))
        self._workers.enforce(self._clock.now())

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
        for worker in self._workers.busy:
            assert worker.current is not None
            worker.current.started += jump

    def _change_to(self, pipeline: Pipeline) -> None:
        """Go on with a new definition. No worker is at work; queued messages are done by the new code."""
        self._successor = None
        self._dispatcher.paused = False
        if pipeline.bronze != self._bronze:
            _log.error("the bronze bucket's name has changed to %s: start the engine again", pipeline.bronze)
            return
        self._lake.create(pipeline.bronze, pipeline.silver, pipeline.quarantine)
        try:
            _require_ours(self._lake, pipeline)
        except NotOurs as error:
            _log.error("the pipeline's new definition is not taken: %s, and start the engine again", error)
            return
        self._workers.stop()
        # An outcome of the old definition may not be what the new one would have made.
        self._since = max(self._since, self._clock.now())
        self._services, self._workers, self._dispatcher, self._rounds = self._set_up(pipeline)
        _log.warning("the pipeline's definition has changed: going on with the new one")

    def _pause(self, now: float) -> float:
        """For how many seconds nothing can happen unless the engine is woken."""
        if self._rounds.busy or self._search.ready:
            return 0.0
        if self._inbox.pending:
            return 0.005
        due = [LOOK + now if self._workers.busy else now + 0.2]
        if self._workers.idle:
            times = (function.next_due(now) for function in self._services.functions)
            due += [time for time in times if time is not None]
        return max(0.0, min(due) - now)

    def _listen(self, pause: float) -> None:
        """Handle the workers' reports for so long, in seconds, or until there is something to do: a worker has become
        idle or has died, or a file landed and a worker is idle. Other files are taken in with those that land later."""
        end = time.monotonic() + pause
        woken = False
        while not woken:
            connections = self._workers.connections
            ready = wait([*connections, self._wake_reading], timeout=max(0.0, end - time.monotonic()))
            woken = not ready or time.monotonic() >= end
            for source in ready:
                if source == self._wake_reading:
                    os.read(self._wake_reading, 65536)
                    woken |= bool(self._workers.idle)
                elif isinstance(source, Connection):
                    for report in self._workers.reports(connections[source]):
                        self._dispatcher.handle(report, self._clock.now())
                        woken |= report.message is None or report.worker.current is None

    def _only_waits(self) -> bool:
        """Whether messages wait for their time, and nothing else is to be done."""
        return not self._inbox.pending and not self._workers.busy and bool(self._workers.idle) and not self._is_idle()

    def _hasten(self, now: float) -> None:
        with self._journal.transaction():
            for function in self._services.functions:
                self._services.queues[function.settings.queue.arn].hasten(now)

    def _is_idle(self) -> bool:
        """Nothing is found, on its way, queued or being worked on. Dead-letter queues may hold messages."""
        if self._inbox.pending or self._workers.busy or self._search.busy or self._successor:
            return False
        if (row := self._journal.row("next_due")) and row[0] is not None:
            return False
        queues = [self._services.queues[function.settings.queue.arn] for function in self._services.functions]
        return all(queue.next_visible() is None for queue in queues)

    def _is_done(self) -> bool:
        return self._is_idle() and bool(self._rounds.finished) and not self._search.last(self._clock.now())

    def _stop_workers(self) -> None:
        self._workers.stop()  # those of the latest definition

    def _drain(self) -> None:
        """Let running batches end, for a little while; the next run does the others."""
        patience = time.monotonic() + 5
        while self._workers.busy and time.monotonic() < patience:
            self._listen(0.05)
            self._workers.enforce(self._clock.now())

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


def _require_ours(lake: LakeFolder, pipeline: Pipeline) -> None:
    """
    Raises:
        NotOurs: another pipeline has the silver of a transform in this lake.
    """
    stores = lake.stores(pipeline)
    require_ours(lake.owner(pipeline), stores.silver, stores.quarantine, pipeline.transforms)
