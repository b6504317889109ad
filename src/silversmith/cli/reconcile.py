"""``silversmith reconcile``: repair what events missed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter, validators

from silversmith.cli.bar import bar
from silversmith.cli.opened import opened, tell_nobody_works
from silversmith.cli.options import PIPELINE, DryRunOption, JsonOption, PipelineArgument, QuietOption
from silversmith.cli.screen import hush, say, say_json
from silversmith.cli.where import HERE, Where
from silversmith.operations.text import count, shown

if TYPE_CHECKING:
    from silversmith.reconcile.compare import Finding

#: What each kind of finding means to a person.
_MEANS = {
    "missing": "there is no silver",
    "stale": "silver was made of other bytes",
    "outdated": "silver was made by other code",
    "orphaned": "silver without bronze",
    "foreign": "silver was made by another pipeline",
}


def reconcile(
    pipeline: PipelineArgument = PIPELINE,
    *,
    transform: Annotated[str | None, Parameter(help="Only this transform's.")] = None,
    changed: Annotated[
        bool, Parameter(negative=(), show_default=False, help="Find silver too that was made by other code.")
    ] = False,
    dead: Annotated[
        bool,
        Parameter(negative=(), show_default=False, help="Send too what the code has failed on as often as it may."),
    ] = False,
    limit: Annotated[
        int, Parameter(validator=validators.Number(gte=0), help="Name at most so many keys; all are counted and sent.")
    ] = 100,
    dry_run: DryRunOption = False,
    where: Where = HERE,
    quiet: QuietOption = False,
    json: JsonOption = False,
) -> int:
    """Compare bronze with what silver says of itself, and send through the queues again what is missing or stale.

    Silver without a bronze object, or of another pipeline, is named; nothing is done about it. Exit code 1: some is
    another pipeline's. Files on which the transform's code has failed as often as it may are left alone, until the file
    or the code is another.
    """
    hush(quiet)
    from silversmith.operations.reconcile import reconcile as operation

    totals = {"checked": 0, "found": 0, "waiting": 0, "orphaned": 0, "foreign": 0, "given_up": 0}
    kinds: dict[str, int] = {}
    named: list[tuple[str, Finding]] = []
    with opened(pipeline, where, writable=not dry_run) as (definition, target), bar("keys", json=json) as advance:
        for batch in operation(definition, target, transform=transform, changed=changed, dead=dead, dry_run=dry_run):
            totals["checked"] += batch.checked
            advance(batch.checked)
            for what in ("found", "waiting", "orphaned", "foreign", "given_up"):
                findings = getattr(batch, what)
                totals[what] += len(findings)
                for finding in findings:
                    kinds[finding.kind.value] = kinds.get(finding.kind.value, 0) + 1
                    if len(named) < limit:
                        named.append((what, finding))
                        _tell(what, finding, dry_run=dry_run, quiet=json)
        running = target.running()
    if json:
        say_json(_document(totals, kinds, named, dry_run=dry_run))
    else:
        _sum_up(totals, kinds, len(named), dry_run=dry_run, running=running)
    return 1 if totals["foreign"] else 0


def _tell(what: str, finding: Finding, *, dry_run: bool, quiet: bool) -> None:
    if quiet:
        return
    found = "not sent" if dry_run else "sent"
    done = {
        "found": found,
        "waiting": "a message of it exists already",
        "given_up": "the code failed on it too often: not sent",
    }.get(what, finding.silver)
    say(f"{finding.kind.value:9} {finding.transform}  {shown(finding.key)}  ({done})")


def _sum_up(totals: dict[str, int], kinds: dict[str, int], named: int, *, dry_run: bool, running: bool) -> None:
    if sum(kinds.values()) > named:
        say(f"… and {sum(kinds.values()) - named:,} more; see them with --limit or --transform")
    if kinds:
        say()
    for kind, number in kinds.items():
        say(f"{number:,} {kind}: {_MEANS[kind]}")
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
            "See `silversmith failures`; mend the cause, then `silversmith reconcile --dead`."
        )
    sent = "would be sent" if dry_run else "sent"
    say(f"{count(totals['checked'], 'key')} looked at, {totals['found']:,} {sent}")
    if totals["found"] and not dry_run and not running:
        tell_nobody_works()


def _document(
    totals: dict[str, int], kinds: dict[str, int], named: list[tuple[str, Finding]], *, dry_run: bool
) -> dict[str, Any]:
    return {
        "dry_run": dry_run,
        "checked": totals["checked"],
        "sent": 0 if dry_run else totals["found"],
        **{what: totals[what] for what in ("found", "waiting", "orphaned", "foreign", "given_up")},
        "kinds": kinds,
        "keys": [
            {
                "transform": finding.transform,
                "key": finding.key,
                "kind": finding.kind.value,
                "what": what,
                "etag": finding.etag,
                "size": finding.size,
                "silver": finding.silver,
            }
            for what, finding in named
        ],
    }
