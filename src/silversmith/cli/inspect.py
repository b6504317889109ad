"""``silversmith status``, ``failures``, ``trace`` and ``schema``: where everything is, and what happened to it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter, validators

from silversmith.cli.options import (
    HERE,
    PIPELINE,
    JsonOption,
    PipelineArgument,
    PipelineOption,
    Where,
    key_pattern,
    opened,
)
from silversmith.cli.screen import aligned, say, say_json, say_lines, warn, width
from silversmith.operations.text import count, duration, shown, size

if TYPE_CHECKING:
    from silversmith.operations.failures import Failures, RejectedFile, RejectedFiles, Wanted
    from silversmith.operations.reports import (
        ChainStatus,
        History,
        OfTransform,
        Silver,
        Status,
        Step,
        Trace,
        TransformStatus,
        Version,
    )
    from silversmith.operations.target import DeadMessage, ErrorDocument


_COLUMNS = (
    "transform", "pattern", "waiting", "in flight", "oldest", "done", "duplicates", "rows", "rejected", "quarantined",
    "retried", "DLQ",
)  # fmt: skip


def status(pipeline: PipelineArgument = PIPELINE, *, where: Where = HERE, json: JsonOption = False) -> int:
    """Show where everything is: what waits, what is worked on, what came of it."""
    from silversmith.operations.reports import status as look

    with opened(pipeline, where) as (definition, target):
        found = look(definition, target, now=time.time())
    if json:
        say_json(found.to_dict())
    else:
        _show_status(found, where, target.no_history)
    return 0


def _show_status(found: Status, where: Where, no_history: str) -> None:
    engine = "an engine runs" if found.running else "no engine runs"
    say(f"pipeline {found.pipeline} over {found.lake}: {'deployed' if where.on_aws else engine}")
    if not found.ran:
        say(f"no history: {no_history}" if where.on_aws else f"{no_history}; start one with `silversmith run`")
    say()
    for line in aligned(_chain(found.buckets["bronze"], found.chain)):
        say(line)
    say()
    header, *rows = aligned([_COLUMNS, *map(_row, found.transforms)], right=range(2, len(_COLUMNS)), width=width())
    say(header, style="bold")
    for row in rows:
        say(row)
    for transform in found.transforms:
        if transform.owner:
            say()
            say(
                f"the silver of {transform.name} is {transform.owner}'s, and files fail; rename the transform, or see "
                "`silversmith take-over --help`",
                style="bold red",
            )
    if any(transform.quarantined or transform.dead for transform in found.transforms) or found.chain.dead:
        say()
        say("what failed, and why: silversmith failures")


def _chain(bronze: str, chain: ChainStatus) -> list[tuple[str, str]]:
    if chain.created is None or chain.events is None:  # where nobody counts
        return [("bucket", bronze), ("rules", f"DLQ {chain.dead:,}")]
    return [
        ("bucket", f"{bronze}: {count(chain.created, 'version')} landed"),
        ("rules", f"{count(chain.events, 'event')}, {chain.unmatched:,} that no rule matches, DLQ {chain.dead:,}"),
        ("topic", f"{chain.published:,} published, {chain.on_the_way:,} on the way, {chain.dropped:,} dropped"),
    ]


def _row(found: TransformStatus) -> tuple[str, ...]:
    numbers = (
        found.done, _sum(found.duplicates, found.gone), found.rows, found.rejected,
        found.quarantined, found.retried, found.dead,
    )  # fmt: skip
    return (
        found.name,
        found.pattern,
        f"{found.waiting:,}",
        f"{found.in_flight:,}",
        duration(found.oldest_seconds),
        *("-" if number is None else f"{number:,}" for number in numbers),
    )


def _sum(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else one + other


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
            say_json(found.to_dict()) if json else _show_failures(found)
    return 0


def _wanted(transform: str | None, key: str | None, limit: int) -> Wanted:
    from silversmith.operations.failures import Wanted

    return Wanted(transform, key_pattern(key, "--key"), limit)


def _show_failures(found: Failures) -> None:
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


#: What each state of a transform means to a person.
_STATES = {
    "current": "silver is up to date",
    "stale": "silver is of an older version: the newest one is on its way, or failed",
    "outdated": "silver was made by other code than the pipeline's",
    "missing": "there is no silver object",
    "quarantined": "this version cannot become silver",
    "foreign": "another pipeline made silver, and it is left as it is",
    "orphaned": "silver is of a bronze object that is gone",
    "gone": "there is neither bronze nor silver",
}


def trace(
    key: Annotated[str, Parameter(name="KEY", help="The key in bronze, as in flights/2026-01.csv.")],
    /,
    *,
    pipeline: PipelineOption = PIPELINE,
    where: Where = HERE,
    json: JsonOption = False,
) -> int:
    """Show where one file is: each hop of each version, and what became of it. Exit code 1 if the key is unknown."""
    from silversmith.operations.reports import trace as look
    from silversmith.stores.keys import check

    check(key)
    with opened(pipeline, where) as (definition, target):
        found = look(key, definition, target)
    if json:
        say_json(found.to_dict())
    elif found.known:
        _show_trace(found, target.no_history)
    if not found.known:
        _tell_unknown(found, target.no_history)
    return 0 if found.known else 1


def _tell_unknown(found: Trace, no_history: str) -> None:
    text = f"nothing is known of the key {shown(found.key)}"
    if not found.remembers:
        text += f"; {no_history}"
    if found.near:
        text += "\nnear it are: " + ", ".join(map(shown, found.near))
    warn(text)


def _show_trace(found: Trace, no_history: str) -> None:
    say(found.key, style="bold")
    if found.bronze is None:
        say("  bronze  gone")
    else:
        say(f"  bronze  {size(found.bronze.size)}, etag {found.bronze.etag}, modified {found.bronze.modified}")
    if not found.versions:
        say(f"  no history: {_why_no_history(found, no_history)}")
    if found.older:
        say("  … and older hops, which are not shown")
    for version in found.versions:
        _show_version(version)
    for transform in found.transforms:
        _show_transform(transform)
    if not any(transform.matches for transform in found.transforms):
        say("  no transform's pattern matches this key")


def _why_no_history(found: Trace, no_history: str) -> str:
    from silversmith.local.landing import is_temporary

    if is_temporary(found.key):
        return "it is named like a file that is not finished, so the engine leaves it alone"
    return "the engine has not noticed it yet" if found.remembers else no_history


def _show_version(version: Version) -> None:
    say()
    say(f"  version {version.version or '-'}", style="bold")
    rows = [_step(step) for step in version.steps]
    for step, line in zip(version.steps, aligned(rows, right=[1]), strict=True):
        say("    " + line)
        error = step.detail.get("error")
        if isinstance(error, dict):
            _show_error(error)


def _step(step: Step) -> tuple[str, ...]:
    return step.at, f"+{step.elapsed_ms:,.1f} ms", step.room, step.name, step.what, _remark(step)


def _remark(step: Step) -> str:
    """What is worth saying of a hop in a few words."""
    detail = step.detail
    parts = [f"attempt {step.attempt}"] if step.attempt else []
    if "rows_written" in detail and step.what in {"committed", "duplicate"}:
        parts.append(f"{detail['rows_written']:,} of {detail['rows_read']:,} rows")
    if step.room == "bucket" and "size" in detail:
        parts.append(size(detail["size"]))
    if step.what in {"dead", "dropped"}:
        parts.append(str(detail.get("reason", "")))
    return ", ".join(parts)


def _show_error(error: dict[str, Any]) -> None:
    say(f"      {error.get('code', '')}", style="red")
    say_lines(str(error.get("message", "")), indent="        ")


def _show_transform(found: OfTransform) -> None:
    say()
    say(f"  transform {found.transform}: {found.state}, {_STATES.get(found.state, '')}", style="bold")
    if not found.matches:
        say("    its pattern does not match this key (any more)")
    if found.owner:
        say(f"    the silver of this transform is {found.owner}'s; see `silversmith take-over --help`", style="red")
    if found.silver is not None:
        _show_silver(found.silver)
    if found.rejected is not None:
        say(f"    rejected  {count(found.rejected.rows, 'row')}, in quarantine: {found.rejected.document}")
        show_rows(found.rejected, indent="      ")
    if found.error is not None:
        say(f"    error     in quarantine: {found.error.document}")
        show_document(found.error, time.time(), indent="      ")
    if found.silver is None and found.error is None and found.last is not None:
        say(f"    last      {found.last.verdict}, attempt {found.last.detail.get('attempt', '-')}")


def _show_silver(silver: Silver) -> None:
    say(f"    silver    {silver.key}, {size(silver.size)}")
    lineage = silver.lineage
    if lineage is None:
        say("      it does not say where it came from")
        return
    say(
        f"      {lineage.rows_read:,} rows read, {lineage.rows_written:,} written, {lineage.rows_rejected:,} rejected; "
        f"format {lineage.format or '-'}{f' {lineage.dialect}' if lineage.dialect else ''}"
    )
    say(f"      from etag {lineage.bronze_etag}, version {lineage.bronze_version or '-'}, {size(lineage.bronze_size)}")
    whose = f" of {lineage.owner}" if lineage.owner else ""
    say(f"      committed {lineage.committed_at}, attempt {lineage.attempt}, by code {lineage.fingerprint}{whose}")


#: So many signs of a code's fingerprint tell it from others.
_SHORT = 12


def schema(
    transform: Annotated[str, Parameter(name="TRANSFORM", help="The name of the transform.")],
    *,
    pipeline: PipelineOption = PIPELINE,
    where: Where = HERE,
    json: JsonOption = False,
) -> int:
    """Show which columns a transform's silver has, and which file changed them when.

    Exit code 1: nothing was made yet, so nothing is recorded.
    """
    from silversmith.operations.reports import history

    with opened(pipeline, where) as (definition, target):
        found = history(definition.find(transform), target)
    if json:
        say_json(found.to_dict())
    elif found.version:
        _show_schema(found)
    else:
        warn(f"nothing is recorded of {transform} in {found.lake}: no file of it has become silver yet")
    return 0 if found.version else 1


def _show_schema(found: History) -> None:
    whose = f", of {found.owner}" if found.owner else ""
    say(f"{found.transform} over {found.lake}: version {found.version}{whose}", style="bold")
    for one in found.schemas:
        say()
        whose = "the code that there is now" if one.current else "other code"
        say(f"{whose} ({one.code[:_SHORT]}), since version {one.version}:")
        for line in aligned([(shown(name), kind) for name, kind in one.columns.items()]):
            say(f"  {line}")
    if not any(one.current for one in found.schemas):
        say()
        say("the code that there is now has made nothing yet; `silversmith reconcile --changed` makes silver anew")
    say()
    say("history:")
    for step in found.history:
        say(f"  {step.version}  {step.at}  {shown(step.key)}")
        for change in step.changes:
            say(f"       {change}")
