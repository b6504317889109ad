"""``silversmith put``: files into bronze."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from silversmith.cli.opened import load_pipeline
from silversmith.cli.options import LAKE, PIPELINE, JsonOption, LakeOption, PipelineOption
from silversmith.cli.screen import say, say_json, warn
from silversmith.cli.text import size

if TYPE_CHECKING:
    from silversmith.operations.put import Put


def put(
    *files: Annotated[Path, Parameter(name="FILE", required=True, help="Files, and folders with all that is below.")],
    key: Annotated[
        str | None, Parameter(help="The key of the one file that is named; else it is the file's name.")
    ] = None,
    prefix: Annotated[str, Parameter(help="Goes before every key, with one / between.", show_default=False)] = "",
    pipeline: PipelineOption = PIPELINE,
    lake: LakeOption = LAKE,
    json: JsonOption = False,
) -> int:
    """Put files in bronze. Each is there at once and durably, or not at all.

    The key of a file is its name; of a file in a folder that is named, its path from that folder.
    """
    from silversmith.local.lake import LakeFolder
    from silversmith.operations import WrongCall
    from silversmith.operations.put import plan
    from silversmith.operations.put import put as put_files

    if key is not None and prefix:
        raise WrongCall("--key is the whole key; --prefix has nothing to go before. Give one of them.")
    definition = load_pipeline(pipeline)
    uploads = plan(files, key=key, prefix=prefix)
    folder = LakeFolder(lake)
    folder.create(definition.bronze)
    bronze = folder.store(definition.bronze, foreign_writers=True)
    done = []
    for found in put_files(uploads, definition, bronze, scratch=folder.scratch):
        done.append(found)
        _tell(found, quiet=json)
    if json:
        say_json({"put": [found.to_dict() for found in done]})
    elif not done:
        warn("there are no files in there")
    return 0


def _tell(found: Put, *, quiet: bool) -> None:
    from silversmith.local.landing import is_temporary

    if not quiet:
        say(f"{found.key}  {size(found.size)}  → {', '.join(found.transforms) or 'nothing'}")
    if not found.transforms:
        warn(f"no transform's pattern matches {found.key}: it lies in bronze, and nothing will be made of it")
    elif is_temporary(found.key):
        warn(f"{found.key} is named like a file that is not finished: the engine on this machine leaves it alone")
