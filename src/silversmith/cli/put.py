"""``silversmith put``: files into bronze."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from silversmith.cli.bar import bar
from silversmith.cli.opened import load_pipeline, opened
from silversmith.cli.options import PIPELINE, JsonOption, PipelineOption, QuietOption
from silversmith.cli.screen import hush, say, say_json, warn
from silversmith.cli.where import HERE, Where
from silversmith.operations.text import size

if TYPE_CHECKING:
    from silversmith.operations.put import Put, Upload


def put(
    *files: Annotated[Path, Parameter(name="FILE", required=True, help="Files, and folders with all that is below.")],
    key: Annotated[
        str | None, Parameter(help="The key of the one file that is named; else it is the file's name.")
    ] = None,
    prefix: Annotated[str, Parameter(help="Goes before every key, with one / between.", show_default=False)] = "",
    pipeline: PipelineOption = PIPELINE,
    where: Where = HERE,
    quiet: QuietOption = False,
    json: JsonOption = False,
) -> int:
    """Put files in bronze. Each is there at once and durably, or not at all.

    The key of a file is its name; of a file in a folder that is named, its path from that folder.
    """
    hush(quiet)
    from silversmith.operations import WrongCall
    from silversmith.operations.put import plan

    if key is not None and prefix:
        raise WrongCall("--key is the whole key; --prefix has nothing to go before. Give one of them.")
    uploads = plan(files, key=key, prefix=prefix)
    done = []
    with bar("bytes", sum(upload.path.stat().st_size for upload in uploads), json=json) as advance:
        for found in _put(uploads, pipeline, where):
            done.append(found)
            _tell(found, where, quiet=json)
            advance(found.size)
    if json:
        say_json({"put": [found.to_dict() for found in done]})
    elif not done:
        warn("there are no files in there")
    return 0


def _put(uploads: Sequence[Upload], pipeline: str, where: Where) -> Iterator[Put]:
    from silversmith.operations.put import put as put_files

    if where.on_aws:
        with opened(pipeline, where) as (definition, target):
            yield from put_files(uploads, definition, target.lake.bronze, scratch=None)
        return
    from silversmith.local.lake import LakeFolder

    definition = load_pipeline(pipeline)
    folder = LakeFolder(where.lake)
    folder.create(definition.bronze)
    bronze = folder.store(definition.bronze, foreign_writers=True)
    yield from put_files(uploads, definition, bronze, scratch=folder.scratch)


def _uses(found: Put) -> list[str]:
    return [*found.transforms, *(f"lookup of {name}" for name in found.lookup_of)]


def _tell(found: Put, where: Where, *, quiet: bool) -> None:
    from silversmith.local.landing import is_temporary

    if not quiet:
        say(f"{found.key}  {size(found.size)}  → {', '.join(_uses(found)) or 'nothing'}")
    if not found.transforms and not found.lookup_of:
        warn(f"no transform's pattern matches {found.key}: it lies in bronze, and nothing will be made of it")
    elif is_temporary(found.key) and not where.on_aws:
        warn(f"{found.key} is named like a file that is not finished: the engine on this machine leaves it alone")
