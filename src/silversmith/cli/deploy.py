"""``silversmith deploy``: create the stack on AWS, or update it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from silversmith.cli.deployed import YesOption, agreed, hush, released, tell
from silversmith.cli.options import PIPELINE, DeploymentOption, EndpointOption, JsonOption, PipelineArgument
from silversmith.cli.screen import say, say_json, warn
from silversmith.cli.text import aligned
from silversmith.operations.text import count

if TYPE_CHECKING:
    from silversmith.aws.account import Account
    from silversmith.aws.afterwards import Round
    from silversmith.aws.changes import Diff
    from silversmith.aws.deploy import Deployed, Release
    from silversmith.aws.stack import Pause


def deploy(
    pipeline: PipelineArgument = PIPELINE,
    *,
    deployment: DeploymentOption = "",
    yes: YesOption = False,
    endpoint_url: EndpointOption = None,
    json: JsonOption = False,
) -> int:
    """Create the pipeline's stack on AWS, or update it, and show what AWS does.

    What is replaced or deleted is asked about first. Exit code 0: it is deployed, or nothing had changed. 1: it is not.
    """
    with released(pipeline, deployment, endpoint_url, quiet=json) as (wanted, account):
        return deploy_release(wanted, account, yes=yes, json=json)


def deploy_release(wanted: Release, account: Account, *, yes: bool, json: bool, pause: Pause | None = None) -> int:
    """Deploy what was gathered, and return the exit code. ``pause`` waits so many seconds."""
    import time

    from silversmith.aws.deploy import deploy as operation

    asking = _Asking(yes=yes, quiet=json)
    try:
        done = operation(
            wanted, account, confirm=asking.confirm, tell=hush if json else tell, pause=pause or time.sleep
        )
    except KeyboardInterrupt:
        if asking.confirmed:
            warn(f"AWS goes on with {wanted.name} by itself; `silversmith deploy` says when it is done")
        raise
    if json:
        say_json(document(done, account))
    else:
        _show(done)
    return 0 if done.state is not None else 1


class _Asking:
    """Shows what would change, and asks about what is lost by it."""

    def __init__(self, *, yes: bool, quiet: bool) -> None:
        self._yes = yes
        self._quiet = quiet
        self.confirmed = False

    def confirm(self, diff: Diff) -> bool:
        if not self._quiet or (diff.losses and not self._yes):
            show_diff(diff, quiet=self._quiet)
        self.confirmed = not diff.losses or agreed(_question(diff), yes=self._yes)
        return self.confirmed


def _question(diff: Diff) -> str:
    names = ", ".join(change.logical for change in diff.losses)
    return f"{count(len(diff.losses), 'resource')} would be replaced or deleted, with what is in them: {names}. Do it?"


def show_diff(diff: Diff, *, quiet: bool = False) -> None:
    """What would change, for a person; on stderr where stdout is for one JSON document."""
    if quiet:
        warn("\n".join(["what would change:", *diff.lines()]))
        return
    for change in diff.changes:
        first, *details = change.lines()
        say(first, style="bold red" if change.loses else "")
        for detail in details:
            say(detail)


def _show(done: Deployed) -> None:
    if done.state is None:
        say("nothing was done")
        return
    if not done.changed:
        say(f"{done.name} is as it should be: nothing was to be done")
        return
    say(f"{done.name} is {done.state.status}")
    if done.round is not None:
        say(round_line(done.round))
    if done.state.outputs:
        for line in aligned(sorted(done.state.outputs.items())):
            say(f"  {line}")
    say("put a file in bronze: silversmith put FILE --target aws")


def round_line(later: Round) -> str:
    """What follows the deploy, for a person."""
    at = f"{later.at:%H:%M} UTC"
    why = "AWS takes up to 15 minutes to send events by a new way"
    if later.problem:
        return f"{why}: run `silversmith reconcile --target aws` at {at}, because {later.problem}"
    return f"{why}: bronze and silver are compared at {at}, and what was missed is sent"


def document(done: Deployed, account: Account) -> dict[str, Any]:
    """As JSON values."""
    return {
        "stack": done.name,
        "account": account.id,
        "region": account.region,
        "deployed": done.state is not None,
        "changed": done.changed,
        "status": done.state.status if done.state else None,
        **done.diff.to_dict(),
        "outputs": dict(done.state.outputs) if done.state else {},
        "round": {"at": done.round.at.isoformat(), "problem": done.round.problem} if done.round else None,
    }
