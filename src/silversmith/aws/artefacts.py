"""The bucket that holds the code and the templates, made when it is first needed. One for all pipelines of a region."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from silversmith.aws.account import Account, told
from silversmith.aws.errors import DeployError
from silversmith.reconcile.hops import eventbridge_is_on

_MISSING = {"404", "NoSuchBucket", "NoSuchKey", "NotFound"}


class Artefacts:
    """What lies in the bucket, under names made of its content: so nothing is ever written twice, or over."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._s3 = account.client("s3")
        self.bucket = f"silversmith-artefacts-{account.id}-{account.region}"
        # Somebody else may have taken the name: so every request says whose bucket it must be.
        # https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucket-owner-condition.html
        self._ours = {"Bucket": self.bucket, "ExpectedBucketOwner": account.id}

    def ensure_bucket(self) -> bool:
        """Make the bucket if it is not there; whether it was made.

        Raises:
            DeployError: it cannot be made, or belongs to another account.
        """
        with told(f"the bucket {self.bucket}"):
            try:
                self._s3.head_bucket(**self._ours)
            except ClientError as error:
                code = error.response["Error"]["Code"]
                if code in {"403", "AccessDenied"}:
                    raise DeployError(
                        f"the bucket {self.bucket} is another account's, or you may not look at it: "
                        "s3:ListBucket must be allowed to who deploys"
                    ) from error
                if code not in _MISSING:
                    raise
            else:
                return False
            self._create()
            return True

    def _create(self) -> None:
        region = self._account.region
        where = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
        self._s3.create_bucket(Bucket=self.bucket, **where)
        self._s3.put_public_access_block(
            **self._ours,
            PublicAccessBlockConfiguration={
                "BlockPublicAcls": True,
                "IgnorePublicAcls": True,
                "BlockPublicPolicy": True,
                "RestrictPublicBuckets": True,
            },
        )
        if not (self._account.endpoint_url or "").startswith("http:"):  # there it would keep everybody out
            self._s3.put_bucket_policy(**self._ours, Policy=json.dumps(self._tls_only()))
        self._s3.put_bucket_lifecycle_configuration(
            **self._ours,
            LifecycleConfiguration={
                "Rules": [
                    {
                        "ID": "AbandonedUploads",
                        "Status": "Enabled",
                        "Filter": {"Prefix": ""},
                        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7},
                    }
                ]
            },
        )

    def _tls_only(self) -> dict[str, Any]:
        """https://docs.aws.amazon.com/AmazonS3/latest/userguide/security-best-practices.html"""
        arn = f"arn:{self._account.partition}:s3:::{self.bucket}"
        statement = {
            "Sid": "OnlyEncryptedRequests",
            "Effect": "Deny",
            "Principal": "*",
            "Action": "s3:*",
            "Resource": [arn, f"{arn}/*"],
            "Condition": {"Bool": {"aws:SecureTransport": "false"}},
        }
        return {"Version": "2012-10-17", "Statement": [statement]}

    def has(self, key: str) -> bool:
        """Whether there is such an object."""
        with told(f"s3://{self.bucket}/{key}"):
            try:
                self._s3.head_object(**self._ours, Key=key)
            except ClientError as error:
                if error.response["Error"]["Code"] in _MISSING:
                    return False
                raise
            return True

    def upload(self, key: str, make: Callable[[], Path]) -> bool:
        """Upload the file that ``make`` makes, unless the object is there already; whether it was uploaded."""
        if self.has(key):
            return False
        with told(f"s3://{self.bucket}/{key}"):
            self._s3.upload_file(str(make()), self.bucket, key, ExtraArgs={"ExpectedBucketOwner": self._account.id})
        return True

    def put_template(self, key: str, template: dict[str, Any]) -> str:
        """Upload a template, and return the URL that CloudFormation takes."""
        with told(f"s3://{self.bucket}/{key}"):
            self._s3.put_object(**self._ours, Key=key, Body=json.dumps(template, separators=(",", ":")).encode())
        signed: str = self._s3.generate_presigned_url("get_object", Params={"Bucket": self.bucket, "Key": key})
        return signed.partition("?")[0]


def require_bucket(account: Account, bucket: str) -> None:
    """Make sure that a bucket which the stack does not make is there, and where the stack can be told of its objects.

    Raises:
        DeployError: there is none, it is another account's, or it is in another region.
    """
    with told(f"the bucket {bucket}, which the deployment says is there already"):
        found = account.client("s3").head_bucket(Bucket=bucket, ExpectedBucketOwner=account.id)
    region = found.get("BucketRegion", account.region)
    if region != account.region:
        raise DeployError(
            f"the bucket {bucket} is in {region}, and the stack would be in {account.region}: EventBridge tells of "
            f"objects in the bucket's own region only. Deploy there: AWS_REGION={region}"
        )


def tells_eventbridge(account: Account, bucket: str) -> bool:
    """Whether a bucket tells EventBridge of its objects now, whatever the stack once made of it."""
    with told(f"the notifications of the bucket {bucket}"):
        return eventbridge_is_on(account.client("s3"), bucket, ExpectedBucketOwner=account.id)


def switch_eventbridge_on(account: Account, bucket: str) -> bool:
    """Have a bucket tell EventBridge of its objects; whether it did not before.

    What else the bucket notifies of stays as it is. CloudFormation does not see that somebody replaced the
    configuration of a bucket which it made, and would leave it so.
    https://docs.aws.amazon.com/AmazonS3/latest/userguide/enable-event-notifications-eventbridge.html
    """
    s3 = account.client("s3")
    with told(f"the notifications of the bucket {bucket}"):
        found = s3.get_bucket_notification_configuration(Bucket=bucket, ExpectedBucketOwner=account.id)
        found.pop("ResponseMetadata", None)
        if "EventBridgeConfiguration" in found:
            return False
        s3.put_bucket_notification_configuration(
            Bucket=bucket,
            ExpectedBucketOwner=account.id,
            NotificationConfiguration={**found, "EventBridgeConfiguration": {}},
        )
    return True
