"""The options that commands share, their completions, and what they name: a pipeline, a lake or a stack, patterns and
times."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter, validators

from silversmith.cli.screen import warn
from silversmith.operations import WrongCall
from silversmith.operations.text import length, moment

if TYPE_CHECKING:
    from cyclopts.completion import CompletionContext

    from silversmith.aws.account import Account
    from silversmith.keypatterns import KeyPattern
    from silversmith.operations.target import Target
    from silversmith.pipeline import Located, Pipeline
    from silversmith.pipeline.deployment import Deployment


#: The defaults.
PIPELINE = "pipeline.py"
LAKE = Path("lake")

# -- completions of a shell: cyclopts calls these while a person types, and takes an error for no candidates.
# https://cyclopts.readthedocs.io/en/latest/shell_completion.html

#: So many keys are offered.
MOST_OFFERED = 200


def complete_transforms(context: CompletionContext) -> dict[str, str]:
    return {each.name: each.pattern.text for each in _typed_pipeline(context).transforms}


def complete_tables(context: CompletionContext) -> dict[str, str]:
    gold = _typed_pipeline(context).tables
    return {each.name: "table" for each in gold.tables} | {each.name: "view" for each in gold.views}


def complete_keys(context: CompletionContext) -> list[str]:
    """The first keys in bronze that begin with what is there; none on AWS, which would take a request."""
    from silversmith.local.lake import LakeFolder

    if _value(context, "--target", "local") != "local":
        return []
    lake, bronze = LakeFolder(Path(_value(context, "--lake", str(LAKE)))), _typed_pipeline(context).bronze
    if not lake.bucket(bronze).is_dir():
        return []
    listed = lake.store(bronze, foreign_writers=True).list(context.incomplete)
    return [head.key for head in islice(listed, MOST_OFFERED)]


def complete_pipelines(context: CompletionContext) -> list[str]:
    typed = Path(context.incomplete)
    folder = typed if context.incomplete.endswith("/") or not context.incomplete else typed.parent
    paths = [path for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
    return [f"{path}/" if path.is_dir() else str(path) for path in paths if path.is_dir() or path.suffix == ".py"]


def _typed_pipeline(context: CompletionContext) -> Pipeline:
    return load_pipeline(_value(context, "--pipeline", PIPELINE))


def _value(context: CompletionContext, option: str, default: str) -> str:
    typed = context.get(option)
    return (typed.raw if typed is not None else None) or default


# -- options


def flag(help: str, *names: str) -> Parameter:  # noqa: A002 -- as cyclopts calls it
    """An option without a value. ``names``: where it is not the parameter's own."""
    return Parameter(name=names or None, negative=(), show_default=False, help=help)


def number(help: str, least: int, most: int | None = None) -> Parameter:  # noqa: A002 -- as cyclopts calls it
    """An option whose value is a number from ``least`` to ``most``."""
    return Parameter(validator=validators.Number(gte=least, lte=most), show_default=None, help=help)


_PIPELINE_HELP = "The pipeline: path/to/file.py, or package.module:attribute."

#: The pipeline as a command's argument; all commands understand it as an option, too.
PipelineArgument = Annotated[
    str, Parameter(name="--pipeline", completer=complete_pipelines, help=_PIPELINE_HELP, show_default=True)
]

#: The pipeline, for commands whose argument is something else.
PipelineOption = Annotated[str, Parameter(name="--pipeline", completer=complete_pipelines, help=_PIPELINE_HELP)]

FilesArgument = Annotated[
    Path, Parameter(name="FILE", required=True, help="Files, and folders with everything below them.")
]
LakeOption = Annotated[Path, Parameter(name="--lake", help="The folder that holds the buckets.")]
KeyArgument = Annotated[
    str, Parameter(name="KEY", completer=complete_keys, help="The key in bronze, as in flights/2026-01.csv.")
]
TransformOption = Annotated[str | None, Parameter(completer=complete_transforms, help="Only this transform's.")]
KeyOption = Annotated[
    str | None, Parameter(completer=complete_keys, help="Only of keys that match, as in 'flights/*.csv'.")
]
JsonOption = Annotated[bool, flag("Print one JSON document, and nothing else.", "--json")]
QuietOption = Annotated[bool, flag("Print only what went wrong; the exit code says the rest.", "--quiet", "-q")]
DryRunOption = Annotated[bool, flag("Only say what would be sent.", "--dry-run")]
YesOption = Annotated[bool, flag("Do not ask: for scripts, after a `diff`.", "--yes")]

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

ImageOption = Annotated[
    str,
    Parameter(
        name="--image",
        show_default=False,
        help="Of a deployment with an image: its URI in ECR, with tag or digest.",
    ),
]


@Parameter(name="*")
@dataclass(frozen=True)
class Where:
    """The target of a command. ``deployment`` and ``endpoint_url`` are for AWS, ``lake`` for this machine."""

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
        if self.target == "local" and (self.deployment or self.endpoint_url):
            raise WrongCall("--deployment and --endpoint-url are for --target aws: add that")
        if self.target == "aws" and self.lake != Path(LAKE):
            raise WrongCall("--lake is for --target local; a deployed pipeline is found by its name and --deployment")
        return self.target == "aws"


HERE = Where()


def key_pattern(text: str | None, option: str) -> KeyPattern | None:
    """Parse a key pattern such as ``flights/*.csv``.

    Raises:
        WrongCall: it is no pattern; the message says what to write.
    """
    from silversmith.keypatterns import InvalidPattern, KeyPattern

    try:
        return None if text is None else KeyPattern.parse(text)
    except InvalidPattern as error:
        raise WrongCall(f"{option}: {error}") from None


def point(text: str | None, option: str, now: float) -> float | None:
    """A time (Unix seconds): ISO 8601, UTC unless it names a zone, or an age before now.

    Raises:
        WrongCall: it is neither.
    """
    if text is None:
        return None
    seconds = length(text)
    at = now - seconds if seconds is not None else moment(text)
    if at is None:
        raise WrongCall(f"{option} {text!r} is no time: write 2026-01-31, 2026-01-31T18:00 (UTC), or an age as in 2h")
    return at


def open_account(endpoint_url: str | None) -> Account:
    from silversmith.aws.account import open_account

    return open_account(endpoint_url=endpoint_url)


def load_pipeline(name: str) -> Pipeline:
    """The pipeline. See :func:`locate_pipeline`."""
    return locate_pipeline(name).pipeline


def locate_pipeline(name: str) -> Located:
    """The pipeline, and what its module declares beside it. Anything that the module prints goes to stderr.

    Raises:
        DefinitionError: there is no such pipeline, or its declaration cannot work.
    """
    from silversmith.pipeline import locate

    with redirect_stdout(sys.stderr):
        return locate(name)


def locate_deployment(pipeline: str, deployment: str) -> tuple[Located, Deployment]:
    """The pipeline, and one of its deployments.

    Raises:
        DefinitionError: there is no such pipeline or deployment.
    """
    from silversmith.pipeline.deployment import named

    located = locate_pipeline(pipeline)
    return located, named(located.names, deployment)


@contextmanager
def open_target(pipeline: str, where: Where, *, writable: bool = False) -> Iterator[tuple[Pipeline, Target]]:
    """Open the lake or the stack of a pipeline. ``writable``: to send messages, not only to look.

    Raises:
        DefinitionError: see :func:`locate_deployment`.
        WrongCall: there is no lake in this folder, or no stack.
        NoAccount: there are no credentials for AWS.
    """
    if where.on_aws:
        from silversmith.operations.aws import open_stack

        located, deployment = locate_deployment(pipeline, where.deployment)
        name = deployment.name(located.pipeline.name)
        with open_stack(open_account(where.endpoint_url), name, located.pipeline, tell=warn) as opened:
            yield opened
        return
    from silversmith.local.lake import LakeFolder
    from silversmith.operations.local import open_lake
    from silversmith.pipeline import with_moments

    folder = LakeFolder(where.lake)
    definition = load_pipeline(pipeline)
    definition = with_moments(definition, folder.first_runs(definition))
    with open_lake(folder, definition, writable=writable) as target:
        yield definition, target


def warn_no_engine() -> None:
    """After messages were sent to a lake without a running engine, which is no mistake."""
    warn("no engine runs over this lake; the next `silversmith run` does what was sent")
