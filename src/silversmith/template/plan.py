"""A pipeline as one deployment of it, and the names that its resources get."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass

from troposphere import AWSHelperFn, GetAtt, Ref, Sub

from silversmith.errors import DefinitionError
from silversmith.pipeline import Pipeline, Transform, limits
from silversmith.pipeline.deployment import GOLD, ROLES, Deployment, configured_buckets
from silversmith.tables.spec import GoldSpec


def logical(transform: str, kind: str) -> str:
    """A logical id, which has letters and digits only: ``late_flights``, ``Queue`` → ``LateFlightsQueue``.

    It depends on nothing but these two, so that declaring another transform never replaces a resource. A name that is
    not written like a Python name in lower case gets a digest, or ``late-flights`` would be the same.
    """
    camel = "".join(part.capitalize() for part in re.split(r"[_-]", transform))
    if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z][a-z0-9]*)*", transform):
        camel += hashlib.sha256(transform.encode()).hexdigest()[:8].upper()
    return camel + kind


def physical(pipeline: str, transform: str = "", kind: str = "") -> str:
    """The name that AWS's consoles show: ``flights_late_DLQ``, or ``flights_Topic`` without a transform."""
    return "_".join(part for part in (pipeline, transform, kind) if part)


@dataclass(frozen=True)
class Plan:
    """A deployment of a pipeline. All names of the stack begin with ``name``; ``buckets`` are names by role,
    with gold only where there are ``tables``; ``reference`` is ``module:attribute`` of the pipeline in the functions'
    bundle."""

    name: str
    buckets: dict[str, str]
    transforms: tuple[Transform, ...]
    reference: str
    options: Deployment
    tables: GoldSpec

    @staticmethod
    def of(pipeline: Pipeline, options: Deployment, reference: str) -> Plan:
        """
        Raises:
            DefinitionError: the options speak of a transform that is not there, or together with the pipeline they make
                what AWS does not take.
        """
        name = options.name(pipeline.name)
        roles = (*ROLES, GOLD) if pipeline.tables else ROLES
        buckets = {role: options.bucket(role, getattr(pipeline, role)) for role in roles}
        problem = limits.buckets(buckets)
        if problem:
            raise DefinitionError(f"the pipeline {pipeline.name!r} cannot be deployed: {problem}")
        for transform in pipeline.transforms:
            problem = limits.transform_name(name, transform.name) or _numbers_problem(transform, options)
            if problem:
                raise DefinitionError(f"the transform {transform.name!r} cannot be deployed: {problem}")
        _require_known(pipeline, options)
        _require_buckets(pipeline, options, buckets)
        if options.inventory and not pipeline.tables.lineage:
            raise DefinitionError(
                f"the deployment's inventory is compared with the lineage, and the pipeline keeps none: "
                f"Pipeline({pipeline.name!r}, lineage=True)"
            )
        return Plan(name, buckets, pipeline.transforms, reference, options, pipeline.tables)

    def physical(self, transform: str = "", kind: str = "") -> str:
        """The name that AWS's consoles show."""
        return physical(self.name, transform, kind)

    def makes(self, role: str) -> bool:
        """Whether the stack makes this bucket."""
        return role not in self.options.existing_buckets

    def keeps_versions(self, role: str) -> bool:
        """Whether the bucket keeps old versions: bronze for those who read it, others to be locked or copied."""
        lock = self.options.object_lock
        locked = lock is not None and role in lock.buckets
        return role == "bronze" or locked or role in self.options.replicate_to

    @property
    def notifying(self) -> tuple[str, ...]:
        """The buckets that tell EventBridge of their objects."""
        gold = ("silver", "quarantine") if self.tables.lineage else ("silver",)
        return ("bronze", *gold) if self.tables else ("bronze",)

    def bucket_arn(self, role: str) -> AWSHelperFn:
        """Where the stack makes the bucket, what refers to it waits for it."""
        if self.makes(role):
            return GetAtt(bucket_title(role), "Arn")
        return Sub(f"arn:${{AWS::Partition}}:s3:::{self.buckets[role]}")

    @property
    def inventory(self) -> str:
        """The bucket with the inventories of bronze, and the folder in it; empty: there are none."""
        return self.options.inventory_folder(self.buckets["bronze"], self.buckets["quarantine"])

    @property
    def key(self) -> AWSHelperFn | None:
        """The ARN of the customer's key; None: AWS's keys are used."""
        return GetAtt("Key", "Arn") if self.options.customer_key else None

    @property
    def alarm_actions(self) -> list[AWSHelperFn | str]:
        """The topics that are told of alarms."""
        mail = [Ref("AlarmTopic")] if self.options.alarm_email else []
        return [*mail, *([self.options.alarm_topic] if self.options.alarm_topic else [])]


def since_parameter(transform: str) -> str:
    """The parameter with the time of the first deploy of a transform, which takes files from then on."""
    return logical(transform, "FirstDeploy")


#: The logical id of the queue that keeps the rounds which did not take place.
MISSED = "ReconcilerDLQ"


def bucket_title(role: str) -> str:
    """The logical id of a bucket."""
    return f"{role.capitalize()}Bucket"


def arn(service: str, resource: str) -> str:
    """An ARN of this account and region, to be put into ``Fn::Sub``. Spelled out where a reference would go round in a
    circle."""
    return f"arn:${{AWS::Partition}}:{service}:${{AWS::Region}}:${{AWS::AccountId}}:{resource}"


def _require_known(pipeline: Pipeline, options: Deployment) -> None:
    known = {transform.name for transform in pipeline.transforms}
    for option in ("ephemeral_storage", "reserved_concurrency", "provisioned_concurrency", "vpc", "layers"):
        values = getattr(options, option)
        unknown = sorted(set(values) - known) if isinstance(values, Mapping) else []
        if unknown:
            raise DefinitionError(
                f"the deployment's {option} speaks of {', '.join(unknown)}, and the pipeline {pipeline.name!r} has no "
                f"such transform; it has: {', '.join(sorted(known))}"
            )


def _require_buckets(pipeline: Pipeline, options: Deployment, buckets: Mapping[str, str]) -> None:
    for option, role in configured_buckets(options):
        if role not in buckets:
            raise DefinitionError(
                f"the deployment's {option} speaks of {role}, and the pipeline {pipeline.name!r} has no such bucket: "
                f"it has {', '.join(buckets)}"
            )
    own = {options.access_logs, *options.replicate_to.values()} & set(buckets.values())
    if own:
        raise DefinitionError(
            f"{own.pop()!r} is a bucket of the pipeline {pipeline.name!r} itself: access logs and copies go to another"
        )


def _numbers_problem(transform: Transform, options: Deployment) -> str:
    """https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-scaling.html"""
    reserved = options.number("reserved_concurrency", transform.name)
    provisioned = options.number("provisioned_concurrency", transform.name)
    if reserved is not None and (transform.maximum_concurrency or 0) > reserved:
        return (
            f"maximum_concurrency={transform.maximum_concurrency} is more than reserved_concurrency={reserved}: Lambda "
            "would refuse what SQS gives it, and files would end in the dead-letter queue"
        )
    if reserved is not None and (provisioned or 0) > reserved:
        return f"provisioned_concurrency={provisioned} is more than reserved_concurrency={reserved}"
    return ""
