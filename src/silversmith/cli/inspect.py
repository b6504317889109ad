"""``silversmith status``, ``failures``, ``trace`` and ``schema``: where everything is, and what happened to it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Annotated, Any, TypeVar
from unicodedata import normalize

from cyclopts import Parameter

from silversmith.cli.options import (
    HERE,
    PIPELINE,
    JsonOption,
    KeyArgument,
    KeyOption,
    PipelineArgument,
    PipelineOption,
    TransformOption,
    Where,
    complete_transforms,
    flag,
    key_pattern,
    number,
    open_target,
)
from silversmith.cli.screen import say, say_json, say_lines, say_table, warn
from silversmith.errors import help_for
from silversmith.operations.text import age, count, duration, essence, headline, moment, shown, size
from silversmith.pipeline.since import DEPLOY

if TYPE_CHECKING:
    from silversmith.operations.failures import ErrorDocument, FailureCount, Failures, RejectedFile, RejectedFiles
    from silversmith.operations.preview import Preview
    from silversmith.operations.reports import (
        ChainStatus,
        SchemaHistory,
        Silver,
        Status,
        Step,
        Trace,
        TransformStatus,
        TransformTrace,
        Version,
    )
    from silversmith.operations.tables import InLineage, InTable
    from silversmith.operations.target import DeadMessage

_Failed = TypeVar("_Failed")

#: So many keys are named of the files that failed for one cause.
MOST_KEYS = 10

#: What has a pipeline count its silver on AWS.
KEEP_LINEAGE = "Pipeline(…, lineage=True), docs/lineage.md"

#: Of the two tables of ``status``, each of which fits 80 columns.
_IN_SILVER = ("transform", "files", "rows", "rejected", "partial", "outdated", "orphaned")
_ON_THE_WAY = ("transform", "waiting", "in flight", "oldest", "retried", "quarantined", "DLQ")


def status(pipeline: PipelineArgument = PIPELINE, *, where: Where = HERE, json: JsonOption = False) -> int:
    """Show where everything is: what silver holds, what waits, what is worked on, what failed."""
    from silversmith.operations.reports import status as operation

    with open_target(pipeline, where) as (definition, target):
        report = operation(definition, target, now=time.time(), silver=True)
    if json:
        say_json(report.to_dict())
    else:
        _show_status(report, where, target.no_history)
    return 0


def _show_status(report: Status, where: Where, no_history: str) -> None:
    engine = "an engine runs" if report.running else "no engine runs"
    say(f"pipeline {report.pipeline} over {report.lake}: {'deployed' if where.on_aws else engine}")
    if not report.ran:
        say(f"no history: {no_history}" if where.on_aws else f"{no_history}; start one with `silversmith run`")
    say()
    say_table(_chain(report.buckets["bronze"], report.chain))
    say()
    in_silver = [_in_silver(transform) for transform in report.transforms if transform.silver]
    if in_silver:
        say_table(in_silver, header=_IN_SILVER, right=range(1, len(_IN_SILVER)))
        say()
    elif where.on_aws:
        say(f"files and rows in silver are counted on AWS where the lineage is kept: {KEEP_LINEAGE}", style="dim")
        say()
    say_table(map(_on_the_way, report.transforms), header=_ON_THE_WAY, right=range(1, len(_ON_THE_WAY)))
    if report.tables:
        say()
        rows = [(each.name, each.kind, each.rows, each.files, each.version, each.committed) for each in report.tables]
        say_table(
            map(_cells, rows), header=("table", "kind", "rows", "files", "version", "committed"), right=range(2, 5)
        )
    if (queue := report.tables_queue) is not None:
        say(
            f"on the way into tables: {queue.waiting:,} waiting, {queue.in_flight:,} in flight, oldest "
            f"{duration(queue.oldest_seconds)}, DLQ {queue.dead:,}"
        )
    for transform in report.transforms:
        for text in _passed_over(transform):
            say(f"{transform.name}: {text}")
        if transform.owner:
            say()
            say(
                f"the silver of {transform.name} is {transform.owner}'s, and files fail; rename the transform, or see "
                "`silversmith take-over --help`",
                style="bold red",
            )
    for line in _alarms(report):
        say(line, style="bold red")
    if commands := _commands(report):
        say()
        say_table(commands)


def _passed_over(transform: TransformStatus) -> Iterator[str]:
    """What there is that has no silver, and why."""
    silver = transform.silver
    if silver is not None and silver.dropped:
        yield f"{count(silver.dropped, 'row')} dropped, as the contract says"
    passed = {"marker": transform.markers, "archived file": transform.archived}
    if texts := [count(number, noun) for noun, number in passed.items() if number]:
        yield f"{' and '.join(texts)} passed over"
    if transform.since:
        number = silver.before_since if silver is not None else None
        files = "files" if number is None else count(number, "file")
        moment = "its first run" if transform.since == DEPLOY else transform.since
        yield f"{files} from before {moment} left alone, as its since says"


def _alarms(report: Status) -> Iterator[str]:
    """The alarms that are raised, and what they did not reach."""
    if report.alarms is None:
        return
    for alarm in report.alarms.alarms:
        yield f"alarm: {alarm.transform} {alarm.condition}: {shown(alarm.text)}, at {alarm.since}"
    for name, delivery in report.alarms.channels.items():
        if delivery.problem:
            changes = count(len(delivery.pending) + delivery.dropped, "change")
            yield f"alarms do not reach the {name} since {delivery.since}, {changes}: {shown(delivery.problem)}"


def _commands(report: Status) -> list[tuple[str, str]]:
    """The next things to look at or to do, and their commands."""
    silver = [transform.silver for transform in report.transforms if transform.silver is not None]
    dead = report.chain.dead + (report.tables_queue.dead if report.tables_queue is not None else 0)
    failed = dead + sum(transform.quarantined + transform.dead for transform in report.transforms)
    commands = {
        ("what failed, and why:", "silversmith failures"): failed,
        ("why rows were rejected:", "silversmith failures --rejected"): sum(each.partial for each in silver),
        ("make outdated silver again:", "silversmith run --changed"): sum(each.outdated for each in silver),
        ("name what is orphaned:", "silversmith reconcile --dry-run"): sum(each.orphaned or 0 for each in silver),
    }
    return [command for command, number in commands.items() if number]


def _cells(row: Sequence[str | int | None]) -> list[str]:
    return ["-" if cell is None else f"{cell:,}" if isinstance(cell, int) else cell for cell in row]


def _in_silver(transform: TransformStatus) -> list[str]:
    silver = transform.silver
    assert silver is not None
    numbers = silver.files, silver.rows, silver.rejected, silver.partial, silver.outdated, silver.orphaned
    return _cells([transform.name, *numbers])


def _chain(bronze: str, chain: ChainStatus) -> list[tuple[str, str]]:
    if chain.created is None or chain.events is None:  # AWS keeps no counters
        return [("bucket", bronze), ("rules", f"DLQ {chain.dead:,}")]
    return [
        ("bucket", f"{bronze}: {count(chain.created, 'version')} landed"),
        ("rules", f"{count(chain.events, 'event')}, {chain.unmatched:,} that no rule matches, DLQ {chain.dead:,}"),
        ("topic", f"{chain.published:,} published, {chain.on_the_way:,} on the way, {chain.dropped:,} dropped"),
    ]


def _on_the_way(status: TransformStatus) -> list[str]:
    oldest = duration(status.oldest_seconds)
    failing = status.retried, status.quarantined, status.dead
    return _cells([status.name, status.waiting, status.in_flight, oldest, *failing])


def failures(
    pipeline: PipelineArgument = PIPELINE,
    *,
    transform: TransformOption = None,
    key: KeyOption = None,
    limit: Annotated[int, number("Show at most so many of each kind; all are counted.", 1)] = 100,
    rejected: Annotated[bool, flag("Show files of which rows were rejected instead.")] = False,
    where: Where = HERE,
    json: JsonOption = False,
) -> int:
    """Show what failed and why: files in quarantine, and messages in dead-letter queues."""
    from silversmith.operations import failures as operations

    query = operations.Query(transform, key_pattern(key, "--key"), limit)
    with open_target(pipeline, where) as (definition, target):
        if rejected:
            files = operations.rejected(definition, target, query)
            say_json(files.to_dict()) if json else _show_rejected(files)
        else:
            failed = operations.failures(definition, target, query, now=time.time())
            say_json(failed.to_dict()) if json else _show_failures(failed)
    return 0


def _show_failures(failed: Failures) -> None:
    if not failed.quarantined_total and not failed.dead_total:
        say("nothing failed" if not failed.more else "no failure among the objects that were looked at")
        return
    if failed.quarantined_total:
        at_least = "at least " if failed.more else ""
        say(f"{at_least}{count(failed.quarantined_total, 'file')} in quarantine", style="bold")
        for documents in by_cause(failed.quarantined, lambda each: (each.transform, each.code, each.message)):
            _show_document(documents[0], failed.now)
            _show_others([each.key for each in documents[1:]])
        _say_more(failed.quarantined_total - len(failed.quarantined), more=failed.more)
        if len(failed.counts) > 1 and failed.quarantined_total > len(failed.quarantined):
            _show_counts(failed.counts)
    if failed.dead_total:
        say(f"{count(failed.dead_total, 'message')} in dead-letter queues", style="bold")
        for messages in by_cause(failed.dead, _cause_of_death):
            _show_dead(messages[0], failed.now)
            _show_others([each.key for each in messages[1:]])
        _say_more(failed.dead_total - len(failed.dead))


#: So many lines of counts are shown.
MOST_COUNTS = 30


def _show_counts(counts: Sequence[FailureCount]) -> None:
    rows = [(each.day or "-", each.transform, each.code or "-", f"{each.files:,}") for each in counts[:MOST_COUNTS]]
    say_table(rows, header=("day", "transform", "code", "files"), right=[3], indent=2)
    if len(counts) > MOST_COUNTS:
        say(f"  … and {len(counts) - MOST_COUNTS:,} more; --json has all of them")
    say()


def by_cause(failures: Iterable[_Failed], cause: Callable[[_Failed], object]) -> list[list[_Failed]]:
    groups: dict[object, list[_Failed]] = {}
    for failure in failures:
        groups.setdefault(cause(failure), []).append(failure)
    return sorted(groups.values(), key=len, reverse=True)


def _cause_of_death(message: DeadMessage) -> object:
    error = message.error or {}
    what = error.get("code"), headline(str(error.get("message", "")))
    return message.transform, message.tables, message.kind, message.source, message.reason, what


def _show_others(keys: Sequence[str]) -> None:
    """The keys of files that failed for the same cause as the one before."""
    if keys:
        named = ", ".join(shown(key) for key in keys[:MOST_KEYS])
        more = f" and {len(keys) - MOST_KEYS:,} more" if len(keys) > MOST_KEYS else ""
        say(f"    and so did {count(len(keys), 'other file')}: {named}{more}")


def _say_more(number: int, *, more: bool = False) -> None:
    if number:
        say(f"  … and {number:,} more; see them with --limit, --transform or --key")
    if more:
        warn(
            "quarantine holds more objects than were looked through: choose with --transform, or keep a lineage, which "
            "counts them all: Pipeline(lineage=True), docs/lineage.md"
        )
    say()


def _show_document(document: ErrorDocument, now: float, indent: str = "  ") -> None:
    since = age(moment(document.at), now)
    ago = f", {duration(since)} ago" if since is not None else ""
    say(f"{indent}{shown(document.key)}  ({document.transform}{ago})")
    say_error(document.code, document.message, f"{indent}  ")
    say_advice(vars(document), f"{indent}  ")


def say_advice(error: Mapping[str, Any], indent: str) -> None:
    """Say where in the file an error is, what to do, and which command explains it."""
    if place := place_text(error["place"]):
        say(f"{indent}at {place}")
    if error["hint"]:
        say_lines(error["hint"], indent)
    say_help(error["code"], indent)


def say_help(code: str, indent: str) -> None:
    """Name the command that explains an error code, where there is an explanation."""
    from silversmith.operations.explain import explanations

    if code in explanations():
        say(f"{indent}more: {help_for(code)}", style="dim")


def place_text(place: Mapping[str, Any]) -> str:
    """A place in a file: ``line 3, column 'distance': 'abc'``."""
    parts = [f"{name} {place[name]}" for name in ("line", "row") if name in place]
    if "column" in place:
        parts.append(f"column {place['column']!r}")
    text = ", ".join(parts)
    return f"{text}: {place['text']!r}" if "text" in place else text


def _show_dead(message: DeadMessage, now: float) -> None:
    since = age(message.dead_at if message.dead_at is not None else message.sent, now)
    transform = message.transform or "every transform that matches"
    if message.tables:
        transform = f"tables of {message.transform}" if message.transform else "tables"
    say(f"  {shown(message.key)}  ({transform}, {message.kind.value} {message.source}, {duration(since)} ago)")
    if message.error:
        tries = f" after {count(message.attempts, 'attempt')}" if message.attempts else ""
        say(f"    {message.reason}{tries}")
        say_error(message.error.get("code", ""), str(message.error.get("message", "")), "    ")
        say_help(str(message.error.get("code")), "    ")
    else:
        say(f"    {message.reason}", style="red")
    if message.log_stream:
        say(f"    its log: {message.log_group}, stream {message.log_stream}, request {message.request_id}")


def _show_rows(file: RejectedFile, indent: str) -> None:
    for row in file.first:
        number = "a row" if row.row is None else f"row {row.row:,}"
        say(f"{indent}{number}: {'; '.join(row.reasons)}", style="red")
    if file.first and file.rows > len(file.first):
        say(f"{indent}… and {file.rows - len(file.first):,} more")


def _show_rejected(rejected: RejectedFiles) -> None:
    if not rejected.total:
        say("no rows were rejected")
        return
    say(f"{count(rejected.total, 'file')} with rejected rows", style="bold")
    for file in rejected.files:
        say(f"  {shown(file.key)}  ({file.transform})  {count(file.rows, 'row')} rejected")
        _show_rows(file, indent="    ")
        say(f"    they are in quarantine: {file.document}")
    _say_more(rejected.total - len(rejected.files), more=rejected.more)


#: The meaning of each state.
_STATES = {
    "current": "silver is up to date",
    "stale": "silver is of an older version: the newest one is on its way, or failed",
    "outdated": "silver was made by other code than the pipeline's",
    "missing": "there is no silver object",
    "quarantined": "this version cannot become silver",
    "foreign": "another pipeline made silver, and it is left as it is",
    "orphaned": "silver is of a bronze object that is gone",
    "marker": "it stands for a folder or a job, and is no data: passed over",
    "archived": "bronze must be restored before it can be read",
    "before since": "it landed before the transform's since, and is left alone; `replay` of its key has it read",
    "gone": "there is neither bronze nor silver",
}


def trace(
    key: KeyArgument,
    /,
    *,
    pipeline: PipelineOption = PIPELINE,
    where: Where = HERE,
    json: JsonOption = False,
) -> int:
    """Show where one file is: each hop of each version, and what became of it. Exit code 1 if the key is unknown."""
    from silversmith.operations.reports import trace as operation
    from silversmith.stores.keys import check

    check(key)
    with open_target(pipeline, where) as (definition, target):
        story = operation(key, definition, target)
    if json:
        say_json(story.to_dict())
    elif story.known:
        _show_trace(story, target.no_history)
    if not story.known:
        no_history = "" if story.remembers else f"; {target.no_history}"
        near = "\nnear it are: " + ", ".join(_near(name, key) for name in story.near) if story.near else ""
        warn(f"nothing is known of the key {shown(key)}{no_history}{near}")
        say_forms(story.forms)
    return 0 if story.known else 1


def preview(
    key: KeyArgument,
    /,
    *,
    transform: TransformOption = None,
    limit: Annotated[int, number("Show at most so many rows of each.", 1, 1000)] = 10,
    pipeline: PipelineOption = PIPELINE,
    where: Where = HERE,
    json: JsonOption = False,
) -> int:
    """Show the rows that a file became in silver, and those that were rejected. Exit code 1: there are none."""
    from silversmith.operations.preview import previews
    from silversmith.operations.reports import near
    from silversmith.stores.keys import check

    check(key)
    with open_target(pipeline, where) as (definition, target):
        files = previews(key, definition, target, transform=transform, most=limit)
        alike = [] if files else near(key, target.lake)
    if json:
        say_json({"key": key, "transforms": [file.to_dict() for file in files]})
    for file in () if json else files:
        _show_preview(file.transform, "silver", file.silver, limit)
        _show_preview(file.transform, "rejected", file.rejected, limit)
    if not files:
        names = [_near(name, key) for name in alike if name != key]
        look = (
            f"see `silversmith trace {shown(key)}`" if key in alike or not names else f"near it are: {', '.join(names)}"
        )
        warn(f"there is neither silver nor a rejected row of {shown(key)}; {look}")
    return 0 if files else 1


def _show_preview(transform: str, kind: str, preview: Preview | None, limit: int) -> None:
    if preview is None:
        return
    say(f"{transform}: {count(preview.rows_in_all, 'row')} {kind if kind == 'rejected' else 'in silver'}", style="bold")
    if preview.problem:
        say(f"  {preview.problem}", style="red")
        return
    rows = [["null" if value is None else value for value in row] for row in preview.rows]
    say_table(rows, header=preview.columns, indent=2)
    hidden = preview.rows_in_all - len(rows), preview.columns_in_all - len(preview.columns)
    if more := [f"{number:,} more {noun}" for number, noun in zip(hidden, ("rows", "columns"), strict=True) if number]:
        say(f"  … and {' and '.join(more)}" + ("; see them with --limit" if len(rows) == limit else ""))
    say()


def _near(name: str, key: str) -> str:
    same = normalize("NFC", name) == normalize("NFC", key)
    return f"{shown(name)} (it looks the same, in another Unicode normal form: {name!a})" if same else shown(name)


def _show_trace(story: Trace, no_history: str) -> None:
    say(story.key, style="bold")
    if story.bronze is None:
        say("  bronze  gone")
    else:
        say(f"  bronze  {size(story.bronze.size)}, etag {story.bronze.etag}, modified {story.bronze.modified}")
        if story.bronze.archived:
            from silversmith.stores.aws_errors import TIERS

            say(f"          archived in {TIERS.get(story.bronze.archived, story.bronze.archived)}")
    if not story.versions:
        say(f"  no history: {_why_no_history(story, no_history)}")
    if story.older:
        say("  … and older hops, which are not shown")
    for version in story.versions:
        _show_version(version)
    for transform in story.transforms:
        _show_transform(transform)
    if not any(transform.matches for transform in story.transforms):
        say("  no transform's pattern matches this key")
    say_forms(story.forms, indent="  ")


def say_forms(forms: Mapping[str, str], *, indent: str = "") -> None:
    """Say of which transforms the pattern differs from a key in case or Unicode form only, and how to write it."""
    for name, pattern in forms.items():
        say_lines(
            f"the pattern of {name} differs from this key in case, or in the Unicode normal form, only, and "
            f"EventBridge compares character by character; to match it, write the pattern so: {pattern!a}",
            indent=indent,
        )


def _why_no_history(story: Trace, no_history: str) -> str:
    from silversmith.local.files import is_temporary

    if is_temporary(story.key):
        return "it is named like a file that is not finished, so the engine leaves it alone"
    return "the engine has not noticed it yet" if story.remembers else no_history


def _show_version(version: Version) -> None:
    say()
    say(f"  version {version.version or '-'}", style="bold")
    say_table(map(_step, version.steps), right=[1], indent=4)
    failed = [step for step in version.steps if isinstance(step.detail.get("error"), dict)]
    for (name, error), steps in groupby(failed, key=lambda step: (step.name, step.detail["error"])):
        attempts = [f"{step.attempt}" if step.attempt else step.at for step in steps]
        which = f"attempt {attempts[0]}" if len(attempts) == 1 else f"attempts {attempts[0]} to {attempts[-1]}"
        say(f"    {name}, {which}:")
        say_error(error.get("code", ""), str(error.get("message", "")), "      ")


def say_error(code: str, message: str, indent: str) -> None:
    """Say what was wrong, and where, in the first line; then the code that led to it."""
    first, *rest = essence(message).splitlines() or [""]
    say_lines(f"{code}: {first}" if code else first, indent, style="red")
    for line in rest:
        say_lines(line, f"{indent}  ")


def _step(step: Step) -> tuple[str, ...]:
    return step.at, f"+{step.elapsed_ms:,.1f} ms", step.room, step.name, step.what, _remark(step)


def _remark(step: Step) -> str:
    detail = step.detail
    parts = [f"attempt {step.attempt}"] if step.attempt else []
    if "rows_written" in detail and step.what in {"committed", "duplicate"}:
        parts.append(f"{detail['rows_written']:,} of {count(detail['rows_read'], 'row')}")
    if step.room == "bucket" and "size" in detail:
        parts.append(size(detail["size"]))
    if step.what in {"dead", "dropped"}:
        parts.append(str(detail.get("reason", "")))
    return ", ".join(parts)


def _show_transform(part: TransformTrace) -> None:
    say()
    say(f"  transform {part.transform}: {part.state}, {_STATES.get(part.state, '')}", style="bold")
    if part.partial and part.silver is not None and part.silver.lineage is not None:
        lacking = count(part.silver.lineage.rows_rejected, "rejected row")
        say(f"    partial: silver lacks {lacking}", style="yellow")
    if not part.matches:
        say("    its pattern does not match this key (any more)")
    if part.owner:
        say(f"    the silver of this transform is {part.owner}'s; see `silversmith take-over --help`", style="red")
    if part.silver is not None:
        _show_silver(part.silver)
    if part.rejected is not None:
        say(f"    rejected  {count(part.rejected.rows, 'row')}, in quarantine: {part.rejected.document}")
        _show_rows(part.rejected, indent="      ")
    if part.error is not None:
        say(f"    error     in quarantine: {part.error.document}")
        _show_document(part.error, time.time(), indent="      ")
    for table in part.tables:
        _show_in_table(table)
    for row in part.lineage:
        _show_in_lineage(row)
    if part.silver is None and part.error is None and part.last is not None:
        say(f"    last      {part.last.verdict}, attempt {part.last.detail.get('attempt', '-')}")


_IN_TABLE = {
    "current": "in it since",
    "old": "in it with the rows of an older silver, since",
    "missing": "not in it yet",
    "none": "not in it, nor are there rows in silver",
    "unknown": "it cannot be read: see `silversmith doctor`",
}


def _show_in_table(table: InTable) -> None:
    since = "" if table.since is None else f" version {table.since}{' or before' if table.or_before else ''}"
    say(f"    table     {table.table}: {_IN_TABLE[table.state]}{since}")


def _show_in_lineage(row: InLineage) -> None:
    about = count(row.rows_written, "row") if row.rows_written is not None else row.error or "no error code"
    state = "as it is" if row.state == "current" else "of an older object: the row is on its way"
    say(f"    _lineage  {row.about}: {about}, {row.committed_at or 'no time'}; {state}")


def _show_silver(silver: Silver) -> None:
    say(f"    silver    {silver.key}, {size(silver.size)}")
    lineage = silver.lineage
    if lineage is None:
        say("      it does not say where it came from")
        return
    dropped = f", {lineage.rows_dropped:,} dropped" if lineage.rows_dropped else ""
    say(
        f"      {count(lineage.rows_read, 'row')} read, {lineage.rows_written:,} written, {lineage.rows_rejected:,} "
        f"rejected{dropped}; "
        f"format {lineage.format or '-'}{f' {lineage.dialect}' if lineage.dialect else ''}"
    )
    say(f"      from etag {lineage.bronze_etag}, version {lineage.bronze_version or '-'}, {size(lineage.bronze_size)}")
    owner = f" of {lineage.owner}" if lineage.owner else ""
    say(f"      committed {lineage.committed_at}, attempt {lineage.attempt}, by code {lineage.fingerprint}{owner}")


#: So many characters of a fingerprint are shown.
_SHORT = 12


def schema(
    transform: Annotated[
        str, Parameter(name="TRANSFORM", completer=complete_transforms, help="The name of the transform.")
    ],
    /,
    *,
    pipeline: PipelineOption = PIPELINE,
    where: Where = HERE,
    json: JsonOption = False,
) -> int:
    """Show which columns a transform's silver has, and which file changed them when.

    Exit code 1: nothing was made yet, so nothing is recorded.
    """
    from silversmith.operations.reports import schema_history

    with open_target(pipeline, where) as (definition, target):
        record = schema_history(definition.find(transform), target)
    if json:
        say_json(record.to_dict())
    elif record.version:
        _show_schema(record)
    else:
        warn(f"nothing is recorded of {transform} in {record.lake}: no file of it has become silver yet")
    return 0 if record.version else 1


def _show_schema(record: SchemaHistory) -> None:
    owner = f", of {record.owner}" if record.owner else ""
    say(f"{record.transform} over {record.lake}: version {record.version}{owner}", style="bold")
    for schema in record.schemas:
        say()
        code = "the code that there is now" if schema.current else "other code"
        say(f"{code} ({schema.code[:_SHORT]}), since version {schema.version}:")
        say_table(schema.columns.items(), indent=2)
    if not any(schema.current for schema in record.schemas):
        say()
        say("the current code has made nothing yet; `silversmith reconcile --changed` makes silver again")
    say()
    say("history:")
    for entry in record.history:
        say(f"  {entry.version}  {entry.at}  {shown(entry.key)}")
        for change in entry.changes:
            say(f"       {change}")
