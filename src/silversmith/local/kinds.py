"""The types of resources that the local engine knows, and which of their properties it obeys and which it ignores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from silversmith.errors import SilversmithError


class UnsupportedTemplate(SilversmithError):
    """The template holds something that the local engine does not know."""


@dataclass(frozen=True)
class ResourceKind:
    """A resource type: the property with its name, its ARN, which of the two (or its URL) ``Ref`` gives, and the
    properties that are known. The engine obeys each in ``read``; those in ``ignored`` mean nothing on one machine, and
    docs/template.md lists them. A version or an alias of a function is taken for the function itself."""

    name: str = ""
    arn: str = ""
    ref: str = "name"
    read: frozenset[str] = frozenset()
    ignored: frozenset[str] = frozenset()


def words(text: str) -> frozenset[str]:
    """The words of a text."""
    return frozenset(text.split())


#: https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/aws-template-resource-type-ref.html
KINDS: Mapping[str, ResourceKind] = {
    "AWS::S3::Bucket": ResourceKind(
        name="BucketName",
        arn="arn:aws:s3:::{name}",
        read=words("BucketName NotificationConfiguration VersioningConfiguration"),
        ignored=words(
            "BucketEncryption LifecycleConfiguration OwnershipControls PublicAccessBlockConfiguration "
            "LoggingConfiguration ObjectLockEnabled ObjectLockConfiguration ReplicationConfiguration "
            "InventoryConfigurations"
        ),
    ),
    "AWS::S3::BucketPolicy": ResourceKind(read=words("Bucket PolicyDocument")),
    "AWS::Events::Rule": ResourceKind(
        name="Name",
        arn="arn:aws:events:{region}:{account}:rule/{name}",
        read=words("Name EventPattern State Targets"),
        ignored=words("Description"),
    ),
    "AWS::SNS::Topic": ResourceKind(
        name="TopicName",
        arn="arn:aws:sns:{region}:{account}:{name}",
        ref="arn",
        read=words("TopicName"),
        ignored=words("KmsMasterKeyId"),
    ),
    "AWS::SNS::TopicPolicy": ResourceKind(read=words("Topics PolicyDocument")),
    "AWS::SNS::Subscription": ResourceKind(
        read=words("TopicArn Protocol Endpoint RawMessageDelivery FilterPolicy FilterPolicyScope RedrivePolicy"),
    ),
    "AWS::SQS::Queue": ResourceKind(
        name="QueueName",
        arn="arn:aws:sqs:{region}:{account}:{name}",
        ref="url",
        read=words("QueueName VisibilityTimeout MessageRetentionPeriod DelaySeconds RedrivePolicy"),
        ignored=words("SqsManagedSseEnabled KmsMasterKeyId RedriveAllowPolicy"),
    ),
    "AWS::SQS::QueuePolicy": ResourceKind(read=words("Queues PolicyDocument")),
    "AWS::IAM::Role": ResourceKind(
        name="RoleName",
        arn="arn:aws:iam::{account}:role/{name}",
        read=words("RoleName Policies ManagedPolicyArns"),
        ignored=words("AssumeRolePolicyDocument PermissionsBoundary"),
    ),
    "AWS::IAM::ManagedPolicy": ResourceKind(
        name="ManagedPolicyName",
        arn="arn:aws:iam::{account}:policy/{name}",
        ref="arn",
        read=words("ManagedPolicyName PolicyDocument"),
        ignored=words("Description"),
    ),
    "AWS::KMS::Key": ResourceKind(
        arn="arn:aws:kms:{region}:{account}:key/{name}",
        ignored=words("Description EnableKeyRotation KeyPolicy"),
    ),
    "AWS::KMS::Alias": ResourceKind(name="AliasName", ignored=words("AliasName TargetKeyId")),
    "AWS::Logs::LogGroup": ResourceKind(
        name="LogGroupName",
        arn="arn:aws:logs:{region}:{account}:log-group:{name}:*",
        ignored=words("LogGroupName RetentionInDays KmsKeyId"),
    ),
    "AWS::Lambda::Function": ResourceKind(
        name="FunctionName",
        arn="arn:aws:lambda:{region}:{account}:function:{name}",
        read=words("FunctionName MemorySize Timeout Environment Role ReservedConcurrentExecutions"),
        ignored=words(
            "Description Handler Runtime Architectures Code LoggingConfig EphemeralStorage SnapStart VpcConfig "
            "KmsKeyArn RecursiveLoop DeadLetterConfig Layers PackageType ImageConfig"
        ),
    ),
    "AWS::Lambda::Version": ResourceKind(name="FunctionName", ignored=words("FunctionName Description")),
    "AWS::Lambda::Alias": ResourceKind(
        name="FunctionName",
        read=words("FunctionName"),
        ignored=words("Name FunctionVersion ProvisionedConcurrencyConfig"),
    ),
    "AWS::Scheduler::ScheduleGroup": ResourceKind(
        name="Name",
        arn="arn:aws:scheduler:{region}:{account}:schedule-group/{name}",
        ignored=words("Name"),
    ),
    "AWS::Scheduler::Schedule": ResourceKind(
        name="Name",
        arn="arn:aws:scheduler:{region}:{account}:schedule/{name}",
        ignored=words("Name Target GroupName Description ScheduleExpression FlexibleTimeWindow State"),
    ),
    "AWS::Lambda::EventSourceMapping": ResourceKind(
        read=words(
            "EventSourceArn FunctionName BatchSize MaximumBatchingWindowInSeconds FunctionResponseTypes ScalingConfig "
            "FilterCriteria"
        ),
    ),
    "AWS::CloudWatch::Alarm": ResourceKind(
        name="AlarmName",
        arn="arn:aws:cloudwatch:{region}:{account}:alarm:{name}",
        ignored=words(
            "AlarmName AlarmDescription Namespace MetricName Dimensions Statistic Period EvaluationPeriods Threshold "
            "ComparisonOperator TreatMissingData AlarmActions DatapointsToAlarm Metrics"
        ),
    ),
    "AWS::Glue::Database": ResourceKind(
        arn="arn:aws:glue:{region}:{account}:database/{name}",
        ignored=words("CatalogId DatabaseInput"),
    ),
    "AWS::Glue::Table": ResourceKind(ignored=words("CatalogId DatabaseName TableInput")),
}

#: In a resource's Metadata, by its author: True, or the names of properties, where they mean nothing on one machine.
IGNORED = "silversmith:ignored"


def without_ignored(resources: Mapping[str, Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """The resources without those, and without the properties, of which their author says that they mean nothing here.

    Raises:
        UnsupportedTemplate: it is a property that the engine reads.
    """
    kept: dict[str, Mapping[str, Any]] = {}
    for logical, resource in resources.items():
        ignored = resource.get("Metadata", {}).get(IGNORED, [])
        if ignored is True:
            continue
        kind = KINDS.get(resource["Type"])
        if kind is not None and (read := sorted(kind.read.intersection(ignored))):
            raise UnsupportedTemplate(f"{logical}: the local engine obeys {', '.join(read)}: {IGNORED} cannot name it")
        properties = {name: value for name, value in resource.get("Properties", {}).items() if name not in ignored}
        kept[logical] = {**resource, "Properties": properties} if ignored else resource
    return kept
