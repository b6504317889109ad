"""``silversmith template``, ``bundle``, ``diff``, ``deploy``, ``destroy`` and ``take-over``."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from json import dumps
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from silversmith.cli.options import (
    HERE,
    PIPELINE,
    DeploymentOption,
    EndpointOption,
    ImageOption,
    JsonOption,
    PipelineArgument,
    QuietOption,
    TransformOption,
    Where,
    YesOption,
    flag,
    locate_deployment,
    locate_pipeline,
    open_account,
    open_target,
)
from silversmith.cli.screen import (
    ask,
    can_ask,
    confirm,
    require_person,
    say,
    say_document,
    say_json,
    say_table,
    set_quiet,
    warn,
)
from silversmith.operations import WrongCall
from silversmith.operations.text import count, duration, shown, size

if TYPE_CHECKING:
    from silversmith.aws.account import Account, Pause
    from silversmith.aws.bundle import Bundle
    from silversmith.aws.deploy import Build, Deployed, Release, ScheduledRound
    from silversmith.aws.destroy import Inventory
    from silversmith.aws.stack import Diff, History
    from silversmith.operations.estimate import Estimate
    from silversmith.pipeline import Located
    from silversmith.pipeline.deployment import Deployment
    from silversmith.schemas import Owner
    from silversmith.stores import Store


@contextmanager
def prepare_release(
    located: Located, options: Deployment, endpoint_url: str | None, *, quiet: bool, image: str = ""
) -> Iterator[tuple[Release, Account]]:
    """Gather what is to be deployed, and open the account. ``image`` is the URI of the image, if there is one.

    Raises:
        DefinitionError: the pipeline cannot be deployed.
        WrongCall: there is an image, and the deployment has none.
        NoAccount: there are no credentials or no region.
        BundleError: the code cannot be gathered.
        DeployError: Lambda does not take the image.
    """
    if image and not options.image:
        raise WrongCall("--image is for functions that run from an image: add Deployment(image=True)")
    from silversmith.aws.deploy import release

    account = open_account(endpoint_url)
    if not quiet:
        say(f"{options.name(located.pipeline.name)} in the account {account_text(account)}")
        say("gathering the code and its packages")
    with TemporaryDirectory(prefix="silversmith-") as work:
        yield release(located, account, Path(work), deployment=options, image=image), account


def account_text(account: Account) -> str:
    at = f", at {account.endpoint_url}" if account.endpoint_url else ""
    return f"{account.id}, {account.region}{at}"


def _place(account: Account) -> dict[str, str]:
    return {"account": account.id, "region": account.region}


def say_event(line: str, *, json: bool) -> None:
    """Print an event of CloudFormation, unless the command prints one JSON document."""
    if not json:
        say(line, style="bold red" if "_FAILED" in line else "")


def agreed(question: str, *, yes: bool) -> bool:
    """Whether a person agrees; ``yes``: by an option.

    Raises:
        WrongCall: nobody can be asked.
    """
    if not yes:
        require_person(f": {question} Look at it with `silversmith diff`, and say yes with --yes.")
    return yes or confirm(question)


def template(
    pipeline: PipelineArgument = PIPELINE,
    *,
    deployment: DeploymentOption = "",
    output: Annotated[
        Path | None,
        Parameter(help="Write it to this file, or Terraform's module into this folder; else print it."),
    ] = None,
    form: Annotated[
        Literal["json", "yaml", "terraform"], Parameter(name="--format", help="How it is written.")
    ] = "json",
    json: JsonOption = False,
) -> int:
    """Print the CloudFormation template that the pipeline compiles to: as JSON, or with `--format yaml` as YAML.

    With `--format terraform` it is a module of Terraform, in the folder `--output`.
    """
    if json and form != "json":
        raise WrongCall(f"--json and --format {form} contradict each other: give one of them")
    from silversmith.template import compile as compile_template

    located, options = locate_deployment(pipeline, deployment)
    if form == "terraform":
        return write_terraform(located, options, output)
    compiled = compile_template(located.pipeline, located.reference, deployment=options)
    if form == "json" and output is None:
        say_json(compiled)
        return 0
    text = yaml_text(compiled) if form == "yaml" else dumps(compiled, indent=2) + "\n"
    if output is None:
        say_document(text)
    else:
        output.write_text(text, encoding="ascii")
    return 0


def write_terraform(located: Located, options: Deployment, folder: Path | None) -> int:
    """Write Terraform's module, and say what else belongs into its folder.

    Raises:
        WrongCall: no folder is named.
    """
    if folder is None:
        raise WrongCall("a module of Terraform is a folder: name it with --output")
    from silversmith.aws.terraform import write_module

    for path in write_module(located, options, folder):
        say(f"written: {path}")
    if options.image:
        say("the code is in an image, whose URI is the variable `image`: silversmith bundle writes what it is made of")
    else:
        say(f"the code belongs beside it: silversmith bundle --split {folder}")
    if located.pipeline.tables:
        say(f"that of the tables, too: silversmith bundle --tables --split {folder / 'tables'}")
    return 0


def yaml_text(template: dict[str, Any]) -> str:
    """A template as YAML. CloudFormation takes no aliases: what occurs twice is written twice.

    https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/template-formats.html
    """
    import yaml

    class Plain(yaml.SafeDumper):  # type: ignore[misc]
        def ignore_aliases(self, _: object) -> bool:
            return True

    text: str = yaml.dump(template, Dumper=Plain, sort_keys=False, width=10_000)
    return text


#: So many of the largest packages are listed.
MOST_PACKAGES = 8


def bundle(
    pipeline: PipelineArgument = PIPELINE,
    *,
    deployment: DeploymentOption = "",
    output: Annotated[
        Path | None,
        Parameter(help="The zip file to write, by default bundle.zip; of an image the folder, bundle-image."),
    ] = None,
    split: Annotated[
        Path | None,
        Parameter(help="Write function.zip and layer.zip into this folder instead, the packages in the latter."),
    ] = None,
    tables: Annotated[bool, flag("Write the code of the tables' function, which has a bundle of its own.")] = False,
    architecture: Annotated[
        Literal["arm64", "x86_64"] | None, Parameter(help="Lambda's machine; else what the deployment says.")
    ] = None,
    python: Annotated[Literal["3.12", "3.13", "3.14"], Parameter(help="Lambda's Python.")] = "3.13",
    quiet: QuietOption = False,
    json: JsonOption = False,
) -> int:
    """Gather the code that Lambda runs, with its packages, into a zip file. `silversmith deploy` does it by itself.

    Where the deployment has an image, it is a folder that docker, or another builder, makes the image of.
    """
    set_quiet(quiet)
    if output is not None and split is not None:
        raise WrongCall("--output writes one file, --split two. Give one of them.")
    located, options = locate_deployment(pipeline, deployment)
    from silversmith.aws.bundle import build_tables
    from silversmith.aws.deploy import gather_code
    from silversmith.aws.packages import Runtime

    runtime = Runtime(architecture or options.architecture, python)
    spec = located.pipeline.tables
    is_image = options.image and not tables
    if is_image and split is not None:
        raise WrongCall("--split is for zips, and the deployment has an image: name its folder with --output.")
    if tables and not spec.tables:
        raise WrongCall(f"The pipeline {located.pipeline.name!r} has no tables: declare one with pipeline.table(…).")
    with TemporaryDirectory(prefix="silversmith-") as work:
        if tables:
            built = build_tables(spec, located.root, Path(work), runtime=runtime, extra=options.own_packages)
        else:
            built = gather_code(located, Path(work), options, runtime)
        if is_image:
            written: Sequence[Path] = [write_image(built, output)]
        elif split is not None:
            written = built.write(split)
        else:
            written = [output or Path("bundle.zip")]
            built.write_whole(written[0])
        if json:
            say_json(bundle_document(built, written))
        else:
            show_bundle(built, written, is_image=is_image)
    return 0


def write_image(built: Bundle, folder: Path | None = None) -> Path:
    """Write the folder that the image is made of, and return its path. Its name is none that Python could import."""
    from silversmith.aws.image import write_context

    return write_context(built, folder or Path("bundle-image"))


def show_bundle(built: Bundle, written: Sequence[Path], *, is_image: bool = False) -> None:
    from silversmith.aws import bundle, image

    most = (image if is_image else bundle).MOST_BYTES
    say(f"for Lambda's Python {built.runtime.python} on {built.runtime.architecture}; versions: {built.origin}")
    say_table([(size(share.size), share.name) for share in built.shares[:MOST_PACKAGES]], right=[0], indent=2)
    if len(built.shares) > MOST_PACKAGES:
        say(f"  … and {len(built.shares) - MOST_PACKAGES} smaller ones")
    say(f"{built.size / 2**20:.1f} MiB unzipped, of {most / 2**20:,.0f} that Lambda takes")
    for path in written:
        say(f"written: {path} ({size(_size(path))})")


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def bundle_document(built: Bundle, written: Sequence[Path]) -> dict[str, Any]:
    return {
        "architecture": built.runtime.architecture,
        "python": built.runtime.python,
        "versions": built.origin,
        "digest": built.function_digest,
        "size": built.size,
        "packages": [{"name": share.name, "size": share.size} for share in built.shares],
        "written": [{"path": str(path), "size": _size(path)} for path in written],
    }


def deploy(
    pipeline: PipelineArgument = PIPELINE,
    *,
    deployment: DeploymentOption = "",
    yes: YesOption = False,
    no_drain: Annotated[
        bool, flag("Delete a transform that goes with what waits in its queue, and do not wait until it is processed.")
    ] = False,
    image: ImageOption = "",
    endpoint_url: EndpointOption = None,
    json: JsonOption = False,
) -> int:
    """Create the pipeline's stack on AWS, or update it, and show what AWS does.

    It asks before something is lost with a resource, and before a bucket that exists becomes the stack's.
    Exit code 0: it is deployed, or nothing had changed. 1: it is not. 2: it needs `--image`, and says how to make one.
    """
    located, options = locate_deployment(pipeline, deployment)
    if options.image and not image:
        command = ["silversmith", "deploy", *([] if pipeline == PIPELINE else [pipeline])]
        command += ["--deployment", deployment] if deployment else []
        command += ["--endpoint-url", endpoint_url] if endpoint_url else []
        return prepare_image(located, options, open_account(endpoint_url), command, json=json)
    with prepare_release(located, options, endpoint_url, quiet=json, image=image) as (release, account):
        return deploy_release(release, account, yes=yes, json=json, drain=not no_drain)


def prepare_image(
    located: Located,
    options: Deployment,
    account: Account,
    command: Sequence[str],
    *,
    json: bool,
    build: Build | None = None,
) -> int:
    """Write the folder that the image is made of, say how it is built and pushed, and return the exit code.
    ``command`` is the one that deploys it then; ``build`` gathers the code, by default that of a bundle."""
    from silversmith.aws.bundle import build as build_all
    from silversmith.aws.deploy import gather_code
    from silversmith.aws.image import push
    from silversmith.aws.packages import Runtime

    with TemporaryDirectory(prefix="silversmith-") as work:
        built = gather_code(located, Path(work), options, Runtime(options.architecture), build=build or build_all)
        context = write_image(built)
        image = push(account, options.name(located.pipeline.name), built, context)
        commands = [*image.commands, shlex.join([*command, "--image", image.uri])]
        if json:
            say_json({"context": str(context), "image": image.uri, "commands": commands})
            return 2
        show_bundle(built, [context], is_image=True)
    say("nothing is deployed: build the image, push it, and deploy again with its name (the first line, once):")
    for line in commands:
        say(line)
    return 2


def deploy_release(
    release: Release, account: Account, *, yes: bool, json: bool, drain: bool = True, pause: Pause = time.sleep
) -> int:
    """Deploy a release, and return the exit code. ``pause`` waits so many seconds."""
    from silversmith.aws.deploy import deploy as operation

    confirmed = False

    def confirm_changes(diff: Diff) -> bool:
        nonlocal confirmed
        question = _question(diff, release)
        if not json or (question and not yes):
            show_diff(diff, release, to_stderr=json)
        confirmed = not question or agreed(question, yes=yes)
        return confirmed

    try:
        done = operation(
            release, account, confirm=confirm_changes, tell=partial(say_event, json=json), pause=pause, drain=drain
        )
    except KeyboardInterrupt:
        if confirmed:
            warn(f"AWS goes on with {release.name} by itself; `silversmith deploy` says when it is done")
        raise
    if json:
        say_json(deploy_document(done, account))
    else:
        _show_deployed(done)
    return 0 if done.state is not None else 1


def _question(diff: Diff, release: Release) -> str:
    """What a person is asked before the changes are made; empty: nothing."""
    parts = []
    if diff.losses:
        losses = ", ".join(f"{change.logical} ({change.loss})" for change in diff.losses)
        parts.append(f"{count(len(diff.losses), 'resource')} would be replaced or deleted: {losses}.")
    if diff.adoptions:
        names = ", ".join(change.logical for change in diff.adoptions)
        buckets = count(len(diff.adoptions), "bucket")
        parts.append(
            f"{buckets} of these names exist already, and would become the stack's, with all that is in them: {names}."
        )
    many = [each for each in diff.histories if each.files > MOST_UNASKED or not each.is_whole]
    parts += [f"{_history(each, _estimated(each, release))}." for each in many]
    return " ".join([*parts, "Do it?"]) if parts else ""


#: So many files of before a new transform may take without a question.
MOST_UNASKED = 100_000


def _history(history: History, estimated: Estimate) -> str:
    """The files of before that a new transform takes, and what that costs: by queues alone, without events."""
    least = "" if history.is_whole else "at least "
    dollars = sum(sum_ for service, sum_ in estimated.dollars.items() if service not in {"EventBridge", "SNS"})
    return (
        f"{history.transform} is new, and takes {least}{count(history.files, 'file')} of before "
        f"({size(history.size)}): {least or 'about '}${dollars:,.2f} and {duration(estimated.silver)}"
    )


def _estimated(history: History, release: Release) -> Estimate:
    """Time and costs of a history, by the model of ``silversmith estimate``."""
    from silversmith.operations.estimate import PUTS_PER_SECOND, Burst, Functions, assumed, estimate
    from silversmith.template.plan import logical

    transform = next(each for each in release.transforms if each.name == history.transform)
    resources = release.template["Resources"]
    scaling = resources.get(logical(transform.name, "Mapping"), {}).get("Properties", {}).get("ScalingConfig", {})
    tables = resources.get("Tables", {}).get("Properties", {}).get("MemorySize")
    functions = Functions(transform.memory, transform.batch_size, scaling.get("MaximumConcurrency", 100), tables)
    average = history.size // max(1, history.files)
    return estimate(Burst(max(1, history.files), average, PUTS_PER_SECOND), functions, assumed(average))


def show_diff(diff: Diff, release: Release, *, to_stderr: bool = False) -> None:
    counted = [_history(each, _estimated(each, release)) for each in diff.histories]
    advice = ['since="deploy" has a transform leave them alone'] if counted else []
    if to_stderr:
        warn("\n".join(["what would change:", *diff.lines(), *counted, *advice]))
        return
    for change in diff.changes:
        first, *details = change.lines()
        say(first, style="bold red" if change.loses else "")
        for detail in details:
            say(detail)
    for line in (*counted, *advice):
        say(line)


def _show_deployed(done: Deployed) -> None:
    if done.state is None:
        say("nothing was done")
        return
    if not done.changed:
        say(f"{done.name} is as it should be: nothing was to be done")
        return
    say(f"{done.name} is {done.state.status}")
    if done.round is not None:
        say(round_line(done.round))
    say_table(sorted(done.state.outputs.items()), indent=2)
    say("put a file in bronze: silversmith put FILE --target aws")


def round_line(scheduled: ScheduledRound) -> str:
    """The reconciliation that follows a deployment, for a person."""
    at = f"{scheduled.at:%H:%M} UTC"
    why = "AWS takes up to 15 minutes to send events by a new way"
    if scheduled.gold_alone:
        why = "tables or views are others than before"
    if scheduled.problem:
        return f"{why}: run `silversmith reconcile --target aws` at {at}, because {scheduled.problem}"
    layers = "silver and gold" if scheduled.gold_alone else "bronze, silver and gold"
    compared = layers if scheduled.with_gold else "bronze and silver"
    return f"{why}: {compared} are compared at {at}, and what was missed is sent"


def deploy_document(done: Deployed, account: Account) -> dict[str, Any]:
    return {
        "stack": done.name,
        **_place(account),
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
    image: ImageOption = "",
    endpoint_url: EndpointOption = None,
    json: JsonOption = False,
) -> int:
    """Show what `silversmith deploy` would change on AWS, and change nothing.

    Without `--image`, the image is the one that is deployed.
    """
    located, options = locate_deployment(pipeline, deployment)
    with prepare_release(located, options, endpoint_url, quiet=json, image=image) as (release, account):
        return diff_release(release, account, json=json)


def diff_release(release: Release, account: Account, *, json: bool, pause: Pause = time.sleep) -> int:
    """Show what a release would change, and return the exit code. ``pause`` waits so many seconds."""
    from silversmith.aws.deploy import diff as operation

    changes = operation(release, account, pause=pause)
    if json:
        say_json({"stack": release.name, **_place(account), **changes.to_dict()})
        return 0
    show_diff(changes, release)
    losses = f", {count(len(changes.losses), 'loss', 'losses')}" if changes.losses else ""
    say(f"{count(len(changes.changes), 'change')}{losses}" if changes else "nothing changes")
    return 0


def destroy(
    pipeline: PipelineArgument = PIPELINE,
    *,
    deployment: DeploymentOption = "",
    yes: YesOption = False,
    delete_data: Annotated[bool, flag("Delete the buckets too, each after its name was typed.")] = False,
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
    located, options = locate_deployment(pipeline, deployment)

    name, account = options.name(located.pipeline.name), open_account(endpoint_url)
    return destroy_stack(name, account, DataDeletion(delete_data, frozenset(bucket)), yes=yes, json=json)


class DataDeletion:
    """Whether buckets are deleted with the stack.

    Args:
        requested: by the option.
        buckets: those that options name, so that nobody is asked; empty: a person types the name of each.
    """

    def __init__(self, requested: bool, buckets: frozenset[str] = frozenset()) -> None:
        self.requested = requested
        self._buckets = buckets

    def check(self, inventory: Inventory) -> None:
        """Check the options before anything is deleted.

        Raises:
            WrongCall: they contradict each other, or nobody can be asked.
        """
        if self._buckets and not self.requested:
            raise WrongCall("--bucket deletes data: add --delete-data if that is meant")
        unknown = sorted(self._buckets - set(inventory.buckets))
        if unknown:
            known = ", ".join(inventory.buckets) or "none"
            raise WrongCall(f"the stack {inventory.name} has no bucket {unknown[0]!r}; it has: {known}")
        if self.requested and not self._buckets and not can_ask():
            raise WrongCall(
                "nobody can be asked for the buckets' names, because this is no terminal: name what is to be deleted, "
                f"with all that is in it: {' '.join(f'--bucket {bucket}' for bucket in inventory.buckets)}"
            )

    def confirm(self, bucket: str) -> bool:
        """Whether this bucket is to be deleted: asked just before it is emptied."""
        if self._buckets:
            return bucket in self._buckets
        question = f"All versions of all objects in {shown(bucket)} would be deleted, for good."
        return (ask(f"{question} Type {shown(bucket)} to do it: ") or "").strip() == bucket


def destroy_stack(
    name: str, account: Account, data: DataDeletion, *, yes: bool, json: bool, pause: Pause = time.sleep
) -> int:
    """Destroy a stack, and return the exit code. ``pause`` waits so many seconds."""
    from silversmith.aws import destroy as operation

    inventory = operation.take_inventory(name, account)
    if inventory is None:
        if json:
            say_json({"stack": name, **_place(account), "destroyed": False})
        else:
            say(f"there is no stack {name} in the account {account_text(account)}: nothing was to be done")
        return 0
    data.check(inventory)
    if not json:
        _show_inventory(inventory, account)
    erased: Sequence[str] = ()
    destroyed = agreed(f"Destroy {name} in the account {account_text(account)}?", yes=yes)
    if destroyed:
        tell = partial(say_event, json=json)
        operation.destroy(name, account, tell=tell, pause=pause)
        if data.requested:
            erased = operation.erase(inventory, account, asked=True, confirm=data.confirm, tell=tell)
    if json:
        say_json(destroy_document(inventory, account, erased, destroyed=destroyed))
    elif destroyed:
        say(f"{name} is destroyed")
        for bucket in inventory.buckets:
            say(f"  {'deleted' if bucket in erased else 'kept'}: {bucket}")
    else:
        say("nothing was done")
    return 0 if destroyed else 1


def _show_inventory(inventory: Inventory, account: Account) -> None:
    resources = count(len(inventory.resources), "resource")
    say(f"{inventory.name} in the account {account_text(account)}: to be deleted, {resources}")
    for resource in inventory.resources:
        say(f"  - {resource}")
    if inventory.lost:
        say(inventory.lost, style="bold red")
        say("  files that stay in bronze without silver are sent again after the next deploy, by reconciliation")
    for kept in (*inventory.buckets, *inventory.kept):
        say(f"  stays: {kept}")


def destroy_document(
    inventory: Inventory, account: Account, erased: Sequence[str], *, destroyed: bool
) -> dict[str, Any]:
    return {
        "stack": inventory.name,
        **_place(account),
        "destroyed": destroyed,
        "resources": list(inventory.resources),
        "messages": sum(inventory.queued.values()),
        "queues": {name: number for name, number in inventory.queued.items() if number},
        "kept": [*(bucket for bucket in inventory.buckets if bucket not in erased), *inventory.kept],
        "deleted": list(erased),
    }


def take_over(
    pipeline: PipelineArgument = PIPELINE,
    *,
    transform: TransformOption = None,
    yes: YesOption = False,
    where: Where = HERE,
    json: JsonOption = False,
) -> int:
    """Make this pipeline the owner of the silver under its transforms' names, for example after it was renamed.

    The pipeline that owns it now can no longer write it. Exit code 1: nobody agreed.
    """
    from silversmith.schemas.recorded import others
    from silversmith.schemas.recorded import take_over as take

    definition = locate_pipeline(pipeline).pipeline
    names = [definition.find(transform).name] if transform else [each.name for each in definition.transforms]
    owner, silver, quarantine = silver_and_owner(pipeline, where)
    owners = {name: former for name in names if (former := [*others(silver, quarantine, name, owner)])}
    if not json:
        for name, former in owners.items():
            say(f"{name}: {' and '.join(former)} → {owner.name}")
    if owners and not yes:
        require_person(": say yes with --yes")
    all_former = ", ".join(sorted({name for former in owners.values() for name in former}))
    question = f"If {all_former} still runs, its files of these transforms fail from now on. Take it over?"
    done = not owners or yes or confirm(question)
    if done and silver is not None:
        for name in owners:
            take(silver, quarantine, name, owner)
    if json:
        taken = [{"transform": name, "from": former} for name, former in owners.items()]
        say_json({"owner": owner.name, "done": done, "taken": taken})
    elif not owners:
        say(f"no other pipeline has silver of {', '.join(names)} in {owner.silver}: nothing was to be done")
    else:
        say(f"{owner.name} has it now" if done else "nothing was done")
    return 0 if done else 1


def silver_and_owner(pipeline: str, where: Where) -> tuple[Owner, Store | None, Store | None]:
    """The pipeline as an owner, silver and quarantine. Before the first deployment there may be no such bucket: None.

    Raises:
        DefinitionError: there is no such pipeline or deployment.
        WrongCall: there is no lake.
        NoAccount: there are no credentials for AWS.
    """
    if where.on_aws:
        from silversmith.aws.artefacts import existing_bucket
        from silversmith.aws.deploy import owner as owner_on_aws

        located, options = locate_deployment(pipeline, where.deployment)
        account = open_account(where.endpoint_url)
        owner = owner_on_aws(located.pipeline, options)
        return owner, existing_bucket(account, owner.silver), existing_bucket(account, owner.quarantine)
    with open_target(pipeline, where) as (_, target):
        return target.owner, target.lake.silver, target.lake.quarantine
