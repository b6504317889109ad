"""The buckets that the stack makes: encryption, versions and how long old ones are kept, locks, copies, access logs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from troposphere import AWSObject, GetAtt, Ref, Sub, iam, s3

from silversmith.pipeline.deployment import DAILY, INVENTORIES, INVENTORY_ID
from silversmith.template.permissions import allow, bucket_encryption, bucket_policy, role
from silversmith.template.plan import Plan, bucket_title

#: A multipart upload that nobody finished is thrown away after so many days.
ABANDONED_AFTER_DAYS = 7

#: An inventory is of use for three days.
INVENTORIES_KEPT_DAYS = 7

#: The logical id of the role with which S3 copies objects.
REPLICATION = "RoleOfReplication"


def resources(plan: Plan) -> list[AWSObject]:
    """The buckets that are not there already, each with its policy. Existing ones are not touched: the deployment
    switches EventBridge on in an existing bucket, not the stack."""
    buckets = {bucket_role: _bucket(plan, bucket_role) for bucket_role in plan.buckets if plan.makes(bucket_role)}
    return [
        *_replication_role(plan),
        *(
            resource
            for bucket_role, bucket in buckets.items()
            for resource in (bucket, bucket_policy(bucket, _statements(plan, bucket_role)))
        ),
    ]


def _bucket(plan: Plan, role: str) -> s3.Bucket:
    """Deleting the stack leaves it, with all that is in it."""
    optional: dict[str, Any] = {}
    if plan.keeps_versions(role):
        optional["VersioningConfiguration"] = s3.VersioningConfiguration(Status="Enabled")
    if role in plan.notifying:
        optional["NotificationConfiguration"] = s3.NotificationConfiguration(
            EventBridgeConfiguration=s3.EventBridgeConfiguration(EventBridgeEnabled=True)
        )
    return s3.Bucket(
        bucket_title(role),
        BucketName=plan.buckets[role],
        BucketEncryption=bucket_encryption(plan),
        PublicAccessBlockConfiguration=s3.PublicAccessBlockConfiguration(
            BlockPublicAcls=True, BlockPublicPolicy=True, IgnorePublicAcls=True, RestrictPublicBuckets=True
        ),
        OwnershipControls=s3.OwnershipControls(Rules=[s3.OwnershipControlsRule(ObjectOwnership="BucketOwnerEnforced")]),
        LifecycleConfiguration=s3.LifecycleConfiguration(Rules=_lifecycle(plan, role)),
        DeletionPolicy="Retain",
        UpdateReplacePolicy="Retain",
        **optional,
        **_access_logs(plan, role),
        **_lock(plan, role),
        **_replication(plan, role),
        **_inventory(plan, role),
    )


def _lifecycle(plan: Plan, role: str) -> list[s3.LifecycleRule]:
    """An old version is of use while a function that began before reads it. Then it only costs, and keeps what was
    deleted. https://docs.aws.amazon.com/AmazonS3/latest/userguide/intro-lifecycle-rules.html"""
    abandoned = s3.LifecycleRule(
        Id="AbandonedUploads",
        Status="Enabled",
        AbortIncompleteMultipartUpload=s3.AbortIncompleteMultipartUpload(DaysAfterInitiation=ABANDONED_AFTER_DAYS),
    )
    rules = [abandoned]
    if plan.options.inventory == DAILY and role == "quarantine":
        rules.append(
            s3.LifecycleRule(
                Id="Inventories", Status="Enabled", Prefix=INVENTORIES, ExpirationInDays=INVENTORIES_KEPT_DAYS
            )
        )
    days = plan.options.old_versions_days
    if not days or not plan.keeps_versions(role):
        return rules
    old = s3.LifecycleRule(
        Id="OldVersions",
        Status="Enabled",
        NoncurrentVersionExpiration=s3.NoncurrentVersionExpiration(NoncurrentDays=days),
        ExpiredObjectDeleteMarker=True,
    )
    return [*rules, old]


def _inventory(plan: Plan, role: str) -> dict[str, Any]:
    """The keys of bronze and their ETags once a day, as Parquet in quarantine.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/storage-inventory.html
    """
    if plan.options.inventory != DAILY or role != "bronze":
        return {}
    configuration = s3.InventoryConfiguration(
        Id=INVENTORY_ID,
        Enabled=True,
        IncludedObjectVersions="Current",
        ScheduleFrequency="Daily",
        OptionalFields=["ETag"],
        Destination=s3.Destination(
            BucketArn=plan.bucket_arn("quarantine"),
            BucketAccountId=Ref("AWS::AccountId"),
            Format="Parquet",
            Prefix=INVENTORIES.rstrip("/"),
        ),
    )
    return {"InventoryConfigurations": [configuration]}


def _statements(plan: Plan, role: str) -> list[Mapping[str, Any]]:
    """The user's statements, and the one by which S3 may deliver inventories of bronze to quarantine.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/example-bucket-policies.html#example-bucket-policies-s3-inventory
    """
    statements = [*plan.options.bucket_policies.get(role, ())]
    if plan.options.inventory == DAILY and role == "quarantine":
        place, bronze = (f"arn:${{AWS::Partition}}:s3:::{plan.buckets[each]}" for each in ("quarantine", "bronze"))
        condition = {
            "ArnLike": {"aws:SourceArn": Sub(bronze)},
            "StringEquals": {
                "aws:SourceAccount": Ref("AWS::AccountId"),
                "s3:x-amz-acl": "bucket-owner-full-control",
            },
        }
        service = {"Service": "s3.amazonaws.com"}
        deliver = allow(
            "DeliverInventories",
            "s3:PutObject",
            Sub(f"{place}/{INVENTORIES}*"),
            principal=service,
            condition=condition,
        )
        statements.append(deliver)
    return statements


def _access_logs(plan: Plan, role: str) -> dict[str, Any]:
    """https://docs.aws.amazon.com/AmazonS3/latest/userguide/ServerLogs.html"""
    if not plan.options.access_logs:
        return {}
    target = s3.LoggingConfiguration(
        DestinationBucketName=plan.options.access_logs, LogFilePrefix=f"{plan.buckets[role]}/"
    )
    return {"LoggingConfiguration": target}


def _lock(plan: Plan, role: str) -> dict[str, Any]:
    """https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-lock.html"""
    lock = plan.options.object_lock
    if lock is None or role not in lock.buckets:
        return {}
    retention = s3.DefaultRetention(Mode=lock.mode.upper(), Days=lock.days)
    rule = s3.ObjectLockRule(DefaultRetention=retention)
    return {
        "ObjectLockEnabled": True,
        "ObjectLockConfiguration": s3.ObjectLockConfiguration(ObjectLockEnabled="Enabled", Rule=rule),
    }


def _copied(plan: Plan) -> dict[str, str]:
    """The ARNs of the buckets that get copies, by the role of the bucket that they are copies of."""
    return {bucket: f"arn:${{AWS::Partition}}:s3:::{copy}" for bucket, copy in plan.options.replicate_to.items()}


def _replication(plan: Plan, role: str) -> dict[str, Any]:
    """What is deleted here stays in the copy: it is for the day on which somebody deletes too much.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/replication.html
    """
    if role not in plan.options.replicate_to:
        return {}
    rule = s3.ReplicationConfigurationRules(
        Id="Copy",
        Status="Enabled",
        Priority=1,
        Filter=s3.ReplicationRuleFilter(Prefix=""),
        DeleteMarkerReplication=s3.DeleteMarkerReplication(Status="Disabled"),
        Destination=s3.ReplicationConfigurationRulesDestination(Bucket=Sub(_copied(plan)[role])),
    )
    return {"ReplicationConfiguration": s3.ReplicationConfiguration(Role=GetAtt(REPLICATION, "Arn"), Rules=[rule])}


def _replication_role(plan: Plan) -> list[iam.Role]:
    """The role with which S3 copies. Its buckets are spelled out, or it and they would go round in a circle.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/setting-repl-config-perm-overview.html
    """
    copied = _copied(plan)
    if not copied:
        return []
    sources = [f"arn:${{AWS::Partition}}:s3:::{plan.buckets[source]}" for source in copied]
    reads = [f"s3:GetObjectVersion{what}" for what in ("ForReplication", "Acl", "Tagging")]
    return [
        role(
            REPLICATION,
            plan,
            "s3.amazonaws.com",
            [
                allow("SeeBuckets", ["s3:GetReplicationConfiguration", "s3:ListBucket"], [*map(Sub, sources)]),
                allow("ReadVersions", reads, [Sub(f"{source}/*") for source in sources]),
                allow(
                    "WriteCopies",
                    ["s3:ReplicateObject", "s3:ReplicateTags"],
                    [Sub(f"{copy}/*") for copy in dict.fromkeys(copied.values())],
                ),
            ],
        )
    ]
