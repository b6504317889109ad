"""Where the pipeline of the page is: a lake on this machine, or a stack on AWS.

Each question opens its own connection, so that no thread shares one with another.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, redirect_stdout
from pathlib import Path
from typing import Protocol

from silversmith.local.definition import Definition
from silversmith.local.lake import LakeFolder
from silversmith.operations.target import Target
from silversmith.pipeline import Pipeline, deployment, load, locate


def quiet(text: str) -> None:
    """Tell nobody."""
    del text


class Backend(Protocol):
    """Where a pipeline is. Any thread may call."""

    # Seconds from one look to the next, while somebody watches, and while nobody does (None: then not at all).
    @property
    def every(self) -> float: ...
    @property
    def every_unwatched(self) -> float | None: ...

    # Whether what works there is a copy of the definition, which may be older than the one here.
    @property
    def deployed(self) -> bool: ...

    @property
    def pipeline(self) -> Pipeline:
        """The definition as it is now, with the names of the buckets that it has there."""

    def refresh(self) -> None:
        """Take a definition that has changed. One that cannot be loaded is reported, and passed over."""

    def opened(
        self, *, writable: bool = False, tell: Callable[[str], None] = quiet
    ) -> AbstractContextManager[tuple[Pipeline, Target]]:
        """The pipeline and its target, while the block lasts. ``writable``: to send messages. ``tell``: told, for a
        person, where something could not be seen whole."""

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """A folder for an upload, gone with the block; on the bucket's file system, where that is a folder."""
        yield Path()


class LocalBackend:
    """A lake.

    Args:
        folder: the lake; its folders are made where they are not there yet.
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
            self._pipeline = load(target)
        self._definition = Definition(target, self._pipeline)
        folder.create(self._pipeline.bronze)

    @property
    def pipeline(self) -> Pipeline:
        return self._pipeline

    def refresh(self) -> None:
        with redirect_stdout(sys.stderr):
            self._pipeline = self._definition.changed() or self._pipeline

    @contextmanager
    def opened(
        self, *, writable: bool = False, tell: Callable[[str], None] = quiet
    ) -> Iterator[tuple[Pipeline, Target]]:
        from silversmith.operations.local import open_lake

        del tell  # a lake is always seen whole
        pipeline = self._pipeline
        with open_lake(self._folder, pipeline, writable=writable) as target:
            yield pipeline, target

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(dir=self._folder.scratch, prefix="page-") as folder:
            yield Path(folder)


class AwsBackend:
    """A stack. Looked at less often, and only while somebody watches, for every look asks AWS.

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
        self._stack = deployment.named(located.names, chosen).name(located.pipeline.name)
        self._endpoint_url = endpoint_url
        self._wait = wait
        with self.opened() as (deployed, _):
            self._pipeline = deployed

    @property
    def pipeline(self) -> Pipeline:
        return self._pipeline

    def refresh(self) -> None:
        """What is deployed does not change with the file."""

    @contextmanager
    def opened(
        self, *, writable: bool = False, tell: Callable[[str], None] = quiet
    ) -> Iterator[tuple[Pipeline, Target]]:
        from silversmith.aws.account import open_account
        from silversmith.operations.aws import open_stack

        del writable
        account = open_account(endpoint_url=self._endpoint_url)
        with open_stack(account, self._stack, self._declared, tell=tell, wait=self._wait) as opened_stack:
            yield opened_stack

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix="silversmith-page-") as folder:
            yield Path(folder)
