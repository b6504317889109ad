"""The options that commands share, and what they name: a pipeline, a lake or a stack, patterns and times."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from silversmith.cli.screen import warn
from silversmith.operations import WrongCall
from silversmith.operations.text import length, moment

if TYPE_CHECKING:
    from silversmith.operations.target import Target
    from silversmith.patterns.keys import KeyPattern
    from silversmith.pipeline import Located, Pipeline


#: Which pipeline, as a command's argument; as an option it is understood, too, so that all commands are called alike.
PipelineArgument = Annotated[
    str,
    Parameter(name="--pipeline", help="The pipeline: path/to/file.py, or package.module:attribute.", show_default=True),
]

#: Which pipeline, for commands whose argument is something else.
PipelineOption = Annotated[
    str, Parameter(name="--pipeline", help="The pipeline: path/to/file.py, or package.module:attribute.")
]

LakeOption = Annotated[Path, Parameter(name="--lake", help="The folder that holds the buckets.")]

JsonOption = Annotated[
    bool, Parameter(name="--json", negative=(), show_default=False, help="Print one JSON document, and nothing else.")
]

QuietOption = Annotated[
    bool,
    Parameter(
        name=["--quiet", "-q"],
        negative=(),
        show_default=False,
        help="Say nothing but what went wrong; the exit code tells the rest.",
    ),
]

DryRunOption = Annotated[
    bool, Parameter(name="--dry-run", negative=(), show_default=False, help="Only say what would be sent.")
]

DeploymentOption = Annotated[
    str,
    Parameter(
        name="--deployment",
        show_default=False,
        help="Which of the Deployments in the pipeline's file, by its name there; else the one called `deployment`.",
    ),
]

EndpointOption = Annotated[
    str | None,
    Parameter(name="--endpoint-url", show_default=False, help="Another place than AWS: the URL of a stand-in for it."),
]

#: The defaults, for every command alike.
PIPELINE = "pipeline.py"
LAKE = Path("lake")


@Parameter(name="*")
@dataclass(frozen=True)
class Where:
    """The options that say so. ``deployment`` and ``endpoint_url`` are AWS's, ``lake`` is this machine's."""

    target: Annotated[
        Literal["local", "aws"],
        Parameter(help="Where: the lake on this machine, or the stack that `silversmith deploy` made."),
    ] = "local"
    lake: LakeOption = LAKE
    deployment: DeploymentOption = ""
    endpoint_url: EndpointOption = None

    @property
    def on_aws(self) -> bool:
        """Whether it is a deployed pipeline.

        Raises:
            WrongCall: options that exclude each other.
        """
        from silversmith.operations import WrongCall

        if self.target == "local" and (self.deployment or self.endpoint_url):
            raise WrongCall("--deployment and --endpoint-url are for --target aws: add that")
        if self.target == "aws" and self.lake != Path(LAKE):
            raise WrongCall("--lake is for --target local; a deployed pipeline is found by its name and --deployment")
        return self.target == "aws"


#: The default, for every command alike.
HERE = Where()


def key_pattern(text: str | None, option: str) -> KeyPattern | None:
    """A key pattern, as in ``flights/*.csv``.

    Raises:
        WrongCall: it is none, with what to write instead.
    """
    from silversmith.patterns import InvalidPattern
    from silversmith.patterns.keys import KeyPattern

    try:
        return None if text is None else KeyPattern.parse(text)
    except InvalidPattern as error:
        raise WrongCall(f"{option}: {error}") from None


def ago(text: str | None, option: str, now: float) -> float | None:
    """The time (Unix seconds) that lies an age back, as in ``2h``.

    Raises:
        WrongCall: it is no age.
    """
    if text is None:
        return None
    seconds = length(text)
    if seconds is None:
        raise WrongCall(f"{option} {text!r} is no age: write a number and s, m, h, d or w, as in 10m, 2h or 3d")
    return now - seconds


def point(text: str | None, option: str, now: float) -> float | None:
    """A time (Unix seconds): ISO 8601, UTC where it names no zone, or an age before now.

    Raises:
        WrongCall: it is neither.
    """
    if text is None:
        return None
    seconds = length(text)
    found = now - seconds if seconds is not None else moment(text)
    if found is None:
        raise WrongCall(f"{option} {text!r} is no time: write 2026-01-31, 2026-01-31T18:00 (UTC), or an age as in 2h")
    return found


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
