"""After a deploy that changes how events find their way: a round of reconciliation, once AWS has the change everywhere.

Until then events go nowhere and nobody is told: EventBridge takes about five minutes after it is switched on for a
bucket, a filter policy of a subscription up to fifteen.
https://docs.aws.amazon.com/AmazonS3/latest/userguide/enable-event-notifications-eventbridge.html
https://docs.aws.amazon.com/sns/latest/dg/message-filtering-apply.html
docs/decisions/0110-a-round-after-a-deploy.md
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from botocore.exceptions import ClientError

from silversmith.aws.account import Account, told
from silversmith.aws.changes import Change, Diff, Effect
from silversmith.aws.errors import DeployError
from silversmith.template.plan import physical

#: How long after the deploy: longer than the longest of the times above, with what the round leaves alone.
DELAY = timedelta(minutes=20)

#: What landed so many seconds before the round is left to its own event.
SETTLED_SECONDS = 300

_GONE = frozenset({Effect.DELETE, Effect.LET_GO})


@dataclass(frozen=True)
class Round:
    """A round that shall take place at a time, in UTC. ``problem``: why the stack does not do it by itself; empty where
    it does."""

    at: datetime
    problem: str = ""


def concerns_events(diff: Diff, template: Mapping[str, Any]) -> bool:
    """Whether a change takes AWS time during which events may be lost: of bronze, a rule, a filter, a subscription.

    ``template`` is the new one.
    """
    return any(_concerns(change, template["Resources"].get(change.logical, {})) for change in diff.changes)


def _concerns(change: Change, resource: Mapping[str, Any]) -> bool:
    if change.effect in _GONE:
        return False
    if change.kind == "AWS::S3::Bucket":
        notifies = any(detail.startswith("NotificationConfiguration") for detail in change.details)
        return change.logical == "BronzeBucket" and (change.effect is not Effect.CHANGE or notifies)
    if change.kind == "AWS::SNS::Subscription":
        return bool(resource.get("Properties", {}).get("Protocol") == "sqs")
    return change.kind == "AWS::Events::Rule"


def arrange(account: Account, name: str, outputs: Mapping[str, str], now: datetime) -> Round:
    """Have the stack of that name do a round in a while; the time that an earlier deploy arranged gives way.

    The schedule is not the stack's: it is in the stack's group, goes when it is done, and goes with the group.
    https://docs.aws.amazon.com/scheduler/latest/UserGuide/managing-schedule-delete.html
    """
    at = now + DELAY
    if "ReconcilerName" not in outputs:
        return Round(at, "the deployment has no schedule: reconcile_hours=0")
    try:
        _schedule(account, name, at)
    except DeployError as error:
        return Round(at, str(error))
    return Round(at)


def _schedule(account: Account, name: str, at: datetime) -> None:
    """As the stack's own schedule, with its role and its dead-letter queue, but once."""
    group = physical(name, kind="Schedules")
    with told(f"the schedule of a round after the deploy of {name}"):
        scheduler = account.client("scheduler")
        target = scheduler.get_schedule(Name=physical(name, kind="Reconciler"), GroupName=group)["Target"]
        event = {**json.loads(target["Input"]), "settled_seconds": SETTLED_SECONDS, "follow": True}
        once = {
            "Name": physical(name, kind="AfterDeploy"),
            "GroupName": group,
            "Description": "Compares bronze and silver once, after a deploy",
            "ScheduleExpression": f"at({at:%Y-%m-%dT%H:%M:%S})",
            "ScheduleExpressionTimezone": "UTC",
            "FlexibleTimeWindow": {"Mode": "OFF"},
            "ActionAfterCompletion": "DELETE",
            "Target": {**target, "Input": json.dumps(event)},
        }
        try:
            scheduler.create_schedule(**once)
        except ClientError as error:
            if error.response["Error"]["Code"] != "ConflictException":
                raise
            scheduler.update_schedule(**once)
