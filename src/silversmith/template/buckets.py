"""The three buckets. Deleting the stack leaves them, with all that is in them."""

from __future__ import annotations

from troposphere import AWSObject, Output, Ref, s3

from silversmith.pipeline.deployment import ROLES
from silversmith.template.encryption import of_bucket
from silversmith.template.plan import Plan, bucket_title
from silversmith.template.policies import bucket_policy

#: A multipart upload that nobody finished is thrown away after so many days.
ABANDONED_AFTER_DAYS = 7


def resources(plan: Plan) -> list[AWSObject]:
    """Those that are not there already, each with its policy. What exists belongs to somebody else: it is not touched,
    and so EventBridge is switched on in an existing bronze bucket by the deployment, not by the stack."""
    made = [_bucket(plan, role) for role in ROLES if plan.makes(role)]
    return [resource for bucket in made for resource in (bucket, bucket_policy(bucket))]


def outputs(plan: Plan) -> list[Output]:
    """The names of all three."""
    what = {
        "bronze": "Where files land",
        "silver": "Where the results are",
        "quarantine": "What cannot become silver, and why",
    }
    return [
        Output(
            f"{bucket_title(role)}Name",
            Description=text,
            Value=Ref(bucket_title(role)) if plan.makes(role) else plan.buckets[role],
        )
        for role, text in what.items()
    ]


def _bucket(plan: Plan, role: str) -> s3.Bucket:
    bronze = {
        "VersioningConfiguration": s3.VersioningConfiguration(Status="Enabled"),
        "NotificationConfiguration": s3.NotificationConfiguration(
            EventBridgeConfiguration=s3.EventBridgeConfiguration(EventBridgeEnabled=True)
        ),
    }
    return s3.Bucket(
        bucket_title(role),
        BucketName=plan.buckets[role],
        BucketEncryption=of_bucket(plan),
        PublicAccessBlockConfiguration=s3.PublicAccessBlockConfiguration(
            BlockPublicAcls=True, BlockPublicPolicy=True, IgnorePublicAcls=True, RestrictPublicBuckets=True
        ),
        OwnershipControls=s3.OwnershipControls(Rules=[s3.OwnershipControlsRule(ObjectOwnership="BucketOwnerEnforced")]),
        LifecycleConfiguration=s3.LifecycleConfiguration(
            Rules=[
                s3.LifecycleRule(
                    Id="AbandonedUploads",
                    Status="Enabled",
                    AbortIncompleteMultipartUpload=s3.AbortIncompleteMultipartUpload(
                        DaysAfterInitiation=ABANDONED_AFTER_DAYS
                    ),
                )
            ]
        ),
        DeletionPolicy="Retain",
        UpdateReplacePolicy="Retain",
        **(bronze if role == "bronze" else {}),
    )
