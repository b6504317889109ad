"""Messages when AWS fails: against a CloudFormation that follows the test's script."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from silversmith.aws.account import Account, DeployError
from silversmith.aws.destroy import take_inventory
from silversmith.aws.stack import LARGEST_BODY, ChangeSet, Diff, Stack, StackFailed, StackFailure, StackSettings
from silversmith.errors import AccessDenied

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


@dataclass
class CloudFormation:
    """One stack. Each step of ``script`` is the stack's state, and the events that came before it."""

    status: str = "CREATE_COMPLETE"
    script: Iterator[tuple[str, list[dict[str, Any]]]] = field(default_factory=lambda: iter(()))
    events: list[dict[str, Any]] = field(default_factory=list)
    change_set: dict[str, Any] = field(default_factory=dict)
    validation: list[dict[str, Any]] = field(default_factory=list)
    called: list[str] = field(default_factory=list)
    pages: int = 0
    sent: list[dict[str, str]] = field(default_factory=list)
    settings: list[dict[str, Any]] = field(default_factory=list)
    protected: bool = False
    nested: list[dict[str, Any]] = field(default_factory=list)

    def describe_stacks(self, **asked: str) -> dict[str, Any]:
        if self.status == "none":
            error = {"Code": "ValidationError", "Message": f"Stack with id {asked['StackName']} does not exist"}
            raise ClientError({"Error": error}, "DescribeStacks")
        outputs = [{"OutputKey": "TopicArn", "OutputValue": "arn"}]
        actual = {"StackId": "id", "StackName": "sales", "StackStatus": self.status, "CreationTime": NOON}
        parameters = [{"ParameterKey": name, "ParameterValue": ""} for name in ("CodeBucket", "CodeKey")]
        kept = {"Outputs": outputs, "Parameters": parameters, "EnableTerminationProtection": self.protected}
        return {"Stacks": [{**actual, **kept}]}

    def update_termination_protection(self, **asked: Any) -> None:
        self.protected = asked["EnableTerminationProtection"]
        self.called.append(f"protected={self.protected}")

    def get_paginator(self, name: str) -> Any:
        assert name == "describe_stack_events"
        return self

    def paginate(self, **asked: str) -> Iterator[dict[str, Any]]:
        if asked == {"StackName": "nested"}:
            yield {"StackEvents": self.nested[::-1]}
            return
        assert asked == {"StackName": "id"}
        for each in self.events[::-1]:
            self.pages += 1
            yield {"StackEvents": [each]}

    def create_change_set(self, **asked: Any) -> dict[str, Any]:
        self.sent.append({name: asked[name] for name in asked if name.startswith("Template")})
        self.settings.append({name: asked[name] for name in asked if name in {"RoleARN", "Tags"}})
        self.called.append(f"create {asked['ChangeSetType']} import={asked['ImportExistingResources']}")
        return {"Id": "cs", "StackId": "id"}

    def get_template(self, **_: Any) -> dict[str, Any]:
        return {"TemplateBody": {}}

    def describe_change_set(self, **_: Any) -> dict[str, Any]:
        return self.change_set

    def describe_events(self, **_: Any) -> dict[str, Any]:
        return {"OperationEvents": self.validation}

    def delete_change_set(self, **_: Any) -> None:
        self.called.append("delete change set")

    def execute_change_set(self, **asked: Any) -> None:
        self.called.append(f"execute retain_except_on_create={asked['RetainExceptOnCreate']}")
        self.step(0)

    def delete_stack(self, **_: Any) -> None:
        self.called.append("delete stack")
        self.step(0)

    def step(self, _: float) -> None:
        """Time passes."""
        self.status, fresh = next(self.script, (self.status, []))
        self.events += fresh


def event(number: int, logical: str, status: str, reason: str = "", kind: str = "AWS::SQS::Queue") -> dict[str, Any]:
    return {
        "EventId": f"{number}",
        "LogicalResourceId": logical,
        "ResourceType": kind,
        "ResourceStatus": status,
        "ResourceStatusReason": reason,
        "Timestamp": NOON + timedelta(seconds=number),
    }


def stack(aws: CloudFormation) -> tuple[Stack, list[str]]:
    messages: list[str] = []
    account = Account("1" * 12, "eu-central-1", lambda _: aws)
    return Stack(account, "sales", tell=messages.append, pause=aws.step), messages


def never(template: Any) -> str:
    raise AssertionError("it is small enough to be sent along")


CHANGES = ChangeSet("cs", "id", Diff(()))

OLD = event(1, "SalesQueue", "CREATE_FAILED", "this was last week")
UNDER_WAY = event(2, "SalesQueue", "UPDATE_IN_PROGRESS")
CAUSE = event(3, "SalesQueue", "UPDATE_FAILED", "Value 999999 for VisibilityTimeout is invalid (Service: Sqs)")
FOLLOWER = event(4, "Topic", "UPDATE_FAILED", "Resource update cancelled", "AWS::SNS::Topic")
WHOLE = event(5, "sales", "UPDATE_ROLLBACK_FAILED", "The following resource(s) failed", "AWS::CloudFormation::Stack")


def test_events_are_reported_once_and_as_they_come() -> None:
    done = event(6, "SalesQueue", "UPDATE_COMPLETE")
    script = iter(
        [("UPDATE_IN_PROGRESS", [UNDER_WAY]), ("UPDATE_COMPLETE_CLEANUP_IN_PROGRESS", [done]), ("UPDATE_COMPLETE", [])]
    )
    aws = CloudFormation(events=[OLD] * 100, script=script)
    parsed, messages = stack(aws)
    assert parsed.execute(CHANGES).outputs == {"TopicArn": "arn"}
    assert messages == [
        "12:00:02  UPDATE_IN_PROGRESS            SalesQueue (AWS::SQS::Queue)",
        "12:00:06  UPDATE_COMPLETE               SalesQueue (AWS::SQS::Queue)",
    ]
    assert aws.called == ["execute retain_except_on_create=True"]
    assert aws.pages == 6, "of what was before, only the newest is looked at"


@pytest.mark.parametrize(
    ("status", "after"),
    [
        ("UPDATE_ROLLBACK_COMPLETE", "AWS put everything back as it was before"),
        ("UPDATE_ROLLBACK_FAILED", "continue-update-rollback --stack-name sales"),
        ("ROLLBACK_COMPLETE", "which the next deploy removes"),
    ],
)
def test_the_cause_is_reported_in_its_own_words_with_advice(status: str, after: str) -> None:
    script = iter([("UPDATE_IN_PROGRESS", [UNDER_WAY]), (status, [CAUSE, FOLLOWER, WHOLE])])
    parsed, messages = stack(CloudFormation(events=[OLD], script=script))
    with pytest.raises(StackFailed, match=after) as raised:
        parsed.execute(CHANGES)
    reason = "Value 999999 for VisibilityTimeout is invalid (Service: Sqs)"
    assert raised.value.failures == (StackFailure("SalesQueue", "AWS::SQS::Queue", reason),)
    assert f"  SalesQueue (AWS::SQS::Queue): {reason}\n" in str(raised.value)
    assert "last week" not in str(raised.value)
    assert messages[1].endswith(reason)


def test_a_stack_that_cannot_be_deleted_says_why() -> None:
    stuck = event(
        3, "SalesRole", "DELETE_FAILED", "Cannot delete entity, must detach all policies first", "AWS::IAM::Role"
    )
    script = iter([("DELETE_IN_PROGRESS", []), ("DELETE_FAILED", [stuck])])
    parsed, _ = stack(CloudFormation(script=script))
    with pytest.raises(StackFailed, match=r"must detach all policies first\nThe listed resources still exist"):
        parsed.delete()


def test_a_deleted_stack_is_followed_by_its_id_to_the_end() -> None:
    aws = CloudFormation(script=iter([("DELETE_IN_PROGRESS", []), ("DELETE_COMPLETE", [])]))
    parsed, _ = stack(aws)
    parsed.delete()
    assert aws.status == "DELETE_COMPLETE"
    aws.status = "none"
    parsed.delete()
    assert aws.called == ["delete stack"]


def test_a_change_set_that_changes_nothing_is_thrown_away() -> None:
    reason = "The submitted information didn't contain changes. Submit different information to create a change set."
    aws = CloudFormation(change_set={"Status": "FAILED", "StatusReason": reason})
    parsed, _ = stack(aws)
    assert parsed.propose(parsed.state(), {}, {}, upload=never) is None
    assert aws.called == ["create UPDATE import=True", "delete change set"]


def test_only_a_large_template_is_uploaded_first() -> None:
    reason = "No updates are to be performed."
    aws = CloudFormation(change_set={"Status": "FAILED", "StatusReason": reason})
    parsed, _ = stack(aws)
    small = {"Description": "x" * (LARGEST_BODY - len('{"Description":""}'))}
    parsed.propose(parsed.state(), small, {}, upload=never)
    parsed.propose(parsed.state(), {"Description": small["Description"] + "x"}, {}, upload=lambda _: "https://t")
    assert [sorted(sent) for sent in aws.sent] == [["TemplateBody"], ["TemplateURL"]]


def test_a_stack_has_the_role_and_tags_of_the_deployment() -> None:
    aws = CloudFormation(change_set={"Status": "CREATE_COMPLETE"})
    parsed, _ = stack(aws)
    role = "arn:aws:iam::123456789012:role/cloudformation"
    for settings in (StackSettings(), StackSettings(role=role, tags={"team": "lake"})):
        parsed.propose(parsed.state(), {}, {}, upload=never, settings=settings)
    assert aws.settings == [{}, {"RoleARN": role, "Tags": [{"Key": "team", "Value": "lake"}]}]


@pytest.mark.parametrize(
    ("setting", "protected", "differs"),
    [(None, True, False), (None, False, False), (True, False, True), (True, True, False), (False, True, True)],
)
def test_protection_is_left_alone_unless_it_is_asked_for(setting: bool | None, protected: bool, differs: bool) -> None:
    parsed, _ = stack(CloudFormation(protected=protected))
    assert StackSettings(protected=setting).differs(parsed.state()) is differs
    assert StackSettings(protected=setting).differs(None) is bool(setting)


def test_a_protected_stack_is_not_destroyed_and_the_error_says_how_to_unlock_it() -> None:
    aws = CloudFormation(protected=True)
    account = Account("1" * 12, "eu-central-1", lambda _: aws)
    with pytest.raises(DeployError, match=r"protected from deletion.*termination_protection=False.*--stack-name sales"):
        take_inventory("sales", account)
    assert not aws.called


def test_reasons_of_an_early_validation_failure_are_looked_up() -> None:
    aws = CloudFormation(
        status="REVIEW_IN_PROGRESS",
        change_set={"Status": "FAILED", "StatusReason": "To troubleshoot use the DescribeEvents API"},
        validation=[
            {"LogicalResourceId": "Topic", "ValidationStatus": "FAILED", "ValidationStatusReason": "the name is taken"},
            {"LogicalResourceId": "Rule", "HookStatus": "HOOK_COMPLETE_FAILED", "HookStatusReason": "no rules here"},
        ],
    )
    parsed, _ = stack(aws)
    with pytest.raises(
        DeployError, match="cannot make the changes to sales: Topic: the name is taken; Rule: no rules here"
    ):
        parsed.propose(parsed.state(), {}, {}, upload=never)
    assert aws.called == ["create CREATE import=True", "delete change set", "delete stack"]


def test_an_error_of_aws_is_reported_with_the_action() -> None:
    class Refusing(CloudFormation):
        def describe_stacks(self, **asked: str) -> dict[str, Any]:
            error = {"Code": "AccessDenied", "Message": "not authorized to perform cloudformation:DescribeStacks"}
            raise ClientError({"Error": error}, "DescribeStacks")

    parsed, _ = stack(Refusing())
    with pytest.raises(AccessDenied, match=r"denied DescribeStacks on the stack sales: .*: not authorized"):
        parsed.state()


@pytest.mark.parametrize(("reason", "says"), [("no such role", "no such role"), ("", "it gave no reason")])
def test_a_change_set_that_failed_gives_its_own_reason_where_there_is_no_other(reason: str, says: str) -> None:
    parsed, _ = stack(CloudFormation(change_set={"Status": "FAILED", "StatusReason": reason}))
    with pytest.raises(DeployError, match=f"cannot make the changes to sales: {says}"):
        parsed.propose(parsed.state(), {}, {}, upload=never)


def test_a_change_set_that_is_never_made_is_an_error() -> None:
    aws = CloudFormation(change_set={"Status": "CREATE_IN_PROGRESS"})
    parsed, _ = stack(aws)
    with pytest.raises(DeployError, match="did not work out the changes to sales within 300 seconds"):
        parsed.propose(parsed.state(), {}, {}, upload=never)
    assert aws.called[-1] == "delete change set"


STACK = "AWS::CloudFormation::Stack"
REFUSED = event(3, "sales", "CREATE_FAILED", "Validation failed with 1 error(s)", STACK)


def failing(*events: dict[str, Any], **more: Any) -> StackFailed:
    """The error of an execution with these events."""
    script = iter([("UPDATE_IN_PROGRESS", []), ("UPDATE_ROLLBACK_COMPLETE", [*events])])
    parsed, _ = stack(CloudFormation(events=[OLD], script=script, **more))
    with pytest.raises(StackFailed) as raised:
        parsed.execute(CHANGES)
    return raised.value


def test_what_aws_refused_before_it_began_names_the_resource() -> None:
    """The stack's events say only that there are errors."""
    before = {"OperationId": "2", "ValidationStatus": "FAILED", "ValidationStatusReason": "of last week"}
    reason = "the bucket is there already"
    now = {"OperationId": "3", "LogicalResourceId": "BronzeBucket", "ResourceType": "AWS::S3::Bucket"}
    validation = [{**now, "ValidationStatus": "FAILED", "ValidationStatusReason": reason}, now, before]
    failures = failing(REFUSED, validation=validation).failures
    assert failures == (StackFailure("BronzeBucket", "AWS::S3::Bucket", reason),)


def test_a_hook_that_refuses_is_the_cause() -> None:
    hooked = {**UNDER_WAY, "HookStatus": "HOOK_COMPLETE_FAILED", "HookType": "My::Hook", "HookStatusReason": "no KMS"}
    assert [each.reason for each in failing(hooked, FOLLOWER).failures] == ["the hook My::Hook: no KMS"]


def test_resources_that_failed_without_a_reason_are_named() -> None:
    speechless = event(3, "SalesQueue", "UPDATE_FAILED")
    rollback = event(4, "sales", "UPDATE_ROLLBACK_IN_PROGRESS", "The following resource(s) failed: [X]", STACK)
    error = failing(speechless, FOLLOWER, rollback)
    assert [(each.logical, each.reason) for each in error.failures] == [
        ("SalesQueue", "AWS gave no reason"),
        ("Topic", "Resource update cancelled"),
        ("sales", "The following resource(s) failed: [X]"),
    ]
    assert "describe-stack-events --stack-name sales" in str(failing())


def test_events_that_come_late_are_waited_for() -> None:
    script = iter([("UPDATE_IN_PROGRESS", []), ("UPDATE_ROLLBACK_COMPLETE", []), ("UPDATE_ROLLBACK_COMPLETE", [CAUSE])])
    parsed, _ = stack(CloudFormation(events=[OLD], script=script))
    with pytest.raises(StackFailed, match=r"SalesQueue .*: Value 999999"):
        parsed.execute(CHANGES)


def test_of_a_nested_stack_the_resources_are_named() -> None:
    nested = event(3, "Inner", "UPDATE_FAILED", "Embedded stack was not successfully updated", STACK)
    own = {"PhysicalResourceId": "nested", "StackId": "nested"}
    inside = [
        event(7, "Old", "CREATE_FAILED", "long ago"),
        {**event(8, "Inner", "UPDATE_IN_PROGRESS", "User Initiated", STACK), **own},
        event(9, "Table", "UPDATE_FAILED", "too many of them"),
        {**event(10, "Inner", "UPDATE_ROLLBACK_IN_PROGRESS", "failed: [Table]", STACK), **own},
    ]
    error = failing({**nested, "PhysicalResourceId": "nested", "StackId": "id"}, nested=inside)
    assert [(each.logical, each.reason) for each in error.failures] == [("Inner/Table", "too many of them")]
