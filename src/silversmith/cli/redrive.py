"""``silversmith redrive``: try again what failed."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter, validators

from silversmith.cli.bar import bar
from silversmith.cli.filters import ago, key_pattern
from silversmith.cli.opened import opened, tell_nobody_works
from silversmith.cli.options import PIPELINE, DryRunOption, JsonOption, PipelineArgument, QuietOption
from silversmith.cli.screen import hush, say, say_json, warn
from silversmith.cli.where import HERE, Where
from silversmith.operations.text import count, duration, shown

if TYPE_CHECKING:
    from silversmith.operations.redrive import Chosen, Failed

#: How many are named, unless somebody asked for that many.
NAMED = 100


def redrive(
    pipeline: PipelineArgument = PIPELINE,
    *,
    transform: Annotated[str | None, Parameter(help="Only this transform's.")] = None,
    key: Annotated[str | None, Parameter(help="Only of keys that match, as in 'flights/*.csv'.")] = None,
    error: Annotated[str | None, Parameter(help="Only of this error, as `silversmith failures` names it.")] = None,
    older_than: Annotated[
        str | None, Parameter(help="Only what failed longer ago than this, as in 10m, 2h, 3d.")
    ] = None,
    newer_than: Annotated[str | None, Parameter(help="Only what failed since then, as in 10m, 2h, 3d.")] = None,
    limit: Annotated[int | None, Parameter(validator=validators.Number(gte=1), help="Not more than so many.")] = None,
    dry_run: DryRunOption = False,
    where: Where = HERE,
    quiet: QuietOption = False,
    json: JsonOption = False,
) -> int:
    """Try again what failed: files in quarantine, and messages in dead-letter queues.

    An error document stays until its file succeeds. A message leaves its dead-letter queue at once.
    """
    hush(quiet)
    from silversmith.operations.redrive import Chosen
    from silversmith.operations.redrive import redrive as operation

    now = time.time()
    chosen = Chosen(
        transform,
        key_pattern(key, "--key"),
        error,
        since=ago(newer_than, "--newer-than", now),
        until=ago(older_than, "--older-than", now),
    )
    totals = {"found": 0, "sent": 0, "lost": 0}
    named: list[Failed] = []
    with opened(pipeline, where, writable=not dry_run) as (definition, target), bar("failures", json=json) as advance:
        for batch in operation(definition, target, chosen, most=limit, dry_run=dry_run):
            totals["sent"] += batch.sent
            advance(len(batch.failed))
            for failed in batch.failed:
                totals["found"] += 1
                totals["lost"] += failed.lost
                if len(named) < (limit or NAMED):
                    named.append(failed)
                    _tell(failed, now, quiet=json)
        running = target.running()
    if json:
        say_json({"dry_run": dry_run, **totals, "failures": [_failure(failed) for failed in named]})
    else:
        _sum_up(totals, len(named), chosen, dry_run=dry_run, running=running)
    return 0


def _tell(failed: Failed, now: float, *, quiet: bool) -> None:
    if quiet:
        return
    age = f", {duration(max(0.0, now - failed.at))} ago" if failed.at is not None else ""
    whose = failed.transform or "every transform that matches"
    say(f"{shown(failed.key)}  ({whose}, {failed.where}{': ' + failed.code if failed.code else ''}{age})")


def _failure(failed: Failed) -> dict[str, Any]:
    from silversmith.operations.text import iso

    return {**vars(failed), "at": iso(failed.at)}


def _sum_up(totals: dict[str, int], named: int, chosen: Chosen, *, dry_run: bool, running: bool) -> None:
    from silversmith.operations.redrive import Chosen

    if not totals["found"]:
        say("nothing failed" if chosen == Chosen() else "nothing failed that these options choose")
        return
    if totals["found"] > named:
        say(f"… and {totals['found'] - named:,} more")
    if dry_run:
        say(f"{count(totals['found'] - totals['lost'], 'failure')} would be tried again")
    else:
        say(f"{count(totals['sent'], 'failure')} tried again")
    if totals["lost"]:
        warn(
            f"{count(totals['lost'], 'failure')} cannot be given back: the pipeline no longer has the transform, "
            "subscription or rule that it came from. Run the file again with `silversmith replay`."
        )
    if totals["sent"] and not running:
        tell_nobody_works()
