"""After a deploy: EventBridge is on, and a round follows where events may have been lost meanwhile."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.exceptions import ClientError

from silversmith import Pipeline
from silversmith.aws.account import Account
from silversmith.aws.deploy import Deployed, Release, ScheduledRound, concerns_events, deploy, diff, schedule_round
from silversmith.aws.stack import Diff, Effect, StackChange
from silversmith.cli.deploy import round_line
from silversmith.template import compile as compile_template
from tests.deploy.conftest import Notifications

#: Moto leaves files open.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")

NOON = datetime(2026, 11, 30, 12, 0, 7, 500, tzinfo=UTC)
AT = datetime(2026, 11, 30, 12, 20, 7, 500, tzinfo=UTC)
INPUT = json.dumps({"queues": {"sales": "url"}, "round": "<aws.scheduler.schedule-arn>"})
TARGET = {
    "Arn": "arn:aws:lambda:eu-central-1:123456789012:function:sales_Reconciler",
    "RoleArn": "arn:aws:iam::123456789012:role/schedule",
    "Input": INPUT,
    "RetryPolicy": {"MaximumEventAgeInSeconds": 3600, "MaximumRetryAttempts": 10},
}


def run(release: Release, account: Account, at: datetime = NOON) -> Deployed:
    return deploy(release, account, confirm=lambda _: True, pause=lambda _: None, now=lambda: at)


@pytest.fixture
def scheduler(account: Account) -> Any:
    """With the stack's own schedule, which moto's CloudFormation does not make."""
    client = account.client("scheduler")
    client.create_schedule_group(Name="sales_Schedules")
    client.create_schedule(
        Name="sales_Reconciler",
        GroupName="sales_Schedules",
        ScheduleExpression="rate(24 hours)",
        FlexibleTimeWindow={"Mode": "OFF"},
        Target=TARGET,
    )
    return client


def once(scheduler: Any) -> dict[str, Any] | None:
    try:
        result: dict[str, Any] = scheduler.get_schedule(Name="sales_AfterDeploy", GroupName="sales_Schedules")
    except ClientError:
        return None
    return result


def changed(release: Release, resource: str, name: str, value: Any) -> Release:
    template = json.loads(json.dumps(release.template))
    template["Resources"][resource]["Properties"][name] = value
    return replace(release, template=template)


def test_the_first_deploy_is_followed_by_a_round(account: Account, small_release: Release, scheduler: Any) -> None:
    assert run(small_release, account).round == ScheduledRound(AT)
    result = once(scheduler)
    assert result is not None
    assert result["ScheduleExpression"] == "at(2026-11-30T12:20:07)"
    assert result["ScheduleExpressionTimezone"] == "UTC"
    assert result["ActionAfterCompletion"] == "DELETE"
    document = json.loads(result["Target"].pop("Input"))
    assert document == {**json.loads(INPUT), "settled_seconds": 300, "follow": True}
    assert result["Target"] == {name: value for name, value in TARGET.items() if name != "Input"}


def test_changes_that_do_not_concern_events_are_followed_by_no_round(
    account: Account, small_release: Release, scheduler: Any
) -> None:
    run(small_release, account)
    scheduler.delete_schedule(Name="sales_AfterDeploy", GroupName="sales_Schedules")
    assert run(changed(small_release, "SalesQueue", "VisibilityTimeout", 77), account).round is None
    assert run(changed(small_release, "SalesQueue", "VisibilityTimeout", 77), account).round is None, "nothing changed"
    assert once(scheduler) is None


def test_a_second_deploy_puts_the_round_off(account: Account, small_release: Release, scheduler: Any) -> None:
    run(small_release, account)
    pattern = json.loads(json.dumps(small_release.template["Resources"]["Rule"]["Properties"]["EventPattern"]))
    pattern["detail"]["object"]["key"] = [{"prefix": "more/"}]
    later = NOON.replace(hour=13)
    assert run(changed(small_release, "Rule", "EventPattern", pattern), account, later).round == ScheduledRound(
        AT.replace(hour=13)
    )
    result = once(scheduler)
    assert result is not None
    assert result["ScheduleExpression"] == "at(2026-11-30T13:20:07)"


def test_where_there_are_tables_they_are_compared_too(account: Account, small_release: Release, scheduler: Any) -> None:
    """And they alone after a deploy that declares a table or view, or changes one, over silver that is there."""
    scheduler.create_schedule(
        Name="sales_Tables",
        GroupName="sales_Schedules",
        ScheduleExpression="rate(24 hours)",
        FlexibleTimeWindow={"Mode": "OFF"},
        Target={**TARGET, "Input": '{"reconcile":true,"queue":"url"}'},
    )

    def once_of_tables() -> dict[str, Any]:
        result: dict[str, Any] = scheduler.get_schedule(Name="sales_TablesAfterDeploy", GroupName="sales_Schedules")
        return result

    outputs: dict[str, str] = {}

    def add_outputs(parsed: dict[str, Any], **_: Any) -> None:
        for stack in parsed.get("Stacks", ()):
            stack["Outputs"] += [{"OutputKey": key, "OutputValue": value} for key, value in outputs.items()]

    def client(service: str) -> Any:
        result = account.client(service)
        result.meta.events.register_last("after-call.cloudformation.DescribeStacks", add_outputs)
        return result

    def deployed(release: Release, fingerprint: str | None) -> ScheduledRound | None:
        """Moto makes no outputs: the stack gets them by a hook, once it is changed."""

        def execute(**_: Any) -> None:
            outputs.clear()
            if fingerprint is not None:
                outputs.update({"TablesName": "sales_Tables", "CodeOfTables": fingerprint})

        def executing(service: str) -> Any:
            result = client(service)
            result.meta.events.register("after-call.cloudformation.ExecuteChangeSet", execute)
            return result

        return run(release, replace(account, client=executing)).round

    first = deployed(small_release, "1")
    assert first == ScheduledRound(AT, with_gold=True)
    assert "bronze, silver and gold are compared at 12:20 UTC" in round_line(first)
    assert once(scheduler) is not None
    result = once_of_tables()
    assert result["ScheduleExpression"] == "at(2026-11-30T12:20:07)"
    assert json.loads(result["Target"]["Input"]) == {"reconcile": True, "queue": "url", "settled_seconds": 300}

    for name in ("sales_AfterDeploy", "sales_TablesAfterDeploy"):
        scheduler.delete_schedule(Name=name, GroupName="sales_Schedules")
    assert deployed(changed(small_release, "SalesQueue", "VisibilityTimeout", 77), "1") is None
    second = deployed(changed(small_release, "SalesQueue", "VisibilityTimeout", 78), "2")
    assert second == ScheduledRound(AT, with_gold=True, gold_alone=True)
    assert "tables or views are others than before: silver and gold are compared at 12:20 UTC" in round_line(second)
    assert once_of_tables()["State"] == "ENABLED"
    assert once(scheduler) is None
    assert deployed(changed(small_release, "SalesQueue", "VisibilityTimeout", 79), None) is None, "no tables any more"


def test_a_missing_schedule_is_reported_to_the_user(account: Account) -> None:
    result = schedule_round(account, "sales", {"BronzeBucketName": "bronze"}, NOON)
    assert result == ScheduledRound(AT, "the deployment has no schedule: reconcile_hours=0")
    assert "run `silversmith reconcile --target aws` at 12:20 UTC" in round_line(result)
    assert "are compared at 12:20 UTC" in round_line(ScheduledRound(AT))


def test_deploy_succeeds_if_the_round_could_not_be_arranged(account: Account, small_release: Release) -> None:
    done = run(small_release, account)
    assert done.state is not None
    assert done.round is not None
    assert done.round.problem.startswith("the schedule of a round after the deploy of sales: GetSchedule failed:")


def test_a_notification_that_another_owner_switched_off_is_seen_and_repaired(
    account: Account, small_release: Release, scheduler: Any, notifications: Notifications
) -> None:
    """The stack's own bucket: CloudFormation sees no difference."""
    run(small_release, account)
    assert not diff(small_release, account, pause=lambda _: None)
    theirs = {
        "QueueConfigurations": [
            {"QueueArn": "arn:aws:sqs:eu-central-1:123456789012:q", "Events": ["s3:ObjectRemoved:*"]}
        ]
    }
    account.client("sqs").create_queue(QueueName="q")
    notifications.configuration = {**theirs}
    seen = diff(small_release, account, pause=lambda _: None)
    assert [change.lines() for change in seen.changes] == [
        [
            "~ change: BronzeBucket (AWS::S3::Bucket) dl-bronze-layer",
            "    NotificationConfiguration: EventBridge is switched off, and deploying switches it on",
        ]
    ]
    assert notifications.puts == []
    done = run(small_release, account, NOON.replace(hour=14))
    assert (done.changed, done.round) == (True, ScheduledRound(AT.replace(hour=14)))
    assert notifications.configuration == {**theirs, "EventBridgeConfiguration": {}}
    assert not run(small_release, account).changed


def test_changes_that_concern_events() -> None:
    pipeline = Pipeline("sales")
    pipeline.sql("sales/*.csv", "SELECT * FROM rows", name="sales")
    template = compile_template(pipeline)
    template["Resources"]["AlarmEmail"] = {"Type": "AWS::SNS::Subscription", "Properties": {"Protocol": "email"}}

    def concerns(effect: Effect, logical: str, *details: str) -> bool:
        kind = template["Resources"].get(logical, {"Type": "AWS::SNS::Subscription"})["Type"]
        return concerns_events(Diff((StackChange(effect, logical, kind, details=details),)), template)

    assert concerns(Effect.ADD, "SalesSubscription")
    assert concerns(Effect.CHANGE, "SalesSubscription", "FilterPolicy.detail")
    assert concerns(Effect.REPLACE, "Rule")
    assert concerns(Effect.ADOPT, "BronzeBucket")
    assert concerns(Effect.CHANGE, "BronzeBucket", "NotificationConfiguration.EventBridgeConfiguration")
    assert not concerns(Effect.CHANGE, "BronzeBucket", "Tags[0].Value")
    assert not concerns(Effect.ADD, "SilverBucket")
    assert not concerns(Effect.DELETE, "OldSubscription")
    assert not concerns(Effect.ADD, "AlarmEmail")
    assert not concerns(Effect.CHANGE, "SalesFunction", "Code.S3Key")
