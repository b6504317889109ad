"""``silversmith init``: a new pipeline project."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from silversmith.cli.options import JsonOption, QuietOption
from silversmith.cli.screen import hush, say, say_json


def init(
    folder: Annotated[Path, Parameter(name="DIR", help="The folder of the project; its name becomes the project's.")],
    *,
    example: Annotated[
        str | None,
        Parameter(
            help="Begin with an example instead: messy-csv, music-api (nested JSON), or meter-readings (binary)."
        ),
    ] = None,
    quiet: QuietOption = False,
    json: JsonOption = False,
) -> int:
    """Write a new pipeline project: a pipeline, tests, sample data, and a CI workflow. Overwrites nothing."""
    hush(quiet)
    from silversmith.project import plan, write

    project = plan(folder, example, ending=os.urandom(4).hex())
    written = write(project)
    if json:
        say_json({"name": project.name, "folder": str(folder), "written": [str(path) for path in written]})
        return 0
    for path in written:
        say(path)
    say()
    say(f"{project.name} is ready. Next:")
    for command in _next(folder):
        say(f"  {command}")
    return 0


def _next(folder: Path) -> list[str]:
    go = [] if folder.resolve() == Path.cwd() else [f"cd {shlex.quote(str(folder))}"]
    return [*go, "pytest", "silversmith put data", "silversmith run --until-idle"]
