"""``silversmith erase``: delete everything that came of bronze keys, and say what was done in a report to be filed."""

from __future__ import annotations

import json as json_module
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from silversmith.cli import completion
from silversmith.cli.options import (
    HERE,
    PIPELINE,
    JsonOption,
    PipelineOption,
    QuietOption,
    Where,
    YesOption,
    flag,
    open_target,
)
from silversmith.cli.screen import can_ask, confirm, say, say_json, set_quiet, warn
from silversmith.errors import count
from silversmith.operations import WrongCall
from silversmith.operations.text import shown

if TYPE_CHECKING:
    from silversmith.operations.erase import ErasePlan, EraseReport

#: So many objects are named before the question; all are in the report.
MOST_NAMED = 20


def erase(
    *keys: Annotated[
        str, Parameter(name="KEY", completer=completion.keys, help="Keys in bronze, as in people/2026-01.csv.")
    ],
    from_file: Annotated[
        Path | None, Parameter(name="--from", help="A text file in UTF-8 with more keys, one on each line.")
    ] = None,
    keep_bronze: Annotated[
        bool, flag("Erase only what was made of them; bronze stays as it is.", "--keep-bronze")
    ] = False,
    lookups: Annotated[bool, flag("Erase keys even if a transform reads them as lookups.", "--lookups")] = False,
    report: Annotated[Path | None, Parameter(help="Write the report to this file, as JSON.")] = None,
    dry_run: Annotated[bool, flag("Only say what would be erased.", "--dry-run")] = False,
    yes: YesOption = False,
    pipeline: PipelineOption = PIPELINE,
    where: Where = HERE,
    quiet: QuietOption = False,
    json: JsonOption = False,
) -> int:
    """Erase everything that came of bronze keys: all versions, results, rows in tables and their history, messages.

    It cannot be undone. What is left is looked for in the end; the exit code is 1 where something is.
    """
    set_quiet(quiet)
    from silversmith.operations.erase import Erasure

    chosen = [*keys, *(_keys_in(from_file) if from_file is not None else ())]
    if report is not None and not report.absolute().parent.is_dir():
        raise WrongCall(f"--report: there is no folder {report.absolute().parent}")
    with open_target(pipeline, where, writable=not dry_run) as (definition, target):
        erasure = Erasure(chosen, definition, target, keep_bronze=keep_bronze, lookups=lookups)
        plan = erasure.find()
        if not json:
            _show_plan(plan, target.place)
        if dry_run:
            if json:
                say_json({"dry_run": True, **plan.to_dict()})
            return 0
        if not yes and not can_ask():
            raise WrongCall(
                "nobody can be asked, because this is no terminal. Look with --dry-run, and say yes with --yes"
            )
        if not yes and not confirm(f"Erase all of this from {target.place}? It cannot be undone."):
            return 1
        done = erasure.run()
    if report is not None:
        report.write_text(json_module.dumps(done.to_dict(), indent=2) + "\n", "utf-8")
    if json:
        say_json(done.to_dict())
    else:
        _show_report(done)
    return 0 if done.verified else 1


def _keys_in(path: Path) -> Sequence[str]:
    try:
        text = path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise WrongCall(f"--from {path}: it is no text in UTF-8: {error}") from None
    return [line for line in text.split("\n") if line]


def _show_plan(plan: ErasePlan, place: str) -> None:
    by_bucket = Counter((each.bucket, each.kind) for each in plan.objects)
    say(f"{count(len(plan.keys), 'key')} in {place}:", style="bold")
    for each in plan.objects[:MOST_NAMED]:
        version = f"  version {each.version}" if each.version else ""
        say(f"  {each.bucket}/{shown(each.key)}  ({each.kind}{version})")
    if len(plan.objects) > MOST_NAMED:
        totals = ", ".join(f"{number:,} {kind} in {bucket}" for (bucket, kind), number in by_bucket.items())
        say(f"  … in all {totals}")
    for table in plan.tables:
        rows = f"rows of {count(table.keys, 'key')}, {table.old_files:,} older data files with such rows; " * bool(
            table.keys or table.old_files
        )
        say(f"  {table.table}: {rows}its older versions go")
    for kind, number in plan.records.items():
        say(f"  {number:,} {kind}")
    for name in plan.schemas:
        say(f"  the recorded schema of {name} names a key: the name goes, the columns stay")
    if plan.undo_copies:
        say(f"  {plan.undo_copies:,} copies of uploads that a page can undo")
    _show_notes(plan.notes)
    for problem in plan.problems:
        warn(f"{problem.place}: {problem.reason}")
    known = {key for key in plan.keys if any(key in each.key for each in plan.objects)}
    for key in [key for key in plan.keys if key not in known][:MOST_NAMED]:
        warn(f"no object was found of {shown(key)}: is the key right? `silversmith trace` shows keys like it")


def _show_notes(notes: Sequence[str]) -> None:
    for note in notes:
        say(f"  note: {note}", style="yellow")


def _show_report(done: EraseReport) -> None:
    say(f"deleted: {count(len(done.deleted), 'version')} of objects", style="bold")
    for history in done.histories:
        say(
            f"  {history.table}: versions before {history.version} are gone, with "
            f"{count(len(history.data_files), 'data file')} and {count(history.log_files, 'file')} of the log"
        )
    for each in done.left:
        version = f" version {each.version}" if each.version else ""
        warn(
            f"LEFT  {each.place}/{shown(each.key)}{version}: {each.reason}"
            if each.key
            else f"LEFT  {each.place}: {each.reason}"
        )
    say("looked again: nothing is left" if done.verified else f"{count(len(done.left), 'thing')} left: see above")
