"""The place of the page's pipeline: a lake on this machine, or a stack on AWS.

Each question opens its own connection, so that no thread shares one with another.
"""

from __future__ import annotations

import multiprocessing
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, redirect_stdout, suppress
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Lock
from typing import Any

from silversmith.errors import SilversmithError, SystemFault
from silversmith.local.definition import Definition
from silversmith.local.lake import LakeFolder
from silversmith.operations.alarms import local_conditions
from silversmith.operations.target import Target
from silversmith.pipeline import Pipeline, deployment, locate


def ignore(text: str) -> None:
    del text


def silence(alarm_on: Sequence[str]) -> float | None:
    """The seconds of silence that raise an alarm; None: there is no such alarm."""
    silent = [each.limit for each in deployment.alarm_conditions(alarm_on) if each.kind == "silent"]
    return silent[0] * 3600 if silent else None


class Backend:
    """The place of a pipeline. Any thread may call.

    Attributes:
        every: seconds from one look to the next, while a browser watches.
        every_unwatched: the same while none does; None: no looks.
        deployed: whether a copy of the definition runs there, which may be older than the one here.
        pipeline: the definition as it is now, with the names of its buckets there.
        expected: the seconds within which each transform must get a file, by ``Deployment(alarm_on=("silent>24h",))``;
            None: nobody says.
        logs: the folder of the logs; None on AWS, where they are CloudWatch's.
    """

    every: float
    every_unwatched: float | None
    deployed: bool
    pipeline: Pipeline
    expected: float | None
    logs: Path | None = None

    def refresh(self) -> None:
        """Load a definition that has changed. One that cannot be loaded is reported and ignored."""

    def opened(
        self, *, writable: bool = False, tell: Callable[[str], None] = ignore
    ) -> AbstractContextManager[tuple[Pipeline, Target]]:
        """Open the target. ``writable``: to send messages. ``tell`` gets notes on anything that was not read whole."""
        raise NotImplementedError

    def answer(self, question: Callable[..., Any], *arguments: Any, tell: Callable[[str], None] = ignore) -> Any:
        """What a function of a module gives for some arguments, the pipeline and the target. It may read gold for long:
        others are answered meanwhile."""
        with self.opened(tell=tell) as (pipeline, target):
            return question(*arguments, pipeline, target)

    def scratch(self) -> AbstractContextManager[str]:
        """A temporary folder for an upload; on the bucket's file system, where the bucket is a folder."""
        return tempfile.TemporaryDirectory(prefix="silversmith-page-")


class LocalBackend(Backend):
    """A lake.

    Args:
        folder: the lake; missing folders are created.
        target: the pipeline, as the command line names it.

    Raises:
        DefinitionError: there is no such pipeline.
    """

    every = 1.0
    every_unwatched = 5.0
    deployed = False

    def __init__(self, folder: LakeFolder, target: str) -> None:
        self._folder = folder
        with redirect_stdout(sys.stderr):
            located = locate(target)
        self.pipeline = located.pipeline
        self.expected = silence(local_conditions(located.names))
        self.logs = folder.logs
        self._definition = Definition(target, self.pipeline)
        folder.create(self.pipeline.bronze)

    def refresh(self) -> None:
        with redirect_stdout(sys.stderr):
            self.pipeline = self._definition.changed() or self.pipeline

    @contextmanager
    def opened(
        self, *, writable: bool = False, tell: Callable[[str], None] = ignore
    ) -> Iterator[tuple[Pipeline, Target]]:
        from silversmith.operations.local import open_lake

        del tell  # a lake is always read whole
        pipeline = self.pipeline
        with open_lake(self._folder, pipeline, writable=writable) as target:
            yield pipeline, target

    def scratch(self) -> AbstractContextManager[str]:
        return tempfile.TemporaryDirectory(dir=self._folder.scratch, prefix="page-")


class AwsBackend(Backend):
    """A stack. Every look calls AWS, so looks are rarer, and happen only while a browser watches. The definition does
    not change with the file.

    Args:
        named: the pipeline, as the command line names it.
        chosen: the name of its deployment, or empty.
        endpoint_url: of a stand-in for AWS.
        wait: seconds to wait for a message where there should be one.

    Raises:
        DefinitionError: there is no such pipeline or deployment.
        WrongCall: there is no such stack.
        NoAccount: there are no credentials.
    """

    every = 10.0
    every_unwatched = None
    deployed = True

    def __init__(self, named: str, chosen: str, endpoint_url: str | None, *, wait: int = 1) -> None:
        with redirect_stdout(sys.stderr):
            located = locate(named)
        self._declared = located.pipeline
        options = deployment.named(located.names, chosen)
        self._stack = options.name(located.pipeline.name)
        self.expected = silence(options.alarm_on)
        self._endpoint_url = endpoint_url
        self._wait = wait
        self._apart = Apart(partial(AwsBackend, wait=wait), named, chosen, endpoint_url)
        with self.opened() as (deployed, _):
            self.pipeline = deployed

    @contextmanager
    def opened(
        self, *, writable: bool = False, tell: Callable[[str], None] = ignore
    ) -> Iterator[tuple[Pipeline, Target]]:
        from silversmith.aws.account import open_account
        from silversmith.operations.aws import open_stack

        del writable
        account = open_account(endpoint_url=self._endpoint_url)
        with open_stack(account, self._stack, self._declared, tell=tell, wait=self._wait) as stack:
            yield stack

    def answer(self, question: Callable[..., Any], *arguments: Any, tell: Callable[[str], None] = ignore) -> Any:
        answer = self._apart.answer if self.pipeline.tables else super().answer
        return answer(question, *arguments, tell=tell)


class Apart:
    """A process that opens a backend by itself and answers questions over it, one after the other. It is started by the
    first of them, and ends with this process, however that ends. Any thread may call.

    delta-rs holds Python's lock while it waits for S3: the page would answer nobody else meanwhile.
    docs/decisions/0138-the-page-reads-gold-in-a-process.md

    Args:
        backend: makes the :class:`Backend`, there.
        arguments: what it is made of.
    """

    def __init__(self, backend: Callable[..., Backend], *arguments: Any) -> None:
        self._backend = backend
        self._arguments = arguments
        self._connection: Connection | None = None
        self._lock = Lock()

    def answer(self, question: Callable[..., Any], *arguments: Any, tell: Callable[[str], None]) -> Any:
        """What a function of a module gives for these arguments, the pipeline and the target. Its errors have their
        text alone."""
        with self._lock:
            try:
                connection = self._connection = self._connection or self._start()
                connection.send((question, arguments))
                answer, notes, error = connection.recv()
            except (EOFError, OSError):
                self._connection = None
                raise SystemFault("the process that reads tables ended: load the page again") from None
        for note in notes:
            tell(note)
        if error is not None:
            raise SilversmithError(error)
        return answer

    def _start(self) -> Connection:
        # spawned, never forked: after a fork the threads of Polars and delta-rs are gone
        context = multiprocessing.get_context("spawn")
        mine, theirs = context.Pipe()
        process = context.Process(target=serve, args=(theirs, self._backend, self._arguments), daemon=True)
        process.start()
        theirs.close()
        return mine


def serve(connection: Connection, backend: Callable[..., Backend], arguments: tuple[Any, ...]) -> None:
    """Answer until nobody asks any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the page: this ends with it
    opened: Backend | None = None
    with suppress(EOFError):
        while True:
            question, values = connection.recv()
            notes: list[str] = []
            try:
                opened = opened or backend(*arguments)
                answer = Backend.answer(opened, question, *values, tell=notes.append)
                connection.send((answer, notes, None))
            except Exception as error:  # noqa: BLE001 -- raised where it was asked
                name = "" if isinstance(error, SilversmithError) else f"{type(error).__name__}: "
                connection.send((None, notes, f"{name}{error}"))
