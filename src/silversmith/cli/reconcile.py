"""``silversmith reconcile`` and ``erase``: what events missed, found and sent; and what is to be forgotten, deleted."""

from __future__ import annotations

import json as json_module
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from silversmith.cli.options import (
    HERE,
    PIPELINE,
    JsonOption,
    PipelineArgument,
    PipelineOption,
    QuietOption,
    TransformOption,
    Where,
    complete_keys,
    flag,
    number,
    open_target,
    warn_no_engine,
)
from silversmith.cli.screen import confirm, require_person, say, say_json, set_quiet, warn
from silversmith.cli.send import MOST_NAMED, Sending, SendOptions, say_more, show_plan
from silversmith.operations import WrongCall
from silversmith.operations.text import count, shown

if TYPE_CHECKING:
    from silversmith.operations.erase import ErasePlan, EraseReport
    from silversmith.operations.pace import SendPlan
    from silversmith.operations.reconcile import ReconcileBatch, RoundPlan, TableBatch
    from silversmith.reconcile.compare import Finding

#: The meaning of each kind of finding.
_MEANINGS = {
    "missing": "there is no silver",
    "stale": "silver was made of other bytes",
    "outdated": "silver was made by other code",
    "deleted": "bronze was deleted, and silver goes with it",
    "orphaned": "silver without bronze",
    "foreign": "silver was made by another pipeline",
    "archived": "bronze must be restored before it can be read: S3's event that it is has it read",
    "before since": "bronze landed before the transform's since, and is left alone",
    "marker": "it stands for a folder or a job, and is no data",
}

#: The groups of findings in a batch, as JSON names them.
_GROUPS = ("found", "waiting", "orphaned", "foreign", "given_up", "archived", "markers", "before_since")


@dataclass
class _RoundTally:
    limit: int
    dry_run: bool
    json: bool
    checked: int = 0
    late: int = 0
    totals: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    behind: Counter[str] = field(default_factory=Counter)
    on_the_way: Counter[str] = field(default_factory=Counter)
    listed: list[tuple[str, Finding]] = field(default_factory=list)

    def add(self, batch: ReconcileBatch) -> None:
        self.checked += batch.checked
        self.late += batch.behind
        for group in _GROUPS:
            for finding in getattr(batch, group):
                self.totals[group] += 1
                self.kinds[finding.kind.value] += 1
                if len(self.listed) < self.limit:
                    self.listed.append((group, finding))
                    if not self.json:
                        _show_finding(group, finding, dry_run=self.dry_run)

    def add_table(self, batch: TableBatch) -> None:
        self.behind[batch.table] += len(batch.keys)
        self.on_the_way[batch.table] += 0 if self.dry_run else len(batch.keys) - batch.sent

    def document(self, plans: Iterable[RoundPlan]) -> dict[str, Any]:
        return {
            "dry_run": self.dry_run,
            "plan": [vars(each) for each in plans],
            "checked": self.checked,
            "sent": 0 if self.dry_run else self.totals["found"],
            **{group: self.totals[group] for group in _GROUPS},
            "kinds": dict(self.kinds),
            "keys": [_finding_document(group, finding) for group, finding in self.listed],
            "tables": dict(self.behind),
            "lineage": self.late,
        }


def reconcile(
    pipeline: PipelineArgument = PIPELINE,
    *,
    transform: TransformOption = None,
    changed: Annotated[bool, flag("Find silver too that was made by other code.")] = False,
    dead: Annotated[bool, flag("Send too what the code has failed on as often as it may.")] = False,
    views: Annotated[
        bool, flag("Compute every view again instead, show what differs, and repair it.", "--views")
    ] = False,
    prove: Annotated[bool, flag("List silver, too, and compare the lineage with it.", "--prove")] = False,
    how: SendOptions = SendOptions(),  # noqa: B008 -- frozen
    delete_orphans: Annotated[
        bool, flag("Delete instead what nothing in bronze stands for, and its rows in tables.", "--delete-orphans")
    ] = False,
    there: Annotated[bool, flag("Have the deployed function begin a round, and do not wait.", "--there")] = False,
    limit: Annotated[int, number("Name at most so many keys; all are counted and sent.", 0)] = MOST_NAMED,
    where: Where = HERE,
    quiet: QuietOption = False,
    json: JsonOption = False,
) -> int:
    """Compare bronze with what silver says of itself, and send through the queues again what is missing or stale.

    Silver without a bronze object is named; with on_delete="remove" it is sent, too, to be removed. Silver of another
    pipeline is named; nothing is done about it, and the exit code is 1. Files on which the transform's code has failed
    as often as it may are left alone, until the file or the code changes.
    """
    set_quiet(quiet)
    if views:
        _refuse("--views looks at views alone: leave --transform, --changed and --dead away", transform, changed, dead)
        return _reconcile_views(pipeline, where, dry_run=how.dry_run, json=json)
    if delete_orphans:
        advice = "--delete-orphans only deletes: leave all but --transform, --limit, --dry-run and --yes away"
        _refuse(advice, changed, dead, prove, there, how.after, how.rate)
        return _delete_orphans(pipeline, where, transform, limit, how, json=json)
    if there:
        advice = "--there begins a whole round: leave --transform, --dead, --after, --rate and --dry-run away"
        _refuse(advice, transform, dead, how.after, how.dry_run, how.rate)
        return _reconcile_there(pipeline, where, changed=changed, prove=prove, json=json)
    from silversmith.operations.pace import batch_of, count_changed
    from silversmith.operations.reconcile import RECONCILE_BATCH, plan, reconcile_tables
    from silversmith.operations.reconcile import reconcile as operation

    tally = _RoundTally(limit, how.dry_run, json)
    options: dict[str, Any] = {"transform": transform, "changed": changed, "dead": dead, "prove": prove}
    chosen = {f"--{name}": value for name, value in options.items()}
    sending = Sending(["reconcile"], chosen, pipeline, where, how, json)
    with sending.opened(transform) as (definition, target, place):
        plans = plan(definition, target, transform=transform, prove=prove)
        if not json:
            _show_plans(plans)
        if changed:
            sending.require_agreement(
                lambda: count_changed(definition, target, transform=transform, after=place), definition, target
            )
        sent_at_once = batch_of(how.rate, RECONCILE_BATCH)
        batches = operation(definition, target, dry_run=how.dry_run, sent_at_once=sent_at_once, after=place, **options)
        for batch in sending.paced(batches, target, unit="keys", number=lambda batch: batch.checked):
            tally.add(batch)
        if not sending.stopped:
            for lacking in reconcile_tables(definition, target, transform=transform, dry_run=how.dry_run):
                tally.add_table(lacking)
    if json:
        say_json(tally.document(plans) | sending.document())
    else:
        _show_tally(tally, sending.plan)
        if (tally.totals["found"] or tally.behind) and sending.is_idle:
            warn_no_engine()
    return sending.end() or int(tally.totals["foreign"] > 0)


def _refuse(advice: str, *excluded: object) -> None:
    if any(excluded):
        raise WrongCall(advice)


def _show_tally(tally: _RoundTally, takes: SendPlan | None) -> None:
    _show_totals(tally.totals, tally.kinds, len(tally.listed))
    sent = "would be sent" if tally.dry_run else "sent"
    say(f"{count(tally.checked, 'key')} looked at, {tally.totals['found']:,} {sent}")
    show_plan(takes)
    if tally.late:
        say(f"the lineage is behind of {count(tally.late, 'object')}: {sent} to the tables' queue")
    for table, total in tally.behind.items():
        rest = f", except {tally.on_the_way[table]:,} with a message already" if tally.on_the_way[table] else ""
        say(f"the table {table} has {count(total, 'file')} not as silver has them: {sent}{rest}")


def _show_plans(plans: Iterable[RoundPlan]) -> None:
    for each in plans:
        if each.files is not None:
            say(
                f"{each.transform}: about {count(each.files, 'file')}, {count(each.lists, 'LIST request')}, "
                f"${each.dollars:.2f} and {max(1, round(each.minutes)):,} min if little is wrong"
            )


#: What to do where nobody can be asked.
_ADVICE = ". Look with --dry-run; say yes with --yes"


def _delete_orphans(
    pipeline: str, where: Where, transform: str | None, limit: int, how: SendOptions, *, json: bool
) -> int:
    from silversmith.operations.erase import delete_orphans, orphans

    with open_target(pipeline, where) as (definition, target):
        listed = list(orphans(definition, target, transform=transform))
        for orphan in listed[:limit] if not json else ():
            places = ", ".join(shown(name) for name in (*orphan.quarantine, orphan.silver) if name)
            say(f"{orphan.transform}  {shown(orphan.key)}  ({places})")
        if not json:
            say_more(len(listed) - limit)
        is_agreed = bool(listed) and not how.dry_run
        if is_agreed and not how.yes:
            require_person(_ADVICE)
            question = (
                f"Delete {count(len(listed), 'orphan')} from {target.place}? Only versions that a bucket keeps stay."
            )
            is_agreed = confirm(question)
        deleted = delete_orphans(listed, definition, target) if is_agreed else []
    if json:
        say_json({"dry_run": how.dry_run, "orphans": [asdict(each) for each in listed], "deleted": len(deleted)})
    elif not listed:
        say("there are no orphans")
    else:
        say(f"{count(len(listed), 'orphan')}, {len(deleted):,} deleted")
    return 0


def _reconcile_there(pipeline: str, where: Where, *, changed: bool, prove: bool, json: bool) -> int:
    from silversmith.operations.aws import AwsTarget

    with open_target(pipeline, where, writable=True) as (_, target):
        if not isinstance(target, AwsTarget):
            raise WrongCall("--there is for a deployed pipeline: add --target aws")
        name = target.begin_round(changed=changed, prove=prove)
    if json:
        say_json({"function": name})
    else:
        say(f"{name} has begun a round; its log says what it finds")
    return 0


def _reconcile_views(pipeline: str, where: Where, *, dry_run: bool, json: bool) -> int:
    from silversmith.operations.tables import reconcile_views

    with open_target(pipeline, where) as (definition, target):
        differences = list(reconcile_views(definition, target, dry_run=dry_run))
    if json:
        say_json({"dry_run": dry_run, "views": [vars(difference) for difference in differences]})
        return 0
    for each in differences:
        if each.lacking or each.surplus:
            done = "not repaired" if dry_run else "repaired"
            say(f"{each.view}: {count(each.lacking, 'row')} missing, {each.surplus:,} too many ({done})")
        else:
            say(f"{each.view}: as its query says")
    if not differences:
        say("there is no view yet")
    return 0


def _show_finding(group: str, finding: Finding, *, dry_run: bool) -> None:
    action = {
        "found": "not sent" if dry_run else "sent",
        "waiting": "a message of it exists already",
        "given_up": "the code failed on it too often: not sent",
        "archived": finding.archived,
        "markers": "passed over",
        "before_since": "left alone",
    }.get(group, finding.silver)
    say(f"{finding.kind.value:9} {finding.transform}  {shown(finding.key)}  ({action})")


def _show_totals(totals: Counter[str], kinds: Counter[str], listed: int) -> None:
    say_more(kinds.total() - listed, "; see them with --limit or --transform")
    if kinds:
        say()
    for kind, total in kinds.items():
        say(f"{total:,} {kind}: {_MEANINGS[kind]}")
    if totals["foreign"]:
        say("what another pipeline made is left as it is; if that is gone, take it over: `silversmith take-over`")
    if totals["waiting"]:
        say(
            f"{totals['waiting']:,} of them have a message already, on its way or in a dead-letter queue: not sent. "
            "Those in a dead-letter queue go back with `silversmith redrive`."
        )
    if totals["given_up"]:
        say(
            f"{totals['given_up']:,} of them are left alone: the transform's code failed on them as often as it may. "
            "See `silversmith failures`; correct the cause, then `silversmith reconcile --dead`."
        )


def _finding_document(group: str, finding: Finding) -> dict[str, Any]:
    return {
        "transform": finding.transform,
        "key": finding.key,
        "kind": finding.kind.value,
        "what": group,
        "etag": finding.etag,
        "size": finding.size,
        "silver": finding.silver,
    }


# -- erase

#: So many objects are named before the question; all are in the report.
MOST_OBJECTS = 20


def erase(
    *keys: Annotated[
        str, Parameter(name="KEY", completer=complete_keys, help="Keys in bronze, as in people/2026-01.csv.")
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
    yes: Annotated[bool, flag("Do not ask: for scripts, after a --dry-run.", "--yes")] = False,
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
        if not yes:
            require_person(_ADVICE)
            if not confirm(f"Erase all of this from {target.place}? It cannot be undone."):
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
    for each in plan.objects[:MOST_OBJECTS]:
        version = f"  version {each.version}" if each.version else ""
        say(f"  {each.bucket}/{shown(each.key)}  ({each.kind}{version})")
    if len(plan.objects) > MOST_OBJECTS:
        totals = ", ".join(f"{number:,} {kind} in {bucket}" for (bucket, kind), number in by_bucket.items())
        say(f"  … in all {totals}")
    for table in plan.tables:
        rows = f"rows of {count(table.keys, 'key')}, {table.old_files:,} older data files with such rows; " * bool(
            table.keys or table.old_files
        )
        say(f"  {table.table}: {rows}its older versions go")
    for kind, found in plan.records.items():
        say(f"  {found:,} {kind}")
    for name in plan.schemas:
        say(f"  the recorded schema of {name} names a key: the name goes, the columns stay")
    if plan.undo_copies:
        say(f"  {plan.undo_copies:,} copies of uploads that a page can undo")
    _show_notes(plan.notes)
    for problem in plan.problems:
        warn(f"{problem.place}: {problem.reason}")
    known = {key for key in plan.keys if any(key in each.key for each in plan.objects)}
    for key in [key for key in plan.keys if key not in known][:MOST_OBJECTS]:
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
