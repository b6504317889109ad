"""Where a command works: over a lake on this machine, or over a deployed pipeline."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from silversmith.cli.options import LAKE, DeploymentOption, EndpointOption, LakeOption


@Parameter(name="*")
@dataclass(frozen=True)
class Where:
    """The options that say so. ``deployment`` and ``endpoint_url`` are AWS's, ``lake`` is this machine's."""

    target: Annotated[
        Literal["local", "aws"],
        Parameter(help="Where: the lake on this machine, or the stack that `silversmith deploy` made."),
    ] = "local"
    lake: LakeOption = LAKE
    deployment: DeploymentOption = ""
    endpoint_url: EndpointOption = None

    @property
    def on_aws(self) -> bool:
        """Whether it is a deployed pipeline.

        Raises:
            WrongCall: options that exclude each other.
        """
        from silversmith.operations import WrongCall

        if self.target == "local" and (self.deployment or self.endpoint_url):
            raise WrongCall("--deployment and --endpoint-url are for --target aws: add that")
        if self.target == "aws" and self.lake != Path(LAKE):
            raise WrongCall("--lake is for --target local; a deployed pipeline is found by its name and --deployment")
        return self.target == "aws"


#: The default, for every command alike.
HERE = Where()
