"""The local engine: one loop that moves what landed through the rooms and keeps the workers busy."""

from __future__ import annotations

import itertools
import logging
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

from silversmith.errors import DefinitionError, SilversmithError
from silversmith.local import resend
from silversmith.local.chain import Chain, build, worker_functions
from silversmith.local.definition import Definition
from silversmith.local.function import Function
from silversmith.local.inbox import Inbox
from silversmith.local.journal import Journal
from silversmith.local.lake import LakeFolder, LakeLock
from silversmith.local.rounds import Rounds
from silversmith.local.stack import read
from silversmith.local.watcher import Watcher
from silversmith.local.worker import WorkerConfig
from silversmith.local.workers import LOOK, Event, Workers
from silversmith.pipeline import Pipeline
from silversmith.template import compile as compile_template

#: How many files the bucket room takes in one transaction.
INTAKE = 500

#: After this many deaths of workers that never got ready, the engine gives up.
FALSE_STARTS = 5

#: How often files that were not whole are looked at again, in seconds.
RECHECK = 1.0

#: Of how many refused files the engine tells, at the most.
TOLD = 1000

_log = logging.getLogger("silversmith")


class WorkersDie(SilversmithError):
    """The workers die before they are ready: importing the pipeline kills them."""


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


class Engine:
    """Runs a pipeline's template over a lake.

    Args:
        lake: the folder.
        pipeline: the definition.
        target: where workers load the same definition from (``pipeline.py`` or ``package.module:attribute``).
        workers: how many worker processes.
        clock: the time in Unix seconds.

    Raises:
        LakeInUse: another engine runs over this lake.
    """

    def __init__(
        self,
        lake: LakeFolder,
        pipeline: Pipeline,
        *,
        target: str,
        workers: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._clock = clock
        self._lake = lake
        self._number = workers
        self._bronze = pipeline.bronze
        self._definition = Definition(target, pipeline)
        self._successor: Pipeline | None = None
        lake.create(pipeline.bronze, pipeline.silver, pipeline.quarantine)
        self._lock = LakeLock(lake)
        lake.sweep()
        self._journal = Journal(lake.journal)
        self._wake_reading, self._wake_writing = os.pipe()
        os.set_blocking(self._wake_writing, False)
        self._store = lake.store(pipeline.bronze, foreign_writers=True)
        self._inbox = Inbox(self._store, self._wake)
        self._watcher = Watcher(
            lake.bucket(pipeline.bronze),
            on_files=self._inbox.found,
            on_gone=self._inbox.gone,
            on_folder_gone=self._inbox.folder_gone,
            on_refused=self._refused,
            on_overflow=self._overflowed,
        )
        self._chain, self._workers, self._rounds = self._set_up(pipeline)
        self._ids = itertools.count(1)
        self._rescan = True
        self._told: set[str] = set()
        self._rechecked = 0.0
        self._false_starts = 0
        self._started = clock()
        self._before = self._totals()

    def _set_up(self, pipeline: Pipeline) -> tuple[Chain, Workers, Rounds]:
        """The rooms, the workers and the reconciliation of a definition."""
        stack = read(compile_template(pipeline))
        chain = build(stack, self._journal, bronze=pipeline.bronze, clock=self._clock)
        functions = worker_functions(stack)
        config = WorkerConfig(self._definition.target, self._lake.path.resolve(), functions, os.getpid())
        rounds = Rounds(pipeline, self._lake.stores(pipeline), self._store, self._journal, resend.places(stack))
        return chain, Workers(config, number=self._number, logs=self._lake.logs), rounds

    def run(self, *, until_idle: bool, stopped: Callable[[], bool], tick: Callable[[Progress], None]) -> Progress:
        """Work until ``stopped()``, or with ``until_idle`` until there is nothing left to do.

        Args:
            until_idle: return when idle; waits (retries, batching windows) are then cut short rather than sat out.
            stopped: asked several times a second.
            tick: shown the progress as often.
        """
        now = self._clock()
        with self._journal.transaction():
            for queue in self._chain.queues.values():
                queue.release_all(now)
        self._watcher.start()
        shown = 0.0
        while not stopped():
            self._step(hurry=until_idle)
            if time.monotonic() - shown >= 0.2:
                shown = time.monotonic()
                tick(self.progress())
            if until_idle and self._idle() and self._rounds.finished and not self._search(trusting=True):
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

    def close(self) -> None:
        """Stop everything. What was not finished is finished by the next run."""
        self._watcher.stop()
        self._inbox.close()
        self._workers.stop()
        self._journal.close()
        os.close(self._wake_reading)
        os.close(self._wake_writing)
        self._lock.release()

    def progress(self) -> Progress:
        """Where everything is now."""
        now = self._clock()
        totals = {name: value - self._before.get(name, 0) for name, value in self._totals().items()}
        in_flight = sum(
            len(found.messages) for function in self._chain.functions for found in function.running.values()
        )
        queued = sum(
            queue.depth(now)[0] for arn, queue in self._chain.queues.items() if queue not in self._chain.dead_letters
        )
        return Progress(
            found=totals.get("bucket.created", 0),
            waiting=queued - in_flight + self._inbox.pending,
            in_flight=in_flight,
            done=totals.get("function.committed", 0),
            duplicates=totals.get("function.duplicate", 0) + totals.get("function.gone", 0),
            rows=totals.get("function.rows", 0),
            rejected=totals.get("function.rejected", 0),
            quarantined=totals.get("function.quarantined", 0),
            retries=totals.get("function.failed", 0),
            dead=totals.get("dead", 0),
        )

    def _totals(self) -> dict[str, int]:
        return dict(self._journal.rows("counters"))

    def _step(self, *, hurry: bool) -> None:
        """One turn: take in, carry, hand out, wait for something to happen."""
        if self._rescan:
            self._rescan = False
            self._search(trusting=False)
        self._take_in()
        now = self._clock()
        if abs(now - self._rechecked) >= RECHECK:
            self._rechecked = now
            self._watcher.recheck(now)
            self._successor = self._definition.changed() or self._successor
        if self._successor is not None and not self._workers.busy:
            self._succeed(self._successor)
        self._rounds.step(now)
        self._chain.courier.deliver(now)
        self._hand_out(now, hurry=hurry)
        if hurry and self._only_waits():
            self._hasten(now)
            return
        self._listen(self._pause(now))
        self._workers.enforce(self._clock())

    def _search(self, *, trusting: bool) -> bool:
        """Look through bronze for files that were not noticed yet: at the start, after lost events, before the end.

        Only the last may trust, because the watcher was there all the time.
        """
        found = False
        for batch in self._watcher.scan(self._clock()):
            new = [key for key in batch if not self._known(key, trusting)]
            if new:
                found = True
                self._inbox.found(new, scanned=True)
        return found

    def _known(self, key: str, trusting: bool) -> bool:
        glance = self._store.glance(key)
        return glance is None or self._chain.bucket.unchanged(key, glance.identity, trusting=trusting)

    def _take_in(self) -> None:
        while landed := self._inbox.take(INTAKE):
            self._chain.bucket.notice(landed)
        gone, folders = self._inbox.take_gone()
        if gone or folders:
            self._chain.bucket.forget([key for key in gone if self._store.glance(key) is None], folders=folders)

    def _succeed(self, pipeline: Pipeline) -> None:
        """Go on with a new definition. No worker is at work; what is queued is done by the new code."""
        self._successor = None
        if pipeline.bronze != self._bronze:
            _log.error("the bronze bucket's name has changed to %s: start the engine again", pipeline.bronze)
            return
        self._workers.stop()
        self._lake.create(pipeline.bronze, pipeline.silver, pipeline.quarantine)
        self._chain, self._workers, self._rounds = self._set_up(pipeline)
        _log.warning("the pipeline's definition has changed: going on with the new one")

    def _hand_out(self, now: float, *, hurry: bool) -> None:
        """One batch for each idle worker, the functions taking turns; none while a new definition waits."""
        if self._successor is not None:
            return
        for worker in self._workers.idle:
            for function in self._turns():
                invocation = function.poll(next(self._ids), now, hurry=hurry)
                if invocation is not None:
                    worker.invoke(invocation)
                    break

    def _turns(self) -> list[Function]:
        """Those with the fewest running batches first, so that no function starves another."""
        return sorted(self._chain.functions, key=lambda function: len(function.running))

    def _pause(self, now: float) -> float:
        """How long nothing can happen but by a wake-up, in seconds."""
        if self._rounds.busy:
            return 0.0
        if self._inbox.pending or self._rescan:
            return 0.005
        due = [LOOK + now if self._workers.busy else now + 0.2]
        if self._workers.idle:
            due += [found for function in self._chain.functions if (found := function.next_due(now)) is not None]
        return max(0.0, min(due) - now)

    def _listen(self, pause: float) -> None:
        connections = self._workers.connections
        for ready in wait([*connections, self._wake_reading], timeout=pause):
            if ready == self._wake_reading:
                os.read(self._wake_reading, 65536)
            elif isinstance(ready, Connection):
                for event in self._workers.events(connections[ready]):
                    self._hear(event)

    def _hear(self, event: Event) -> None:
        worker, message = event.worker, event.message
        if message is None:
            self._died(event)
        elif "ready" in message:
            worker.ready = True
            self._false_starts = 0
        elif "broken" in message:
            raise DefinitionError(message["broken"])
        elif worker.invocation is not None:
            self._heard_of(worker.invocation, message, event)

    def _heard_of(self, invocation: Any, message: dict[str, Any], event: Event) -> None:
        if "ended" in message:
            invocation.outcomes[message["ended"]] = message["outcome"]
        if "began" in message:
            invocation.began = message["began"]
            return
        event.worker.invocation = None
        function = self._function(invocation.settings.name)
        if "done" in message:
            function.succeed(invocation, message["done"], self._clock())
        else:
            function.crash(invocation, message["error"], self._clock())

    def _died(self, event: Event) -> None:
        invocation = event.worker.invocation
        if invocation is not None:
            self._function(invocation.settings.name).crash(invocation, event.reason, self._clock())
        elif not event.worker.ready:
            self._false_starts += 1
            if self._false_starts >= FALSE_STARTS:
                raise WorkersDie(f"{FALSE_STARTS} workers died before they were ready; the last one: {event.reason}")

    def _function(self, name: str) -> Function:
        return next(found for found in self._chain.functions if found.settings.name == name)

    def _only_waits(self) -> bool:
        """Whether nothing happens but that messages wait for their time."""
        return not self._inbox.pending and not self._workers.busy and bool(self._workers.idle) and not self._idle()

    def _hasten(self, now: float) -> None:
        with self._journal.transaction():
            for function in self._chain.functions:
                self._chain.queues[function.settings.queue_arn].hasten(now)

    def _idle(self) -> bool:
        """Nothing found, on its way, queued or being worked on. Dead-letter queues may hold what they hold."""
        if self._inbox.pending or self._workers.busy or self._rescan or self._successor:
            return False
        if (found := self._journal.row("next_due")) and found[0] is not None:
            return False
        return all(
            self._chain.queues[function.settings.queue_arn].next_visible() is None for function in self._chain.functions
        )

    def _drain(self, stopped: Callable[[], bool]) -> None:
        """Let the batches that are being worked on end, for a little while; the next run does what does not."""
        del stopped
        patience = time.monotonic() + 5
        while self._workers.busy and time.monotonic() < patience:
            self._listen(0.05)
            self._workers.enforce(self._clock())

    def _overflowed(self, reason: str) -> None:
        _log.warning("looking through all of bronze again: %s", reason)
        self._rescan = True
        self._wake()

    def _refused(self, path: str, reason: str) -> None:
        """Told once for each path; a folder full of them is told of up to a limit."""
        if path not in self._told and len(self._told) < TOLD:
            self._told.add(path)
            _log.warning("%s is not taken: %s", path, reason)

    def _wake(self) -> None:
        with suppress(BlockingIOError):  # then it is awake already
            os.write(self._wake_writing, b"w")
