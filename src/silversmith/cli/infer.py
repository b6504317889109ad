"""``silversmith infer``: a contract from files."""

from __future__ import annotations

import keyword
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from silversmith.cli.options import JsonOption
from silversmith.cli.screen import say_json, warn


def infer(
    *files: Annotated[Path, Parameter(name="FILE", required=True, help="Files, and folders with all that is below.")],
    name: Annotated[str, Parameter(help="What the contract is called in the file.")] = "contract",
    output: Annotated[
        Path | None,
        Parameter(help="Write it there, where no file is yet; else it is printed.", show_default=False),
    ] = None,
    pipeline: Annotated[
        str | None,
        Parameter(
            help="Read the files as this pipeline's transforms would; else it is found out how.", show_default=False
        ),
    ] = None,
    json: JsonOption = False,
) -> int:
    """Write a contract that holds for these files, as a Python file that you edit.

    Types, and the columns that are never null, are what all rows of all files have; what else may be meant (a key,
    allowed values, ranges) stands there as a comment.
    """
    from silversmith.cli.opened import load_pipeline
    from silversmith.operations import WrongCall
    from silversmith.operations.check import plan
    from silversmith.operations.contract_source import python
    from silversmith.operations.infer import infer as look

    if not name.isidentifier() or keyword.iskeyword(name):
        raise WrongCall(f"--name {name!r} is no name of a variable in Python")
    if output is not None and output.exists():
        raise WrongCall(f"{output} is there already: it may have been edited. Choose another --output.")
    definition = load_pipeline(pipeline) if pipeline is not None else None
    found = look(plan(files, definition), definition)
    source = python(found, name)
    if output is not None:
        with output.open("x", encoding="utf-8") as file:
            file.write(source)
        warn(f"wrote {output}; say contract={name} where the transform is declared")
    if json:
        say_json(
            {
                "files": [file.to_dict() for file in found.files],
                "columns": [column.to_dict() for column in found.columns],
                "source": source,
                "written": str(output) if output is not None else None,
            }
        )
    elif output is None:
        sys.stdout.write(source)
    return 0
