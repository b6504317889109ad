"""``silversmith check``: what a run would make of files, without a lake."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from silversmith.cli.bar import bar
from silversmith.cli.options import LAKE, QuietOption
from silversmith.cli.screen import hush, say, say_json, say_lines
from silversmith.operations.text import count, shown

if TYPE_CHECKING:
    from silversmith.operations.check import Checked


def check(
    *files: Annotated[Path, Parameter(name="FILE", required=True, help="Files, and folders with all that is below.")],
    pipeline: Annotated[
        str | None,
        Parameter(help="Check against this pipeline's transforms; else files are only read, with no contract."),
    ] = None,
    lake: Annotated[Path, Parameter(help="The folder that holds the buckets: lookups are read from there.")] = LAKE,
    quiet: QuietOption = False,
    json: Annotated[
        bool,
        Parameter(
            negative=(), show_default=False, help="Print one JSON object on a line for each file, as it is done."
        ),
    ] = False,
) -> int:
    """Show what a run would make of files, without a lake and without writing anything.

    Exit code 0: all would become silver. 1: one would not.
    """
    hush(quiet)
    from silversmith.cli.opened import load_pipeline
    from silversmith.operations.check import check as check_files
    from silversmith.operations.check import plan

    definition = load_pipeline(pipeline) if pipeline is not None else None
    jobs = plan(files, definition)
    good = True
    with bar("files", len(jobs), json=json) as advance:
        for found in check_files(jobs, definition, pipeline, lake):
            good = good and found.outcome == "silver"
            if json:
                say_json(found.to_dict(), indent=None)
            else:
                _tell(found)
            advance(1)
    return 0 if good else 1


def _tell(found: Checked) -> None:
    whose = f"  ({found.transform})" if found.transform else ""
    name = f"{shown(found.file)}{whose}"
    if found.error is None:
        how = ", ".join(f"{name} {value!r}" for name, value in found.dialect.items() if value is not None)
        rejected = f", {count(found.rejected, 'row')} rejected" if found.rejected else ""
        say(f"{name}  silver: {count(found.rows, 'row')}{rejected}; {found.format}{f' ({how})' if how else ''}")
        for row in found.first:
            say(f"  row {row['row']:,}: {'; '.join(row['reasons'])}", style="red")
        if found.rejected > len(found.first) > 0:
            say(f"  … and {found.rejected - len(found.first):,} more")
        return
    say(f"{name}  {found.outcome}: {found.error['code']}", style="red")
    say_lines(found.error["message"], indent="  ")
    if found.error["place"]:
        from silversmith.cli.failures import describe

        say(f"  at {describe(found.error['place'])}")
    if found.error["hint"]:
        say_lines(found.error["hint"], indent="  ")
