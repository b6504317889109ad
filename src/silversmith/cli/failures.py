"""``silversmith failures``: what failed, and why."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter, validators

from silversmith.cli.filters import key_pattern
from silversmith.cli.opened import opened
from silversmith.cli.options import PIPELINE, JsonOption, PipelineArgument
from silversmith.cli.screen import say, say_json, say_lines
from silversmith.cli.where import HERE, Where
from silversmith.operations.text import count, duration, shown

if TYPE_CHECKING:
    from silversmith.operations.documents import ErrorDocument
    from silversmith.operations.failures import Failures, RejectedFiles, Wanted
    from silversmith.operations.rejected import RejectedFile
    from silversmith.operations.target import DeadMessage


def failures(
    pipeline: PipelineArgument = PIPELINE,
    *,
    transform: Annotated[str | None, Parameter(help="Only this transform's.")] = None,
    key: Annotated[str | None, Parameter(help="Only of keys that match, as in 'flights/*.csv'.")] = None,
    limit: Annotated[
        int, Parameter(validator=validators.Number(gte=1), help="Show at most so many of each kind; all are counted.")
    ] = 100,
    rejected: Annotated[
        bool, Parameter(negative=(), show_default=False, help="Show files of which rows were rejected instead.")
    ] = False,
    where: Where = HERE,
    json: JsonOption = False,
) -> int:
    """Show what failed and why: files in quarantine, and messages in dead-letter queues."""
    from silversmith.operations import failures as operations

    with opened(pipeline, where) as (definition, target):
        wanted = _wanted(transform, key, limit)
        if rejected:
            files = operations.rejected(definition, target, wanted)
            say_json(files.to_dict()) if json else _show_rejected(files)
        else:
            found = operations.failures(definition, target, wanted, now=time.time())
            say_json(found.to_dict()) if json else _show(found)
    return 0


def _wanted(transform: str | None, key: str | None, limit: int) -> Wanted:
    from silversmith.operations.failures import Wanted

    return Wanted(transform, key_pattern(key, "--key"), limit)


def _show(found: Failures) -> None:
    if not found.quarantined_total and not found.dead_total:
        say("nothing failed")
        return
    if found.quarantined_total:
        say(f"{count(found.quarantined_total, 'file')} in quarantine", style="bold")
        for document in found.quarantined:
            show_document(document, found.now)
        _more(found.quarantined_total - len(found.quarantined))
    if found.dead_total:
        say(f"{count(found.dead_total, 'message')} in dead-letter queues", style="bold")
        for message in found.dead:
            _show_dead(message, found.now)
        _more(found.dead_total - len(found.dead))


def _more(number: int) -> None:
    if number:
        say(f"  … and {number:,} more; see them with --limit, --transform or --key")
    say()


def show_document(document: ErrorDocument, now: float, indent: str = "  ") -> None:
    """Why a file cannot become silver, in a few lines."""
    from silversmith.operations.text import age, moment

    since = age(moment(document.at), now)
    ago = f", {duration(since)} ago" if since is not None else ""
    say(f"{indent}{shown(document.key)}  ({document.transform}{ago})")
    say_lines(f"{document.code}: {document.message}", f"{indent}  ", style="red")
    if place := describe(document.place):
        say(f"{indent}  at {place}")
    if document.hint:
        say(f"{indent}  {document.hint}")


def describe(place: Mapping[str, Any]) -> str:
    """Where in a file something is wrong: ``line 3, column 'distance': 'abc'``."""
    parts = [f"{name} {place[name]}" for name in ("line", "row") if name in place]
    if "column" in place:
        parts.append(f"column {place['column']!r}")
    text = ", ".join(parts)
    return f"{text}: {place['text']!r}" if "text" in place else text


def _show_dead(message: DeadMessage, now: float) -> None:
    from silversmith.operations.text import age

    since = age(message.dead_at if message.dead_at is not None else message.sent, now)
    whose = message.transform or "every transform that matches"
    say(f"  {shown(message.key)}  ({whose}, {message.kind.value} {message.source}, {duration(since)} ago)")
    say(f"    {message.reason}", style="red")
    if message.error:
        tries = f" after {count(message.attempts, 'attempt')}" if message.attempts else ""
        say(f"    the last error{tries}: {message.error.get('code', '')}")
        say_lines(str(message.error.get("message", "")), indent="      ")
    if message.log_stream:
        say(f"    its log: {message.log_group}, stream {message.log_stream}, request {message.request_id}")


def show_rows(file: RejectedFile, indent: str) -> None:
    """Why the first of a file's rejected rows were."""
    for row in file.first:
        number = "a row" if row.row is None else f"row {row.row:,}"
        say(f"{indent}{number}: {'; '.join(row.reasons)}", style="red")
    if file.first and file.rows > len(file.first):
        say(f"{indent}… and {file.rows - len(file.first):,} more")


def _show_rejected(found: RejectedFiles) -> None:
    if not found.total:
        say("no rows were rejected")
        return
    say(f"{count(found.total, 'file')} with rejected rows", style="bold")
    for file in found.files:
        say(f"  {shown(file.key)}  ({file.transform})  {count(file.rows, 'row')} rejected")
        show_rows(file, indent="    ")
        say(f"    they are in quarantine: {file.document}")
    _more(found.total - len(found.files))
