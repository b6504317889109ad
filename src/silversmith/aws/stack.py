"""One CloudFormation stack: its state, its changes, and following what AWS does with it.

https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/view-stack-events.html
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import takewhile
from typing import Any

from botocore.exceptions import ClientError

from silversmith.aws.account import Account, told
from silversmith.aws.changes import Diff, of_change_set
from silversmith.aws.errors import DeployError

#: The most that a request takes of a template, in bytes; it is ASCII.
#: https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/cloudformation-limits.html
LARGEST_BODY = 51_200

#: Seconds between two looks.
POLL = 2.0

#: Seconds that AWS may take to make a change set.
LONGEST_CHANGE_SET = 300

_NO_CHANGES = ("didn't contain changes", "No updates are to be performed")

#: What resources say that were only stopped because another had failed.
_FOLLOWERS = ("cancelled", "canceled")

Tell = Callable[[str], None]
Pause = Callable[[float], None]


@dataclass(frozen=True)
class State:
    """What a stack is like. ``parameters`` and ``outputs`` by name; ``changed`` is when it last changed, in UTC."""

    id: str
    name: str
    status: str
    reason: str
    changed: datetime
    parameters: Mapping[str, str]
    outputs: Mapping[str, str]

    @property
    def busy(self) -> bool:
        """Whether AWS is at work on it."""
        return self.status.endswith("_IN_PROGRESS") and self.status != "REVIEW_IN_PROGRESS"

    @property
    def is_husk(self) -> bool:
        """Its creation failed: nothing is in it, and all that can be done with it is to delete it."""
        return self.status in {"ROLLBACK_COMPLETE", "CREATE_FAILED", "ROLLBACK_FAILED"}

    @property
    def is_ours(self) -> bool:
        """Whether it was made from a template of Silversmith's. Of a stack that was never executed nobody knows."""
        return {"CodeBucket", "CodeKey"} <= set(self.parameters) or self.status == "REVIEW_IN_PROGRESS"


@dataclass(frozen=True)
class Failure:
    """A resource that failed, and why, in its own service's words."""

    logical: str
    kind: str
    reason: str


class StackFailed(DeployError):
    """CloudFormation gave up. ``failures`` are the resources that were the cause, the first one first."""

    def __init__(self, message: str, failures: tuple[Failure, ...]) -> None:
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

    def state(self, identity: str = "") -> State | None:
        """What it is like; None where there is none. By its id also after it was deleted."""
        with told(f"the stack {self.name}"):
            try:
                found = self._client.describe_stacks(StackName=identity or self.name)["Stacks"][0]
            except ClientError as error:
                if "does not exist" in str(error):
                    return None
                raise
        return State(
            found["StackId"],
            found["StackName"],
            found["StackStatus"],
            found.get("StackStatusReason", ""),
            found.get("LastUpdatedTime") or found["CreationTime"],
            {each["ParameterKey"]: each.get("ParameterValue", "") for each in found.get("Parameters", ())},
            {each["OutputKey"]: each["OutputValue"] for each in found.get("Outputs", ())},
        )

    def template(self) -> dict[str, Any]:
        """The template that is deployed."""
        with told(f"the stack {self.name}"):
            found = self._client.get_template(StackName=self.name, TemplateStage="Original")["TemplateBody"]
        if not isinstance(found, Mapping):
            raise DeployError(f"the stack {self.name} was not deployed by Silversmith: its template is no JSON")
        return {**found}

    def resources(self) -> list[dict[str, Any]]:
        """What is in it: as ListStackResources tells it."""
        with told(f"the stack {self.name}"):
            pages = self._client.get_paginator("list_stack_resources").paginate(StackName=self.name)
            return [resource for page in pages for resource in page["StackResourceSummaries"]]

    def propose(
        self,
        state: State | None,
        template: Mapping[str, Any],
        parameters: Mapping[str, str],
        *,
        upload: Callable[[Mapping[str, Any]], str],
    ) -> ChangeSet | None:
        """Have AWS work out what would change; None if nothing would. Nothing is changed yet.

        ``upload`` puts a template where CloudFormation finds it, and returns the URL: for one that is too large to be
        sent along.
        """
        body = json.dumps(template, separators=(",", ":"))
        sent = {"TemplateBody": body} if len(body) <= LARGEST_BODY else {"TemplateURL": upload(template)}
        new = state is None or state.status == "REVIEW_IN_PROGRESS"
        with told(f"the change set for {self.name}"):
            made = self._proposed(
                StackName=self.name,
                ChangeSetName=f"silversmith-{uuid.uuid4().hex}",
                ChangeSetType="CREATE" if new else "UPDATE",
                **sent,
                Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
                Capabilities=["CAPABILITY_IAM", "CAPABILITY_NAMED_IAM"],
                # Buckets that an earlier stack left behind, with their data, become this one's.
                ImportExistingResources=True,
            )
            if made is None:
                return None
            status, reason, changes = self._described(made["Id"])
        if status == "FAILED":
            why = self._validation(made["Id"]) or reason
            self.discard(made["Id"])
            if any(text in reason for text in _NO_CHANGES):
                return None
            raise DeployError(f"AWS cannot make the changes to {self.name}: {why}")
        old = {} if new or state is None else self.template()
        before = {} if new or state is None else state.parameters
        return ChangeSet(made["Id"], made["StackId"], of_change_set(changes, old, template, (before, parameters)))

    def _proposed(self, **wanted: Any) -> Any:
        """AWS makes a change set that failed where nothing would change; moto refuses to make one."""
        try:
            return self._client.create_change_set(**wanted)
        except ClientError as error:
            if any(text in str(error) for text in _NO_CHANGES):
                return None
            raise

    def _described(self, arn: str) -> tuple[str, str, list[dict[str, Any]]]:
        for _ in range(int(LONGEST_CHANGE_SET / POLL)):
            found = self._client.describe_change_set(ChangeSetName=arn, StackName=self.name)
            if found["Status"] not in {"CREATE_PENDING", "CREATE_IN_PROGRESS"}:
                break
            self._pause(POLL)
        changes = list(found.get("Changes", ()))
        while found.get("NextToken"):
            found = self._client.describe_change_set(
                ChangeSetName=arn, StackName=self.name, NextToken=found["NextToken"]
            )
            changes += found.get("Changes", ())
        return found["Status"], found.get("StatusReason", ""), changes

    def _validation(self, arn: str) -> str:
        """What AWS found wrong before it began: it does not say so in the change set's own reason.

        https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/validate-stack-deployments.html
        """
        try:
            events = self._client.describe_events(ChangeSetName=arn)["OperationEvents"]
        except (AttributeError, ClientError, NotImplementedError):
            return ""
        reasons = [
            f"{event.get('LogicalResourceId', '')}: {event['ValidationStatusReason']}"
            for event in events
            if event.get("ValidationStatus") == "FAILED" and event.get("ValidationStatusReason")
        ]
        return "; ".join(reasons)

    def discard(self, arn: str) -> None:
        """Delete a change set, and the empty stack that AWS made for it, if it did."""
        with told(f"the change set for {self.name}"):
            self._client.delete_change_set(ChangeSetName=arn, StackName=self.name)
            state = self.state()
            if state is not None and state.status == "REVIEW_IN_PROGRESS":
                self._client.delete_stack(StackName=self.name)

    def execute(self, change_set: ChangeSet) -> State:
        """Make the changes, and wait until they are made.

        Raises:
            StackFailed: a resource failed, and AWS took everything back.
        """
        seen = self._newest_event(change_set.stack_id)
        with told(f"the stack {self.name}"):
            self._client.execute_change_set(
                ChangeSetName=change_set.arn,
                StackName=self.name,
                ClientRequestToken=uuid.uuid4().hex,
                # What a failed first deployment made is empty, and would be in the way of the next one.
                RetainExceptOnCreate=True,
            )
        state, failures = self._follow(change_set.stack_id, seen)
        if state is None or state.status not in {"CREATE_COMPLETE", "UPDATE_COMPLETE", "IMPORT_COMPLETE"}:
            raise StackFailed(_explained(self.name, state, failures), failures)
        return state

    def delete(self) -> None:
        """Delete the stack and wait. What its template says must be retained stays: the buckets.

        Raises:
            StackFailed: a resource could not be deleted.
        """
        state = self.state()
        if state is None:
            return
        seen = self._newest_event(state.id)
        with told(f"the stack {self.name}"):
            self._client.delete_stack(StackName=self.name, ClientRequestToken=uuid.uuid4().hex)
        after, failures = self._follow(state.id, seen)
        if after is not None and after.status != "DELETE_COMPLETE":
            raise StackFailed(_explained(self.name, after, failures), failures)

    def _follow(self, stack_id: str, seen: str) -> tuple[State | None, tuple[Failure, ...]]:
        """Tell of each event after ``seen`` until AWS is done. The state is looked at before the events, so that none
        is missed."""
        failures: list[Failure] = []
        while True:
            state = self.state(stack_id)
            fresh = self._events_since(stack_id, seen)
            for event in reversed(fresh):
                self._tell(_line(event))
                failures += _failure(event)
            seen = fresh[0]["EventId"] if fresh else seen
            if state is None or not (state.busy or state.status == "REVIEW_IN_PROGRESS"):
                return state, tuple(failures)
            self._pause(POLL)

    def _newest_event(self, stack_id: str) -> str:
        return next((str(event["EventId"]) for event in self._events(stack_id)), "")

    def _events_since(self, stack_id: str, seen: str) -> list[dict[str, Any]]:
        return [*takewhile(lambda event: event["EventId"] != seen, self._events(stack_id))]

    def _events(self, stack_id: str) -> Iterator[dict[str, Any]]:
        """The newest first, a page at a time: a stack that was updated often has thousands."""
        with told(f"the events of {self.name}"):
            try:
                for page in self._client.get_paginator("describe_stack_events").paginate(StackName=stack_id):
                    yield from page["StackEvents"]
            except ClientError as error:
                if "does not exist" not in str(error):
                    raise


def _line(event: Mapping[str, Any]) -> str:
    reason = event.get("ResourceStatusReason", "")
    at = event["Timestamp"].strftime("%H:%M:%S")
    said = f": {reason}" if reason and "FAILED" in event["ResourceStatus"] else ""
    return f"{at}  {event['ResourceStatus']:<28}  {event['LogicalResourceId']} ({event['ResourceType']}){said}"


def _failure(event: Mapping[str, Any]) -> Iterator[Failure]:
    reason = event.get("ResourceStatusReason", "")
    is_stack = event["ResourceType"] == "AWS::CloudFormation::Stack"
    if not event["ResourceStatus"].endswith("_FAILED") or is_stack or not reason:
        return
    if not any(word in reason.lower() for word in _FOLLOWERS):
        yield Failure(event["LogicalResourceId"], event["ResourceType"], reason)


def _explained(name: str, state: State | None, failures: tuple[Failure, ...]) -> str:
    causes = "\n".join(f"  {each.logical} ({each.kind}): {each.reason}" for each in failures)
    status = state.status if state else "gone"
    why = causes or (f"  {state.reason}" if state and state.reason else "  AWS says no more")
    return f"the stack {name} is now {status}, because of:\n{why}\n{_after(status, name)}"


def _after(status: str, name: str) -> str:
    """What the state means, and what to do next."""
    if status == "UPDATE_ROLLBACK_COMPLETE":
        return "AWS put everything back as it was before: the pipeline runs on. Mend the cause and deploy again."
    if status == "UPDATE_ROLLBACK_FAILED":
        return (
            "AWS could not put everything back. Mend the cause, then run `aws cloudformation continue-update-rollback "
            f"--stack-name {name}` until it is UPDATE_ROLLBACK_COMPLETE, and deploy again."
        )
    if status == "DELETE_FAILED":
        return "What is listed is still there, the rest is deleted. Mend the cause and run destroy again."
    return (
        "AWS took away all that it had made; nothing of it is left but the empty stack, which the next deploy removes."
    )
