"""A pipeline as a construct of the AWS CDK: the same template that ``silversmith deploy`` deploys, in a stack of yours.

It needs ``pip install 'silversmith[cdk]'``, and node, as every app of the CDK does. docs/iac.md
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

try:
    from aws_cdk import Annotations, Stack
    from aws_cdk import aws_lambda as lambda_
    from aws_cdk import aws_s3 as s3
    from aws_cdk import aws_sns as sns
    from aws_cdk import aws_sqs as sqs
    from aws_cdk.aws_ecr_assets import DockerImageAsset, Platform
    from aws_cdk.aws_s3_assets import Asset
    from aws_cdk.cloudformation_include import CfnInclude
    from constructs import Construct
except ModuleNotFoundError as error:
    raise ModuleNotFoundError("silversmith.cdk needs the AWS CDK: pip install 'silversmith[cdk]'") from error

from silversmith.aws.bundle import Bundle, build, build_tables
from silversmith.aws.deploy import LAYER_KEY, TABLES_LAYER_KEY, gather, gather_code
from silversmith.aws.image import write_context
from silversmith.aws.packages import Runtime
from silversmith.errors import DefinitionError
from silversmith.pipeline import Located, locate
from silversmith.pipeline import Pipeline as Definition
from silversmith.pipeline.deployment import Deployment, named
from silversmith.template.functions import IMAGE
from silversmith.template.plan import Plan, bucket_title, logical
from silversmith.template.tables import CODE_KEY as TABLES_CODE_KEY

__all__ = ["Pipeline"]


class Pipeline(Construct):  # type: ignore[misc]
    """All resources of a pipeline, with its code as assets, in the stack that the construct is made in.

    One stack takes one pipeline, whose name it should have, so that ``silversmith status --target aws`` and the other
    commands find it: ``Stack(app, "Flights", stack_name="flights")``.

    Args:
        scope: the stack, or a construct in it.
        construct_id: the construct's id.
        pipeline: ``path/to/file.py``, ``package.module:attribute``, or the pipeline itself, which a module must have.
        deployment: its options, or the name of a deployment in the pipeline's module. Options of the stack itself
            (``service_role``, ``termination_protection``) are the CDK's to set.
        build: gathers the code.
        build_tables: gathers that of the tables' function.

    Attributes:
        template: the included template: ``template.get_resource("SalesQueue")`` is the CDK's construct of it.
        buckets: by role: ``"bronze"``, ``"silver"``, ``"quarantine"``, with tables ``"gold"``; existing ones, too.
        topic: has every file that a transform wants.
        queues: by transform.
        dead_letter_queues: by transform.
        functions: by transform.

    Raises:
        DefinitionError: there is no such pipeline or deployment, or it cannot be deployed.
        BundleError: the code cannot be gathered.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        pipeline: str | Definition = "pipeline.py",
        deployment: str | Deployment = "",
        build: Callable[..., Bundle] = build,
        build_tables: Callable[..., Bundle] = build_tables,
    ) -> None:
        super().__init__(scope, construct_id)
        located = locate(pipeline if isinstance(pipeline, str) else _target(pipeline))
        options = deployment if isinstance(deployment, Deployment) else named(located.names, deployment)
        with tempfile.TemporaryDirectory(prefix="silversmith-") as work:  # an asset copies its file at once
            gathered = gather(located, Path(work), options, build=build, build_tables=build_tables)
            bundles: dict[tuple[str, str], Bundle] = {}
            parameters: dict[str, str] = {}
            if gathered.bundle is not None:
                bundles["CodeKey", LAYER_KEY] = gathered.bundle
            else:
                parameters[IMAGE] = self._image(located, options, Path(work), build)
            if gathered.tables is not None:
                bundles[TABLES_CODE_KEY, TABLES_LAYER_KEY] = gathered.tables
            for keys, bundle in bundles.items():
                written = bundle.write(Path(work, "zips", keys[0]))
                digests = bundle.function_digest, bundle.layer_digest  # with other packages it is other code, too
                for key, path, digest in zip(keys, written, digests, strict=True):
                    asset = Asset(self, key.removesuffix("Key"), path=str(path), asset_hash=digest)
                    parameters |= {key: asset.s3_object_key, "CodeBucket": asset.s3_bucket_name}
            document = Path(work, "template.json")
            document.write_text(json.dumps(gathered.template), "ascii")
            self.template = CfnInclude(self, "Template", template_file=str(document), parameters=parameters)
        self._expose(Plan.of(located.pipeline, options, located.reference))

    def _image(self, located: Located, options: Deployment, work: Path, build: Callable[..., Bundle]) -> str:
        """The URI of the image, which the CDK builds and pushes."""
        code = gather_code(located, work / "transforms", options, Runtime(options.architecture), build=build)
        write_context(code, work / "image")
        platform = Platform.LINUX_ARM64 if options.architecture == "arm64" else Platform.LINUX_AMD64
        return str(DockerImageAsset(self, "Image", directory=str(work / "image"), platform=platform).image_uri)

    def _expose(self, plan: Plan) -> None:
        def arn(title: str) -> Any:
            return self.template.get_resource(title).attr_arn

        names = [transform.name for transform in plan.transforms]
        self.buckets = {
            role: s3.Bucket.from_cfn_bucket(self.template.get_resource(bucket_title(role)))
            if plan.makes(role)
            else s3.Bucket.from_bucket_name(self, bucket_title(role), name)
            for role, name in plan.buckets.items()
        }
        self.topic = sns.Topic.from_topic_arn(self, "Topic", self.template.get_resource("Topic").ref)
        self.queues, self.dead_letter_queues = (
            {name: sqs.Queue.from_queue_arn(self, logical(name, kind), arn(logical(name, kind))) for name in names}
            for kind in ("Queue", "QueueDLQ")
        )
        self.functions = {
            name: lambda_.Function.from_function_attributes(
                self, logical(name, "Function"), function_arn=arn(logical(name, "Function")), same_environment=True
            )
            for name in names
        }
        if Stack.of(self).stack_name != plan.name:
            Annotations.of(self).add_warning_v2(
                "silversmith:stack-name",
                f"Silversmith's commands look for the pipeline in the stack {plan.name!r}: give the stack that name, "
                f'Stack(app, …, stack_name="{plan.name}")',
            )


def _target(pipeline: Definition) -> str:
    """The place of a pipeline that somebody has imported.

    Raises:
        DefinitionError: no module has it.
    """
    for name, module in [*sys.modules.items()]:
        for attribute, value in [*getattr(module, "__dict__", {}).items()]:
            if value is pipeline:
                file = getattr(module, "__file__", None)
                return f"{file}:{attribute}" if file and name == "__main__" else f"{name}:{attribute}"
    raise DefinitionError(
        f"no module has the pipeline {pipeline.name!r} as an attribute: its functions on AWS could not import it. Give "
        'its place: pipeline="pipeline.py"'
    )
