"""Deploy, diff, status: from a definition to a stack that runs it, and what has changed since.

Deploying again without a change does nothing: the code's key is made of its content, and an empty change set is
thrown away. docs/decisions/0024-change-sets.md
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from silversmith.aws.account import Account, DeployError, Pause, Tell
from silversmith.aws.artefacts import (
    Artefacts,
    adopted_buckets,
    configure_adopted,
    existing_bucket,
    require_bucket,
    settings_to_change,
    switch_eventbridge_on,
    tells_eventbridge,
)
from silversmith.aws.bundle import MOST_BYTES, Bundle, build, build_tables, pack
from silversmith.aws.image import MOST_BYTES as MOST_IMAGE_BYTES
from silversmith.aws.image import check_uri, with_uri
from silversmith.aws.packages import Runtime
from silversmith.aws.stack import (
    ChangeSet,
    Diff,
    Effect,
    Stack,
    StackChange,
    StackFailed,
    StackSettings,
    StackState,
    of_new,
)
from silversmith.aws.transforms import after_drain, histories, leaving
from silversmith.aws.transforms import drain as drain_queues
from silversmith.errors import AccessDenied, AwsFailed
from silversmith.pipeline import Located, Pipeline, Transform
from silversmith.pipeline.deployment import Deployment
from silversmith.pipeline.since import DEPLOY, iso
from silversmith.schemas import Owner
from silversmith.schemas.recorded import require_ours
from silversmith.stores.aws_errors import translate_aws_errors
from silversmith.template import compile as compile_template
from silversmith.template.functions import IMAGE, PYTHON
from silversmith.template.plan import Plan, bucket_title, physical, since_parameter
from silversmith.template.tables import CODE_KEY as TABLES_CODE_KEY

#: :func:`silversmith.aws.bundle.build`, or another function like it.
Build = Callable[..., Bundle]

#: Asked before anything is changed, with what would change.
Confirm = Callable[[Diff], bool]

#: The logical ids of the layers with packages, by the parameter with the key of the code that needs them; and the
#: parameters with the keys of their zips.
LAYERS = {"CodeKey": "PackagesLayer", TABLES_CODE_KEY: "PackagesOfTablesLayer"}
LAYER_KEY, TABLES_LAYER_KEY = "LayerKey", "TablesLayerKey"
LAYER_KEYS = {"CodeKey": LAYER_KEY, TABLES_CODE_KEY: TABLES_LAYER_KEY}

#: When a round of reconciliation follows a deploy that changes how events find their way. Until AWS has the change
#: everywhere, events go nowhere and nobody is told: EventBridge takes about five minutes after it is switched on for a
#: bucket, a filter policy of a subscription up to fifteen. docs/decisions/0110-a-round-after-a-deploy.md
#: https://docs.aws.amazon.com/AmazonS3/latest/userguide/enable-event-notifications-eventbridge.html
#: https://docs.aws.amazon.com/sns/latest/dg/message-filtering-apply.html
ROUND_DELAY = timedelta(minutes=20)

#: The round leaves files that landed less than so many seconds before it to their own events.
SETTLED_SECONDS = 300

#: By the kind of the stack's schedule, the kind of the one after a deploy, and what it compares.
_AFTER_DEPLOY = {
    "Reconciler": ("AfterDeploy", "bronze and silver"),
    "Tables": ("TablesAfterDeploy", "silver and gold"),
}


@dataclass(frozen=True)
class Release:
    """The parts of a deployment: the name of the stack, its template and the code.

    ``bundle`` is the code, None where an image has it; ``tables`` is the code of the tables' function, where there are
    any. ``notifying`` are the roles of the buckets that tell EventBridge of their objects; ``existing`` has the names
    of those that are not the stack's. ``transforms`` make silver for ``owner``. ``settings`` are those of the stack
    itself.
    """

    name: str
    template: Mapping[str, Any]
    bundle: Bundle | None
    parameters: Mapping[str, str]
    owner: Owner
    transforms: tuple[Transform, ...]
    tables: Bundle | None = None
    notifying: tuple[str, ...] = ("bronze",)
    existing: Mapping[str, str] = field(default_factory=dict)
    settings: StackSettings = field(default_factory=StackSettings)


@dataclass(frozen=True)
class ScheduledRound:
    """A round of reconciliation at a time, in UTC. ``problem``: why the stack does not do it by itself, if so.

    ``with_gold``: the tables are compared as well; ``gold_alone``: they are, and bronze is not.
    """

    at: datetime
    problem: str = ""
    with_gold: bool = False
    gold_alone: bool = False


@dataclass(frozen=True)
class Deployed:
    """The result of a deploy. ``state`` is None where it was not confirmed; ``changed`` is whether anything was done.

    ``diff`` may be empty although the stack changed: an output is no resource. ``round`` is the reconciliation that
    follows, where events may have been lost meanwhile, or tables or views are others than before.
    """

    name: str
    diff: Diff
    state: StackState | None
    changed: bool
    round: ScheduledRound | None = None


@dataclass(frozen=True)
class Gathered:
    """The template of a pipeline, whose functions have layers, and its code; None: an image has it."""

    template: Mapping[str, Any]
    bundle: Bundle | None
    tables: Bundle | None


def gather(
    located: Located, work: Path, options: Deployment, *, build: Build = build, build_tables: Build = build_tables
) -> Gathered:
    """Compile the template and gather the code, for whatever deploys them. See :func:`release`.

    Raises:
        DefinitionError: the definition cannot be deployed.
        BundleError: the bundle cannot be made.
    """
    template = compile_template(located.pipeline, located.reference, deployment=options)
    target = runtime(template)
    bundle = None if options.image else gather_code(located, work / "transforms", options, target, build=build)
    spec, tables = located.pipeline.tables, None
    if spec:
        tables = build_tables(spec, located.root, work / "tables", runtime=target, extra=options.own_packages)
    return Gathered(with_layers(template, options.name(located.pipeline.name)), bundle, tables)


def gather_code(located: Located, work: Path, options: Deployment, runtime: Runtime, *, build: Build = build) -> Bundle:
    """Gather the code of the transforms, for a zip or an image, as the deployment's options say. See :func:`gather`."""
    return build(
        located,
        work,
        runtime=runtime,
        include=options.include,
        extra=options.packages,
        most_bytes=MOST_IMAGE_BYTES if options.image else MOST_BYTES,
        has_layers=bool(options.layers),
    )


def release(
    located: Located,
    account: Account,
    work: Path,
    *,
    deployment: Deployment | None = None,
    image: str = "",
    build: Build = build,
    build_tables: Build = build_tables,
) -> Release:
    """Compile the template and gather the code; nothing is sent anywhere.

    Args:
        located: the pipeline and where it is, from :func:`silversmith.pipeline.locate`.
        account: where to.
        work: an empty folder for the packages; the release refers to files in it.
        deployment: how; by default, every option has its default.
        image: the URI of the image, where the deployment has one; empty: the one that is deployed.
        build: gathers the code.
        build_tables: gathers that of the tables' function.

    Raises:
        DefinitionError: the definition cannot be deployed.
        BundleError: the bundle cannot be made.
        DeployError: Lambda does not take the image.
    """
    options = deployment or Deployment()
    if image:
        check_uri(image, account)
    gathered = gather(located, work, options, build=build, build_tables=build_tables)
    pipeline, bundle, tables = located.pipeline, gathered.bundle, gathered.tables
    name = options.name(pipeline.name)
    plan = Plan.of(pipeline, options, located.reference)
    return Release(
        name,
        gathered.template,
        bundle,
        {
            **({"CodeBucket": Artefacts(account).bucket} if bundle or tables else {}),
            **code_keys(name, bundle, tables),
            **({IMAGE: image} if image else {}),
        },
        owner(pipeline, options),
        pipeline.transforms,
        tables,
        plan.notifying,
        {role: plan.buckets[role] for role in plan.notifying if not plan.makes(role)},
        StackSettings(options.service_role, options.tags, options.termination_protection),
    )


def code_keys(name: str, bundle: Bundle | None, tables: Bundle | None = None) -> dict[str, str]:
    """The parameters with the keys of the code, which are made of its content. ``name`` is the stack's."""
    bundles = {key: each for key, each in (("CodeKey", bundle), (TABLES_CODE_KEY, tables)) if each is not None}
    return {
        **{code: f"{name}/{each.function_digest}.zip" for code, each in bundles.items()},
        **{LAYER_KEYS[code]: f"layers/{each.layer_digest}.zip" for code, each in bundles.items()},
    }


def owner(pipeline: Pipeline, deployment: Deployment) -> Owner:
    """For whom a deployment of a pipeline writes silver: its stack.

    Raises:
        DefinitionError: AWS does not take the stack's name.
    """
    silver, quarantine = (deployment.bucket(role, getattr(pipeline, role)) for role in ("silver", "quarantine"))
    return Owner(deployment.name(pipeline.name), silver, quarantine)


def with_layers(template: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A copy of the template in which every function that is no image has a layer with the packages. ``name`` is the
    stack's. docs/decisions/0023-packages-are-a-layer.md
    """
    functions = {logical: each for logical, each in _functions(template).items() if not _is_image(each)}
    properties = [resource["Properties"] for resource in functions.values()]
    codes = dict.fromkeys(_code(resource) for resource in functions.values())
    layers = {
        LAYERS[code]: {
            "Type": "AWS::Lambda::LayerVersion",
            "Properties": {
                "LayerName": physical(name, kind=LAYERS[code].removesuffix("Layer")),
                "Description": "What the handler and the pipeline import",
                "CompatibleRuntimes": sorted({function["Runtime"] for function in properties}),
                "CompatibleArchitectures": sorted(
                    {each for function in properties for each in function["Architectures"]}
                ),
                "Content": {"S3Bucket": {"Ref": "CodeBucket"}, "S3Key": {"Ref": LAYER_KEYS[code]}},
            },
        }
        for code in codes
    }
    layered = {
        logical: {**resource, "Properties": {**resource["Properties"], "Layers": _layers(resource)}}
        for logical, resource in functions.items()
    }
    parameter = {"Type": "String", "Description": "The key of the zip file with the packages"}
    return {
        **template,
        "Parameters": {**template.get("Parameters", {}), **{LAYER_KEYS[code]: parameter for code in codes}},
        "Resources": {**template["Resources"], **layered, **layers},
    }


def _layers(function: Mapping[str, Any]) -> list[Any]:
    """A function's layers: the user's own, then its packages: of files at one path that of the last layer counts.

    https://docs.aws.amazon.com/lambda/latest/dg/adding-layers.html
    """
    return [*function["Properties"].get("Layers", []), {"Ref": LAYERS[_code(function)]}]


def _code(function: Mapping[str, Any]) -> str:
    """The parameter with the key of a function's code."""
    return str(function["Properties"]["Code"]["S3Key"]["Ref"])


def runtime(template: Mapping[str, Any]) -> Runtime:
    """The machine and Python of a template's functions."""
    properties = next(iter(_functions(template).values()))["Properties"]
    return Runtime(properties["Architectures"][0], properties.get("Runtime", PYTHON).removeprefix("python"))


def _is_image(function: Mapping[str, Any]) -> bool:
    return bool(function["Properties"].get("PackageType") == "Image")


def _functions(template: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    resources = template["Resources"].items()
    return {logical: resource for logical, resource in resources if resource["Type"] == "AWS::Lambda::Function"}


def deploy(
    release: Release,
    account: Account,
    *,
    confirm: Confirm,
    tell: Tell = lambda _: None,
    pause: Pause = time.sleep,
    drain: bool = True,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Deployed:
    """Create the stack, or update it, and wait until that is done. EventBridge is switched on in bronze, if it is off.

    Args:
        release: from :func:`release`.
        account: where to.
        confirm: asked before anything is changed.
        tell: gets the progress, a line at a time.
        pause: waits so many seconds.
        drain: have a transform that goes process what waits for it, before it goes.
        now: the time of day, in UTC.

    Raises:
        StackFailed: AWS could not do it, and put everything back.
        DeployError: the stack is in no state for it.
        AccessDenied, AwsFailed: AWS refused.
        NotOurs: another pipeline has the silver of a transform. Nothing was changed.
    """
    stack = Stack(account, release.name, tell=tell, pause=pause)
    refuse_foreign_silver(account, release.owner, release.transforms, tell)
    state = _ready_state(stack, tell)
    release = _with_image(release, state)
    for bucket in release.existing.values():
        require_bucket(account, bucket)
    tables_before = state.outputs.get("CodeOfTables") if state is not None else None
    artefacts = Artefacts(account)
    if artefacts.ensure_bucket():
        tell(f"made the bucket {artefacts.bucket} for code and templates")
    _upload(release, artefacts, tell)
    release = with_first_deploys(release, state, now())
    change_set = _proposed(stack, state, release, artefacts)
    diff = _with_protection(change_set.diff if change_set is not None else Diff(()), release, state)
    if change_set is not None:
        announced = diff
        queues = _leaving(stack, state, diff) if drain else frozenset()
        diff, is_confirmed = _confirmed(
            stack, change_set, lambda: _looked_at(announced.draining(queues), release, account, tell), confirm
        )
        if not is_confirmed:
            return Deployed(release.name, diff, None, changed=False)
        if queues:
            change_set = _drained(stack, release, account, change_set, queues, tell, pause)
        try:
            state = stack.execute(change_set)
        except StackFailed as error:
            raise (after_drain(error, queues) if queues else error) from error
    if protects := release.settings.differs(state):
        stack.protect(bool(release.settings.protected))
    for change in diff.adoptions:
        properties = release.template["Resources"][change.logical]["Properties"]
        configure_adopted(account, properties["BucketName"], properties)
        tell(f"the bucket {properties['BucketName']} is the stack's now, and as the pipeline needs it")
    switched_on = [bucket for bucket in _notifying(release, state).values() if switch_eventbridge_on(account, bucket)]
    for bucket in switched_on:
        tell(f"the bucket {bucket} now tells EventBridge of its objects")
    outputs = state.outputs if state is not None else {}
    scheduled = None
    if switched_on or concerns_events(diff, release.template):
        scheduled = schedule_round(account, release.name, outputs, now())
    elif outputs.get("CodeOfTables", tables_before) != tables_before:
        scheduled = schedule_round(account, release.name, outputs, now(), gold_alone=True)
    changed = change_set is not None or protects or bool(switched_on)
    return Deployed(release.name, diff, state, changed=changed, round=scheduled)


def diff(release: Release, account: Account, *, pause: Pause = time.sleep) -> Diff:
    """The changes that :func:`deploy` would make. The stack is not touched, and no code is uploaded.

    Raises:
        DeployError: the stack is in no state for it.
        AccessDenied, AwsFailed: AWS refused.
    """
    stack = Stack(account, release.name, pause=pause)
    state = stack.state()
    if state is not None:
        _refuse_unready(state)
    if state is None or state.is_empty or state.status == "REVIEW_IN_PROGRESS":
        return _with_protection(_looked_at(of_new(release.template), release, account), release, None)
    release = with_first_deploys(_with_image(release, state), state, datetime.now(UTC))
    change_set = _proposed(stack, state, release, Artefacts(account))
    if change_set is not None:
        stack.discard(change_set.arn)
    announced = Diff(())
    if change_set is not None:
        announced = change_set.diff.draining(_leaving(stack, state, change_set.diff))
        announced = _looked_at(announced, release, account)
    changes = announced.changes
    detail = "NotificationConfiguration: EventBridge is switched off, and deploying switches it on"
    silent = (
        StackChange(Effect.CHANGE, bucket_title(role), "AWS::S3::Bucket", bucket, (detail,))
        for role, bucket in _notifying(release, state).items()
        if bucket_title(role) not in {change.logical for change in changes} and not tells_eventbridge(account, bucket)
    )
    return _with_protection(replace(announced, changes=(*changes, *silent)), release, state)


def status(name: str, account: Account) -> StackState | None:
    """The state of the stack; None where it was never deployed, or destroyed."""
    return Stack(account, name).state()


def refuse_foreign_silver(account: Account, owner: Owner, transforms: Sequence[Transform], tell: Tell) -> None:
    """Before a stack is made or changed: its functions would do nothing over the silver of another pipeline. A person
    who may not look into the buckets is told so, and may deploy all the same, for the functions look themselves.

    Raises:
        NotOurs: a transform's silver or quarantine is another pipeline's.
    """
    try:
        silver, quarantine = existing_bucket(account, owner.silver), existing_bucket(account, owner.quarantine)
        require_ours(owner, silver, quarantine, [transform.name for transform in transforms])
    except (AccessDenied, DeployError, AwsFailed) as error:
        tell(f"whose silver it is cannot be seen, so the functions will look: {error}")


def _ready_state(stack: Stack, tell: Tell) -> StackState | None:
    state = stack.state()
    if state is not None:
        _refuse_unready(state)
    if state is not None and state.is_empty:
        tell(f"the stack {stack.name} is {state.status}: what is left of it is removed first")
        stack.delete()
        return None
    return state


def _refuse_unready(state: StackState) -> None:
    if not state.is_ours:
        raise DeployError(
            f"the stack {state.name} is there already, and not Silversmith's: give the pipeline another name, or the "
            'deployment a prefix: Deployment(prefix="lake")'
        )
    if state.busy:
        raise DeployError(
            f"the stack {state.name} is {state.status}: somebody is deploying it. Wait until that is done."
        )
    if state.status == "UPDATE_ROLLBACK_FAILED":
        raise DeployError(
            f"the stack {state.name} is {state.status}: {state.reason or 'an update could not be taken back'}. "
            f"Run `aws cloudformation continue-update-rollback --stack-name {state.name}` first."
        )
    if state.status == "DELETE_FAILED":
        raise DeployError(f"the stack {state.name} could not be deleted whole: run destroy again first")


def _upload(release: Release, artefacts: Artefacts, tell: Tell) -> None:
    with tempfile.TemporaryDirectory() as folder:
        uploads = []
        if release.bundle is not None:
            uploads += [
                (release.parameters[LAYER_KEY], release.bundle.layer, "packages", "have"),
                (release.parameters["CodeKey"], release.bundle.function, "code", "has"),
            ]
        if release.tables is not None:
            uploads += [
                (release.parameters[TABLES_LAYER_KEY], release.tables.layer, "packages of the tables", "have"),
                (release.parameters[TABLES_CODE_KEY], release.tables.function, "code of the tables", "has"),
            ]
        for key, tree, content, verb in uploads:

            def make(tree: Mapping[str, Path] = tree, content: str = content) -> Path:
                path = Path(folder, f"{content}.zip")
                pack(tree, path)
                tell(f"uploading the {content}: {path.stat().st_size / 1e6:.1f} MB")
                return path

            if not artefacts.upload(key, make):
                tell(f"the {content} {verb} not changed")


def _uploader(release: Release, artefacts: Artefacts) -> Callable[[Mapping[str, Any]], str]:
    def upload(template: Mapping[str, Any]) -> str:
        artefacts.ensure_bucket()
        digest = hashlib.sha256(json.dumps(template, sort_keys=True).encode()).hexdigest()[:32]
        return artefacts.put_template(f"{release.name}/{digest}.template.json", {**template})

    return upload


def _proposed(stack: Stack, state: StackState | None, release: Release, artefacts: Artefacts) -> ChangeSet | None:
    return stack.propose(
        state,
        release.template,
        release.parameters,
        upload=_uploader(release, artefacts),
        settings=release.settings,
    )


def _with_protection(diff: Diff, release: Release, state: StackState | None) -> Diff:
    """The changes, and among them that of the stack's own protection, which is in no change set."""
    if not release.settings.differs(state):
        return diff
    switched = f"EnableTerminationProtection: {json.dumps(not release.settings.protected)} → "
    details = (f"{switched}{json.dumps(release.settings.protected)}",)
    return replace(
        diff,
        changes=(*diff.changes, StackChange(Effect.CHANGE, release.name, "AWS::CloudFormation::Stack", "", details)),
    )


def _confirmed(stack: Stack, change_set: ChangeSet, look: Callable[[], Diff], confirm: Confirm) -> tuple[Diff, bool]:
    """What ``look`` sees of the changes, and whether somebody agreed. However that ends, no change set stays behind
    that nobody will execute."""
    confirmed = False
    try:
        diff = look()
        confirmed = confirm(diff)
    finally:
        if not confirmed:
            stack.discard(change_set.arn)
    return diff, confirmed


def with_first_deploys(release: Release, state: StackState | None, now: datetime) -> Release:
    """The release with the times of the first deploys of transforms that take files from then on: those that the
    deployed stack has, else now."""
    before = state.parameters if state is not None else {}
    names = [since_parameter(each.name) for each in release.transforms if each.since == DEPLOY]
    times = {name: before.get(name) or iso(now) for name in names}
    return replace(release, parameters={**release.parameters, **times})


def _with_image(release: Release, state: StackState | None) -> Release:
    return replace(release, parameters=with_uri(release.parameters, release.name, release.template, state))


def _leaving(stack: Stack, state: StackState | None, diff: Diff) -> frozenset[str]:
    is_there = state is not None and state.status != "REVIEW_IN_PROGRESS"
    return leaving(diff, stack.template()) if is_there else frozenset()


def _drained(  # noqa: PLR0917 -- it is a part of deploy()
    stack: Stack,
    release: Release,
    account: Account,
    agreed: ChangeSet,
    queues: frozenset[str],
    tell: Tell,
    pause: Pause,
) -> ChangeSet:
    """Drain queues, and have AWS work out the changes again, for the stack is another one then.

    Raises:
        DeployError: a queue does not get empty, or the changes are others than what was agreed on.
    """
    stack.discard(agreed.arn)
    artefacts = Artefacts(account)

    def propose(template: Mapping[str, Any]) -> ChangeSet | None:
        state = stack.state()
        parameters = state.parameters if state is not None else {}
        return stack.propose(
            state, template, parameters, upload=_uploader(release, artefacts), settings=release.settings
        )

    drain_queues(stack, account, queues, propose, tell=tell, pause=pause)
    change_set = _proposed(stack, stack.state(), release, artefacts)
    before = {(change.effect, change.logical) for change in agreed.diff.changes}
    if change_set is None or not {(change.effect, change.logical) for change in change_set.diff.changes} <= before:
        if change_set is not None:
            stack.discard(change_set.arn)
        raise DeployError(f"somebody else changed the stack {release.name} while its queues were drained: deploy again")
    return change_set


def _looked_at(diff: Diff, release: Release, account: Account, tell: Tell = lambda _: None) -> Diff:
    """The changes where buckets that are there already are adopted, and not added; and the files of before that new
    transforms would take, as far as bronze may be listed."""
    buckets = adopted_buckets(account, diff.changes, release.template)
    resources = release.template["Resources"]
    bronze = release.existing.get("bronze", "")
    try:
        counts = histories(diff, release.template, release.transforms, account, bronze=bronze)
    except (AccessDenied, AwsFailed) as error:
        tell(f"how many files of before the new transforms take cannot be counted: {error}")
        counts = ()
    return replace(diff, histories=counts).adopting(
        {
            logical: settings_to_change(account, bucket, resources[logical]["Properties"])
            for logical, bucket in buckets.items()
        }
    )


def _notifying(release: Release, state: StackState | None) -> dict[str, str]:
    """The buckets that are to tell EventBridge of their objects, by role, where they are there yet."""
    outputs = state.outputs if state is not None else {}
    names = {
        role: release.existing.get(role, "") or outputs.get(f"{bucket_title(role)}Name", "")
        for role in release.notifying
    }
    return {role: name for role, name in names.items() if name}


def concerns_events(diff: Diff, template: Mapping[str, Any]) -> bool:
    """Whether a change takes AWS time during which events may be lost: of bronze, a rule, a filter, a subscription.

    ``template`` is the new one.
    """
    return any(_concerns_events(change, template["Resources"].get(change.logical, {})) for change in diff.changes)


def _concerns_events(change: StackChange, resource: Mapping[str, Any]) -> bool:
    if change.effect in {Effect.DELETE, Effect.LET_GO}:
        return False
    if change.kind == "AWS::S3::Bucket":
        notifies = any(detail.startswith("NotificationConfiguration") for detail in change.details)
        return change.logical == "BronzeBucket" and (change.effect is not Effect.CHANGE or notifies)
    if change.kind == "AWS::SNS::Subscription":
        return bool(resource.get("Properties", {}).get("Protocol") == "sqs")
    return change.kind == "AWS::Events::Rule"


def schedule_round(
    account: Account, name: str, outputs: Mapping[str, str], now: datetime, *, gold_alone: bool = False
) -> ScheduledRound:
    """Have the stack of that name do a round after :data:`ROUND_DELAY`; an earlier deploy's time for it gives way.

    Its schedules are like the stack's own, with their role and their dead-letter queue, but run once. They are in the
    stack's group, go when they are done, and go with the group. ``gold_alone``: only gold is compared, with silver.
    https://docs.aws.amazon.com/scheduler/latest/UserGuide/managing-schedule-delete.html
    """
    at = now + ROUND_DELAY
    with_gold = "TablesName" in outputs
    if "ReconcilerName" not in outputs:
        return ScheduledRound(at, "the deployment has no schedule: reconcile_hours=0", with_gold, gold_alone)
    try:
        with translate_aws_errors(f"the schedule of a round after the deploy of {name}"):
            if not gold_alone:
                _schedule_once(account, name, at, "Reconciler", follow=True)
            if with_gold:
                _schedule_once(account, name, at, "Tables")
    except (AccessDenied, AwsFailed) as error:
        return ScheduledRound(at, str(error), with_gold, gold_alone)
    return ScheduledRound(at, "", with_gold, gold_alone)


def _schedule_once(account: Account, name: str, at: datetime, kind: str, **options: bool) -> None:
    """Have what the stack's schedule of that kind starts started once more. ``options``: more of the event."""
    once, compared = _AFTER_DEPLOY[kind]
    scheduler = account.client("scheduler")
    group = physical(name, kind="Schedules")
    target = scheduler.get_schedule(Name=physical(name, kind=kind), GroupName=group)["Target"]
    event = {**json.loads(target["Input"]), "settled_seconds": SETTLED_SECONDS, **options}
    schedule = {
        "Name": physical(name, kind=once),
        "GroupName": group,
        "Description": f"Compares {compared} once, after a deploy",
        "ScheduleExpression": f"at({at:%Y-%m-%dT%H:%M:%S})",
        "ScheduleExpressionTimezone": "UTC",
        "FlexibleTimeWindow": {"Mode": "OFF"},
        "ActionAfterCompletion": "DELETE",
        "Target": {**target, "Input": json.dumps(event)},
    }
    try:
        scheduler.create_schedule(**schedule)
    except ClientError as error:
        if error.response["Error"]["Code"] != "ConflictException":
            raise
        scheduler.update_schedule(**schedule)
