"""``silversmith doctor``: whether everything is there that a pipeline needs."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from silversmith.cli.opened import locate_pipeline
from silversmith.cli.options import PIPELINE, JsonOption, PipelineArgument
from silversmith.cli.screen import say, say_json
from silversmith.cli.where import HERE, Where

if TYPE_CHECKING:
    from silversmith.operations.doctor import Account, Chain, Concurrency, Facts, Report
    from silversmith.pipeline import Located

_STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}


def doctor(pipeline: PipelineArgument = PIPELINE, *, where: Where = HERE, json: JsonOption = False) -> int:
    """Check that everything is there that the pipeline needs, and say what to do where it is not.

    Exit code 0: it can run. 1: a check failed.
    """
    from silversmith.operations.doctor import judge

    report = judge(_facts(pipeline, where))
    if json:
        say_json(report.to_dict())
    else:
        _show(report)
    return 0 if report.healthy else 1


def _facts(named: str, where: Where) -> Facts:
    from silversmith.operations import doctor_facts as look
    from silversmith.operations.doctor import Facts

    on_aws = where.on_aws
    located, problem = _located(named)
    definition = located.pipeline if located else None
    told = (
        f"{definition.name}, transforms: {', '.join(one.name for one in definition.transforms)}" if definition else None
    )
    python = sys.version_info[:3]
    if on_aws:
        from silversmith.aws.install import find_uv

        account = _account(where.endpoint_url)
        return Facts(
            python,
            look.packages(),
            told,
            problem,
            account=account,
            owners=_owners(located, where) if located else None,
            concurrency=_concurrency(located, where) if located else None,
            has_installer=find_uv() is not None,
            chain=_chain(named, where) if definition and not account.problem else None,
        )
    bronze = where.lake / (definition.bronze if definition else "dl-bronze-layer")
    return Facts(
        python,
        look.packages(),
        told,
        problem,
        watching=look.watching(bronze),
        disk=look.disk(where.lake),
        file_system=look.file_system(where.lake),
        clock=look.clock(bronze, time.time()),
        open_files=look.open_files(),
        owners=_owners(located, where) if located else None,
    )


def _owners(located: Located, where: Where) -> dict[str, str] | None:
    """By transform, which other pipeline has its silver; None where that cannot be seen, or there is no lake yet."""
    from silversmith.cli.take_over import opened
    from silversmith.errors import SilversmithError
    from silversmith.local.lake import LakeFolder
    from silversmith.schemas.recorded import others

    if not where.on_aws and not LakeFolder(where.lake).state.is_dir():
        return None  # to look would make its folders
    try:
        owner, silver, quarantine = opened(located, where)
        names = [each.name for each in located.pipeline.transforms]
        found = {name: " and ".join(others(silver, quarantine, name, owner)) for name in names}
    except SilversmithError:
        return None
    return {name: other for name, other in found.items() if other}


def _located(named: str) -> tuple[Located | None, str]:
    """The pipeline, or what is wrong with it: the other checks are made all the same."""
    from silversmith.errors import DefinitionError

    try:
        return locate_pipeline(named), ""
    except DefinitionError as error:
        return None, str(error)


def _concurrency(located: Located, where: Where) -> Concurrency | None:
    """None: there is no account to ask, or the deployment is none, which other commands say."""
    from silversmith.aws.account import open_account
    from silversmith.aws.errors import NoAccount
    from silversmith.errors import DefinitionError
    from silversmith.operations.doctor_facts import concurrency
    from silversmith.pipeline import deployment

    try:
        options = deployment.named(located.names, where.deployment)
        client = open_account(endpoint_url=where.endpoint_url).client("lambda")
    except (DefinitionError, NoAccount):
        return None
    return concurrency(located.pipeline, options, client)


def _account(endpoint_url: str | None) -> Account:
    from silversmith.aws.account import open_account
    from silversmith.aws.errors import NoAccount
    from silversmith.operations.doctor import Account

    try:
        found = open_account(endpoint_url=endpoint_url)
    except NoAccount as error:
        return Account(problem=str(error))
    return Account(found.id, found.region)


def _chain(named: str, where: Where) -> Chain:
    from silversmith.aws.account import open_account
    from silversmith.aws.errors import DeployError
    from silversmith.cli.deployed import chosen
    from silversmith.errors import DefinitionError
    from silversmith.operations.doctor import Chain
    from silversmith.operations.doctor_facts import chain
    from silversmith.reconcile.hops import Problem

    try:
        located, how = chosen(named, where.deployment)
        return chain(open_account(endpoint_url=where.endpoint_url), how.name(located.pipeline.name))
    except DefinitionError as error:
        return Chain(broken=(Problem(str(error), "mend it, or name another with --deployment"),))
    except DeployError as error:
        do = "the policy of who looks must allow it: docs/operations.md#rights"
        return Chain(broken=(Problem(str(error), do, is_known=False),))


def _show(report: Report) -> None:
    for finding in report.findings:
        first, *rest = finding.found.splitlines() or [""]
        say(f"{finding.state.value:4}  {finding.name}: {first}", style=_STYLES[finding.state.value])
        for line in rest:
            say(f"        {line}")
        if finding.do:
            say(f"      → {finding.do}")
