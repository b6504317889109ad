"""``silversmith init``, ``check``, ``infer``, ``estimate`` and ``doctor``: the commands before a run."""

from __future__ import annotations

import keyword
import os
import shlex
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from silversmith.cli.options import (
    HERE,
    LAKE,
    PIPELINE,
    FilesArgument,
    JsonOption,
    LakeOption,
    PipelineArgument,
    PipelineOption,
    QuietOption,
    Where,
    complete_keys,
    complete_transforms,
    flag,
    load_pipeline,
    number,
    open_target,
)
from silversmith.cli.screen import progress_bar, say, say_json, say_table, set_quiet, warn
from silversmith.operations import WrongCall
from silversmith.operations.text import count, duration, shown
from silversmith.operations.text import size as shown_size

if TYPE_CHECKING:
    from silversmith.operations.check import CheckedFile
    from silversmith.operations.estimate import Estimate
    from silversmith.operations.target import FileTime
    from silversmith.pipeline import Pipeline, Transform


def init(
    folder: Annotated[Path, Parameter(name="DIR", help="The folder of the project; its name becomes the project's.")],
    /,
    *,
    example: Annotated[
        str | None,
        Parameter(
            help="Begin with an example instead: messy-csv, music-api (nested JSON), meter-readings (binary), aws-logs."
        ),
    ] = None,
    quiet: QuietOption = False,
    json: JsonOption = False,
) -> int:
    """Write a new pipeline project: a pipeline, tests, sample data, and a CI workflow. Overwrites nothing."""
    set_quiet(quiet)
    from silversmith.operations.project import plan, write

    project = plan(folder, example, ending=os.urandom(4).hex())
    written = write(project)
    if json:
        say_json({"name": project.name, "folder": str(folder), "written": [str(path) for path in written]})
        return 0
    for path in written:
        say(path)
    say()
    say(f"{project.name} is ready. Next:")
    if folder.resolve() != Path.cwd():
        say(f"  cd {shlex.quote(str(folder))}")
    for command in ("pip install pytest", "pytest", "silversmith put data", "silversmith run --until-idle"):
        say(f"  {command}")
    return 0


def check(
    *files: FilesArgument,
    pipeline: Annotated[
        str | None,
        Parameter(help="Check against this pipeline's transforms; else pipeline.py, where there is one."),
    ] = None,
    plain: Annotated[bool, flag("Only read the files, with no transform and no contract.")] = False,
    key: Annotated[
        str | None,
        Parameter(
            completer=complete_keys, help="The key that the one file would have in bronze; else its path says it."
        ),
    ] = None,
    transform: Annotated[
        str | None,
        Parameter(
            completer=complete_transforms,
            help="Only by this transform, also where its pattern matches none of the files.",
        ),
    ] = None,
    lake: LakeOption = LAKE,
    quiet: QuietOption = False,
    json: Annotated[bool, flag("Print one JSON object on a line for each file, as it is done.")] = False,
) -> int:
    """Show what a run would make of files, without a lake and without writing anything.

    Lookups are read from the files, or else from the lake. Exit code 0: all would become silver. 1: one would not.
    """
    set_quiet(quiet)
    from silversmith.operations.check import check as operation
    from silversmith.operations.check import plan

    if plain and (pipeline is not None or transform is not None):
        raise WrongCall("--plain reads files with no pipeline: leave --pipeline and --transform away")
    if pipeline is None and not plain and (transform is not None or Path(PIPELINE).is_file()):
        pipeline = PIPELINE
    definition = load_pipeline(pipeline) if pipeline is not None else None
    jobs = plan(files, definition, key=key, transform=transform)
    outcomes = Counter[str]()
    causes: dict[object, str] = {}
    with progress_bar("files", len(jobs), json=json) as advance:
        for checked in operation(jobs, definition, pipeline, lake):
            outcomes[checked.outcome] += 1
            outcomes["partial"] += checked.rejected > 0
            outcomes["bad"] += not checked.is_good
            if json:
                say_json(checked.to_dict(), indent=None)
            else:
                _show_checked(checked, causes, definition)
            advance(1)
    if not json and len(jobs) > 1:
        partial = f" ({outcomes['partial']:,} partial)" if outcomes["partial"] else ""
        names = ("silver", "quarantine", "failed", "unmatched", "lookup", "marker")
        parts = [f"{outcomes[name]:,} {name}{partial if name == 'silver' else ''}" for name in names if outcomes[name]]
        say(f"{count(len(jobs), 'check')}: {', '.join(parts)}")
    return 1 if outcomes["bad"] else 0


def _show_checked(checked: CheckedFile, causes: dict[object, str], pipeline: Pipeline | None) -> None:
    """``causes``: by cause, the first file that failed for it, which is shown in full."""
    name = shown(checked.file)
    if checked.transform is not None and pipeline is not None:
        pattern = pipeline.find(checked.transform).pattern
        misses = "" if pattern.matches(checked.key) else f", which {pattern.text} does not match"
        name += f"  ({checked.transform}, key {shown(checked.key)}{misses})"
    if checked.outcome == "marker":
        say(f"{name}  passed over: it stands for a folder or a job, and is no data")
    elif checked.outcome == "lookup":
        say(f"{name}  lookup of {', '.join(checked.lookup_of)}: {shown(checked.key)}")
    elif checked.error is None:
        dialect = ", ".join(f"{name} {value!r}" for name, value in checked.dialect.items() if value is not None)
        rejected = f", {count(checked.rejected, 'row')} rejected" if checked.rejected else ""
        form = f"{checked.format}{f' ({dialect})' if dialect else ''}"
        rejected += f", {checked.dropped:,} dropped" if checked.dropped else ""
        say(f"{name}  silver: {count(checked.rows, 'row')}{rejected}; {form}", style="yellow" if rejected else "")
        for row in checked.first:
            say(f"  row {row['row']:,}: {'; '.join(row['reasons'])}", style="red")
        if checked.rejected > len(checked.first) > 0:
            say(f"  … and {checked.rejected - len(checked.first):,} more")
    else:
        _show_failed(name, checked, checked.error, causes)


def _show_failed(name: str, checked: CheckedFile, error: Mapping[str, Any], causes: dict[object, str]) -> None:
    from silversmith.cli.inspect import say_advice, say_error

    cause = checked.transform, error["code"], error["message"]
    is_known = error["code"] != "NoTransform" and cause in causes
    say(f"{name}  {checked.outcome}: {error['code']}" + (f", as {causes[cause]}" if is_known else ""), style="red")
    if not is_known:
        causes[cause] = shown(checked.file)
        say_error("", error["message"], "  ")
        say_advice(error, "  ")


def infer(
    *files: FilesArgument,
    name: Annotated[str, Parameter(help="Name of the contract in the file.")] = "contract",
    output: Annotated[
        Path | None,
        Parameter(help="Write it there, where no file is yet; else it is printed.", show_default=False),
    ] = None,
    pipeline: Annotated[
        str | None,
        Parameter(
            help="Read the files as this pipeline's transforms would; else the format is detected.", show_default=False
        ),
    ] = None,
    json: JsonOption = False,
) -> int:
    """Write a pipeline that reads these files, with reader, contract and transform, as a Python file that you edit.

    With --pipeline, whose transforms read them, only the contract.

    Types, and the columns that are never null, hold for all rows of all files; what else may be meant (a key, allowed
    values, ranges) stands there as a comment.
    """
    from silversmith.operations.check import plan
    from silversmith.operations.infer import infer as operation
    from silversmith.operations.infer import python

    if not name.isidentifier() or keyword.iskeyword(name):
        raise WrongCall(f"--name {name!r} is no name of a variable in Python")
    if output is not None and output.exists():
        raise WrongCall(f"{output} is there already: it may have been edited. Choose another --output.")
    definition = load_pipeline(pipeline) if pipeline is not None else None
    inferred = operation(plan(files, definition), definition)
    source = python(inferred, name)
    if output is not None:
        with output.open("x", encoding="utf-8") as file:
            file.write(source)
        use = f"say contract={name} where the transform is declared" if definition is not None else "it is a pipeline"
        warn(f"wrote {output}; {use}")
    if json:
        document = {
            "files": [file.to_dict() for file in inferred.files],
            "columns": [column.to_dict() for column in inferred.columns],
            "source": source,
            "written": str(output) if output is not None else None,
        }
        say_json(document)
    elif output is None:
        sys.stdout.write(source)
    return 0


def estimate(
    pipeline: PipelineOption = PIPELINE,
    *,
    files: Annotated[int, number("So many files land.", 1, 10**12)],
    size: Annotated[int, number("Of so many bytes each.", 1, 10**13)],
    rate: Annotated[float | None, number("So many a second; by default all within a minute.", 1)] = None,
    transform: Annotated[str | None, Parameter(help="Which transform takes them.")] = None,
    seconds: Annotated[
        float | None,
        Parameter(show_default=False, help="The seconds of Lambda that a file takes, where you know them better."),
    ] = None,
    prefixes: Annotated[int, number("The partitions that S3 has made of their keys.", 1)] = 1,
    events_per_second: Annotated[int, number("Your region's quota of EventBridge's invocations.", 1)] = 18_750,
    where: Where = HERE,
    json: JsonOption = False,
) -> int:
    """Estimate how long files take on AWS, what slows them down, and what they cost.

    The time of a file is measured where this pipeline has run: in the lake, or with --target aws on Lambda.
    """
    from silversmith.operations import estimate as operation
    from silversmith.operations.target import FileTime
    from silversmith.pipeline.deployment import Deployment
    from silversmith.template.transform import concurrency

    if seconds is not None and not 0 < seconds <= 900:
        raise WrongCall(f"--seconds {seconds:g} is no time of a file: Lambda takes from above 0 to 900 seconds")
    definition, measured = _measured(pipeline, where, transform)
    chosen = _transform(definition, transform)
    time = measured or operation.assumed(size)
    if seconds is not None:
        time = FileTime(seconds, "as you say", billed=True)
    functions = operation.Functions(
        chosen.memory,
        chosen.batch_size,
        concurrency(chosen, Deployment()),
        Deployment().tables_memory if definition.tables else None,
    )
    burst = operation.Burst(files, size, rate or files / 60, prefixes)
    result = operation.estimate(burst, functions, time, events=events_per_second)
    say_json(result.to_dict()) if json else _show_estimate(result)
    return 0


def _measured(pipeline: str, where: Where, transform: str | None) -> tuple[Pipeline, FileTime | None]:
    """The pipeline, and its own measurement, where it has run."""
    if not where.on_aws and not where.lake.is_dir():
        return load_pipeline(pipeline), None
    with open_target(pipeline, where) as (definition, target):
        return definition, target.file_time(_transform(definition, transform).name)


def _transform(definition: Pipeline, name: str | None) -> Transform:
    if name is not None:
        return definition.find(name)
    if len(definition.transforms) != 1:
        names = ", ".join(transform.name for transform in definition.transforms)
        raise WrongCall(f"the pipeline has several transforms: add --transform and one of {names}")
    return definition.transforms[0]


def _show_estimate(result: Estimate) -> None:
    burst, functions = result.burst, result.functions
    say(f"{count(burst.files, 'file')} of {shown_size(burst.size)} land in {duration(result.landed)}")
    say(f"a file takes {result.file_seconds:.3g} s of a function with {functions.memory:,} MB ({result.source})")
    say()
    rows = [("in silver after", duration(result.silver))]
    if result.gold is not None:
        rows.append(("in gold after", duration(result.gold)))
    rows.append(("invocations at once", f"{result.invocations_at_once:,}"))
    say_table(rows, right=[1])
    for limit in result.limits:
        say()
        say(f"{limit.service}: {limit.effect}")
        say(f"  to do: {limit.do}")
    say()
    rows = [(service, f"{dollars:,.2f}") for service, dollars in result.dollars.items()]
    say_table([*rows, ("sum", f"{sum(result.dollars.values()):,.2f}")], header=("service", "$"), right=[1])


_STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}


def doctor(pipeline: PipelineArgument = PIPELINE, *, where: Where = HERE, json: JsonOption = False) -> int:
    """Check that everything is there that the pipeline needs, and say what to do where it is not.

    Exit code 0: it can run. 1: a check failed.
    """
    from silversmith.cli.options import locate_pipeline
    from silversmith.errors import DefinitionError
    from silversmith.operations import doctor as operation

    on_aws = where.on_aws
    try:
        located, problem = locate_pipeline(pipeline), ""
    except DefinitionError as error:  # the other checks are made all the same
        located, problem = None, str(error)
    checks = operation.packages_and_pipeline(located.pipeline if located else None, problem)
    if on_aws:
        checks += operation.aws_checks(located, where.deployment, where.endpoint_url)
    else:
        checks += operation.machine_checks(located, where.lake)
    healthy = operation.is_healthy(checks)
    if json:
        say_json(operation.document(checks))
        return 0 if healthy else 1
    for finding in checks:
        first, *rest = finding.found.splitlines() or [""]
        say(f"{finding.state.value:4}  {finding.name}: {first}", style=_STYLES[finding.state.value])
        for line in rest:
            say(f"        {line}")
        if finding.do:
            say(f"      → {finding.do}")
    return 0 if healthy else 1


def explain(
    code: Annotated[str, Parameter(name="CODE", help="The word before the message, such as MissingColumn.")],
    /,
    *,
    json: JsonOption = False,
) -> int:
    """Explain an error code: what happened, and what to do about it. Exit code 1: Silversmith has no such code."""
    from silversmith.operations.explain import explanations, near

    explanation = {name.lower(): each for name, each in explanations().items()}.get(code.lower())
    if explanation is None:
        similar = near(code)
        warn(
            f"{code} is not an error code of Silversmith. "
            + (f"Did you mean {similar}? " if similar else "")
            + "A reader or a transform of your own may have raised it; else it is the name of a Python exception."
        )
        return 1
    document = explanation.to_dict()
    if json:
        say_json(document)
        return 0
    say(document["code"], style="bold")
    say(document["meaning"])
    say()
    for step in document["do"]:
        say(f"- {step}")
    say()
    say(f"The same with an example: {document['page']}")
    return 0
