"""Deploy, diff, status: from a definition to a stack that runs it, and what has changed since.

Deploying again without a change does nothing: the code's key is made of its content, and an empty change set is
thrown away. docs/decisions/0024-change-sets.md
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from silversmith.aws import silver
from silversmith.aws.account import Account
from silversmith.aws.afterwards import Round, arrange, concerns_events
from silversmith.aws.artefacts import Artefacts, require_bucket, switch_eventbridge_on, tells_eventbridge
from silversmith.aws.bundle import Bundle, build
from silversmith.aws.changes import Change, Diff, Effect, of_new
from silversmith.aws.errors import DeployError
from silversmith.aws.layer import KEY, runtime, with_layer
from silversmith.aws.stack import ChangeSet, Pause, Stack, State, Tell
from silversmith.aws.tree import pack
from silversmith.pipeline import Located, Transform
from silversmith.pipeline.deployment import Deployment
from silversmith.schemas import Owner
from silversmith.template import compile as compile_template

#: As :func:`silversmith.aws.bundle.build`.
Build = Callable[..., Bundle]

#: Whether to go on, given what would change.
Confirm = Callable[[Diff], bool]


@dataclass(frozen=True)
class Release:
    """What is to be deployed: the name of the stack, its template and the code.

    ``existing_bronze`` is the bronze bucket where it is not the stack's. ``transforms`` make silver for ``owner``.
    """

    name: str
    template: Mapping[str, Any]
    bundle: Bundle
    parameters: Mapping[str, str]
    owner: Owner
    transforms: tuple[Transform, ...]
    existing_bronze: str = ""


@dataclass(frozen=True)
class Deployed:
    """What became of it. ``state`` is None where it was not confirmed; ``changed`` is whether anything was done.

    What changed may be no resource, and ``diff`` empty: an output, a description. ``round`` is the reconciliation that
    follows, where events may have been lost meanwhile.
    """

    name: str
    diff: Diff
    state: State | None
    changed: bool
    round: Round | None = None


def release(
    located: Located,
    account: Account,
    work: Path,
    *,
    deployment: Deployment | None = None,
    build: Build = build,
) -> Release:
    """Compile the template and gather the code; nothing is sent anywhere.

    Args:
        located: the pipeline and where it is, from :func:`silversmith.pipeline.locate`.
        account: where to.
        work: an empty folder for the packages; the release refers to files in it.
        deployment: how; without one, as every option is by default.
        build: gathers the code.

    Raises:
        DefinitionError: the definition cannot be deployed.
        BundleError: the bundle cannot be made.
    """
    chosen = deployment or Deployment()
    compiled = compile_template(located.pipeline, located.reference, deployment=chosen)
    bundle = build(
        located, work, runtime=runtime(compiled), include=chosen.include, extra=chosen.requirements
    )  # fmt: skip
    name = chosen.name(located.pipeline.name)
    parameters = {
        "CodeBucket": Artefacts(account).bucket,
        "CodeKey": f"{name}/{bundle.function_digest}.zip",
        KEY: f"layers/{bundle.layer_digest}.zip",
    }
    bronze = chosen.bucket("bronze", located.pipeline.bronze) if "bronze" in chosen.existing_buckets else ""
    return Release(
        name,
        with_layer(compiled, name),
        bundle,
        parameters,
        silver.owner(located.pipeline, chosen),
        located.pipeline.transforms,
        bronze,
    )


def deploy(
    wanted: Release,
    account: Account,
    *,
    confirm: Confirm,
    tell: Tell = lambda _: None,
    pause: Pause = time.sleep,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Deployed:
    """Create the stack, or update it, and wait until that is done. Bronze comes to tell EventBridge, if it does not.

    Args:
        wanted: from :func:`release`.
        account: where to.
        confirm: asked before anything is changed.
        tell: gets the progress, a line at a time.
        pause: waits so many seconds.
        now: the time of day, in UTC.

    Raises:
        StackFailed: AWS could not do it, and put everything back.
        DeployError: AWS refused, or the stack is in no state for it.
        NotOurs: another pipeline has the silver of a transform. Nothing was changed.
    """
    stack = Stack(account, wanted.name, tell=tell, pause=pause)
    silver.refuse_others(account, wanted.owner, wanted.transforms, tell)
    state = _ready(stack, tell)
    if wanted.existing_bronze:
        require_bucket(account, wanted.existing_bronze)
    artefacts = Artefacts(account)
    if artefacts.ensure_bucket():
        tell(f"made the bucket {artefacts.bucket} for code and templates")
    _upload(wanted, artefacts, tell)
    change_set = stack.propose(state, wanted.template, wanted.parameters, upload=_uploader(wanted, artefacts))
    if change_set is None:
        on = _tell_eventbridge(account, _bronze(wanted, state), tell)
        later = arrange(account, wanted.name, state.outputs if state else {}, now()) if on else None
        return Deployed(wanted.name, Diff(()), state, changed=on, round=later)
    if not _confirmed(stack, change_set, confirm):
        return Deployed(wanted.name, change_set.diff, None, changed=False)
    done = stack.execute(change_set)
    on = _tell_eventbridge(account, _bronze(wanted, done), tell)
    later = None
    if on or concerns_events(change_set.diff, wanted.template):
        later = arrange(account, wanted.name, done.outputs, now())
    return Deployed(wanted.name, change_set.diff, done, changed=True, round=later)


def _confirmed(stack: Stack, change_set: ChangeSet, confirm: Confirm) -> bool:
    """Whatever else comes of asking, no change set stays behind that nobody will execute."""
    confirmed = False
    try:
        confirmed = confirm(change_set.diff)
    finally:
        if not confirmed:
            stack.discard(change_set.arn)
    return confirmed


def diff(wanted: Release, account: Account, *, pause: Pause = time.sleep) -> Diff:
    """What :func:`deploy` would change. The stack is not touched; of the code nothing is uploaded.

    Raises:
        DeployError: AWS refused, or the stack is in no state for it.
    """
    stack = Stack(account, wanted.name, pause=pause)
    state = stack.state()
    if state is not None:
        _refuse_unready(state)
    if state is None or state.is_husk or state.status == "REVIEW_IN_PROGRESS":
        return of_new(wanted.template)
    upload = _uploader(wanted, Artefacts(account))
    change_set = stack.propose(state, wanted.template, wanted.parameters, upload=upload)
    if change_set is not None:
        stack.discard(change_set.arn)
    changes = change_set.diff.changes if change_set is not None else ()
    return Diff((*changes, *_drift(account, _bronze(wanted, state))))


def status(name: str, account: Account) -> State | None:
    """What the stack is like; None where it was never deployed, or destroyed."""
    return Stack(account, name).state()


def _ready(stack: Stack, tell: Tell) -> State | None:
    state = stack.state()
    if state is not None:
        _refuse_unready(state)
    if state is not None and state.is_husk:
        tell(f"the stack {stack.name} is {state.status}: what is left of it is removed first")
        stack.delete()
        return None
    return state


def _refuse_unready(state: State) -> None:
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


def _upload(wanted: Release, artefacts: Artefacts, tell: Tell) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for key, tree, what in (
            (wanted.parameters[KEY], wanted.bundle.layer, "packages"),
            (wanted.parameters["CodeKey"], wanted.bundle.function, "code"),
        ):

            def make(tree: Mapping[str, Path] = tree, what: str = what) -> Path:
                path = Path(folder, f"{what}.zip")
                pack(tree, path)
                tell(f"uploading the {what}: {path.stat().st_size / 1e6:.1f} MB")
                return path

            if not artefacts.upload(key, make):
                tell(f"the {what} have not changed" if what == "packages" else f"the {what} has not changed")


def _uploader(wanted: Release, artefacts: Artefacts) -> Callable[[Mapping[str, Any]], str]:
    def upload(template: Mapping[str, Any]) -> str:
        artefacts.ensure_bucket()
        digest = hashlib.sha256(json.dumps(template, sort_keys=True).encode()).hexdigest()[:32]
        return artefacts.put_template(f"{wanted.name}/{digest}.template.json", {**template})

    return upload


def _bronze(wanted: Release, state: State | None) -> str:
    """The bronze bucket, where there is one yet."""
    return wanted.existing_bronze or (state.outputs.get("BronzeBucketName", "") if state else "")


def _tell_eventbridge(account: Account, bronze: str, tell: Tell) -> bool:
    """Whether it did not before."""
    if not bronze or not switch_eventbridge_on(account, bronze):
        return False
    tell(f"the bucket {bronze} now tells EventBridge of its objects")
    return True


def _drift(account: Account, bronze: str) -> tuple[Change, ...]:
    """What a deploy mends of what others changed."""
    if not bronze or tells_eventbridge(account, bronze):
        return ()
    said = "NotificationConfiguration: EventBridge is switched off, and deploying switches it on"
    return (Change(Effect.CHANGE, "BronzeBucket", "AWS::S3::Bucket", bronze, (said,)),)
