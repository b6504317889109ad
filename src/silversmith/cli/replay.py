"""``silversmith replay``: run files again."""

from __future__ import annotations

import time
from typing import Annotated

from cyclopts import Parameter

from silversmith.cli.bar import bar
from silversmith.cli.filters import key_pattern, point
from silversmith.cli.opened import opened, tell_nobody_works
from silversmith.cli.options import PIPELINE, DryRunOption, JsonOption, PipelineOption, QuietOption
from silversmith.cli.screen import hush, say, say_json, warn
from silversmith.cli.where import HERE, Where
from silversmith.operations.text import count, shown

#: How many keys are named.
NAMED = 100


def replay(
    pattern: Annotated[str, Parameter(name="PATTERN", help="Which keys in bronze, as in 'flights/2026-*.csv'.")],
    /,
    *,
    since: Annotated[
        str | None, Parameter(help="Only what was modified then or later: 2026-01-31T18:00 (UTC), or an age as in 2h.")
    ] = None,
    until: Annotated[str | None, Parameter(help="Only what was modified before then.")] = None,
    changed: Annotated[
        bool, Parameter(negative=(), show_default=False, help="Only files whose silver was made by other code.")
    ] = False,
    force: Annotated[
        bool,
        Parameter(negative=(), show_default=False, help="Make silver again even of the same bytes by the same code."),
    ] = False,
    transform: Annotated[str | None, Parameter(help="Only by this transform.")] = None,
    dry_run: DryRunOption = False,
    pipeline: PipelineOption = PIPELINE,
    where: Where = HERE,
    quiet: QuietOption = False,
    json: JsonOption = False,
) -> int:
    """Run files in bronze again. Silver stays readable meanwhile, and is replaced at once or not at all.

    What the same code made of the same bytes is left as it is, unless --force says that it would become another one:
    because the transform looks something up elsewhere that has changed, say.
    """
    hush(quiet)
    from silversmith.operations.replay import Range
    from silversmith.operations.replay import replay as operation

    now = time.time()
    parsed = key_pattern(pattern, "PATTERN")
    assert parsed is not None
    wanted = Range(parsed, since=point(since, "--since", now), until=point(until, "--until", now))
    totals: dict[str, int] = {}
    named: list[tuple[str, str]] = []
    with opened(pipeline, where, writable=not dry_run) as (definition, target), bar("files", json=json) as advance:
        for batch in operation(
            definition,
            target,
            wanted,
            transform=transform,
            changed=changed,
            force=now if force else None,
            dry_run=dry_run,
        ):
            advance(len(batch.keys))
            totals[batch.transform] = totals.get(batch.transform, 0) + len(batch.keys)
            for key in batch.keys[: NAMED - len(named)]:
                named.append((batch.transform, key))
                if not json:
                    say(f"{shown(key)}  ({batch.transform})")
        running = target.running()
    found = sum(totals.values())
    if json:
        keys = [{"transform": name, "key": key} for name, key in named]
        say_json({"dry_run": dry_run, "sent": 0 if dry_run else found, "found": found, "keys": keys})
    else:
        _sum_up(found, len(named), sure=force or changed, dry_run=dry_run, running=running)
    return 0


def _sum_up(found: int, named: int, *, sure: bool, dry_run: bool, running: bool) -> None:
    if not found:
        warn("there is no such file in bronze that a transform takes")
        return
    if found > named:
        say(f"… and {found - named:,} more")
    say(f"{count(found, 'file')} {'would be sent' if dry_run else 'sent'}")
    if not sure:
        say("what the same code made of the same bytes is left as it is; --force makes it again")
    if not dry_run and not running:
        tell_nobody_works()
