"""What the workers report: heard here, and passed on to the functions whose batches they had."""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from silversmith.errors import UNWRITABLE, DefinitionError, LakeUnusable, SilversmithError
from silversmith.local.function import Function
from silversmith.local.invocation import Invocation
from silversmith.local.trip import Trip
from silversmith.local.workers import Event, Worker

#: After this many deaths of workers that never got ready, the engine gives up.
FALSE_STARTS = 5

_UNWRITABLE = frozenset(errno.errorcode[number] for number in UNWRITABLE)


class WorkersDie(SilversmithError):
    """The workers die before they are ready: importing the pipeline kills them."""


class Reports:
    """Hears the workers.

    Args:
        functions: those whose batches the workers get.
        lake: the folder, for messages.
        measured: told, of each message that has ended, the seconds that its stages took.
        freed: told of a worker that has ended its batch, before what came of it is written: so that it need not wait
            for another.
    """

    def __init__(
        self,
        functions: Sequence[Function],
        lake: Path,
        measured: Callable[[Invocation, str, Mapping[str, float]], None] = lambda *_: None,
        freed: Callable[[Worker, float], None] = lambda *_: None,
    ) -> None:
        self._functions = {function.settings.name: function for function in functions}
        self._lake = lake
        self._measured = measured
        self._freed = freed
        self._false_starts = 0

    def hear(self, event: Event, now: float) -> None:
        """Do what follows from one report. ``now`` in Unix seconds.

        Raises:
            DefinitionError: the worker could not load the pipeline.
            LakeUnusable: the worker could not write to the disk.
            WorkersDie: too many died before they were ready.
        """
        worker, message = event.worker, event.message
        if message is None:
            self._died(event, now)
        elif "ready" in message:
            worker.ready = True
            self._false_starts = 0
        elif "broken" in message:
            raise DefinitionError(message["broken"])
        elif worker.trip is not None:
            self._told(worker.trip, message, event, now)

    def _told(self, trip: Trip, message: dict[str, Any], event: Event, now: float) -> None:
        for ended, outcome in message["ended"].items():
            self._require_disk(trip, outcome, now)
            self._measured(trip.of(ended), ended, outcome.get("stages", {}))
            trip.of(ended).outcomes[ended] = outcome
        if "done" not in message and "error" not in message:
            return
        function = self._functions[trip.settings.name]
        function.pace = (now - trip.started) / len(trip.invocations)
        event.worker.ended(now)
        self._freed(event.worker, now)
        if "done" in message:
            function.succeed_all(list(zip(trip.invocations, message["done"], strict=True)), now)
        else:
            for invocation in trip.invocations:
                function.crash(invocation, message["error"], now)

    def _require_disk(self, trip: Trip, outcome: Mapping[str, Any], now: float) -> None:
        """A disk that cannot be written is no fault of a file: its attempts would be used up for nothing."""
        error = outcome.get("error") or {}
        if error.get("code") in _UNWRITABLE:
            self._abandon(trip, now)
            raise LakeUnusable(
                f"the disk of {self._lake} cannot be written: {error['message']}. Nothing is lost: mend that, and run "
                "again."
            )

    def _abandon(self, trip: Trip, now: float) -> None:
        for invocation in trip.invocations:
            self._functions[trip.settings.name].abandon(invocation, now)

    def _died(self, event: Event, now: float) -> None:
        trip, following = event.worker.trip, event.worker.following
        if following is not None:  # it has not begun with it
            self._abandon(following, now)
        if trip is not None:
            function = self._functions[trip.settings.name]
            for invocation in trip.invocations:
                if trip.began is None or trip.began in invocation.messages:
                    invocation.began = trip.began
                    function.crash(invocation, event.reason, now)
                else:
                    function.abandon(invocation, now)
        elif not event.worker.ready:
            self._false_starts += 1
            if self._false_starts >= FALSE_STARTS:
                raise WorkersDie(f"{FALSE_STARTS} workers died before they were ready; the last one: {event.reason}")
