"""Buckets of the account: the artefact bucket, with code and templates, and what a deployment needs of bronze.

There is one artefact bucket for all pipelines of a region, made when it is first needed.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from silversmith.aws.account import Account, DeployError
from silversmith.aws.stack import Effect, StackChange
from silversmith.errors import AccessDenied
from silversmith.reconcile.hops import eventbridge_is_on
from silversmith.stores.aws_errors import MISSING, error_code, is_denied, translate_aws_errors
from silversmith.stores.s3 import S3Store


class Artefacts:
    """The artefact bucket. Keys are made of the content, so that nothing is ever written twice, or over."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._s3 = account.client("s3")
        self.bucket = f"silversmith-artefacts-{account.id}-{account.region}"
        # Another account may have taken the name: so every request says whose bucket it must be.
        # https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucket-owner-condition.html
        self._ours = {"Bucket": self.bucket, "ExpectedBucketOwner": account.id}

    def ensure_bucket(self) -> bool:
        """Make the bucket if it is not there; return whether it was made.

        Raises:
            DeployError: it belongs to another account.
            AccessDenied, AwsFailed: it cannot be made.
        """
        with translate_aws_errors(f"the bucket {self.bucket}"):
            try:
                self._s3.head_bucket(**self._ours)
            except ClientError as error:
                if is_denied(error):
                    raise DeployError(
                        f"the bucket {self.bucket} is another account's, or you may not look at it: "
                        "s3:ListBucket must be allowed to who deploys"
                    ) from error
                if error_code(error) not in MISSING:
                    raise
            else:
                return False
            self._create()
            return True

    def _create(self) -> None:
        region = self._account.region
        place = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
        self._s3.create_bucket(Bucket=self.bucket, **place)
        settings = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
        self._s3.put_public_access_block(
            **self._ours, PublicAccessBlockConfiguration=dict.fromkeys(settings, True)
        )  # fmt: skip
        if not (self._account.endpoint_url or "").startswith("http:"):  # there it would keep everybody out
            self._s3.put_bucket_policy(**self._ours, Policy=json.dumps(self._tls_only()))
        rule = {
            "ID": "AbandonedUploads",
            "Status": "Enabled",
            "Filter": {"Prefix": ""},
            "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7},
        }
        self._s3.put_bucket_lifecycle_configuration(**self._ours, LifecycleConfiguration={"Rules": [rule]})

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
        with translate_aws_errors(f"s3://{self.bucket}/{key}"):
            try:
                self._s3.head_object(**self._ours, Key=key)
            except ClientError as error:
                if error_code(error) in MISSING:
                    return False
                raise
            return True

    def upload(self, key: str, make: Callable[[], Path]) -> bool:
        """Upload the file that ``make`` makes, unless the object is there already; return whether it was uploaded."""
        if self.has(key):
            return False
        with translate_aws_errors(f"s3://{self.bucket}/{key}"):
            self._s3.upload_file(str(make()), self.bucket, key, ExtraArgs={"ExpectedBucketOwner": self._account.id})
        return True

    def put_template(self, key: str, template: dict[str, Any]) -> str:
        """Upload a template, and return the URL that CloudFormation takes."""
        with translate_aws_errors(f"s3://{self.bucket}/{key}"):
            self._s3.put_object(**self._ours, Key=key, Body=json.dumps(template, separators=(",", ":")).encode())
        signed: str = self._s3.generate_presigned_url("get_object", Params={"Bucket": self.bucket, "Key": key})
        return signed.partition("?")[0]


def existing_bucket(account: Account, bucket: str) -> S3Store | None:
    """The bucket, or None where the account has none of that name.

    Raises:
        AccessDenied, AwsFailed: AWS does not tell.
    """
    client = account.client("s3")
    with translate_aws_errors(f"the bucket {bucket}"):
        try:
            client.head_bucket(Bucket=bucket, ExpectedBucketOwner=account.id)
        except ClientError as error:
            if error_code(error) in MISSING:
                return None
            raise
    return S3Store(bucket, client=client, scratch=Path(tempfile.gettempdir()))


def require_bucket(account: Account, bucket: str) -> None:
    """Make sure that a bucket which the stack does not make exists, in the stack's region.

    Raises:
        DeployError: it is in another region.
        AccessDenied, AwsFailed: there is none, or it is another account's.
    """
    with translate_aws_errors(f"the bucket {bucket}, which the deployment says is there already"):
        head = account.client("s3").head_bucket(Bucket=bucket, ExpectedBucketOwner=account.id)
    region = head.get("BucketRegion", account.region)
    if region != account.region:
        raise DeployError(
            f"the bucket {bucket} is in {region}, and the stack would be in {account.region}: EventBridge tells of "
            f"objects in the bucket's own region only. Deploy there: AWS_REGION={region}"
        )


def adopted_buckets(account: Account, changes: Iterable[StackChange], template: Mapping[str, Any]) -> dict[str, str]:
    """The buckets among the added resources that are there already, by their logical ids: CloudFormation takes them
    into the stack, as they are.

    https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/import-resources-automatically.html

    Raises:
        DeployError: such a bucket is another account's, or it has a policy of its own, in whose place the stack's own
            would be put.
    """
    buckets = {}
    for change in changes:
        if change.kind != "AWS::S3::Bucket" or change.effect not in {Effect.ADD, Effect.ADOPT}:
            continue
        name = template["Resources"][change.logical]["Properties"].get("BucketName")
        try:
            if isinstance(name, str) and existing_bucket(account, name) is not None:
                _refuse_policy(account, name)
                buckets[change.logical] = name
        except AccessDenied as error:
            raise DeployError(
                f"the bucket {name} is there already, and another account's, or you may not look at it: {error}. Take "
                "another name for it"
            ) from error
    return buckets


def _refuse_policy(account: Account, bucket: str) -> None:
    with suppress(ClientError):  # mostly: there is none
        account.client("s3").get_bucket_policy(Bucket=bucket, ExpectedBucketOwner=account.id)
        raise DeployError(
            f"the bucket {bucket} is there already, and has a policy of its own, beside which the stack's own cannot "
            "stand: name the bucket's role in existing_buckets, or delete the policy"
        )


def settings_to_change(account: Account, bucket: str, properties: Mapping[str, Any]) -> tuple[str, ...]:
    """What of an adopted bucket is not as its resource in the template says, of what the pipeline cannot do without."""
    s3, changes = account.client("s3"), []
    expected = properties.get("VersioningConfiguration", {}).get("Status")
    with translate_aws_errors(f"the versioning of the bucket {bucket}"):
        status = s3.get_bucket_versioning(Bucket=bucket, ExpectedBucketOwner=account.id).get("Status", "off")
    if expected and status != expected:
        changes.append(f"VersioningConfiguration: {status} → {expected}")
    if "NotificationConfiguration" in properties and not tells_eventbridge(account, bucket):
        changes.append("NotificationConfiguration: EventBridge is switched off, and deploying switches it on")
    return tuple(changes)


def configure_adopted(account: Account, bucket: str, properties: Mapping[str, Any]) -> None:
    """Have a bucket be as the pipeline needs it, for CloudFormation changes nothing of what it takes into a stack.

    Raises:
        DeployError: it is not so, although AWS has taken the settings.
        AccessDenied, AwsFailed: AWS refused.
    """
    versioning = properties.get("VersioningConfiguration")
    for setting in settings_to_change(account, bucket, properties):
        if setting.startswith("Versioning"):
            with translate_aws_errors(f"the versioning of the bucket {bucket}"):
                account.client("s3").put_bucket_versioning(
                    Bucket=bucket, ExpectedBucketOwner=account.id, VersioningConfiguration=versioning
                )
        else:
            switch_eventbridge_on(account, bucket)
    if left := settings_to_change(account, bucket, properties):
        raise DeployError(f"the bucket {bucket} is the stack's now, but not as it should be: {'; '.join(left)}")


def tells_eventbridge(account: Account, bucket: str) -> bool:
    """Whether a bucket tells EventBridge of its objects now, however the stack once configured it."""
    with translate_aws_errors(f"the notifications of the bucket {bucket}"):
        return eventbridge_is_on(account.client("s3"), bucket, ExpectedBucketOwner=account.id)


def switch_eventbridge_on(account: Account, bucket: str) -> bool:
    """Have a bucket tell EventBridge of its objects; return whether it did not before.

    The bucket's other notifications stay as they are. CloudFormation does not see that somebody replaced the
    configuration of a bucket which it made, and would leave it so.
    https://docs.aws.amazon.com/AmazonS3/latest/userguide/enable-event-notifications-eventbridge.html
    """
    s3 = account.client("s3")
    with translate_aws_errors(f"the notifications of the bucket {bucket}"):
        configuration = s3.get_bucket_notification_configuration(Bucket=bucket, ExpectedBucketOwner=account.id)
        configuration.pop("ResponseMetadata", None)
        if "EventBridgeConfiguration" in configuration:
            return False
        s3.put_bucket_notification_configuration(
            Bucket=bucket,
            ExpectedBucketOwner=account.id,
            NotificationConfiguration={**configuration, "EventBridgeConfiguration": {}},
        )
    return True
