"""What most commands begin with: the pipeline that is named, and the lake that it runs over."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

from silversmith.cli.screen import warn

if TYPE_CHECKING:
    from silversmith.operations.local import LocalTarget
    from silversmith.pipeline import Pipeline


def load_pipeline(named: str) -> Pipeline:
    """The pipeline. What its module prints while it is imported goes to stderr: stdout is the command's.

    Raises:
        DefinitionError: there is no such pipeline, or it is declared in a way that cannot work.
    """
    from silversmith.pipeline import load

    with redirect_stdout(sys.stderr):
        return load(named)


@contextmanager
def opened(named: str, lake: Path, *, writable: bool = False) -> Iterator[tuple[Pipeline, LocalTarget]]:
    """The pipeline, and the lake as a target, while the block lasts. ``writable``: to send messages, not only to look.

    Raises:
        DefinitionError: as :func:`load_pipeline`.
        WrongCall: there is no lake in this folder.
    """
    from silversmith.local.lake import LakeFolder
    from silversmith.operations.local import open_lake

    pipeline = load_pipeline(named)
    with open_lake(LakeFolder(lake), pipeline, writable=writable) as target:
        yield pipeline, target


def tell_nobody_works() -> None:
    """After messages were sent where no engine runs, which is no mistake."""
    warn("no engine runs over this lake; the next `silversmith run` does what was sent")
