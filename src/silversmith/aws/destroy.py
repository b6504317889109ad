"""Destroy: the stack goes, the data stays, unless it is asked for twice. docs/decisions/0025-destroy-keeps-data.md"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from silversmith.aws.account import Account, told
from silversmith.aws.errors import DeployError
from silversmith.aws.stack import Pause, Stack, Tell

#: The most that one DeleteObjects takes. https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObjects.html
BATCH = 1000


@dataclass(frozen=True)
class Doomed:
    """What destroying deletes, and what it keeps: ``buckets`` with the data, and ``kept`` without which that cannot be
    read.

    ``queued`` is how many messages are lost with their queues.
    """

    name: str
    resources: tuple[str, ...]
    buckets: tuple[str, ...]
    queued: int
    kept: tuple[str, ...] = ()


def look(name: str, account: Account) -> Doomed | None:
    """What there is to destroy; None if there is no such stack.

    Raises:
        DeployError: it is a stack of somebody else's, or AWS refused.
    """
    stack = Stack(account, name)
    state = stack.state()
    if state is None:
        return None
    if not state.is_ours:
        raise DeployError(f"the stack {name} is not Silversmith's: it is not for this command to delete it")
    resources = sorted(stack.resources(), key=lambda each: str(each["LogicalResourceId"]))
    resources = [each for each in resources if each.get("ResourceStatus") != "DELETE_COMPLETE"]
    template = stack.template().get("Resources", {})
    kept = {logical for logical, each in template.items() if each.get("DeletionPolicy", "").startswith("Retain")}
    buckets = [each for each in resources if each["ResourceType"] == "AWS::S3::Bucket"]
    queues = [each["PhysicalResourceId"] for each in resources if each["ResourceType"] == "AWS::SQS::Queue"]
    return Doomed(
        name,
        tuple(
            f"{each['LogicalResourceId']} ({each['ResourceType']})"
            for each in resources
            if each["LogicalResourceId"] not in kept
        ),
        tuple(each["PhysicalResourceId"] for each in buckets if each["LogicalResourceId"] in kept),
        sum(_waiting(account.client("sqs"), queues)),
        tuple(
            f"{each['LogicalResourceId']} ({each['ResourceType']}) {each['PhysicalResourceId']}"
            for each in resources
            if each["LogicalResourceId"] in kept and each not in buckets
        ),
    )


def _waiting(sqs: Any, queues: Iterable[str]) -> Iterator[int]:
    names = [
        "ApproximateNumberOfMessages",
        "ApproximateNumberOfMessagesNotVisible",
        "ApproximateNumberOfMessagesDelayed",
    ]
    for url in queues:
        with told(f"the queue {url}"):
            found = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
        yield sum(int(found.get(name, 0)) for name in names)


def destroy(name: str, account: Account, *, tell: Tell = lambda _: None, pause: Pause = time.sleep) -> None:
    """Delete the stack, and wait. Its buckets stay, with everything in them; a later deploy takes them up again.

    Raises:
        StackFailed: something could not be deleted.
        DeployError: AWS refused.
    """
    stack = Stack(account, name, tell=tell, pause=pause)
    state = stack.state()
    if state is not None and state.busy:
        raise DeployError(f"the stack {name} is {state.status}: wait until that is done")
    stack.delete()


def erase(
    doomed: Doomed, account: Account, *, asked: bool, confirm: Callable[[str], bool], tell: Tell = lambda _: None
) -> tuple[str, ...]:
    """Delete the buckets that a destroyed stack left, with every version of every object. It cannot be undone.

    Args:
        doomed: from :func:`look`, before the stack was destroyed.
        account: where.
        asked: whether it was asked for the first time, by an option of the command.
        confirm: the second time: called with the name of each bucket, just before it is emptied.
        tell: gets the progress.

    Returns:
        The buckets that were deleted.

    Raises:
        DeployError: it was not asked for, or the stack is still there, or AWS refused.
    """
    if not asked:
        raise DeployError("data is deleted only when that is asked for: destroy with --delete-data")
    if Stack(account, doomed.name).state() is not None:
        raise DeployError(f"the stack {doomed.name} still uses its buckets: destroy it first")
    return tuple(bucket for bucket in doomed.buckets if confirm(bucket) and _erase(account, bucket, tell))


def _erase(account: Account, bucket: str, tell: Tell) -> bool:
    s3 = account.client("s3")
    ours = {"Bucket": bucket, "ExpectedBucketOwner": account.id}
    count = 0
    with told(f"the bucket {bucket}"):
        try:
            pages = s3.get_paginator("list_object_versions").paginate(**ours, PaginationConfig={"PageSize": BATCH})
            for page in pages:
                found = [*page.get("Versions", ()), *page.get("DeleteMarkers", ())]
                objects = [{"Key": each["Key"], "VersionId": each["VersionId"]} for each in found]
                if objects:
                    _delete(s3, ours, objects)
                    count += len(objects)
                    tell(f"{bucket}: {count:,} versions deleted")
            s3.delete_bucket(**ours)
        except ClientError as error:
            if error.response["Error"]["Code"] == "NoSuchBucket":
                return False
            raise
    return True


def _delete(s3: Any, ours: dict[str, str], objects: list[dict[str, str]]) -> None:
    done = s3.delete_objects(**ours, Delete={"Objects": objects, "Quiet": True})
    for refused in done.get("Errors", ()):
        raise DeployError(f"{ours['Bucket']}/{refused['Key']} cannot be deleted: {refused.get('Message')}")
