"""From the definition to one CloudFormation template: AWS executes it, and the local engine reads it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

from troposphere import AWSObject, GetAtt, Output, Parameter, Ref, Tags, Template

from silversmith.errors import DefinitionError
from silversmith.pipeline import Pipeline
from silversmith.pipeline.deployment import Deployment
from silversmith.template import alarms, buckets, encryption, events, reconciler, transform
from silversmith.template.plan import Plan
from silversmith.template.transform import LONGEST_CODE_KEY

#: CloudFormation's limit for one template.
#: https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/cloudformation-limits.html
MOST_RESOURCES = 500

_SECTIONS = ("AWSTemplateFormatVersion", "Description", "Parameters", "Resources", "Outputs")


def compile(  # noqa: A001 -- what it does
    pipeline: Pipeline, reference: str = "pipeline:pipeline", *, deployment: Deployment | None = None
) -> dict[str, Any]:
    """The template of a pipeline, as JSON values: the same for the same definition, in the same order.

    Args:
        pipeline: what the user declared.
        reference: ``module:attribute`` of the pipeline in the function's bundle.
        deployment: how to deploy it; without one, as every option is by default.

    Raises:
        DefinitionError: the pipeline has no transform, or more than fit one template; or the deployment does not fit
            the pipeline.
    """
    if not pipeline.transforms:
        raise DefinitionError(
            f'the pipeline {pipeline.name!r} has no transform; declare one with @pipeline.transform("folder/*.csv")'
        )
    plan = Plan.of(pipeline, deployment or Deployment(), reference)
    resources = _resources(plan)
    if len(resources) > MOST_RESOURCES:
        raise DefinitionError(
            f"the {len(pipeline.transforms)} transforms of the pipeline {pipeline.name!r} need {len(resources)} "
            f"resources, and CloudFormation takes {MOST_RESOURCES}: make two pipelines of it"
        )
    template = Template(
        Description=f"Silversmith pipeline {plan.name}: {plan.buckets['bronze']} to {plan.buckets['silver']}"
    )
    template.set_version("2010-09-09")
    template.add_parameter(Parameter("CodeBucket", Type="String", Description="The bucket with the functions' code"))
    template.add_parameter(
        Parameter(
            "CodeKey",
            Type="String",
            MaxLength=LONGEST_CODE_KEY,
            Description="The key of the zip file with the code: another key for other code",
        )
    )
    template.add_resource(resources)
    template.add_output(_outputs(plan))
    made = cast("dict[str, Any]", template.to_dict())
    return {section: made[section] for section in _SECTIONS}


def _resources(plan: Plan) -> list[AWSObject]:
    """Everything, tagged."""
    chains = [(each.name, transform.resources(each, plan)) for each in plan.transforms]
    subscriptions = [
        resource.title
        for _, chain in chains
        for resource in chain
        if resource.resource_type == "AWS::SNS::Subscription"
    ]
    own = [
        *encryption.key(plan),
        *buckets.resources(plan),
        *alarms.mail(plan),
        *events.resources(plan, after=subscriptions),
    ]
    return [
        *_tagged(own, plan),
        *(resource for name, chain in chains for resource in _tagged(chain, plan, name)),
        *_tagged(reconciler.resources(plan), plan),
    ]


def _tagged(resources: Iterable[AWSObject], plan: Plan, transform: str = "") -> Iterable[AWSObject]:
    """The user's tags, and what costs and consoles can be searched by, on all that take tags."""
    ours = {"silversmith:pipeline": plan.name, **({"silversmith:transform": transform} if transform else {})}
    for resource in resources:
        if "Tags" in resource.props:
            resource.Tags = Tags(**{**ours, **plan.options.tags})
        yield resource


def _outputs(plan: Plan) -> list[Output]:
    """What other stacks and the commands need to know."""
    key = [Output("KeyArn", Description="What everything is encrypted with", Value=GetAtt("Key", "Arn"))]
    return [
        *buckets.outputs(plan),
        Output("TopicArn", Description="Every file that a transform wants: subscribe to it", Value=Ref("Topic")),
        Output("RuleDLQUrl", Description="Events that did not reach the topic", Value=Ref("RuleDLQ")),
        *(output for each in plan.transforms for output in transform.outputs(each)),
        *reconciler.outputs(plan),
        *(key if plan.key is not None else []),
    ]
