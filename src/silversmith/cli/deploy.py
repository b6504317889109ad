"""``silversmith template``, ``bundle``, ``diff``, ``deploy``, ``destroy`` and ``take-over``."""

from __future__ import annotations

import json as text
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from silversmith.cli.options import (
    HERE,
    PIPELINE,
    DeploymentOption,
    EndpointOption,
    JsonOption,
    PipelineArgument,
    QuietOption,
    Where,
    locate_pipeline,
)
from silversmith.cli.screen import aligned, ask, can_ask, hush, say, say_json, warn
from silversmith.operations.text import count, shown, size

if TYPE_CHECKING:
    from silversmith.aws.account import Account, Pause
    from silversmith.aws.bundle import Bundle
    from silversmith.aws.deploy import Deployed, Release, ScheduledRound
    from silversmith.aws.destroy import Inventory
    from silversmith.aws.stack import Diff
    from silversmith.pipeline import Located
    from silversmith.pipeline.deployment import Deployment
    from silversmith.schemas import Owner
    from silversmith.stores import Store


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


def no_progress(line: str) -> None:
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


def template(
    pipeline: PipelineArgument = PIPELINE,
    *,
    deployment: DeploymentOption = "",
    output: Annotated[Path | None, Parameter(help="Write it to this file; else it is printed.")] = None,
    json: JsonOption = False,
) -> int:
    """Print the CloudFormation template that the pipeline compiles to. It is JSON, with ``--json`` and without."""
    del json
    from silversmith.pipeline.deployment import named
    from silversmith.template import compile as compile_template

    found = locate_pipeline(pipeline)
    compiled = compile_template(found.pipeline, found.reference, deployment=named(found.names, deployment))
    if output is None:
        say_json(compiled)
    else:
        output.write_text(text.dumps(compiled, indent=2) + "\n", encoding="ascii")
    return 0


#: How many of the largest packages are named.
NAMED = 8


def bundle(
    pipeline: PipelineArgument = PIPELINE,
    *,
    deployment: DeploymentOption = "",
    output: Annotated[Path | None, Parameter(help="The zip file to write; by default bundle.zip.")] = None,
    split: Annotated[
        Path | None,
        Parameter(help="Write function.zip and layer.zip into this folder instead, the packages in the latter."),
    ] = None,
    architecture: Annotated[
        Literal["arm64", "x86_64"] | None, Parameter(help="Lambda's machine; else what the deployment says.")
    ] = None,
    python: Annotated[Literal["3.12", "3.13", "3.14"], Parameter(help="Lambda's Python.")] = "3.13",
    quiet: QuietOption = False,
    json: JsonOption = False,
) -> int:
    """Gather the code that Lambda runs, with its packages, into a zip file. `silversmith deploy` does it by itself."""
    hush(quiet)
    from silversmith.operations import WrongCall

    if output is not None and split is not None:
        raise WrongCall("--output writes one file, --split two. Give one of them.")
    located, how = chosen(pipeline, deployment)
    from silversmith.aws.bundle import build
    from silversmith.aws.packages import Runtime

    runtime = Runtime(architecture or how.architecture, python)
    with tempfile.TemporaryDirectory(prefix="silversmith-") as work:
        found = build(located, Path(work), runtime=runtime, include=how.include, extra=how.requirements)
        written = write(found, output or Path("bundle.zip"), split)
        if json:
            say_json(bundle_document(found, written))
        else:
            show(found, written)
    return 0


def write(found: Bundle, output: Path, split: Path | None) -> Sequence[Path]:
    """Write the zip, or two into the folder ``split``, and return what was written."""
    if split is not None:
        return found.write(split)
    found.write_whole(output)
    return [output]


def show(found: Bundle, written: Sequence[Path]) -> None:
    """For a person."""
    from silversmith.aws.bundle import MOST_BYTES

    runtime = found.runtime
    say(f"for Lambda's Python {runtime.python} on {runtime.architecture}; versions: {found.origin}")
    largest = found.shares[:NAMED]
    for line in aligned([(size(share.size), share.name) for share in largest], right=[0]):
        say(f"  {line}")
    if len(found.shares) > NAMED:
        say(f"  … and {len(found.shares) - NAMED} smaller ones")
    say(f"{found.size / 2**20:.1f} MiB unzipped, of {MOST_BYTES / 2**20:.0f} that Lambda takes")
    for path in written:
        say(f"written: {path} ({size(path.stat().st_size)})")


def bundle_document(found: Bundle, written: Sequence[Path]) -> dict[str, Any]:
    """As JSON values."""
    return {
        "architecture": found.runtime.architecture,
        "python": found.runtime.python,
        "versions": found.origin,
        "digest": found.function_digest,
        "size": found.size,
        "packages": [{"name": share.name, "size": share.size} for share in found.shares],
        "written": [{"path": str(path), "size": path.stat().st_size} for path in written],
    }


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
            wanted, account, confirm=asking.confirm, tell=no_progress if json else tell, pause=pause or time.sleep
        )
    except KeyboardInterrupt:
        if asking.confirmed:
            warn(f"AWS goes on with {wanted.name} by itself; `silversmith deploy` says when it is done")
        raise
    if json:
        say_json(deploy_document(done, account))
    else:
        _show_deploy(done)
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


def _show_deploy(done: Deployed) -> None:
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


def round_line(later: ScheduledRound) -> str:
    """What follows the deploy, for a person."""
    at = f"{later.at:%H:%M} UTC"
    why = "AWS takes up to 15 minutes to send events by a new way"
    if later.problem:
        return f"{why}: run `silversmith reconcile --target aws` at {at}, because {later.problem}"
    return f"{why}: bronze and silver are compared at {at}, and what was missed is sent"


def deploy_document(done: Deployed, account: Account) -> dict[str, Any]:
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


def destroy(
    pipeline: PipelineArgument = PIPELINE,
    *,
    deployment: DeploymentOption = "",
    yes: YesOption = False,
    delete_data: Annotated[
        bool,
        Parameter(negative=(), show_default=False, help="Delete the buckets too, each after its name was typed."),
    ] = False,
    bucket: Annotated[
        tuple[str, ...],
        Parameter(
            negative=(),
            show_default=False,
            help="With --delete-data: delete this bucket without asking, for scripts. Repeatable.",
        ),
    ] = (),
    endpoint_url: EndpointOption = None,
    json: JsonOption = False,
) -> int:
    """Delete the pipeline's stack from AWS. Its buckets stay, with everything in them.

    Exit code 0: it is gone, or was not there. 1: it is still there.
    """
    located, how = chosen(pipeline, deployment)
    from silversmith.aws.account import open_account

    name, account = how.name(located.pipeline.name), open_account(endpoint_url=endpoint_url)
    data = Data(wanted=delete_data, named=bucket)
    return destroy_stack(name, account, data, yes=yes, json=json)


class Data:
    """Whether the buckets go, too. ``wanted``: it was asked for; ``named``: and again, for these, by name."""

    def __init__(self, *, wanted: bool, named: Sequence[str]) -> None:
        self._wanted = wanted
        self._named = frozenset(named)

    @property
    def wanted(self) -> bool:
        return self._wanted

    def check(self, doomed: Inventory) -> None:
        """Before anything is deleted: is it clear what is to be done?

        Raises:
            WrongCall: it is not.
        """
        from silversmith.operations import WrongCall

        if self._named and not self._wanted:
            raise WrongCall("--bucket deletes data: add --delete-data if that is meant")
        unknown = sorted(self._named - set(doomed.buckets))
        if unknown:
            raise WrongCall(
                f"the stack {doomed.name} has no bucket {unknown[0]!r}; it has: {', '.join(doomed.buckets) or 'none'}"
            )
        if self._wanted and not self._named and not can_ask():
            raise WrongCall(
                "nobody can be asked for the buckets' names, because this is no terminal: name what is to be deleted, "
                f"with all that is in it: {' '.join(f'--bucket {bucket}' for bucket in doomed.buckets)}"
            )

    def confirm(self, bucket: str) -> bool:
        """The second time, just before a bucket is emptied."""
        if self._named:
            return bucket in self._named
        return typed(f"All versions of all objects in {shown(bucket)} would be deleted, for good.", bucket)


def destroy_stack(name: str, account: Account, data: Data, *, yes: bool, json: bool, pause: Pause | None = None) -> int:
    """Destroy the stack of that name, and return the exit code. ``pause`` waits so many seconds."""
    import time

    from silversmith.aws import destroy as aws

    doomed = aws.take_inventory(name, account)
    if doomed is None:
        return _nothing(name, account, json=json)
    data.check(doomed)
    if not json:
        _show_destroy(doomed, account)
    if not agreed(f"Destroy {name} in the account {place(account)}?", yes=yes):
        _sum_up(doomed, account, (), destroyed=False, json=json)
        return 1
    telling = no_progress if json else tell
    aws.destroy(name, account, tell=telling, pause=pause or time.sleep)
    erased = aws.erase(doomed, account, asked=True, confirm=data.confirm, tell=telling) if data.wanted else ()
    _sum_up(doomed, account, erased, destroyed=True, json=json)
    return 0


def _nothing(name: str, account: Account, *, json: bool) -> int:
    if json:
        say_json({"stack": name, "account": account.id, "region": account.region, "destroyed": False})
    else:
        say(f"there is no stack {name} in the account {place(account)}: nothing was to be done")
    return 0


def _show_destroy(doomed: Inventory, account: Account) -> None:
    say(f"{doomed.name} in the account {place(account)}: to be deleted, {count(len(doomed.resources), 'resource')}")
    for resource in doomed.resources:
        say(f"  - {resource}")
    if doomed.queued:
        say(f"{count(doomed.queued, 'message')} in its queues would be lost", style="bold red")
    for kept in (*doomed.buckets, *doomed.kept):
        say(f"  stays: {kept}")


def _sum_up(doomed: Inventory, account: Account, erased: Sequence[str], *, destroyed: bool, json: bool) -> None:
    if json:
        say_json(destroy_document(doomed, account, erased, destroyed=destroyed))
    elif destroyed:
        say(f"{doomed.name} is destroyed")
        for bucket in doomed.buckets:
            say(f"  {'deleted' if bucket in erased else 'kept'}: {bucket}")
    else:
        say("nothing was done")


def destroy_document(doomed: Inventory, account: Account, erased: Sequence[str], *, destroyed: bool) -> dict[str, Any]:
    """As JSON values."""
    return {
        "stack": doomed.name,
        "account": account.id,
        "region": account.region,
        "destroyed": destroyed,
        "resources": list(doomed.resources),
        "messages": doomed.queued,
        "kept": [*(bucket for bucket in doomed.buckets if bucket not in erased), *doomed.kept],
        "deleted": list(erased),
    }


def take_over(
    pipeline: PipelineArgument = PIPELINE,
    *,
    transform: Annotated[str | None, Parameter(help="Only this transform's.")] = None,
    yes: YesOption = False,
    where: Where = HERE,
    json: JsonOption = False,
) -> int:
    """Make this pipeline the owner of the silver that its transforms find under their names, after it was renamed, say.

    The pipeline that has it now can write none of it any more. Exit code 1: nobody agreed.
    """
    from silversmith.operations import WrongCall
    from silversmith.schemas.recorded import others
    from silversmith.schemas.recorded import take_over as take

    located = locate_pipeline(pipeline)
    definition = located.pipeline
    names = [definition.find(transform).name] if transform else [each.name for each in definition.transforms]
    owner, silver, quarantine = opened(located, where)
    takings = {name: tuple(others(silver, quarantine, name, owner)) for name in names}
    takings = {name: former for name, former in takings.items() if former}
    if not json:
        for name, former in takings.items():
            say(f"{name}: {' and '.join(former)} → {owner.name}")
    if takings and not yes and not can_ask():
        raise WrongCall("nobody can be asked, because this is no terminal: say yes with --yes")
    agreed = not takings or yes or _agreed(takings)
    if agreed and silver is not None:
        for name in takings:
            take(silver, quarantine, name, owner)
    if json:
        taken = [{"transform": name, "from": list(former)} for name, former in takings.items()]
        say_json({"owner": owner.name, "done": agreed, "taken": taken})
    elif not takings:
        say(f"no other pipeline has silver of {', '.join(names)} in {owner.silver}: nothing was to be done")
    else:
        say(f"{owner.name} has it now" if agreed else "nothing was done")
    return 0 if agreed else 1


def _agreed(takings: dict[str, tuple[str, ...]]) -> bool:
    former = ", ".join(sorted({name for names in takings.values() for name in names}))
    answer = ask(f"If {former} still runs, its files of these transforms fail from now on. Take it over? [y/N] ")
    return (answer or "").strip().lower() in {"y", "yes"}


def opened(located: Located, where: Where) -> tuple[Owner, Store | None, Store | None]:
    """Whose it will be, silver and quarantine. On AWS there need not be a stack yet; None: there is no such bucket.

    Raises:
        DefinitionError: there is no such deployment.
        WrongCall: there is no lake.
        NoAccount: there are no credentials for AWS.
    """
    if where.on_aws:
        from silversmith.aws.account import open_account
        from silversmith.aws.artefacts import existing_bucket
        from silversmith.aws.deploy import owner as owner_on_aws
        from silversmith.pipeline import deployment

        account = open_account(endpoint_url=where.endpoint_url)
        owner = owner_on_aws(located.pipeline, deployment.named(located.names, where.deployment))
        return owner, existing_bucket(account, owner.silver), existing_bucket(account, owner.quarantine)
    from silversmith.local.lake import LakeFolder
    from silversmith.operations.local import open_lake

    with open_lake(LakeFolder(where.lake), located.pipeline) as target:
        return target.owner, target.lake.silver, target.lake.quarantine
