"""The three buckets. Deleting the stack leaves them, with all that is in them."""

from __future__ import annotations

from troposphere import s3

from silversmith.pipeline import Pipeline

#: A multipart upload that nobody finished is thrown away after so many days.
ABANDONED_AFTER_DAYS = 7


def buckets(pipeline: Pipeline) -> dict[str, s3.Bucket]:
    """The buckets by what they are for."""
    return {
        "bronze": _bucket(
            "BronzeBucket",
            pipeline.bronze,
            VersioningConfiguration=s3.VersioningConfiguration(Status="Enabled"),
            NotificationConfiguration=s3.NotificationConfiguration(
                EventBridgeConfiguration=s3.EventBridgeConfiguration(EventBridgeEnabled=True)
            ),
        ),
        "silver": _bucket("SilverBucket", pipeline.silver),
        "quarantine": _bucket("QuarantineBucket", pipeline.quarantine),
    }


def _bucket(title: str, name: str, **more: object) -> s3.Bucket:
    return s3.Bucket(
        title,
        BucketName=name,
        BucketEncryption=s3.BucketEncryption(
            ServerSideEncryptionConfiguration=[
                s3.ServerSideEncryptionRule(
                    ServerSideEncryptionByDefault=s3.ServerSideEncryptionByDefault(SSEAlgorithm="AES256")
                )
            ]
        ),
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
        **more,
    )
