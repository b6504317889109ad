"""What the commands that deploy begin with: the deployment that is named, the account, and the code."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from silversmith.cli.opened import locate_pipeline
from silversmith.cli.screen import ask, say
from silversmith.operations.text import shown

if TYPE_CHECKING:
    from silversmith.aws.account import Account
    from silversmith.aws.deploy import Release
    from silversmith.pipeline import Located
    from silversmith.pipeline.deployment import Deployment

YesOption = Annotated[
    bool, Parameter(name="--yes", negative=(), show_default=False, help="Do not ask: for scripts, after a `diff`.")
]


def chosen(pipeline: str, deployment: str) -> tuple[Located, Deployment]:
    """The pipeline, and which of its deployments.

    Raises:
        DefinitionError: there is no such pipeline or deployment.
    """
    from silversmith.pipeline.deployment import named

    located = locate_pipeline(pipeline)
    return located, named(located.names, deployment)


@contextmanager
def released(
    pipeline: str, deployment: str, endpoint_url: str | None, *, quiet: bool
) -> Iterator[tuple[Release, Account]]:
    """What is to be deployed, and where to, while the block lasts. ``quiet``: nothing is said of it.

    Raises:
        DefinitionError: there is no such pipeline or deployment, or it cannot be deployed.
        NoAccount: there are no credentials or no region.
        BundleError: the code cannot be gathered.
    """
    located, how = chosen(pipeline, deployment)
    from silversmith.aws.account import open_account
    from silversmith.aws.deploy import release

    account = open_account(endpoint_url=endpoint_url)
    if not quiet:
        say(f"{how.name(located.pipeline.name)} in the account {place(account)}")
        say("gathering the code and its packages")
    with TemporaryDirectory(prefix="silversmith-") as work:
        from pathlib import Path

        yield release(located, account, Path(work), deployment=how), account


def place(account: Account) -> str:
    """An account for a person: its number, and where."""
    at = f", at {account.endpoint_url}" if account.endpoint_url else ""
    return f"{account.id}, {account.region}{at}"


def tell(line: str) -> None:
    """Progress, as it comes."""
    say(line, style="bold red" if "_FAILED" in line else "")


def hush(line: str) -> None:
    """Progress where only one JSON document is wanted."""


def agreed(question: str, *, yes: bool, option: str = "--yes") -> bool:
    """Whether a person says yes, or said it beforehand.

    Raises:
        WrongCall: nobody can be asked: it says which option does it.
    """
    if yes:
        return True
    answer = ask(f"{question} [y/N] ")
    if answer is None:
        from silversmith.operations import WrongCall

        raise WrongCall(
            f"nobody can be asked, because this is no terminal: {question} Look at it with `silversmith diff`, and say "
            f"yes with {option}."
        )
    return answer.strip().lower() in {"y", "yes"}


def typed(question: str, word: str) -> bool:
    """Whether a person types this very word."""
    return (ask(f"{question} Type {shown(word)} to do it: ") or "").strip() == word
