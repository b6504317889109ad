"""The options that several commands share, so that they are named and explained once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

#: Which pipeline, as a command's argument; as an option it is understood, too, so that all commands are called alike.
PipelineArgument = Annotated[
    str,
    Parameter(name="--pipeline", help="The pipeline: path/to/file.py, or package.module:attribute.", show_default=True),
]

#: Which pipeline, for commands whose argument is something else.
PipelineOption = Annotated[
    str, Parameter(name="--pipeline", help="The pipeline: path/to/file.py, or package.module:attribute.")
]

LakeOption = Annotated[Path, Parameter(name="--lake", help="The folder that holds the buckets.")]

JsonOption = Annotated[
    bool, Parameter(name="--json", negative=(), show_default=False, help="Print one JSON document, and nothing else.")
]

QuietOption = Annotated[
    bool,
    Parameter(
        name=["--quiet", "-q"],
        negative=(),
        show_default=False,
        help="Say nothing but what went wrong; the exit code tells the rest.",
    ),
]

DryRunOption = Annotated[
    bool, Parameter(name="--dry-run", negative=(), show_default=False, help="Only say what would be sent.")
]

DeploymentOption = Annotated[
    str,
    Parameter(
        name="--deployment",
        show_default=False,
        help="Which of the Deployments in the pipeline's file, by its name there; else the one called `deployment`.",
    ),
]

EndpointOption = Annotated[
    str | None,
    Parameter(name="--endpoint-url", show_default=False, help="Another place than AWS: the URL of a stand-in for it."),
]

#: The defaults, for every command alike.
PIPELINE = "pipeline.py"
LAKE = Path("lake")
