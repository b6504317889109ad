"""What most commands begin with: the pipeline that is named, and the lake that it runs over."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import TYPE_CHECKING

from silversmith.cli.screen import warn

if TYPE_CHECKING:
    from silversmith.cli.where import Where
    from silversmith.operations.target import Target
    from silversmith.pipeline import Located, Pipeline


def load_pipeline(named: str) -> Pipeline:
    """The pipeline. See :func:`locate_pipeline`."""
    return locate_pipeline(named).pipeline


def locate_pipeline(named: str) -> Located:
    """The pipeline and what its module declares beside it. What that prints while it is imported goes to stderr:
    stdout is the command's.

    Raises:
        DefinitionError: there is no such pipeline, or it is declared in a way that cannot work.
    """
    from silversmith.pipeline import locate

    with redirect_stdout(sys.stderr):
        return locate(named)


@contextmanager
def opened(named: str, where: Where, *, writable: bool = False) -> Iterator[tuple[Pipeline, Target]]:
    """The pipeline, and the lake or the stack as a target, while the block lasts. ``writable``: to send messages, not
    only to look.

    Raises:
        DefinitionError: as :func:`load_pipeline`.
        WrongCall: there is no lake in this folder, or no stack.
        NoAccount: there are no credentials for AWS.
    """
    if where.on_aws:
        with _opened_stack(named, where) as found:
            yield found
        return
    from silversmith.local.lake import LakeFolder
    from silversmith.operations.local import open_lake

    pipeline = load_pipeline(named)
    with open_lake(LakeFolder(where.lake), pipeline, writable=writable) as target:
        yield pipeline, target


@contextmanager
def _opened_stack(named: str, where: Where) -> Iterator[tuple[Pipeline, Target]]:
    from silversmith.aws.account import open_account
    from silversmith.operations.aws import open_stack
    from silversmith.pipeline import deployment

    located = locate_pipeline(named)
    pipeline = located.pipeline
    name = deployment.named(located.names, where.deployment).name(pipeline.name)
    with open_stack(open_account(endpoint_url=where.endpoint_url), name, pipeline, tell=warn) as found:
        yield found


def tell_nobody_works() -> None:
    """After messages were sent where no engine runs, which is no mistake."""
    warn("no engine runs over this lake; the next `silversmith run` does what was sent")
