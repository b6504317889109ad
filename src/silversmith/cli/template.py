"""``silversmith template``: the CloudFormation template that the pipeline compiles to."""

from __future__ import annotations

import json as text
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from silversmith.cli.opened import locate_pipeline
from silversmith.cli.options import PIPELINE, DeploymentOption, JsonOption, PipelineArgument
from silversmith.cli.screen import say_json


def template(
    pipeline: PipelineArgument = PIPELINE,
    *,
    deployment: DeploymentOption = "",
    output: Annotated[Path | None, Parameter(help="Write it to this file; else it is printed.")] = None,
    json: JsonOption = False,
) -> int:
    """Print the CloudFormation template that the pipeline compiles to. It is JSON, with ``--json`` and without."""
    del json
    from silversmith.pipeline.deployment import named
    from silversmith.template import compile as compile_template

    found = locate_pipeline(pipeline)
    compiled = compile_template(found.pipeline, found.reference, deployment=named(found.names, deployment))
    if output is None:
        say_json(compiled)
    else:
        output.write_text(text.dumps(compiled, indent=2) + "\n", encoding="ascii")
    return 0
