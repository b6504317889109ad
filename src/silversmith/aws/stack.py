"""One CloudFormation stack: its state, the changes of a change set, and following AWS as it makes them.

https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/using-cfn-updating-stacks-changesets.html
https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/view-stack-events.html
"""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from itertools import takewhile
from typing import Any

from botocore.exceptions import ClientError

from silversmith.aws.account import Account, DeployError, Pause, Tell
from silversmith.stores.aws_errors import translate_aws_errors
from silversmith.template.functions import IMAGE


class Effect(StrEnum):
    """The effect of a change on a resource."""

    ADD = "add"
    ADOPT = "adopt"  #: it is there already, and becomes the stack's
    CHANGE = "change"
    REPLACE = "replace"  #: a new one is made, and the old one deleted
    PERHAPS_REPLACE = "perhaps replace"  #: only AWS will know, when it does it
    DELETE = "delete"
    LET_GO = "let go"  #: it stays, and is not the stack's any more


_SIGNS = {
    Effect.ADD: "+",
    Effect.ADOPT: "+",
    Effect.CHANGE: "~",
    Effect.REPLACE: "!",
    Effect.PERHAPS_REPLACE: "!",
    Effect.DELETE: "-",
    Effect.LET_GO: "-",
}

#: What is lost with a resource of this kind. A Glue table only points to rows, which stay in gold.
_CONTENTS = {
    "AWS::SQS::Queue": "its messages are lost",
    "AWS::S3::Bucket": "its objects are lost",
    "AWS::KMS::Key": "what it encrypts can no longer be read",
    "AWS::Logs::LogGroup": "its log is lost",
    "AWS::SNS::Topic": "what others have subscribed to it is lost",
    "AWS::Glue::Database": "the tables that others made in it are lost",
}

#: Kinds that hold nothing: a new one is as good as the old one. Kinds that only a user's own template has are not here.
_HOLDS_NOTHING = re.compile(
    "AWS::(IAM::.*|Lambda::.*|Events::Rule|Scheduler::.*|CloudWatch::Alarm|SNS::(Subscription|TopicPolicy)"
    "|SQS::QueuePolicy|S3::BucketPolicy|KMS::Alias|Glue::Table)"
)

#: The policies of a resource by which the old one stays when it is deleted or replaced.
_KEPT = frozenset({"Retain", "RetainExceptOnCreate", "ReplaceAndRetain"})

_LONGEST = 100


@dataclass(frozen=True)
class StackChange:
    """The change of one resource. ``details`` are its properties that change; ``name`` is its physical name, if any.
    ``keeps_old``: where it is replaced, the old one stays. ``is_drained``: its messages are processed before it goes.
    """

    effect: Effect
    logical: str
    kind: str
    name: str = ""
    details: tuple[str, ...] = ()
    keeps_old: bool = False
    is_drained: bool = False

    @property
    def loss(self) -> str:
        """What is lost, or may be: empty where the change deletes nothing, or what it deletes holds nothing."""
        is_deleting = self.effect in {Effect.REPLACE, Effect.PERHAPS_REPLACE, Effect.DELETE}
        if not is_deleting or self.keeps_old or self.is_drained or _HOLDS_NOTHING.fullmatch(self.kind):
            return ""
        return _CONTENTS.get(self.kind, "what it holds is lost")

    @property
    def loses(self) -> bool:
        """Whether something is lost, or may be."""
        return bool(self.loss)

    def lines(self) -> list[str]:
        """The resource, and below it the properties that change."""
        name = f" {self.name}" if self.name else ""
        note = self.loss or ("the old one stays" if self.keeps_old else "")
        note = note or ("its messages are processed first" if self.is_drained else "")
        warning = f"   ← {note}" if note else ""
        first = f"{_SIGNS[self.effect]} {self.effect}: {self.logical} ({self.kind}){name}{warning}"
        return [first, *(f"    {detail}" for detail in self.details)]


@dataclass(frozen=True)
class History:
    """The files in bronze that a transform which is new to the stack would take. ``size`` in bytes; ``is_whole`` False:
    there are more, counting has stopped."""

    transform: str
    files: int
    size: int
    is_whole: bool


@dataclass(frozen=True)
class Diff:
    """All changes, those that lose something first, and the ``histories`` of new transforms. Empty: nothing to do."""

    changes: tuple[StackChange, ...]
    histories: tuple[History, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.changes)

    @property
    def losses(self) -> tuple[StackChange, ...]:
        """The changes with which something is lost: a person is asked about them."""
        return tuple(change for change in self.changes if change.loses)

    @property
    def adoptions(self) -> tuple[StackChange, ...]:
        """What is there already, and would become the stack's: a person is asked about it, too."""
        return tuple(change for change in self.changes if change.effect is Effect.ADOPT)

    def draining(self, queues: Collection[str]) -> Diff:
        """The same where these queues, by their logical ids, are emptied before they go."""
        changes = tuple(replace(each, is_drained=each.logical in queues) for each in self.changes)
        return replace(self, changes=changes)

    def adopting(self, details: Mapping[str, tuple[str, ...]]) -> Diff:
        """The same where these resources, by their logical ids, are adopted; with what is then changed of each."""
        changes = (
            replace(change, effect=Effect.ADOPT, details=details[change.logical])
            if change.logical in details
            else change
            for change in self.changes
        )
        return replace(self, changes=tuple(changes))

    def lines(self) -> list[str]:
        """For a person."""
        if not self.changes:
            return ["nothing changes"]
        return [line for change in self.changes for line in change.lines()]

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        changes = [
            {**vars(each), "effect": each.effect.value, "loses": each.loses, "loss": each.loss} for each in self.changes
        ]
        return {"changes": changes, "history": [vars(each) for each in self.histories]}


def of_new(template: Mapping[str, Any]) -> Diff:
    """Everything of the template is new."""
    resources = template["Resources"].items()
    return Diff(tuple(StackChange(Effect.ADD, logical, resource["Type"]) for logical, resource in resources))


def of_change_set(
    changes: Iterable[Mapping[str, Any]],
    old: Mapping[str, Any],
    new: Mapping[str, Any],
    parameters: tuple[Mapping[str, str], Mapping[str, str]] = ({}, {}),
) -> Diff:
    """The changes that CloudFormation announces, with the differences between the templates.

    Args:
        changes: ``Changes`` of DescribeChangeSet, all pages.
        old: the template that is deployed.
        new: the template that would be.
        parameters: the values of the parameters, before and after.
    """
    resources = []
    for each in changes:
        if change := each.get("ResourceChange"):
            logical = change["LogicalResourceId"]
            before, after = _resource(old, logical, parameters[0]), _resource(new, logical, parameters[1])
            effect = _effect(change, before)
            details: tuple[str, ...] = ()
            if effect in {Effect.CHANGE, Effect.REPLACE, Effect.PERHAPS_REPLACE}:
                details = tuple(_details(change, before.get("Properties", {}), after.get("Properties", {})))
            name = change.get("PhysicalResourceId") or ""
            is_replaced = effect in {Effect.REPLACE, Effect.PERHAPS_REPLACE}
            keeps_old = is_replaced and change.get("PolicyAction", before.get("UpdateReplacePolicy")) in _KEPT
            resources.append(StackChange(effect, logical, change["ResourceType"], name, details, keeps_old))
    return Diff(tuple(sorted(resources, key=lambda change: (not change.loses, change.logical))))


def _effect(change: Mapping[str, Any], before: Mapping[str, Any]) -> Effect:
    action = change["Action"]
    if action == "Remove":
        return Effect.LET_GO if change.get("PolicyAction", before.get("DeletionPolicy")) in _KEPT else Effect.DELETE
    if action in {"Add", "Import"}:
        return Effect.ADD if action == "Add" else Effect.ADOPT
    if action == "Dynamic":
        return Effect.PERHAPS_REPLACE
    replacement = change.get("Replacement", "False")
    return {"True": Effect.REPLACE, "Conditional": Effect.PERHAPS_REPLACE}.get(replacement, Effect.CHANGE)


def _details(change: Mapping[str, Any], before: Any, after: Any) -> Iterator[str]:
    recreating = {
        detail["Target"].get("Name")
        for detail in change.get("Details", ())
        if detail.get("Target", {}).get("RequiresRecreation", "Never") != "Never"
    }
    seen = False
    for path, old, new in differences(before, after):
        seen = True
        reason = " (needs a new one)" if path.partition(".")[0] in recreating else ""
        yield f"{path}: {_abbreviated(old)} → {_abbreviated(new)}{reason}"
    days, days_before = _version_days(after), _version_days(before)
    if days and (not days_before or days < days_before):
        yield (
            f"from now on, old versions of its objects are deleted after {days} days, those that are there already, "
            "too; old_versions_days=0 keeps them"
        )
    if not seen:
        sources = sorted({detail["CausingEntity"] for detail in change.get("Details", ()) if "CausingEntity" in detail})
        yield f"because of {', '.join(sources)}" if sources else "a value that it refers to changes"


def _version_days(properties: Mapping[str, Any]) -> int:
    """After how many days a bucket's old versions go; 0: never."""
    rules = properties.get("LifecycleConfiguration", {}).get("Rules", ())
    days = [rule.get("NoncurrentVersionExpiration", {}).get("NoncurrentDays", 0) for rule in rules]
    return min(filter(None, days), default=0)


_NOTHING = object()


def differences(before: Any, after: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Differences of two values: the path, as ``Environment.Variables.X`` or ``Tags[0]``, and the value in each."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for name in [*before, *(name for name in after if name not in before)]:
            below = f"{path}.{name}" if path else str(name)
            yield from differences(before.get(name, _NOTHING), after.get(name, _NOTHING), below)
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for at, (old, new) in enumerate(zip(before, after, strict=True)):
            yield from differences(old, new, f"{path}[{at}]")
    elif before != after or type(before) is not type(after):
        yield path, before, after


def _abbreviated(value: Any) -> str:
    if value is _NOTHING:
        return "nothing"
    text = json.dumps(value, ensure_ascii=False, sort_keys=True)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _resource(template: Mapping[str, Any], logical: str, parameters: Mapping[str, str]) -> Any:
    return _filled(template.get("Resources", {}).get(logical, {}), parameters)


def _filled(value: Any, parameters: Mapping[str, str]) -> Any:
    """A value with the values of parameters in the place of references to them."""
    if isinstance(value, Mapping):
        if set(value) == {"Ref"} and value["Ref"] in parameters:
            return parameters[value["Ref"]]
        return {name: _filled(inner, parameters) for name, inner in value.items()}
    return [_filled(inner, parameters) for inner in value] if isinstance(value, list) else value


#: The kind of a stack, in its own events and as a resource of another stack.
STACK = "AWS::CloudFormation::Stack"

#: The most that a request takes of a template, in bytes; it is ASCII.
#: https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/cloudformation-limits.html
LARGEST_BODY = 51_200

#: Seconds between two looks.
POLL = 2.0

#: Seconds that AWS may take to make a change set.
LONGEST_CHANGE_SET = 300

_NO_CHANGES = ("didn't contain changes", "No updates are to be performed")

#: The reasons of resources that were only stopped because another had failed.
_STOPPED = ("cancelled", "canceled")


@dataclass(frozen=True)
class StackState:
    """The state of a stack. ``parameters`` and ``outputs`` by name; ``changed`` is when it last changed, in UTC;
    ``protected`` is whether AWS refuses to delete it."""

    id: str
    name: str
    status: str
    reason: str
    changed: datetime
    parameters: Mapping[str, str]
    outputs: Mapping[str, str]
    protected: bool = False

    @property
    def busy(self) -> bool:
        """Whether AWS is at work on it."""
        return self.status.endswith("_IN_PROGRESS") and self.status != "REVIEW_IN_PROGRESS"

    @property
    def is_empty(self) -> bool:
        """Its creation failed: nothing is in it, and all that can be done with it is to delete it."""
        return self.status in {"ROLLBACK_COMPLETE", "CREATE_FAILED", "ROLLBACK_FAILED"}

    @property
    def is_ours(self) -> bool:
        """Whether it was made from a template of Silversmith's. A stack that was never executed counts as ours."""
        is_of_ours = IMAGE in self.parameters or {"CodeBucket", "CodeKey"} <= set(self.parameters)
        return is_of_ours or self.status == "REVIEW_IN_PROGRESS"


@dataclass(frozen=True)
class StackSettings:
    """The settings of a stack itself. ``role`` is the ARN of the role that CloudFormation works with, none: the rights
    of the person who deploys; ``tags`` go to all that the stack makes, none: it keeps those it has; ``protected`` is
    whether nobody can delete it, None: as it is.

    https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/using-iam-servicerole.html
    https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/using-cfn-protect-stacks.html
    """

    role: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    protected: bool | None = None

    def differs(self, state: StackState | None) -> bool:
        """Whether the protection of the stack must be switched."""
        return self.protected is not None and self.protected != (state is not None and state.protected)

    def request(self) -> dict[str, Any]:
        """The parameters for a change set."""
        tags = [{"Key": key, "Value": value} for key, value in self.tags.items()]
        return {**({"RoleARN": self.role} if self.role else {}), **({"Tags": tags} if tags else {})}


@dataclass(frozen=True)
class StackFailure:
    """A resource that failed, and why, in its own service's words."""

    logical: str
    kind: str
    reason: str

    def __str__(self) -> str:
        kind = f" ({self.kind})" if self.kind else ""
        return f"{self.logical}{kind}: {self.reason}" if self.logical else self.reason


class StackFailed(DeployError):
    """CloudFormation gave up. ``failures`` are the resources that were the cause, the earliest first."""

    def __init__(self, message: str, failures: tuple[StackFailure, ...]) -> None:
        super().__init__(message)
        self.failures = failures


@dataclass(frozen=True)
class ChangeSet:
    """A change set that can be executed, and what it would do."""

    arn: str
    stack_id: str
    diff: Diff


class Stack:
    """The stack of that name. ``tell`` gets progress, a line at a time; ``pause`` waits so many seconds."""

    def __init__(self, account: Account, name: str, *, tell: Tell = lambda _: None, pause: Pause = time.sleep) -> None:
        self.name = name
        self._client = account.client("cloudformation")
        self._tell = tell
        self._pause = pause

    def state(self, identity: str = "") -> StackState | None:
        """The stack's state; None where there is no stack. By its id also after it was deleted."""
        with translate_aws_errors(f"the stack {self.name}"):
            try:
                stack = self._client.describe_stacks(StackName=identity or self.name)["Stacks"][0]
            except ClientError as error:
                if "does not exist" in str(error):
                    return None
                raise
        return StackState(
            stack["StackId"],
            stack["StackName"],
            stack["StackStatus"],
            stack.get("StackStatusReason", ""),
            stack.get("LastUpdatedTime") or stack["CreationTime"],
            {each["ParameterKey"]: each.get("ParameterValue", "") for each in stack.get("Parameters", ())},
            {each["OutputKey"]: each["OutputValue"] for each in stack.get("Outputs", ())},
            stack.get("EnableTerminationProtection", False),
        )

    def template(self) -> dict[str, Any]:
        """The template that is deployed."""
        with translate_aws_errors(f"the stack {self.name}"):
            body = self._client.get_template(StackName=self.name, TemplateStage="Original")["TemplateBody"]
        if not isinstance(body, Mapping):
            raise DeployError(f"the stack {self.name} was not deployed by Silversmith: its template is no JSON")
        return {**body}

    def resources(self) -> list[dict[str, Any]]:
        """The resources in it, as ListStackResources gives them."""
        with translate_aws_errors(f"the stack {self.name}"):
            pages = self._client.get_paginator("list_stack_resources").paginate(StackName=self.name)
            return [resource for page in pages for resource in page["StackResourceSummaries"]]

    def propose(
        self,
        state: StackState | None,
        template: Mapping[str, Any],
        parameters: Mapping[str, str],
        *,
        upload: Callable[[Mapping[str, Any]], str],
        settings: StackSettings | None = None,
    ) -> ChangeSet | None:
        """Have AWS work out what would change; None if nothing would. Nothing is changed yet.

        ``upload`` puts a template that is too large to be sent along where CloudFormation finds it, and returns the
        URL.
        """
        body = json.dumps(template, separators=(",", ":"))
        source = {"TemplateBody": body} if len(body) <= LARGEST_BODY else {"TemplateURL": upload(template)}
        is_new = state is None or state.status == "REVIEW_IN_PROGRESS"
        with translate_aws_errors(f"the change set for {self.name}"):
            try:
                created = self._client.create_change_set(
                    StackName=self.name,
                    ChangeSetName=f"silversmith-{uuid.uuid4().hex}",
                    ChangeSetType="CREATE" if is_new else "UPDATE",
                    **source,
                    Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
                    **(settings or StackSettings()).request(),
                    Capabilities=["CAPABILITY_IAM", "CAPABILITY_NAMED_IAM"],
                    # Buckets that an earlier stack left behind, with their data, become this one's.
                    ImportExistingResources=True,
                )
            except ClientError as error:  # AWS makes a change set that failed where nothing would change; moto refuses
                if any(text in str(error) for text in _NO_CHANGES):
                    return None
                raise
            status, reason, changes = self._description(created["Id"])
        if status == "FAILED":
            found = "; ".join(str(failure) for failure in self._refusals(ChangeSetName=created["Id"]))
            self.discard(created["Id"])
            if any(text in reason for text in _NO_CHANGES):
                return None
            problem = found or reason or "it gave no reason"
            raise DeployError(f"AWS cannot make the changes to {self.name}: {problem}")
        if status != "CREATE_COMPLETE":
            self.discard(created["Id"])
            raise DeployError(f"AWS did not work out the changes to {self.name} within {LONGEST_CHANGE_SET} seconds")
        old = {} if is_new or state is None else self.template()
        before = {} if is_new or state is None else state.parameters
        return ChangeSet(created["Id"], created["StackId"], of_change_set(changes, old, template, (before, parameters)))

    def _description(self, arn: str) -> tuple[str, str, list[dict[str, Any]]]:
        """The status, reason and changes of a change set, once AWS has made it."""
        for _ in range(int(LONGEST_CHANGE_SET / POLL)):
            page = self._client.describe_change_set(ChangeSetName=arn, StackName=self.name)
            if page["Status"] not in {"CREATE_PENDING", "CREATE_IN_PROGRESS"}:
                break
            self._pause(POLL)
        changes = list(page.get("Changes", ()))
        while token := page.get("NextToken"):
            page = self._client.describe_change_set(ChangeSetName=arn, StackName=self.name, NextToken=token)
            changes += page.get("Changes", ())
        return page["Status"], page.get("StatusReason", ""), changes

    def _refusals(self, **operation: str) -> tuple[StackFailure, ...]:
        """What AWS refused before it began with any resource: neither the change set nor the stack's events say it.

        https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/validate-stack-deployments.html
        """
        events: list[dict[str, Any]] = []
        try:
            page = self._client.describe_events(**operation)
            events += page["OperationEvents"]
            while page.get("NextToken") and events and events[-1].get("OperationId") == events[0].get("OperationId"):
                page = self._client.describe_events(**operation, NextToken=page["NextToken"])
                events += page["OperationEvents"]
        except (AttributeError, ClientError, NotImplementedError):
            pass  # an older SDK or a stand-in does not know it, or it is not allowed: the reason at hand must do
        reasons = {
            StackFailure(event.get("LogicalResourceId", ""), event.get("ResourceType", ""), reason): None
            for event in events
            if event.get("OperationId") == events[0].get("OperationId")  # the newest comes first
            for status, reason in (
                (event.get("ValidationStatus"), event.get("ValidationStatusReason")),
                (event.get("HookStatus"), event.get("HookStatusReason")),
            )
            if status in {"FAILED", "HOOK_COMPLETE_FAILED", "HOOK_FAILED"} and reason
        }
        return tuple(reasons)

    def discard(self, arn: str) -> None:
        """Delete a change set, and the empty stack that AWS made for it, if it did."""
        with translate_aws_errors(f"the change set for {self.name}"):
            self._client.delete_change_set(ChangeSetName=arn, StackName=self.name)
            state = self.state()
            if state is not None and state.status == "REVIEW_IN_PROGRESS":
                self._client.delete_stack(StackName=self.name)

    def execute(self, change_set: ChangeSet) -> StackState:
        """Make the changes, and wait until they are made.

        Raises:
            StackFailed: a resource failed, and AWS took everything back.
        """
        seen = self._newest_event(change_set.stack_id)
        with translate_aws_errors(f"the stack {self.name}"):
            self._client.execute_change_set(
                ChangeSetName=change_set.arn,
                StackName=self.name,
                ClientRequestToken=uuid.uuid4().hex,
                # The resources of a failed first deployment are empty, and would be in the way of the next one.
                RetainExceptOnCreate=True,
            )
        state, failures = self._follow(change_set.stack_id, seen)
        if state is None or state.status not in {"CREATE_COMPLETE", "UPDATE_COMPLETE", "IMPORT_COMPLETE"}:
            raise self._failed(state, failures, seen)
        return state

    def protect(self, protected: bool) -> None:
        """Have AWS refuse to delete the stack, or no longer refuse it."""
        with translate_aws_errors(f"the termination protection of {self.name}"):
            self._client.update_termination_protection(StackName=self.name, EnableTerminationProtection=protected)
        self._tell(f"termination protection is {'on' if protected else 'off'} now")

    def delete(self) -> None:
        """Delete the stack and wait. The resources that its template retains stay: the buckets.

        Raises:
            StackFailed: a resource could not be deleted.
        """
        state = self.state()
        if state is None:
            return
        seen = self._newest_event(state.id)
        with translate_aws_errors(f"the stack {self.name}"):
            self._client.delete_stack(StackName=self.name, ClientRequestToken=uuid.uuid4().hex)
        after, failures = self._follow(state.id, seen)
        if after is not None and after.status != "DELETE_COMPLETE":
            raise self._failed(after, failures, seen)

    def _failed(self, state: StackState | None, failures: tuple[StackFailure, ...], seen: str) -> StackFailed:
        """The error of a stack that went wrong, by the resources that were the cause. Where no resource has a reason of
        its own, AWS may have refused the template before it began, or its events come late: they are read once more."""
        if not failures and state is not None:
            failures = self._refusals(StackName=state.id)
            self._pause(0 if failures else POLL)
        if not failures and state is not None:
            events = self._events_since(state.id, seen)[::-1]
            own = [failure for event in events for failure in self._failure(event)]
            failures = tuple(own or [failure for event in events for failure in _secondary(event)])
        return StackFailed(_explain(self.name, state, failures), failures)

    def _failure(self, event: Mapping[str, Any]) -> Iterator[StackFailure]:
        """The resource that an event says has failed, for a reason of its own; of a nested stack, its resources."""
        status, reason = event["ResourceStatus"], event.get("ResourceStatusReason", "")
        logical, kind = event["LogicalResourceId"], event["ResourceType"]
        physical = event.get("PhysicalResourceId", "")
        if event.get("HookStatus") in {"HOOK_COMPLETE_FAILED", "HOOK_FAILED"} and event.get("HookStatusReason"):
            yield StackFailure(logical, kind, f"the hook {event.get('HookType', '')}: {event['HookStatusReason']}")
        if not status.endswith("_FAILED") or (kind == STACK and physical in {"", event.get("StackId")}):
            return
        if kind == STACK:
            inner = [failure for each in self._operation(physical) for failure in self._failure(each)][::-1]
            yield from (StackFailure(f"{logical}/{each.logical}", each.kind, each.reason) for each in inner)
            if inner:
                return
        if reason and not any(word in reason.lower() for word in _STOPPED):
            yield StackFailure(logical, kind, reason)

    def _follow(self, stack_id: str, seen: str) -> tuple[StackState | None, tuple[StackFailure, ...]]:
        """Tell of each event after ``seen`` until AWS is done. Asking for the state first misses no event."""
        failures: list[StackFailure] = []
        while True:
            state = self.state(stack_id)
            fresh = self._events_since(stack_id, seen)
            for event in reversed(fresh):
                self._tell(_line(event))
                failures += self._failure(event)
            seen = fresh[0]["EventId"] if fresh else seen
            if state is None or not (state.busy or state.status == "REVIEW_IN_PROGRESS"):
                return state, tuple(failures)
            self._pause(POLL)

    def _newest_event(self, stack_id: str) -> str:
        return next((str(event["EventId"]) for event in self._events(stack_id)), "")

    def _events_since(self, stack_id: str, seen: str) -> list[dict[str, Any]]:
        return [*takewhile(lambda event: event["EventId"] != seen, self._events(stack_id))]

    def _operation(self, stack_id: str) -> Iterator[dict[str, Any]]:
        """The events of what was last done with a stack, the newest first."""
        for event in self._events(stack_id):
            is_own = event.get("PhysicalResourceId") == event.get("StackId")
            if is_own and event["ResourceStatus"] in {"CREATE_IN_PROGRESS", "UPDATE_IN_PROGRESS", "DELETE_IN_PROGRESS"}:
                break
            yield event

    def _events(self, stack_id: str) -> Iterator[dict[str, Any]]:
        """The newest first, a page at a time: a stack that was updated often has thousands."""
        with translate_aws_errors(f"the events of {self.name}"):
            try:
                for page in self._client.get_paginator("describe_stack_events").paginate(StackName=stack_id):
                    yield from page["StackEvents"]
            except ClientError as error:
                if "does not exist" not in str(error):
                    raise


def _line(event: Mapping[str, Any]) -> str:
    reason = event.get("ResourceStatusReason", "")
    at = event["Timestamp"].strftime("%H:%M:%S")
    detail = f": {reason}" if reason and "FAILED" in event["ResourceStatus"] else ""
    return f"{at}  {event['ResourceStatus']:<28}  {event['LogicalResourceId']} ({event['ResourceType']}){detail}"


def _secondary(event: Mapping[str, Any]) -> Iterator[StackFailure]:
    """What an event says where no resource has a reason of its own: it was only stopped, failed without a word, or the
    stack itself says why."""
    status, reason = event["ResourceStatus"], event.get("ResourceStatusReason", "")
    is_failed = status.endswith("_FAILED") or (event["ResourceType"] == STACK and "ROLLBACK_IN_PROGRESS" in status)
    if is_failed and (reason or event["ResourceType"] != STACK):
        yield StackFailure(event["LogicalResourceId"], event["ResourceType"], reason or "AWS gave no reason")


def _explain(name: str, state: StackState | None, failures: tuple[StackFailure, ...]) -> str:
    causes = "\n".join(f"  {failure}" for failure in failures)
    status = state.status if state else "gone"
    unknown = f"AWS gave no reason; look at `aws cloudformation describe-stack-events --stack-name {name}`"
    reason = causes or f"  {(state.reason if state else '') or unknown}"
    return f"the stack {name} is now {status}, because of:\n{reason}\n{_NEXT_STEPS.get(status, _REMOVED).format(name)}"


#: The meaning of a state, and what to do next.
_NEXT_STEPS = {
    "UPDATE_ROLLBACK_COMPLETE": (
        "AWS put everything back as it was before: the pipeline runs on. Correct the cause and deploy again."
    ),
    "UPDATE_ROLLBACK_FAILED": (
        "AWS could not put everything back. Correct the cause, then run `aws cloudformation continue-update-rollback "
        "--stack-name {}` until it is UPDATE_ROLLBACK_COMPLETE, and deploy again."
    ),
    "DELETE_FAILED": "The listed resources still exist, the rest is deleted. Correct the cause and run destroy again.",
}
_REMOVED = (
    "AWS took away all that it had made; nothing of it is left but the empty stack, which the next deploy removes."
)
