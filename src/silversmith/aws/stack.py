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

from silversmith.aws.account import Account, DeployError, Pause, Tell, translate_errors
from silversmith.aws.changes import Diff, of_change_set

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
class State:
    """The state of a stack. ``parameters`` and ``outputs`` by name; ``changed`` is when it last changed, in UTC."""

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
    def is_empty(self) -> bool:
        """Its creation failed: nothing is in it, and all that can be done with it is to delete it."""
        return self.status in {"ROLLBACK_COMPLETE", "CREATE_FAILED", "ROLLBACK_FAILED"}

    @property
    def is_ours(self) -> bool:
        """Whether it was made from a template of Silversmith's. A stack that was never executed counts as ours."""
        return {"CodeBucket", "CodeKey"} <= set(self.parameters) or self.status == "REVIEW_IN_PROGRESS"


@dataclass(frozen=True)
class Failure:
    """A resource that failed, and why, in its own service's words."""

    logical: str
    kind: str
    reason: str


class StackFailed(DeployError):
    """CloudFormation gave up. ``failures`` are the resources that were the cause, the earliest first."""

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
        """The stack's state; None where there is no stack. By its id also after it was deleted."""
        with translate_errors(f"the stack {self.name}"):
            try:
                stack = self._client.describe_stacks(StackName=identity or self.name)["Stacks"][0]
            except ClientError as error:
                if "does not exist" in str(error):
                    return None
                raise
        return State(
            stack["StackId"],
            stack["StackName"],
            stack["StackStatus"],
            stack.get("StackStatusReason", ""),
            stack.get("LastUpdatedTime") or stack["CreationTime"],
            {each["ParameterKey"]: each.get("ParameterValue", "") for each in stack.get("Parameters", ())},
            {each["OutputKey"]: each["OutputValue"] for each in stack.get("Outputs", ())},
        )

    def template(self) -> dict[str, Any]:
        """The template that is deployed."""
        with translate_errors(f"the stack {self.name}"):
            body = self._client.get_template(StackName=self.name, TemplateStage="Original")["TemplateBody"]
        if not isinstance(body, Mapping):
            raise DeployError(f"the stack {self.name} was not deployed by Silversmith: its template is no JSON")
        return {**body}

    def resources(self) -> list[dict[str, Any]]:
        """The resources in it, as ListStackResources gives them."""
        with translate_errors(f"the stack {self.name}"):
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

        ``upload`` puts a template that is too large to be sent along where CloudFormation finds it, and returns the
        URL.
        """
        body = json.dumps(template, separators=(",", ":"))
        source = {"TemplateBody": body} if len(body) <= LARGEST_BODY else {"TemplateURL": upload(template)}
        is_new = state is None or state.status == "REVIEW_IN_PROGRESS"
        with translate_errors(f"the change set for {self.name}"):
            try:
                created = self._client.create_change_set(
                    StackName=self.name,
                    ChangeSetName=f"silversmith-{uuid.uuid4().hex}",
                    ChangeSetType="CREATE" if is_new else "UPDATE",
                    **source,
                    Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
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
            problem = self._validation(created["Id"]) or reason
            self.discard(created["Id"])
            if any(text in reason for text in _NO_CHANGES):
                return None
            raise DeployError(f"AWS cannot make the changes to {self.name}: {problem}")
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

    def _validation(self, arn: str) -> str:
        """The errors that AWS found before it began: the change set's own reason does not have them.

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
        with translate_errors(f"the change set for {self.name}"):
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
        with translate_errors(f"the stack {self.name}"):
            self._client.execute_change_set(
                ChangeSetName=change_set.arn,
                StackName=self.name,
                ClientRequestToken=uuid.uuid4().hex,
                # What a failed first deployment made is empty, and would be in the way of the next one.
                RetainExceptOnCreate=True,
            )
        state, failures = self._follow(change_set.stack_id, seen)
        if state is None or state.status not in {"CREATE_COMPLETE", "UPDATE_COMPLETE", "IMPORT_COMPLETE"}:
            raise StackFailed(_explain(self.name, state, failures), failures)
        return state

    def delete(self) -> None:
        """Delete the stack and wait. The resources that its template retains stay: the buckets.

        Raises:
            StackFailed: a resource could not be deleted.
        """
        state = self.state()
        if state is None:
            return
        seen = self._newest_event(state.id)
        with translate_errors(f"the stack {self.name}"):
            self._client.delete_stack(StackName=self.name, ClientRequestToken=uuid.uuid4().hex)
        after, failures = self._follow(state.id, seen)
        if after is not None and after.status != "DELETE_COMPLETE":
            raise StackFailed(_explain(self.name, after, failures), failures)

    def _follow(self, stack_id: str, seen: str) -> tuple[State | None, tuple[Failure, ...]]:
        """Tell of each event after ``seen`` until AWS is done. Asking for the state first misses no event."""
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
        with translate_errors(f"the events of {self.name}"):
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


def _failure(event: Mapping[str, Any]) -> Iterator[Failure]:
    reason = event.get("ResourceStatusReason", "")
    is_stack = event["ResourceType"] == "AWS::CloudFormation::Stack"
    if not event["ResourceStatus"].endswith("_FAILED") or is_stack or not reason:
        return
    if not any(word in reason.lower() for word in _STOPPED):
        yield Failure(event["LogicalResourceId"], event["ResourceType"], reason)


def _explain(name: str, state: State | None, failures: tuple[Failure, ...]) -> str:
    causes = "\n".join(f"  {failure.logical} ({failure.kind}): {failure.reason}" for failure in failures)
    status = state.status if state else "gone"
    reason = causes or (f"  {state.reason}" if state and state.reason else "  AWS says no more")
    return f"the stack {name} is now {status}, because of:\n{reason}\n{_NEXT_STEPS.get(status, _REMOVED).format(name)}"


#: The meaning of a state, and what to do next.
_NEXT_STEPS = {
    "UPDATE_ROLLBACK_COMPLETE": (
        "AWS put everything back as it was before: the pipeline runs on. Mend the cause and deploy again."
    ),
    "UPDATE_ROLLBACK_FAILED": (
        "AWS could not put everything back. Mend the cause, then run `aws cloudformation continue-update-rollback "
        "--stack-name {}` until it is UPDATE_ROLLBACK_COMPLETE, and deploy again."
    ),
    "DELETE_FAILED": "What is listed is still there, the rest is deleted. Mend the cause and run destroy again.",
}
_REMOVED = (
    "AWS took away all that it had made; nothing of it is left but the empty stack, which the next deploy removes."
)
