"""``silversmith put``, ``redrive``, ``replay`` and ``reconcile``: the commands that send files and messages."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter, validators

from silversmith.cli.options import (
    HERE,
    PIPELINE,
    DryRunOption,
    JsonOption,
    PipelineArgument,
    PipelineOption,
    QuietOption,
    Where,
    ago,
    key_pattern,
    load_pipeline,
    opened,
    point,
    tell_nobody_works,
)
from silversmith.cli.screen import bar, hush, say, say_json, warn
from silversmith.operations.text import count, duration, shown, size

if TYPE_CHECKING:
    from silversmith.operations.put import Put, Upload
    from silversmith.operations.resend import Chosen, Failed
    from silversmith.reconcile.compare import Finding


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
            _tell_put(found, where, quiet=json)
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


def _tell_put(found: Put, where: Where, *, quiet: bool) -> None:
    from silversmith.local.landing import is_temporary

    if not quiet:
        say(f"{found.key}  {size(found.size)}  → {', '.join(_uses(found)) or 'nothing'}")
    if not found.transforms and not found.lookup_of:
        warn(f"no transform's pattern matches {found.key}: it lies in bronze, and nothing will be made of it")
    elif is_temporary(found.key) and not where.on_aws:
        warn(f"{found.key} is named like a file that is not finished: the engine on this machine leaves it alone")


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
    from silversmith.operations.resend import Chosen
    from silversmith.operations.resend import redrive as operation

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
                    _tell_redrive(failed, now, quiet=json)
        running = target.running()
    if json:
        say_json({"dry_run": dry_run, **totals, "failures": [_failure(failed) for failed in named]})
    else:
        _sum_up_redrive(totals, len(named), chosen, dry_run=dry_run, running=running)
    return 0


def _tell_redrive(failed: Failed, now: float, *, quiet: bool) -> None:
    if quiet:
        return
    age = f", {duration(max(0.0, now - failed.at))} ago" if failed.at is not None else ""
    whose = failed.transform or "every transform that matches"
    say(f"{shown(failed.key)}  ({whose}, {failed.where}{': ' + failed.code if failed.code else ''}{age})")


def _failure(failed: Failed) -> dict[str, Any]:
    from silversmith.operations.text import iso

    return {**vars(failed), "at": iso(failed.at)}


def _sum_up_redrive(totals: dict[str, int], named: int, chosen: Chosen, *, dry_run: bool, running: bool) -> None:
    from silversmith.operations.resend import Chosen

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
    from silversmith.operations.resend import Range
    from silversmith.operations.resend import replay as operation

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
        _sum_up_replay(found, len(named), sure=force or changed, dry_run=dry_run, running=running)
    return 0


def _sum_up_replay(found: int, named: int, *, sure: bool, dry_run: bool, running: bool) -> None:
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
    from silversmith.operations.resend import reconcile as operation

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
                        _tell_reconcile(what, finding, dry_run=dry_run, quiet=json)
        running = target.running()
    if json:
        say_json(_document(totals, kinds, named, dry_run=dry_run))
    else:
        _sum_up_reconcile(totals, kinds, len(named), dry_run=dry_run, running=running)
    return 1 if totals["foreign"] else 0


def _tell_reconcile(what: str, finding: Finding, *, dry_run: bool, quiet: bool) -> None:
    if quiet:
        return
    found = "not sent" if dry_run else "sent"
    done = {
        "found": found,
        "waiting": "a message of it exists already",
        "given_up": "the code failed on it too often: not sent",
    }.get(what, finding.silver)
    say(f"{finding.kind.value:9} {finding.transform}  {shown(finding.key)}  ({done})")


def _sum_up_reconcile(
    totals: dict[str, int], kinds: dict[str, int], named: int, *, dry_run: bool, running: bool
) -> None:
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
