"""From the definition to one CloudFormation template: AWS executes it, and the local engine reads it."""

from __future__ import annotations

from typing import Any, cast

from troposphere import Output, Parameter, Ref, Template

from silversmith.errors import DefinitionError
from silversmith.pipeline import Pipeline
from silversmith.template import events, transform
from silversmith.template.buckets import buckets
from silversmith.template.permissions import bucket_policy

#: CloudFormation's limit for one template.
#: https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/cloudformation-limits.html
MOST_RESOURCES = 500

_SECTIONS = ("AWSTemplateFormatVersion", "Description", "Parameters", "Resources", "Outputs")


def compile(pipeline: Pipeline, reference: str = "pipeline:pipeline") -> dict[str, Any]:  # noqa: A001 -- what it does
    """The template of a pipeline, as JSON values: the same for the same definition, in the same order.

    Args:
        pipeline: what the user declared.
        reference: ``module:attribute`` of the pipeline in the function's bundle.

    Raises:
        DefinitionError: the pipeline has no transform, or more than fit one template.
    """
    if not pipeline.transforms:
        raise DefinitionError(
            f'the pipeline {pipeline.name!r} has no transform; declare one with @pipeline.transform("folder/*.csv")'
        )
    lake = buckets(pipeline)
    topic = events.topic(pipeline)
    chains = [
        resource
        for each in pipeline.transforms
        for resource in transform.resources(each, pipeline, topic=topic, buckets=lake, reference=reference)
    ]
    subscriptions = [resource.title for resource in chains if resource.resource_type == "AWS::SNS::Subscription"]
    stores = [resource for bucket in lake.values() for resource in (bucket, bucket_policy(bucket))]
    resources = [*stores, *events.resources(pipeline, topic, after=subscriptions), *chains]
    if len(resources) > MOST_RESOURCES:
        raise DefinitionError(
            f"the {len(pipeline.transforms)} transforms of the pipeline {pipeline.name!r} need {len(resources)} "
            f"resources, and CloudFormation takes {MOST_RESOURCES}: make two pipelines of it"
        )
    template = Template(Description=f"Silversmith pipeline {pipeline.name}: {pipeline.bronze} to {pipeline.silver}")
    template.set_version("2010-09-09")
    template.add_parameter(Parameter("CodeBucket", Type="String", Description="The bucket with the functions' code"))
    template.add_parameter(Parameter("CodeKey", Type="String", Description="The key of the zip file with the code"))
    template.add_resource(resources)
    template.add_output(_outputs(pipeline))
    made = cast("dict[str, Any]", template.to_dict())
    return {section: made[section] for section in _SECTIONS}


def _outputs(pipeline: Pipeline) -> list[Output]:
    """What other stacks and the commands need to know."""
    return [
        Output("BronzeBucketName", Description="Where files land", Value=Ref("BronzeBucket")),
        Output("SilverBucketName", Description="Where the results are", Value=Ref("SilverBucket")),
        Output("QuarantineBucketName", Description="What cannot become silver, and why", Value=Ref("QuarantineBucket")),
        Output("TopicArn", Description="Every file that a transform wants: subscribe to it", Value=Ref("Topic")),
        Output("RuleDLQUrl", Description="Events that did not reach the topic", Value=Ref("RuleDLQ")),
        *(output for each in pipeline.transforms for output in transform.outputs(each)),
    ]
