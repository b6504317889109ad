"""Destroy: the stack goes, the data stays, unless it is asked for twice. docs/decisions/0025-destroy-keeps-data.md"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from botocore.exceptions import ClientError

from silversmith.aws.account import Account, DeployError, Pause, Tell
from silversmith.aws.stack import Stack
from silversmith.aws.transforms import queued, waiting
from silversmith.errors import count
from silversmith.stores.aws_errors import error_code, translate_aws_errors

#: The most objects that one DeleteObjects takes. https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObjects.html
BATCH = 1000


@dataclass(frozen=True)
class Inventory:
    """The contents of a stack before it is destroyed.

    ``resources`` go. ``buckets`` stay with the data, and so does ``kept``, without which the data cannot be read.
    ``queued``: by queue, how many messages are lost with it.
    """

    name: str
    resources: tuple[str, ...]
    buckets: tuple[str, ...]
    queued: Mapping[str, int]
    kept: tuple[str, ...] = ()

    @property
    def lost(self) -> str:
        """The messages that are lost, by queue; empty: there are none."""
        messages = count(sum(self.queued.values()), "message")
        return f"{messages} in its queues would be lost: {waiting(self.queued)}" if any(self.queued.values()) else ""


def take_inventory(name: str, account: Account) -> Inventory | None:
    """List what there is to destroy; None if there is no such stack.

    Raises:
        DeployError: the stack is not Silversmith's, or it is protected.
        AccessDenied, AwsFailed: AWS refused.
    """
    stack = Stack(account, name)
    state = stack.state()
    if state is None:
        return None
    if not state.is_ours:
        raise DeployError(f"the stack {name} is not Silversmith's: it is not for this command to delete it")
    if state.protected:
        raise DeployError(
            f"the stack {name} is protected from deletion. If it is to go, deploy it with "
            "Deployment(termination_protection=False), or run `aws cloudformation update-termination-protection "
            f"--no-enable-termination-protection --stack-name {name}`, then destroy it"
        )
    template = stack.template().get("Resources", {})
    retained = {logical for logical, each in template.items() if each.get("DeletionPolicy", "").startswith("Retain")}
    resources, buckets, kept, queues = [], [], [], []
    for resource in sorted(stack.resources(), key=lambda each: str(each["LogicalResourceId"])):
        logical, kind = resource["LogicalResourceId"], resource["ResourceType"]
        if resource.get("ResourceStatus") == "DELETE_COMPLETE":
            continue
        if kind == "AWS::SQS::Queue":
            queues.append(resource["PhysicalResourceId"])
        if logical not in retained:
            resources.append(f"{logical} ({kind})")
        elif kind == "AWS::S3::Bucket":
            buckets.append(resource["PhysicalResourceId"])
        else:
            kept.append(f"{logical} ({kind}) {resource['PhysicalResourceId']}")
    sqs = account.client("sqs")
    messages = {url.rpartition("/")[2]: queued(sqs, url) for url in queues}
    return Inventory(name, tuple(resources), tuple(buckets), messages, tuple(kept))


def destroy(name: str, account: Account, *, tell: Tell = lambda _: None, pause: Pause = time.sleep) -> None:
    """Delete the stack, and wait. Its buckets stay, with everything in them; a later deploy takes them up again.

    Raises:
        StackFailed: a resource could not be deleted.
        DeployError: the stack is in no state for it.
        AccessDenied, AwsFailed: AWS refused.
    """
    stack = Stack(account, name, tell=tell, pause=pause)
    state = stack.state()
    if state is not None and state.busy:
        raise DeployError(f"the stack {name} is {state.status}: wait until that is done")
    stack.delete()


def erase(
    inventory: Inventory, account: Account, *, asked: bool, confirm: Callable[[str], bool], tell: Tell = lambda _: None
) -> tuple[str, ...]:
    """Delete the buckets that a destroyed stack left, with every version of every object. It cannot be undone.

    Args:
        inventory: from :func:`take_inventory`, before the stack was destroyed.
        account: where.
        asked: whether it was asked for the first time, by an option of the command.
        confirm: the second time: called with the name of each bucket, just before it is emptied.
        tell: gets the progress.

    Returns:
        The buckets that were deleted.

    Raises:
        DeployError: it was not asked for, or the stack is still there.
        AccessDenied, AwsFailed: AWS refused.
    """
    if not asked:
        raise DeployError("data is deleted only when that is asked for: destroy with --delete-data")
    if Stack(account, inventory.name).state() is not None:
        raise DeployError(f"the stack {inventory.name} still uses its buckets: destroy it first")
    return tuple(bucket for bucket in inventory.buckets if confirm(bucket) and _erase(account, bucket, tell))


def _erase(account: Account, bucket: str, tell: Tell) -> bool:
    s3 = account.client("s3")
    ours = {"Bucket": bucket, "ExpectedBucketOwner": account.id}
    count = 0
    with translate_aws_errors(f"the bucket {bucket}"):
        try:
            pages = s3.get_paginator("list_object_versions").paginate(**ours, PaginationConfig={"PageSize": BATCH})
            for page in pages:
                versions = [*page.get("Versions", ()), *page.get("DeleteMarkers", ())]
                if not versions:
                    continue
                objects = [{"Key": version["Key"], "VersionId": version["VersionId"]} for version in versions]
                done = s3.delete_objects(**ours, Delete={"Objects": objects, "Quiet": True})
                for refused in done.get("Errors", ()):
                    raise DeployError(f"{bucket}/{refused['Key']} cannot be deleted: {refused.get('Message')}")
                count += len(objects)
                tell(f"{bucket}: {count:,} versions deleted")
            s3.delete_bucket(**ours)
        except ClientError as error:
            if error_code(error) == "NoSuchBucket":
                return False
            raise
    return True
