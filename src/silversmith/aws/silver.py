"""Whose silver it is on AWS, before there is a stack: what the buckets say that are there already."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from botocore.exceptions import ClientError

from silversmith.aws.account import Account, told
from silversmith.aws.errors import DeployError
from silversmith.aws.stack import Tell
from silversmith.errors import AccessDenied
from silversmith.pipeline import Pipeline, Transform
from silversmith.pipeline.deployment import Deployment
from silversmith.schemas.recorded import Owner, require_ours
from silversmith.stores.s3 import S3Store
from silversmith.stores.s3_transfer import MISSING, S3Failed, code


def owner(pipeline: Pipeline, deployment: Deployment) -> Owner:
    """For whom a deployment of a pipeline writes silver: its stack.

    Raises:
        DefinitionError: AWS does not take the stack's name.
    """
    silver, quarantine = (deployment.bucket(role, getattr(pipeline, role)) for role in ("silver", "quarantine"))
    return Owner(deployment.name(pipeline.name), silver, quarantine)


def existing(account: Account, bucket: str) -> S3Store | None:
    """The bucket, or None where the account has none of that name.

    Raises:
        DeployError: AWS does not tell.
    """
    client = account.client("s3")
    with told(f"the bucket {bucket}"):
        try:
            client.head_bucket(Bucket=bucket, ExpectedBucketOwner=account.id)
        except ClientError as error:
            if code(error) in MISSING:
                return None
            raise
    return S3Store(bucket, client=client, scratch=Path(tempfile.gettempdir()))


def refuse_others(account: Account, owner: Owner, transforms: Sequence[Transform], tell: Tell) -> None:
    """Before a stack is made or changed: its functions would do nothing over the silver of another pipeline. A person
    who may not look into the buckets is told so, and may deploy all the same, for the functions look themselves.

    Raises:
        NotOurs: a transform's silver or quarantine is another pipeline's.
    """
    try:
        silver, quarantine = existing(account, owner.silver), existing(account, owner.quarantine)
        require_ours(owner, silver, quarantine, transforms)
    except (AccessDenied, DeployError, S3Failed) as error:
        tell(f"whose silver it is cannot be seen, so the functions will look: {error}")
