"""From the definition to one CloudFormation template: AWS executes it, and the local engine reads it.

``transform``, ``tables``, ``reconciler`` and ``buckets`` put together the building blocks of ``messaging``,
``functions``, ``permissions`` and ``alarms``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, cast

from troposphere import AWSObject, GetAtt, Output, Parameter, Ref, Tags, Template

from silversmith.errors import DefinitionError
from silversmith.pipeline import Pipeline
from silversmith.pipeline.deployment import Deployment, Patch, on_this_machine
from silversmith.pipeline.since import DEPLOY
from silversmith.template import alarms, buckets, messaging, permissions, reconciler, tables, transform
from silversmith.template.functions import IMAGE, LONGEST_CODE_KEY, LONGEST_IMAGE
from silversmith.template.plan import Plan, bucket_title, since_parameter
from silversmith.usercode.loading import user_traceback

#: CloudFormation's limit for one template.
#: https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/cloudformation-limits.html
MOST_RESOURCES = 500

#: The form of a transform's ``since``: ISO 8601 in UTC, to the second.
MOMENT = r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\+00:00"

_SECTIONS = ("AWSTemplateFormatVersion", "Description", "Parameters", "Resources", "Outputs")


def compile(  # noqa: A001 -- it compiles
    pipeline: Pipeline, reference: str = "pipeline:pipeline", *, deployment: Deployment | None = None
) -> dict[str, Any]:
    """The template of a pipeline, as JSON values: the same for the same definition, in the same order.

    Args:
        pipeline: the user's definition.
        reference: ``module:attribute`` of the pipeline in the function's bundle.
        deployment: how to deploy it; by default, every option has its default.

    Raises:
        DefinitionError: the pipeline has no transform, or more than fit one template; or the deployment does not fit
            the pipeline, or its patch makes no template; or it has tables, and the packages for them are not installed.
    """
    if not pipeline.transforms:
        raise DefinitionError(
            f'the pipeline {pipeline.name!r} has no transform; declare one with @pipeline.transform("folder/*.csv")'
        )
    if pipeline.tables:
        tables.require_packages(pipeline.name)
    plan = Plan.of(pipeline, deployment or Deployment(), reference)
    resources = _resources(plan)
    if len(resources) > MOST_RESOURCES:
        raise DefinitionError(
            f"the {_counted(pipeline)} of the pipeline {pipeline.name!r} need {len(resources)} "
            f"resources, and CloudFormation takes {MOST_RESOURCES}: make two pipelines of it"
        )
    template = Template(
        Description=f"Silversmith pipeline {plan.name}: {plan.buckets['bronze']} to {plan.buckets['silver']}"
    )
    template.set_version("2010-09-09")
    code_key, code_text = "CodeKey", "The key of the zip file with the code: another key for other code"
    longest = LONGEST_CODE_KEY
    if plan.options.image:
        code_key, longest = IMAGE, LONGEST_IMAGE
        code_text = "The URI of the image with the code, in ECR: another tag or digest for other code"
    if plan.tables or not plan.options.image:
        text = "The bucket with the functions' code"
        template.add_parameter(Parameter("CodeBucket", Type="String", Description=text))
    template.add_parameter(Parameter(code_key, Type="String", MaxLength=longest, Description=code_text))
    if plan.tables:
        template.add_parameter(
            Parameter(tables.CODE_KEY, Type="String", Description="The key of the zip file with the tables' code")
        )
    for each in plan.transforms:
        if each.since == DEPLOY:
            text = f"When the transform {each.name} was first deployed, in ISO 8601: it takes files from then on"
            parameter = Parameter(since_parameter(each.name), Type="String", AllowedPattern=MOMENT, Description=text)
            template.add_parameter(parameter)
    template.add_resource(resources)
    template.add_output(_outputs(plan))
    sections = cast("dict[str, Any]", template.to_dict())
    compiled = {section: sections[section] for section in _SECTIONS}
    return compiled if plan.options.patch is None else patched(compiled, plan.options.patch)


def compile_for_engine(pipeline: Pipeline) -> dict[str, Any]:
    """The template that the local engine runs: with the patch of the deployment, if it has one.

    Raises:
        DefinitionError: as :func:`compile` does, or it is not clear which patch.
    """
    return compile(pipeline, deployment=on_this_machine(pipeline.module_names))


def _counted(pipeline: Pipeline) -> str:
    """How many transforms, tables and views there are."""
    counts = {
        "transforms": len(pipeline.transforms),
        "tables": len(pipeline.tables.tables),
        "views": len(pipeline.tables.views),
    }
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count)


def _resources(plan: Plan) -> list[AWSObject]:
    """All resources, tagged."""
    chains = [(each.name, transform.resources(each, plan)) for each in plan.transforms]
    subscriptions = [
        resource.title
        for _, chain in chains
        for resource in chain
        if resource.resource_type == "AWS::SNS::Subscription"
    ]
    shared = [
        *permissions.customer_key(plan),
        *buckets.resources(plan),
        *alarms.mail(plan),
        *messaging.routing(
            plan,
            messaging.bronze_patterns(plan),
            description="Files in bronze that a transform wants",
            undelivered="an event did not reach the topic: see `silversmith failures`, then `silversmith redrive`",
            after=subscriptions,
        ),
    ]
    return [
        *_tagged(shared, plan),
        *(resource for name, chain in chains for resource in _tagged(chain, plan, name)),
        *_tagged(tables.resources(plan), plan),
        *_tagged(reconciler.resources(plan), plan),
    ]


def _tagged(resources: Iterable[AWSObject], plan: Plan, transform: str = "") -> Iterable[AWSObject]:
    """The user's tags, and our own by which costs and consoles can be searched, on all resources that take tags."""
    ours = {"silversmith:pipeline": plan.name, **({"silversmith:transform": transform} if transform else {})}
    for resource in resources:
        if "Tags" in resource.props:
            resource.Tags = Tags(**{**ours, **plan.options.tags})
        yield resource


def _outputs(plan: Plan) -> list[Output]:
    """The names that other stacks and the commands need to know."""
    descriptions = {
        "bronze": "Where files land",
        "silver": "Where the results are",
        "quarantine": "What cannot become silver, and why",
        "gold": "Where the tables are",
    }
    key = [Output("KeyArn", Description="What everything is encrypted with", Value=GetAtt("Key", "Arn"))]
    return [
        *(
            Output(
                f"{bucket_title(role)}Name",
                Description=descriptions[role],
                Value=Ref(bucket_title(role)) if plan.makes(role) else name,
            )
            for role, name in plan.buckets.items()
        ),
        Output("TopicArn", Description="Every file that a transform wants: subscribe to it", Value=Ref("Topic")),
        Output("RuleDLQUrl", Description="Events that did not reach the topic", Value=Ref("RuleDLQ")),
        *(output for each in plan.transforms for output in transform.outputs(each)),
        *tables.outputs(plan),
        *reconciler.outputs(plan),
        *(key if plan.key is not None else []),
    ]


def patched(template: dict[str, Any], patch: Patch) -> dict[str, Any]:
    """The template after the patch: what it returns, or the template itself, which it may edit.

    Raises:
        DefinitionError: it raised, or what it made is no template.
    """
    name = getattr(patch, "__qualname__", repr(patch))
    try:
        answer = patch(template)
    except Exception as error:
        raise DefinitionError(user_traceback(f"the patch {name}", error, "failed")) from error
    result = template if answer is None else answer
    if problem := _problem(result):
        raise DefinitionError(
            f"the patch {name} makes no template: {problem}. It gets the template as a dictionary, and edits it or "
            "returns another one"
        )
    plain: dict[str, Any] = json.loads(json.dumps(result))
    return plain


def _problem(template: object) -> str:
    if not isinstance(template, dict):
        return f"it returned {type(template).__name__}"
    try:
        json.dumps(template, allow_nan=False)
    except (TypeError, ValueError) as error:
        return f"it is no JSON: {error}"
    for section in ("Parameters", "Resources", "Outputs"):
        if not isinstance(template.get(section, {}), dict):
            return f"{section} is {type(template[section]).__name__}, no dictionary"
    for logical, resource in template.get("Resources", {}).items():
        if not isinstance(resource, dict) or not isinstance(resource.get("Type"), str):
            return f'the resource {logical} has no Type: {{"Type": "AWS::…", "Properties": {{…}}}}'
        if not isinstance(resource.get("Properties", {}), dict):
            return f"the Properties of the resource {logical} are no dictionary"
    return "" if template.get("Resources") else "it has no Resources"
