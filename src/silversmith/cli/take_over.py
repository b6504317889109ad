"""``silversmith take-over``: make silver that another pipeline made this one's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from silversmith.cli.deployed import YesOption
from silversmith.cli.opened import locate_pipeline
from silversmith.cli.options import PIPELINE, JsonOption, PipelineArgument
from silversmith.cli.screen import ask, can_ask, say, say_json
from silversmith.cli.where import HERE, Where

if TYPE_CHECKING:
    from silversmith.pipeline import Located
    from silversmith.schemas import Owner
    from silversmith.stores import Store


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
        from silversmith.aws.silver import existing
        from silversmith.aws.silver import owner as owner_on_aws
        from silversmith.pipeline import deployment

        account = open_account(endpoint_url=where.endpoint_url)
        owner = owner_on_aws(located.pipeline, deployment.named(located.names, where.deployment))
        return owner, existing(account, owner.silver), existing(account, owner.quarantine)
    from silversmith.local.lake import LakeFolder
    from silversmith.operations.local import open_lake

    with open_lake(LakeFolder(where.lake), located.pipeline) as target:
        return target.owner, target.lake.silver, target.lake.quarantine
