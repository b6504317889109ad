"""Transforms that leave a stack, and those that come to it.

Those that leave first get no more events, then do what waits for them, then go. Those that come take the files of
before, all of bronze's history if nobody asks: so these are counted, up to a bound.
docs/decisions/0157-drain-before-delete.md
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from silversmith.aws.account import Account, DeployError, Pause, Tell
from silversmith.aws.artefacts import existing_bucket
from silversmith.aws.stack import ChangeSet, Diff, Effect, History, Stack, StackFailed
from silversmith.pipeline import Transform
from silversmith.pipeline.since import DEPLOY
from silversmith.reconcile.compare import listed
from silversmith.stores.aws_errors import translate_aws_errors
from silversmith.template.plan import bucket_title, logical

#: The longest that is waited for queues to be empty, in seconds: what a worker held when it died comes back after six
#: times its function's timeout, an hour and a half at most, mostly half an hour.
LONGEST = 3_600

#: So many seconds a queue must be empty: until then SQS's numbers may be old.
#: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_GetQueueAttributes.html
EMPTY_FOR = 60

#: Seconds between two looks.
POLL = 10.0

#: What SQS counts of a queue: what can be received, is being worked on, or is delayed.
COUNTS = [f"ApproximateNumberOfMessages{kind}" for kind in ("", "NotVisible", "Delayed")]


def queued(sqs: Any, url: str) -> int:
    """How many messages a queue holds, those at work too.

    Raises:
        AccessDenied, AwsFailed: AWS refused.
    """
    with translate_aws_errors(f"the queue {url}"):
        attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=COUNTS)["Attributes"]
    return sum(int(attributes.get(name, 0)) for name in COUNTS)


def waiting(counts: Mapping[str, int]) -> str:
    """The queues that hold something, with their numbers of messages."""
    return ", ".join(f"{name} ({number:,})" for name, number in counts.items() if number)


def leaving(diff: Diff, template: Mapping[str, Any]) -> frozenset[str]:
    """The logical ids of the queues that go together with their mapping: that of a transform, or of the tables.

    ``template`` is the deployed one.
    """
    deleted = {change.logical for change in diff.changes if change.effect is Effect.DELETE}
    resources = template.get("Resources", {})
    sources = {
        _source(resources[logical]["Properties"].get("EventSourceArn"))
        for logical in deleted & set(resources)
        if resources[logical]["Type"] == "AWS::Lambda::EventSourceMapping"
    }
    return frozenset(sources & deleted)


def _source(arn: object) -> str:
    """The logical id of the resource whose ARN is referred to; empty: the text is no such reference."""
    attribute = arn.get("Fn::GetAtt") if isinstance(arn, Mapping) else None
    return str(attribute[0]) if isinstance(attribute, list) else ""


def silenced(template: Mapping[str, Any], queues: Iterable[str]) -> dict[str, Any]:
    """The template without the subscriptions of these queues."""
    resources = template["Resources"]
    gone = {
        logical
        for logical, resource in resources.items()
        if resource["Type"] == "AWS::SNS::Subscription" and _source(resource["Properties"].get("Endpoint")) in {*queues}
    }

    def without(resource: Mapping[str, Any]) -> dict[str, Any]:
        waits_for = resource.get("DependsOn", [])
        if isinstance(waits_for, str) or not gone & set(waits_for):
            return {**resource}
        return {**resource, "DependsOn": [logical for logical in waits_for if logical not in gone]}

    kept = {logical: without(resource) for logical, resource in resources.items() if logical not in gone}
    return {**template, "Resources": kept}


def drain(
    stack: Stack,
    account: Account,
    queues: frozenset[str],
    propose: Callable[[Mapping[str, Any]], ChangeSet | None],
    *,
    tell: Tell,
    pause: Pause,
) -> None:
    """Delete the subscriptions of queues, and wait until the queues are empty.

    Args:
        stack: has the queues.
        account: where.
        queues: their logical ids, from :func:`leaving`.
        propose: a change set of the stack with another template.
        tell: gets the progress.
        pause: waits so many seconds.

    Raises:
        DeployError: a queue is not empty after :data:`LONGEST` seconds. The subscriptions are deleted, nothing else.
        StackFailed: AWS could not delete the subscriptions.
    """
    change_set = propose(silenced(stack.template(), queues))
    if change_set is not None:
        stack.execute(change_set)
    urls = {each["LogicalResourceId"]: each["PhysicalResourceId"] for each in stack.resources()}
    sqs, waited, empty_since, told = account.client("sqs"), 0.0, 0.0, -1
    while waited - empty_since < EMPTY_FOR:
        left = {urls[logical].rpartition("/")[2]: queued(sqs, urls[logical]) for logical in sorted(queues)}
        total = sum(left.values())
        if total != told:
            tell(f"waiting for the queues of what goes: {total:,} message{'s' * (total != 1)} left")
        if waited >= LONGEST and total:
            raise DeployError(
                f"after {LONGEST // 60} minutes messages wait in {waiting(left)}: nothing but subscriptions is gone, "
                "and no more events come. `silversmith status --target aws` and the function's log say why they wait. "
                "Deploy again to go on waiting, or with --no-drain, which deletes the queues with their messages"
            )
        told = total
        pause(POLL)
        waited += POLL
        if total:
            empty_since = waited


def after_drain(error: StackFailed, queues: frozenset[str]) -> StackFailed:
    """The error of a deploy that failed after queues were drained: they are there, without their subscriptions."""
    names = ", ".join(sorted(queues))
    return StackFailed(
        f"{error}\nThe subscriptions of {names} stay deleted: nothing reaches them. Deploy again to delete them, too, "
        "or deploy what was there before, which subscribes them again and compares bronze with silver.",
        error.failures,
    )


#: So many keys are listed for each transform, a thousand by a request: 200 requests of a tenth of a second.
MOST_LISTED = 200_000


def histories(
    diff: Diff,
    template: Mapping[str, Any],
    transforms: Sequence[Transform],
    account: Account,
    *,
    bronze: str = "",
    most: int = MOST_LISTED,
) -> tuple[History, ...]:
    """Count the files that the transforms which are new to the stack would take.

    Args:
        diff: the changes of the stack.
        template: its new template. Where it has no reconciler, nothing takes them unasked, and nothing is counted.
        transforms: those of the definition.
        account: where bronze is.
        bronze: its name, where the stack does not make it.
        most: list at most so many keys for each.

    Raises:
        AccessDenied, AwsFailed: bronze cannot be listed.
    """
    resources = template["Resources"]
    added = {change.logical for change in diff.changes if change.effect is Effect.ADD}
    new = [each for each in transforms if logical(each.name, "Function") in added and each.since != DEPLOY]
    if not new or "Reconciler" not in resources:
        return ()
    name = bronze or resources.get(bucket_title("bronze"), {}).get("Properties", {}).get("BucketName", "")
    store = existing_bucket(account, name) if isinstance(name, str) and name else None
    if store is None:
        return ()
    counts = []
    for transform in new:
        files = size = keys = 0
        for keys, head in enumerate(listed(store, transform.pattern), start=1):
            if keys > most:
                break
            is_data = transform.pattern.matches(head.key) and not transform.pattern.passes_over(head.key, head.size)
            if is_data and not transform.is_before_since(head.modified):
                files, size = files + 1, size + head.size
        if files or keys > most:
            counts.append(History(transform.name, files, size, is_whole=keys <= most))
    return tuple(counts)
