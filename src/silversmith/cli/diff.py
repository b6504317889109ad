"""``silversmith diff``: what deploying would change."""

from __future__ import annotations

from typing import TYPE_CHECKING

from silversmith.cli.deploy import show_diff
from silversmith.cli.deployed import released
from silversmith.cli.options import PIPELINE, DeploymentOption, EndpointOption, JsonOption, PipelineArgument
from silversmith.cli.screen import say, say_json
from silversmith.operations.text import count

if TYPE_CHECKING:
    from silversmith.aws.account import Account
    from silversmith.aws.deploy import Release
    from silversmith.aws.stack import Pause


def diff(
    pipeline: PipelineArgument = PIPELINE,
    *,
    deployment: DeploymentOption = "",
    endpoint_url: EndpointOption = None,
    json: JsonOption = False,
) -> int:
    """Show what `silversmith deploy` would change on AWS, and change nothing."""
    with released(pipeline, deployment, endpoint_url, quiet=json) as (wanted, account):
        return diff_release(wanted, account, json=json)


def diff_release(wanted: Release, account: Account, *, json: bool, pause: Pause | None = None) -> int:
    """Show what would change, and return the exit code. ``pause`` waits so many seconds."""
    import time

    from silversmith.aws.deploy import diff as operation

    found = operation(wanted, account, pause=pause or time.sleep)
    if json:
        say_json({"stack": wanted.name, "account": account.id, "region": account.region, **found.to_dict()})
        return 0
    show_diff(found)
    losses = f", {count(len(found.losses), 'loss', 'losses')}" if found.losses else ""
    say(f"{count(len(found.changes), 'change')}{losses}" if found else "nothing changes")
    return 0
