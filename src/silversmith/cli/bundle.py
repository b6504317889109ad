"""``silversmith bundle``: the code as Lambda runs it, in a zip file."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from silversmith.cli.deployed import chosen
from silversmith.cli.options import PIPELINE, DeploymentOption, JsonOption, PipelineArgument, QuietOption
from silversmith.cli.screen import hush, say, say_json
from silversmith.cli.text import aligned
from silversmith.operations.text import size

if TYPE_CHECKING:
    from silversmith.aws.bundle import Bundle

#: How many of the largest packages are named.
NAMED = 8


def bundle(
    pipeline: PipelineArgument = PIPELINE,
    *,
    deployment: DeploymentOption = "",
    output: Annotated[Path | None, Parameter(help="The zip file to write; by default bundle.zip.")] = None,
    split: Annotated[
        Path | None,
        Parameter(help="Write function.zip and layer.zip into this folder instead, the packages in the latter."),
    ] = None,
    architecture: Annotated[
        Literal["arm64", "x86_64"] | None, Parameter(help="Lambda's machine; else what the deployment says.")
    ] = None,
    python: Annotated[Literal["3.12", "3.13", "3.14"], Parameter(help="Lambda's Python.")] = "3.13",
    quiet: QuietOption = False,
    json: JsonOption = False,
) -> int:
    """Gather the code that Lambda runs, with its packages, into a zip file. `silversmith deploy` does it by itself."""
    hush(quiet)
    from silversmith.operations import WrongCall

    if output is not None and split is not None:
        raise WrongCall("--output writes one file, --split two. Give one of them.")
    located, how = chosen(pipeline, deployment)
    from silversmith.aws.bundle import build
    from silversmith.aws.install import Runtime

    runtime = Runtime(architecture or how.architecture, python)
    with tempfile.TemporaryDirectory(prefix="silversmith-") as work:
        found = build(located, Path(work), runtime=runtime, include=how.include, extra=how.requirements)
        written = write(found, output or Path("bundle.zip"), split)
        if json:
            say_json(document(found, written))
        else:
            show(found, written)
    return 0


def write(found: Bundle, output: Path, split: Path | None) -> Sequence[Path]:
    """Write the zip, or two into the folder ``split``, and return what was written."""
    if split is not None:
        return found.write(split)
    found.write_whole(output)
    return [output]


def show(found: Bundle, written: Sequence[Path]) -> None:
    """For a person."""
    from silversmith.aws.tree import MOST_BYTES

    runtime = found.runtime
    say(f"for Lambda's Python {runtime.python} on {runtime.architecture}; versions: {found.origin}")
    largest = found.shares[:NAMED]
    for line in aligned([(size(share.size), share.name) for share in largest], right=[0]):
        say(f"  {line}")
    if len(found.shares) > NAMED:
        say(f"  … and {len(found.shares) - NAMED} smaller ones")
    say(f"{found.size / 2**20:.1f} MiB unzipped, of {MOST_BYTES / 2**20:.0f} that Lambda takes")
    for path in written:
        say(f"written: {path} ({size(path.stat().st_size)})")


def document(found: Bundle, written: Sequence[Path]) -> dict[str, Any]:
    """As JSON values."""
    return {
        "architecture": found.runtime.architecture,
        "python": found.runtime.python,
        "versions": found.origin,
        "digest": found.function_digest,
        "size": found.size,
        "packages": [{"name": share.name, "size": share.size} for share in found.shares],
        "written": [{"path": str(path), "size": path.stat().st_size} for path in written],
    }
