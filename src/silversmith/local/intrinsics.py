"""CloudFormation's references, resolved for one account: ``Ref``, ``Fn::GetAtt``, ``Fn::Sub``, ``Fn::Join``.

Only what Silversmith's own templates hold is understood. Anything else is an error that names it: what the local
engine would pass over in silence would not be what is deployed.
https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/intrinsic-function-reference.html
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from silversmith.errors import SilversmithError


class UnsupportedTemplate(SilversmithError):
    """The template holds something that the local engine does not know."""


@dataclass(frozen=True)
class Kind:
    """A resource type: the property with its name, its ARN, which of the two (or its URL) ``Ref`` gives, and the
    properties that are known. The engine obeys each in ``read``; those in ``ignored`` mean nothing on one machine, and
    docs/template.md lists them. A version or an alias of a function is there the function itself."""

    name: str
    arn: str
    ref: str
    read: frozenset[str]
    ignored: frozenset[str] = frozenset()


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


#: https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/aws-template-resource-type-ref.html
KINDS: Mapping[str, Kind] = {
    "AWS::S3::Bucket": Kind(
        name="BucketName",
        arn="arn:aws:s3:::{name}",
        ref="name",
        read=_words("BucketName NotificationConfiguration VersioningConfiguration"),
        ignored=_words("BucketEncryption LifecycleConfiguration OwnershipControls PublicAccessBlockConfiguration"),
    ),
    "AWS::S3::BucketPolicy": Kind(name="", arn="", ref="name", read=_words("Bucket PolicyDocument")),
    "AWS::Events::Rule": Kind(
        name="Name",
        arn="arn:aws:events:{region}:{account}:rule/{name}",
        ref="name",
        read=_words("Name EventPattern State Targets"),
        ignored=_words("Description"),
    ),
    "AWS::SNS::Topic": Kind(
        name="TopicName",
        arn="arn:aws:sns:{region}:{account}:{name}",
        ref="arn",
        read=_words("TopicName"),
        ignored=_words("KmsMasterKeyId"),
    ),
    "AWS::SNS::TopicPolicy": Kind(name="", arn="", ref="name", read=_words("Topics PolicyDocument")),
    "AWS::SNS::Subscription": Kind(
        name="",
        arn="",
        ref="name",
        read=_words("TopicArn Protocol Endpoint RawMessageDelivery FilterPolicy FilterPolicyScope RedrivePolicy"),
    ),
    "AWS::SQS::Queue": Kind(
        name="QueueName",
        arn="arn:aws:sqs:{region}:{account}:{name}",
        ref="url",
        read=_words("QueueName VisibilityTimeout MessageRetentionPeriod DelaySeconds RedrivePolicy"),
        ignored=_words("SqsManagedSseEnabled KmsMasterKeyId RedriveAllowPolicy"),
    ),
    "AWS::SQS::QueuePolicy": Kind(name="", arn="", ref="name", read=_words("Queues PolicyDocument")),
    "AWS::IAM::Role": Kind(
        name="RoleName",
        arn="arn:aws:iam::{account}:role/{name}",
        ref="name",
        read=_words("RoleName Policies ManagedPolicyArns"),
        ignored=_words("AssumeRolePolicyDocument PermissionsBoundary"),
    ),
    "AWS::IAM::ManagedPolicy": Kind(
        name="ManagedPolicyName",
        arn="arn:aws:iam::{account}:policy/{name}",
        ref="arn",
        read=_words("ManagedPolicyName PolicyDocument"),
        ignored=_words("Description"),
    ),
    "AWS::KMS::Key": Kind(
        name="",
        arn="arn:aws:kms:{region}:{account}:key/{name}",
        ref="name",
        read=frozenset(),
        ignored=_words("Description EnableKeyRotation KeyPolicy"),
    ),
    "AWS::KMS::Alias": Kind(
        name="AliasName", arn="", ref="name", read=frozenset(), ignored=_words("AliasName TargetKeyId")
    ),
    "AWS::Logs::LogGroup": Kind(
        name="LogGroupName",
        arn="arn:aws:logs:{region}:{account}:log-group:{name}:*",
        ref="name",
        read=frozenset(),
        ignored=_words("LogGroupName RetentionInDays KmsKeyId"),
    ),
    "AWS::Lambda::Function": Kind(
        name="FunctionName",
        arn="arn:aws:lambda:{region}:{account}:function:{name}",
        ref="name",
        read=_words("FunctionName MemorySize Timeout Environment Role ReservedConcurrentExecutions"),
        ignored=_words(
            "Description Handler Runtime Architectures Code LoggingConfig EphemeralStorage SnapStart VpcConfig "
            "KmsKeyArn RecursiveLoop DeadLetterConfig"
        ),
    ),
    "AWS::Lambda::Version": Kind(
        name="FunctionName", arn="", ref="name", read=frozenset(), ignored=_words("FunctionName Description")
    ),
    "AWS::Lambda::Alias": Kind(
        name="FunctionName",
        arn="",
        ref="name",
        read=_words("FunctionName"),
        ignored=_words("Name FunctionVersion ProvisionedConcurrencyConfig"),
    ),
    "AWS::Scheduler::ScheduleGroup": Kind(
        name="Name",
        arn="arn:aws:scheduler:{region}:{account}:schedule-group/{name}",
        ref="name",
        read=frozenset(),
        ignored=_words("Name"),
    ),
    "AWS::Scheduler::Schedule": Kind(
        name="Name",
        arn="arn:aws:scheduler:{region}:{account}:schedule/{name}",
        ref="name",
        read=frozenset(),
        ignored=_words("Name Target GroupName Description ScheduleExpression FlexibleTimeWindow State"),
    ),
    "AWS::Lambda::EventSourceMapping": Kind(
        name="",
        arn="",
        ref="name",
        read=_words(
            "EventSourceArn FunctionName BatchSize MaximumBatchingWindowInSeconds FunctionResponseTypes ScalingConfig "
            "FilterCriteria"
        ),
    ),
    "AWS::CloudWatch::Alarm": Kind(
        name="AlarmName",
        arn="arn:aws:cloudwatch:{region}:{account}:alarm:{name}",
        ref="name",
        read=frozenset(),
        ignored=_words(
            "AlarmName AlarmDescription Namespace MetricName Dimensions Statistic Period EvaluationPeriods Threshold "
            "ComparisonOperator TreatMissingData AlarmActions DatapointsToAlarm Metrics"
        ),
    ),
}

_SECTIONS = _words("AWSTemplateFormatVersion Description Parameters Resources Outputs")
_ATTRIBUTES = _words("Type Properties DependsOn DeletionPolicy UpdateReplacePolicy")

#: Properties that mean nothing on one machine, whatever has them.
_ALWAYS_IGNORED = _words("Tags")


class Template:
    """A template whose references are resolved as they are read.

    Args:
        template: the template as JSON values.
        account: the twelve digits of the account.
        region: such as ``us-east-1``.

    Raises:
        UnsupportedTemplate: it has a section, a resource type or a property that is not known.
    """

    def __init__(self, template: Mapping[str, Any], *, account: str, region: str) -> None:
        require_known("the template", "section", template, _SECTIONS)
        self._resources: Mapping[str, Mapping[str, Any]] = template.get("Resources", {})
        self._parameters: Mapping[str, Mapping[str, Any]] = template.get("Parameters", {})
        self._outputs: Mapping[str, Mapping[str, Any]] = template.get("Outputs", {})
        self._place = {"account": account, "region": region}
        self._pseudo = {
            "AWS::AccountId": account,
            "AWS::Region": region,
            "AWS::Partition": "aws",
            "AWS::URLSuffix": "amazonaws.com",
        }
        for logical, resource in self._resources.items():
            require_known(logical, "attribute", resource, _ATTRIBUTES)
            kind = KINDS.get(resource["Type"])
            if kind is None:
                raise UnsupportedTemplate(f"{logical}: the local engine knows no resource type {resource['Type']}")
            require_known(
                logical,
                f"property of {resource['Type']}",
                resource.get("Properties", {}),
                kind.read | kind.ignored | _ALWAYS_IGNORED,
            )

    def each(self, kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Logical id and properties of every resource of a type: references resolved, ignored properties left out."""
        for logical, resource in self._resources.items():
            if resource["Type"] == kind:
                properties = resource.get("Properties", {})
                read = KINDS[kind].read
                yield logical, {name: self.value(value) for name, value in properties.items() if name in read}

    def outputs(self) -> dict[str, str]:
        """The outputs by name."""
        return {name: str(self.value(output["Value"])) for name, output in self._outputs.items()}

    def value(self, value: Any) -> Any:
        """A value with its references resolved."""
        if isinstance(value, list):
            return [self.value(item) for item in value]
        if not isinstance(value, dict):
            return value
        if len(value) == 1:
            (function, argument), *_ = value.items()
            if function == "Ref":
                return self._ref(argument)
            if function.startswith("Fn::"):
                return self._call(function, argument)
        return {name: self.value(item) for name, item in value.items()}

    def _call(self, function: str, argument: Any) -> Any:
        if function == "Fn::GetAtt" and isinstance(argument, list) and len(argument) == 2:
            return self._attribute(*argument)
        if function == "Fn::Join" and isinstance(argument, list) and len(argument) == 2:
            return str(argument[0]).join(str(self.value(item)) for item in argument[1])
        if function == "Fn::Sub" and isinstance(argument, str):
            return re.sub(r"\$\{(!?)([^}]*)\}", self._substitute, argument)
        raise UnsupportedTemplate(f"the local engine does not know {function} with {argument!r}")

    def _substitute(self, found: re.Match[str]) -> str:
        literal, name = found.groups()
        if literal:
            return f"${{{name}}}"
        logical, _, attribute = name.partition(".")
        return str(self._attribute(logical, attribute) if attribute else self._ref(name))

    def _ref(self, name: str) -> str:
        if name in self._pseudo:
            return self._pseudo[name]
        if name in self._parameters:
            return str(self._parameters[name].get("Default", name))
        return self._attribute(name, KINDS[self._resource(name)["Type"]].ref)

    def _attribute(self, logical: str, attribute: str) -> str:
        """https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/intrinsic-function-reference-getatt.html"""
        kind = KINDS[self._resource(logical)["Type"]]
        name = str(self.value(self._resource(logical).get("Properties", {}).get(kind.name, logical)))
        if attribute in {"name", kind.name}:
            return name
        if attribute in {"arn", "Arn"} and kind.arn:
            return kind.arn.format(name=name, **self._place)
        if attribute in {"url", "QueueUrl"} and kind.ref == "url":
            return "https://sqs.{region}.amazonaws.com/{account}/".format(**self._place) + name
        raise UnsupportedTemplate(f"the local engine does not know the attribute {attribute} of {logical}")

    def _resource(self, logical: str) -> Mapping[str, Any]:
        if logical not in self._resources:
            raise UnsupportedTemplate(f"the template refers to {logical}, which it does not have")
        return self._resources[logical]

    def name(self, logical: str) -> str:
        """The physical name of a resource; its logical id where the template gives none."""
        return self._attribute(logical, "name")

    def arn(self, logical: str) -> str:
        """The ARN of a resource."""
        return self._attribute(logical, "arn")

    def url(self, logical: str) -> str:
        """The URL of a queue."""
        return self._attribute(logical, "url")


def require_known(where: str, what: str, given: Mapping[str, Any], known: Collection[str]) -> None:
    """Raise UnsupportedTemplate where something has keys that the engine does not know; ``what`` the keys are."""
    unknown = sorted(set(given).difference(known))
    if unknown:
        raise UnsupportedTemplate(f"{where}: the local engine knows no {what} {', '.join(unknown)}")
