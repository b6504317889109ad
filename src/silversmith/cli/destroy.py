"""``silversmith destroy``: remove the stack from AWS; the data only when that is asked for twice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from silversmith.cli.deployed import YesOption, agreed, chosen, hush, place, tell, typed
from silversmith.cli.options import PIPELINE, DeploymentOption, EndpointOption, JsonOption, PipelineArgument
from silversmith.cli.screen import can_ask, say, say_json
from silversmith.operations.text import count, shown

if TYPE_CHECKING:
    from silversmith.aws.account import Account
    from silversmith.aws.destroy import Doomed
    from silversmith.aws.stack import Pause


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

    def check(self, doomed: Doomed) -> None:
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

    doomed = aws.look(name, account)
    if doomed is None:
        return _nothing(name, account, json=json)
    data.check(doomed)
    if not json:
        _show(doomed, account)
    if not agreed(f"Destroy {name} in the account {place(account)}?", yes=yes):
        _sum_up(doomed, account, (), destroyed=False, json=json)
        return 1
    telling = hush if json else tell
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


def _show(doomed: Doomed, account: Account) -> None:
    say(f"{doomed.name} in the account {place(account)}: to be deleted, {count(len(doomed.resources), 'resource')}")
    for resource in doomed.resources:
        say(f"  - {resource}")
    if doomed.queued:
        say(f"{count(doomed.queued, 'message')} in its queues would be lost", style="bold red")
    for kept in (*doomed.buckets, *doomed.kept):
        say(f"  stays: {kept}")


def _sum_up(doomed: Doomed, account: Account, erased: Sequence[str], *, destroyed: bool, json: bool) -> None:
    if json:
        say_json(document(doomed, account, erased, destroyed=destroyed))
    elif destroyed:
        say(f"{doomed.name} is destroyed")
        for bucket in doomed.buckets:
            say(f"  {'deleted' if bucket in erased else 'kept'}: {bucket}")
    else:
        say("nothing was done")


def document(doomed: Doomed, account: Account, erased: Sequence[str], *, destroyed: bool) -> dict[str, Any]:
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
