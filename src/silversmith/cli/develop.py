"""``silversmith init``, ``check``, ``infer`` and ``doctor``: the commands before a run."""

from __future__ import annotations

import keyword
import os
import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from silversmith.cli.options import (
    HERE,
    LAKE,
    PIPELINE,
    JsonOption,
    PipelineArgument,
    QuietOption,
    Where,
    locate_pipeline,
)
from silversmith.cli.screen import bar, hush, say, say_json, say_lines, warn
from silversmith.operations.text import count, shown

if TYPE_CHECKING:
    from silversmith.operations.check import Checked
    from silversmith.operations.doctor import Account, Chain, Concurrency, Facts, Report
    from silversmith.pipeline import Located


def init(
    folder: Annotated[Path, Parameter(name="DIR", help="The folder of the project; its name becomes the project's.")],
    *,
    example: Annotated[
        str | None,
        Parameter(
            help="Begin with an example instead: messy-csv, music-api (nested JSON), or meter-readings (binary)."
        ),
    ] = None,
    quiet: QuietOption = False,
    json: JsonOption = False,
) -> int:
    """Write a new pipeline project: a pipeline, tests, sample data, and a CI workflow. Overwrites nothing."""
    hush(quiet)
    from silversmith.project import plan, write

    project = plan(folder, example, ending=os.urandom(4).hex())
    written = write(project)
    if json:
        say_json({"name": project.name, "folder": str(folder), "written": [str(path) for path in written]})
        return 0
    for path in written:
        say(path)
    say()
    say(f"{project.name} is ready. Next:")
    for command in _next(folder):
        say(f"  {command}")
    return 0


def _next(folder: Path) -> list[str]:
    go = [] if folder.resolve() == Path.cwd() else [f"cd {shlex.quote(str(folder))}"]
    return [*go, "pytest", "silversmith put data", "silversmith run --until-idle"]


def check(
    *files: Annotated[Path, Parameter(name="FILE", required=True, help="Files, and folders with all that is below.")],
    pipeline: Annotated[
        str | None,
        Parameter(help="Check against this pipeline's transforms; else files are only read, with no contract."),
    ] = None,
    lake: Annotated[Path, Parameter(help="The folder that holds the buckets: lookups are read from there.")] = LAKE,
    quiet: QuietOption = False,
    json: Annotated[
        bool,
        Parameter(
            negative=(), show_default=False, help="Print one JSON object on a line for each file, as it is done."
        ),
    ] = False,
) -> int:
    """Show what a run would make of files, without a lake and without writing anything.

    Exit code 0: all would become silver. 1: one would not.
    """
    hush(quiet)
    from silversmith.cli.options import load_pipeline
    from silversmith.operations.check import check as check_files
    from silversmith.operations.check import plan

    definition = load_pipeline(pipeline) if pipeline is not None else None
    jobs = plan(files, definition)
    good = True
    with bar("files", len(jobs), json=json) as advance:
        for found in check_files(jobs, definition, pipeline, lake):
            good = good and found.outcome == "silver"
            if json:
                say_json(found.to_dict(), indent=None)
            else:
                _tell(found)
            advance(1)
    return 0 if good else 1


def _tell(found: Checked) -> None:
    whose = f"  ({found.transform})" if found.transform else ""
    name = f"{shown(found.file)}{whose}"
    if found.error is None:
        how = ", ".join(f"{name} {value!r}" for name, value in found.dialect.items() if value is not None)
        rejected = f", {count(found.rejected, 'row')} rejected" if found.rejected else ""
        say(f"{name}  silver: {count(found.rows, 'row')}{rejected}; {found.format}{f' ({how})' if how else ''}")
        for row in found.first:
            say(f"  row {row['row']:,}: {'; '.join(row['reasons'])}", style="red")
        if found.rejected > len(found.first) > 0:
            say(f"  … and {found.rejected - len(found.first):,} more")
        return
    say(f"{name}  {found.outcome}: {found.error['code']}", style="red")
    say_lines(found.error["message"], indent="  ")
    if found.error["place"]:
        from silversmith.cli.inspect import describe

        say(f"  at {describe(found.error['place'])}")
    if found.error["hint"]:
        say_lines(found.error["hint"], indent="  ")


def infer(
    *files: Annotated[Path, Parameter(name="FILE", required=True, help="Files, and folders with all that is below.")],
    name: Annotated[str, Parameter(help="What the contract is called in the file.")] = "contract",
    output: Annotated[
        Path | None,
        Parameter(help="Write it there, where no file is yet; else it is printed.", show_default=False),
    ] = None,
    pipeline: Annotated[
        str | None,
        Parameter(
            help="Read the files as this pipeline's transforms would; else it is found out how.", show_default=False
        ),
    ] = None,
    json: JsonOption = False,
) -> int:
    """Write a contract that holds for these files, as a Python file that you edit.

    Types, and the columns that are never null, are what all rows of all files have; what else may be meant (a key,
    allowed values, ranges) stands there as a comment.
    """
    from silversmith.cli.options import load_pipeline
    from silversmith.operations import WrongCall
    from silversmith.operations.check import plan
    from silversmith.operations.infer import infer as look
    from silversmith.operations.infer import python

    if not name.isidentifier() or keyword.iskeyword(name):
        raise WrongCall(f"--name {name!r} is no name of a variable in Python")
    if output is not None and output.exists():
        raise WrongCall(f"{output} is there already: it may have been edited. Choose another --output.")
    definition = load_pipeline(pipeline) if pipeline is not None else None
    found = look(plan(files, definition), definition)
    source = python(found, name)
    if output is not None:
        with output.open("x", encoding="utf-8") as file:
            file.write(source)
        warn(f"wrote {output}; say contract={name} where the transform is declared")
    if json:
        say_json(
            {
                "files": [file.to_dict() for file in found.files],
                "columns": [column.to_dict() for column in found.columns],
                "source": source,
                "written": str(output) if output is not None else None,
            }
        )
    elif output is None:
        sys.stdout.write(source)
    return 0


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
        from silversmith.aws.packages import find_uv

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
    from silversmith.cli.deploy import opened
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
    from silversmith.aws.account import NoAccount, open_account
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
    from silversmith.aws.account import NoAccount, open_account
    from silversmith.operations.doctor import Account

    try:
        found = open_account(endpoint_url=endpoint_url)
    except NoAccount as error:
        return Account(problem=str(error))
    return Account(found.id, found.region)


def _chain(named: str, where: Where) -> Chain:
    from silversmith.aws.account import DeployError, open_account
    from silversmith.cli.deploy import chosen
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
