"""The local engine: one loop that moves what landed through the rooms and keeps the workers busy."""

from __future__ import annotations

import itertools
import logging
import os
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from multiprocessing.connection import Connection, wait

from silversmith.errors import NotOurs
from silversmith.local import rounds as resend
from silversmith.local.bucket import Inbox
from silversmith.local.chain import Chain, build, worker_functions
from silversmith.local.chaos import Chaos
from silversmith.local.clock import TOLERANCE, Clock, move
from silversmith.local.compaction import Compaction
from silversmith.local.definition import Definition
from silversmith.local.function import Function
from silversmith.local.invocation import Invocation
from silversmith.local.journal import open_or_rebuild
from silversmith.local.lake import LakeFolder, LakeLock
from silversmith.local.progress import RECENT, Profile, Progress, progress, waiting
from silversmith.local.queue import recount
from silversmith.local.reports import Reports
from silversmith.local.rounds import Rounds
from silversmith.local.spawning import Spares
from silversmith.local.stack import read
from silversmith.local.trip import Trip
from silversmith.local.watcher import Search, Watcher
from silversmith.local.worker import WorkerConfig
from silversmith.local.workers import LOOK, Worker, Workers
from silversmith.pipeline import Pipeline
from silversmith.schemas.recorded import require_ours
from silversmith.template import compile as compile_template

#: How many files the bucket room takes in one transaction.
INTAKE = 500

#: How often files that were not whole are looked at again, in seconds.
RECHECK = 1.0

#: Reconciliation begins when what there was to do at the start is done, or so many seconds after it: while files are on
#: their way, it would mostly look at what is about to be done.
LATEST_ROUND = 60.0

#: Of how many refused files the engine tells, at the most.
TOLD = 1000

_log = logging.getLogger("silversmith")


class Engine:
    """Runs a pipeline's template over a lake.

    Args:
        lake: the folder.
        pipeline: the definition.
        target: where workers load the same definition from (``pipeline.py`` or ``package.module:attribute``).
        workers: how many worker processes.
        chaos: what disturbs the messages on their way; only in trials.
        clock: the time of day.
        profile: where the stages of all files are added up; None: nowhere.
        spares: processes that were begun to be its workers; None: there are none.

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
        chaos: Chaos | None = None,
        clock: Clock | None = None,
        profile: Profile | None = None,
        spares: Spares | None = None,
    ) -> None:
        with ExitStack() as closing:
            self._clock = clock or Clock()
            self._chaos = chaos
            self._profile = profile
            self._lake = lake
            self._number = workers
            self._spares = spares
            self._bronze = pipeline.bronze
            self._definition = Definition(target, pipeline)
            self._successor: Pipeline | None = None
            lake.create(pipeline.bronze, pipeline.silver, pipeline.quarantine)
            closing.callback(LakeLock(lake).release)
            _require_ours(lake, pipeline)
            lake.sweep()
            self._open(closing, pipeline)
            self._chain, self._workers, self._rounds, self._reports = self._set_up(pipeline)
            closing.callback(self._stop_workers)
            self._ids = itertools.count(1)
            self._hurry = False
            self._told: set[str] = set()
            self._rechecked = 0.0
            self._asked = (-1, -1)
            self._before = self._totals()
            self._closing = closing.pop_all()

    def _open(self, closing: ExitStack, pipeline: Pipeline) -> None:
        """What stays the same when the definition changes: the journal, and what notices files."""
        self._journal = open_or_rebuild(self._lake.journal, tell=_log.warning)
        closing.callback(self._journal.close)
        self._started = self._clock.now()
        self._set_back()
        self._wake_reading, self._wake_writing = os.pipe()
        os.set_blocking(self._wake_writing, False)
        closing.callback(os.close, self._wake_reading)
        closing.callback(os.close, self._wake_writing)
        self._store = self._lake.store(pipeline.bronze, foreign_writers=True)
        self._inbox = Inbox(self._store, self._wake)
        closing.callback(self._inbox.close)
        self._watcher = Watcher(
            self._lake.bucket(pipeline.bronze),
            on_files=self._inbox.found,
            on_gone=self._inbox.gone,
            on_folder_gone=self._inbox.folder_gone,
            on_refused=self._refused,
            on_overflow=self._overflowed,
        )
        closing.callback(self._watcher.stop)
        self._search = Search(
            self._watcher,
            self._store,
            self._inbox,
            lambda key, identity, *, trusting: self._chain.bucket.unchanged(key, identity, trusting=trusting),
        )
        self._compaction = Compaction(
            self._journal,
            bucket=pipeline.bronze,
            sweep=lambda: self._chain.bucket.sweep(lambda key: self._store.glance(key) is not None),
        )

    def _set_up(self, pipeline: Pipeline) -> tuple[Chain, Workers, Rounds, Reports]:
        """What a definition needs: the rooms, the workers, reconciliation, and who hears the workers' reports."""
        stack = read(compile_template(pipeline))
        chain = build(stack, self._journal, bronze=pipeline.bronze, clock=self._clock.now)
        chain.courier.chaos = self._chaos
        functions = worker_functions(stack)
        config = WorkerConfig(self._definition.target, self._lake.path.resolve(), functions)
        lake, places = self._lake.stores(pipeline), resend.places(stack)
        rounds = Rounds(pipeline, lake, self._store, self._journal, places, since=self._since)
        workers = Workers(config, number=self._number, logs=self._lake.logs, spares=self._spares)
        reports = Reports(chain.functions, self._lake.path, self._measured, self._feed)
        return chain, workers, rounds, reports

    def _measured(self, invocation: Invocation, message: str, seconds: Mapping[str, float]) -> None:
        """What a file has waited for on its way is in the trace."""
        received = invocation.messages.get(message)
        if self._profile is None or received is None:
            return
        waits = waiting(
            self._journal.rows("recent_hops", key=received.key, most=RECENT), received.version, until=invocation.started
        )
        self._profile.add(invocation.settings.transform, received.key, {**waits, **seconds})

    def run(self, *, until_idle: bool, stopped: Callable[[], bool], tick: Callable[[Progress], None]) -> Progress:
        """Work until ``stopped()``, or with ``until_idle`` until there is nothing left to do.

        Args:
            until_idle: return when idle; waits (retries, batching windows) are then cut short rather than sat out.
            stopped: asked several times a second.
            tick: shown the progress as often.
        """
        now = self._clock.now()
        self._hurry = until_idle
        with self._journal.transaction():
            recount(self._journal)
            for queue in self._chain.queues.values():
                queue.release_all(now)
        self._watcher.start()
        shown = 0.0
        while not stopped():
            self._step()
            if time.monotonic() - shown >= 0.2:
                shown = time.monotonic()
                tick(self.progress())
            if until_idle and self._nothing_is_left():
                break
        self._drain(stopped)
        tick(self.progress())
        return self.progress()

    def failed_files(self) -> int:
        """How many files ended in quarantine or in a dead-letter queue since this engine began."""
        since = self._started
        dead = sum(
            self._journal.rows("dead_since", queue=queue.settings.arn, since=since)[0][0]
            for queue in self._chain.dead_letters
        )
        return int(self._journal.rows("quarantined_since", since=since)[0][0] + dead)

    def lost(self) -> int:
        """How many messages chaos has lost since this engine began."""
        return self._totals().get("lost", 0) - self._before.get("lost", 0)

    def close(self) -> None:
        """Stop everything. What was not finished is finished by the next run."""
        self._closing.close()

    def progress(self) -> Progress:
        """Where everything is now."""
        now = self._clock.now()
        counters = {name: value - self._before.get(name, 0) for name, value in self._totals().items()}
        in_flight = sum(
            len(found.messages) for function in self._chain.functions for found in function.running.values()
        )
        queued = sum(
            queue.depth(now)[0] for arn, queue in self._chain.queues.items() if queue not in self._chain.dead_letters
        )
        return progress(counters, waiting=queued - in_flight + self._inbox.pending, in_flight=in_flight)

    def _totals(self) -> dict[str, int]:
        return dict(self._journal.rows("counters"))

    def _step(self) -> None:
        """One turn: take in, carry, hand out, wait for something to happen."""
        self._search.step(self._clock.now())
        self._take_in()
        if jump := self._clock.jump():
            self._move_times(jump)
        now = self._clock.now()
        if abs(now - self._rechecked) >= RECHECK:
            self._rechecked = now
            self._watcher.recheck(now)
            self._successor = self._definition.changed() or self._successor
        if self._successor is not None and not self._workers.busy:
            self._succeed(self._successor)
        if self._rounds.finished or self._rounds.busy or now - self._started >= LATEST_ROUND or self._idle():
            self._rounds.step(now)
        self._compaction.step(now)
        self._chain.courier.deliver(now)
        self._hand_out(now)
        if self._hurry and self._only_waits():
            self._hasten(now)
            return
        self._listen(self._pause(now))
        self._workers.enforce(self._clock.now())

    def _take_in(self) -> None:
        while landed := self._inbox.take(INTAKE):
            self._chain.bucket.notice(landed, carry=self._chain.courier.carry)
        gone, folders = self._inbox.take_gone()
        if gone or folders:
            self._chain.bucket.forget([key for key in gone if self._store.glance(key) is None], folders=folders)

    def _set_back(self) -> None:
        """While no engine ran the clock may have been set back to before the journal's last word."""
        newest, *_ = self._journal.row("newest_word") or (self._started,)
        self._since = max(self._started, newest)
        if newest > self._started + TOLERANCE:
            move(self._journal, self._started - newest)

    def _move_times(self, jump: float) -> None:
        """All that waits for a time waits as long as before the clock was set."""
        _log.warning("the clock was set %s by %.0f s", "forward" if jump > 0 else "back", abs(jump))
        move(self._journal, jump)
        self._started += jump
        for worker in self._workers.busy:
            assert worker.trip is not None
            worker.trip.started += jump

    def _repaired(self) -> bool:
        """Under chaos messages get lost: then there is nothing left to do when reconciliation has nothing to send."""
        if self._chaos is None:
            return True
        files = self._journal.counter("bucket.created")
        if self._asked == (self._rounds.finished - 1, files) and not self._rounds.sent:
            return True
        if not self._rounds.busy:
            self._asked = (self._rounds.finished, files)
            self._rounds.again()
        return False

    def _succeed(self, pipeline: Pipeline) -> None:
        """Go on with a new definition. No worker is at work; what is queued is done by the new code."""
        self._successor = None
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
        # What the old one has done may not be what this one asks for.
        self._since = max(self._since, self._clock.now())
        self._chain, self._workers, self._rounds, self._reports = self._set_up(pipeline)
        _log.warning("the pipeline's definition has changed: going on with the new one")

    def _hand_out(self, now: float) -> None:
        """One batch for each worker that has none, and then one for each to go on with."""
        for worker in [*self._workers.idle, *self._workers.takers]:
            self._feed(worker, now)

    def _feed(self, worker: Worker, now: float) -> None:
        """Something to do for this worker, the functions taking turns; nothing while a new definition waits.

        Where batches are quick and all workers have some, it is something to go on with: else each would wait, after
        every batch, for whatever the engine is at.
        """
        is_ahead = worker.trip is not None
        if self._successor is not None or worker not in self._workers.takers or (is_ahead and self._workers.idle):
            return
        for function in self._turns():
            if is_ahead and not function.at_once:
                continue
            most = 1 if worker.is_careful else max(1, function.at_once)
            invocations = function.poll_some(self._ids, now, most=most, hurry=self._hurry)
            if invocations:
                self._send(worker, invocations)
                break

    def _send(self, worker: Worker, invocations: list[Invocation]) -> None:
        """What is large goes to the worker for that, if there is one; else nothing shall wait behind it."""
        large = [invocation for invocation in invocations if invocation.is_large]
        small = [invocation for invocation in invocations if invocation not in large]
        wide = self._workers.for_large() if large else None
        if wide is not None:
            wide.send(Trip(large))
        else:
            small += large
        if small:
            worker.send(Trip(small))

    def _turns(self) -> list[Function]:
        """Those with the fewest running batches first, so that no function starves another."""
        return sorted(self._chain.functions, key=lambda function: len(function.running))

    def _pause(self, now: float) -> float:
        """How long nothing can happen but by a wake-up, in seconds."""
        if self._rounds.busy:
            return 0.0
        if self._search.ready:
            return 0.0
        if self._inbox.pending:
            return 0.005
        due = [LOOK + now if self._workers.busy else now + 0.2]
        if self._workers.idle:
            due += [found for function in self._chain.functions if (found := function.next_due(now)) is not None]
        return max(0.0, min(due) - now)

    def _listen(self, pause: float) -> None:
        """Hear the workers for so long, in seconds, or until there is something to do: a worker has become free or has
        died, or something landed and there is one for it. Else what landed is taken in with what lands meanwhile."""
        end = time.monotonic() + pause
        heard = False
        while not heard:
            connections = self._workers.connections
            ready = wait([*connections, self._wake_reading], timeout=max(0.0, end - time.monotonic()))
            heard = not ready or time.monotonic() >= end
            for found in ready:
                if found == self._wake_reading:
                    os.read(self._wake_reading, 65536)
                    heard |= bool(self._workers.idle)
                elif isinstance(found, Connection):
                    for event in self._workers.events(connections[found]):
                        self._reports.hear(event, self._clock.now())
                        heard |= event.message is None or event.worker.trip is None

    def _only_waits(self) -> bool:
        """Whether nothing happens but that messages wait for their time."""
        return not self._inbox.pending and not self._workers.busy and bool(self._workers.idle) and not self._idle()

    def _hasten(self, now: float) -> None:
        with self._journal.transaction():
            for function in self._chain.functions:
                self._chain.queues[function.settings.queue_arn].hasten(now)

    def _idle(self) -> bool:
        """Nothing found, on its way, queued or being worked on. Dead-letter queues may hold what they hold."""
        if self._inbox.pending or self._workers.busy or self._search.busy or self._successor:
            return False
        if (found := self._journal.row("next_due")) and found[0] is not None:
            return False
        return all(
            self._chain.queues[function.settings.queue_arn].next_visible() is None for function in self._chain.functions
        )

    def _nothing_is_left(self) -> bool:
        idle = self._idle() and self._rounds.finished and not self._search.last(self._clock.now())
        return bool(idle and self._repaired())

    def _stop_workers(self) -> None:
        self._workers.stop()  # those of the latest definition

    def _drain(self, stopped: Callable[[], bool]) -> None:
        """Let the batches that are being worked on end, for a little while; the next run does what does not."""
        del stopped
        patience = time.monotonic() + 5
        while self._workers.busy and time.monotonic() < patience:
            self._listen(0.05)
            self._workers.enforce(self._clock.now())

    def _overflowed(self, reason: str) -> None:
        _log.warning("looking through all of bronze again: %s", reason)
        self._search.again()
        self._wake()

    def _refused(self, path: str, reason: str) -> None:
        """Told once for each path; a folder full of them is told of up to a limit."""
        if path not in self._told and len(self._told) < TOLD:
            self._told.add(path)
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
