"""``silversmith put``, ``redrive`` and ``replay``: the commands that send files and messages."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from silversmith.cli import completion
from silversmith.cli.options import (
    HERE,
    PIPELINE,
    DryRunOption,
    FilesArgument,
    JsonOption,
    KeyOption,
    PipelineArgument,
    PipelineOption,
    QuietOption,
    TransformOption,
    Where,
    flag,
    key_pattern,
    load_pipeline,
    number,
    open_target,
    point,
    warn_no_engine,
)
from silversmith.cli.screen import progress_bar, say, say_json, set_quiet, warn
from silversmith.cli.sending import (
    MOST_UNASKED,
    AfterOption,
    MaxFailuresOption,
    RateOption,
    Sending,
    YesOption,
    show_plan,
)
from silversmith.operations import WrongCall
from silversmith.operations.text import count, duration, iso, shown, size

if TYPE_CHECKING:
    from silversmith.operations.send import Failure, PutResult, RedriveBatch, ReplayBatch, Upload


def put(
    *files: FilesArgument,
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
    set_quiet(quiet)
    from silversmith.operations.send import plan

    if key is not None and prefix:
        raise WrongCall("--key is the whole key; --prefix has nothing to go before. Give one of them.")
    uploads = plan(files, key=key, prefix=prefix)
    done: list[PutResult] = []
    with progress_bar("bytes", sum(upload.path.stat().st_size for upload in uploads), json=json) as advance:
        for stored in _put(uploads, pipeline, where):
            done.append(stored)
            _show_put(stored, where, json=json)
            advance(stored.size)
    if json:
        say_json({"put": [stored.to_dict() for stored in done]})
    elif not done:
        warn("there are no files in there")
    return 0


def _put(uploads: Sequence[Upload], pipeline: str, where: Where) -> Iterator[PutResult]:
    from silversmith.operations.send import put as operation

    if where.on_aws:
        with open_target(pipeline, where) as (definition, target):
            yield from operation(uploads, definition, target.lake.bronze, scratch=None)
        return
    from silversmith.local.lake import LakeFolder

    definition = load_pipeline(pipeline)
    folder = LakeFolder(where.lake)
    folder.create(definition.bronze)
    bronze = folder.store(definition.bronze, foreign_writers=True)
    yield from operation(uploads, definition, bronze, scratch=folder.scratch)


def _show_put(stored: PutResult, where: Where, *, json: bool) -> None:
    from silversmith.local.files import is_temporary

    if not json:
        uses = [*stored.transforms, *(f"lookup of {name}" for name in stored.lookup_of)]
        say(f"{stored.key}  {size(stored.size)}  → {', '.join(uses) or 'nothing'}")
    if not stored.transforms and not stored.lookup_of:
        warn(f"no transform's pattern matches {stored.key}: it lies in bronze, and nothing will be made of it")
    elif is_temporary(stored.key) and not where.on_aws:
        warn(f"{stored.key} is named like a file that is not finished: the engine on this machine leaves it alone")


#: At most so many keys are named, unless --limit asks for more.
MOST_NAMED = 100


def redrive(
    pipeline: PipelineArgument = PIPELINE,
    *,
    transform: TransformOption = None,
    key: KeyOption = None,
    error: Annotated[str | None, Parameter(help="Only of this error, as `silversmith failures` names it.")] = None,
    older_than: Annotated[
        str | None, Parameter(help="Only what failed longer ago than this, as in 10m, 2h, 3d; or before a time.")
    ] = None,
    newer_than: Annotated[
        str | None, Parameter(help="Only what failed since then, as in 10m, 2h, 3d; or a time.")
    ] = None,
    limit: Annotated[int | None, number("Not more than so many.", 1)] = None,
    rate: RateOption = None,
    max_failures: MaxFailuresOption = 0.5,
    after: AfterOption = "",
    yes: YesOption = False,
    dry_run: DryRunOption = False,
    where: Where = HERE,
    quiet: QuietOption = False,
    json: JsonOption = False,
) -> int:
    """Try again what failed: files in quarantine, and messages in dead-letter queues.

    An error document stays until its file succeeds. A message leaves its dead-letter queue at once.
    """
    set_quiet(quiet)
    from silversmith.operations.pace import Place, batch_of
    from silversmith.operations.plan import count_redrive
    from silversmith.operations.send import REDRIVE_BATCH, FailureSelection
    from silversmith.operations.send import redrive as operation

    now = time.time()
    selection = FailureSelection(
        transform,
        key_pattern(key, "--key"),
        error,
        since=point(newer_than, "--newer-than", now),
        until=point(older_than, "--older-than", now),
    )
    chosen = {"--transform": transform, "--key": key, "--error": error, "--limit": limit, "--yes": yes}
    chosen |= {"--newer-than": iso(selection.since), "--older-than": iso(selection.until)}
    sending = Sending("redrive", pipeline=pipeline, options=chosen, where=where, rate=rate, max_failures=max_failures)
    tally = _RedriveTally(limit or MOST_NAMED, None if json else now)
    with (
        open_target(pipeline, where, writable=not dry_run) as (definition, target),
        sending.cut_short(),
    ):
        place = Place.parse(after, transform)
        if not yes and not dry_run and (limit or MOST_UNASKED + 1) > MOST_UNASKED:
            counted = count_redrive(definition, target, selection, after=place)
            sending.require_agreement(counted, definition, target, where, json=json)
        batches = operation(
            definition,
            target,
            selection,
            most=limit,
            dry_run=dry_run,
            batch=batch_of(rate, REDRIVE_BATCH),
            after=place,
            named=limit or MOST_NAMED,
        )
        with progress_bar("failures", json=json) as advance:
            for batch in sending.paced(batches, target, after=after, dry_run=dry_run):
                advance(len(batch.failures))
                tally.add(batch)
        running = target.running()
        plan = sending.plan(definition, target, where) if dry_run else None
    if json:
        failures = [{**vars(failure), "at": iso(failure.at)} for failure in tally.listed]
        numbers = {"found": tally.total, "sent": tally.sent, "lost": tally.lost}
        say_json({"dry_run": dry_run, **numbers, "failures": failures, **sending.document(plan)})
    elif not tally.total:
        say("nothing failed" if selection == FailureSelection() else "nothing failed that these options choose")
    else:
        _show_redriven(tally, dry_run=dry_run)
        if plan is not None:
            show_plan(plan)
        if tally.sent and not running:
            warn_no_engine()
    return sending.end()


@dataclass
class _RedriveTally:
    """What a redrive came to. ``now`` in Unix seconds; None: nothing is shown. ``most`` failures are listed."""

    most: int
    now: float | None
    total: int = 0
    sent: int = 0
    lost: int = 0
    listed: list[Failure] = field(default_factory=list)

    def add(self, batch: RedriveBatch) -> None:
        self.total += len(batch.failures)
        self.sent += batch.sent
        self.lost += sum(failure.lost for failure in batch.failures)
        new = batch.failures[: self.most - len(self.listed)]
        self.listed += new
        if self.now is not None:
            for failure in new:
                _show_failure(failure, self.now)


def _show_redriven(tally: _RedriveTally, *, dry_run: bool) -> None:
    say_more(tally.total - len(tally.listed))
    if dry_run:
        say(f"{count(tally.total - tally.lost, 'failure')} would be tried again")
    else:
        say(f"{count(tally.sent, 'failure')} tried again")
    if tally.lost:
        warn(
            f"{count(tally.lost, 'failure')} cannot be given back: the pipeline no longer has the transform, "
            "subscription or rule that it came from. Run the file again with `silversmith replay`."
        )


def _show_failure(failure: Failure, now: float) -> None:
    age = f", {duration(max(0.0, now - failure.at))} ago" if failure.at is not None else ""
    transform = failure.transform or "every transform that matches"
    code = f": {failure.code}" if failure.code else ""
    say(f"{shown(failure.key)}  ({transform}, {failure.where}{code}{age})")


def say_more(number: int, hint: str = "") -> None:
    if number > 0:
        say(f"… and {number:,} more{hint}")


def replay(
    pattern: Annotated[str, Parameter(name="PATTERN", help="Which keys in bronze, as in 'flights/2026-*.csv'.")],
    /,
    *,
    since: Annotated[
        str | None, Parameter(help="Only what was modified then or later: 2026-01-31T18:00 (UTC), or an age as in 2h.")
    ] = None,
    until: Annotated[str | None, Parameter(help="Only what was modified before then.")] = None,
    changed: Annotated[bool, flag("Only files whose silver was made by other code.")] = False,
    force: Annotated[bool, flag("Make silver again even of the same bytes by the same code.")] = False,
    transform: Annotated[str | None, Parameter(completer=completion.transforms, help="Only by this transform.")] = None,
    rate: RateOption = None,
    max_failures: MaxFailuresOption = 0.1,
    after: AfterOption = "",
    yes: YesOption = False,
    dry_run: DryRunOption = False,
    pipeline: PipelineOption = PIPELINE,
    where: Where = HERE,
    quiet: QuietOption = False,
    json: JsonOption = False,
) -> int:
    """Run files in bronze again. Silver stays readable meanwhile, and is replaced at once or not at all.

    What the same code made of the same bytes stays, unless --force says that it would become different: for example
    because the transform looks something up elsewhere that has changed.
    """
    set_quiet(quiet)
    from silversmith.operations.pace import Place, batch_of
    from silversmith.operations.plan import count_replay
    from silversmith.operations.send import REPLAY_BATCH, Range
    from silversmith.operations.send import replay as operation

    now = time.time()
    keys = key_pattern(pattern, "PATTERN")
    assert keys is not None
    chosen = Range(keys, since=point(since, "--since", now), until=point(until, "--until", now))
    options = {"--transform": transform, "--changed": changed, "--force": force, "--yes": yes}
    options |= {"--since": iso(chosen.since), "--until": iso(chosen.until)}
    sending = Sending(
        "replay", pattern, pipeline=pipeline, options=options, where=where, rate=rate, max_failures=max_failures
    )
    tally = _ReplayTally(json)
    with (
        open_target(pipeline, where, writable=not dry_run) as (definition, target),
        sending.cut_short(),
    ):
        place = Place.parse(after, transform)
        if not yes and not dry_run:
            counted = count_replay(definition, target, chosen, transform=transform, changed=changed, after=place)
            sending.require_agreement(counted, definition, target, where, json=json)
        batches = operation(
            definition,
            target,
            chosen,
            transform=transform,
            changed=changed,
            force=now if force else None,
            dry_run=dry_run,
            batch=batch_of(rate, REPLAY_BATCH),
            after=place,
        )
        with progress_bar("files", json=json) as advance:
            for batch in sending.paced(batches, target, after=after, dry_run=dry_run):
                advance(len(batch.keys))
                tally.add(batch)
        running = target.running()
        plan = sending.plan(definition, target, where) if dry_run else None
    passed = {"archived": tally.archived, "markers": tally.markers}
    if not json and tally.before_since:
        early = count(tally.before_since, "file")
        say(f"not sent: {early} from before the transform's since; name the key of one to send it")
    if not json and any(passed.values()):
        say(
            f"not sent: {tally.archived:,} archived, which must be restored first; {count(tally.markers, 'marker')} of "
            "folders and jobs"
        )
    if json:
        documents = [{"transform": name, "key": key} for name, key in tally.listed]
        numbers = {"sent": 0 if dry_run else tally.total, "found": tally.total}
        say_json(
            {
                "dry_run": dry_run,
                **numbers,
                "keys": documents,
                **passed,
                "before_since": tally.before_since,
                **sending.document(plan),
            }
        )
    elif not tally.total:
        warn("there is no such file in bronze that a transform takes")
    else:
        say_more(tally.total - len(tally.listed))
        say(f"{count(tally.total, 'file')} {'would be sent' if dry_run else 'sent'}")
        if plan is not None:
            show_plan(plan)
        if not force and not changed:
            say("what the same code made of the same bytes is left as it is; --force makes it again")
        if not dry_run and not running:
            warn_no_engine()
    return sending.end()


@dataclass
class _ReplayTally:
    """What a replay came to."""

    json: bool
    total: int = 0
    archived: int = 0
    markers: int = 0
    before_since: int = 0
    listed: list[tuple[str, str]] = field(default_factory=list)

    def add(self, batch: ReplayBatch) -> None:
        self.total += len(batch.keys)
        self.archived += len(batch.archived)
        self.markers += batch.markers
        self.before_since += batch.before_since
        new = [(batch.transform, key) for key in batch.keys[: MOST_NAMED - len(self.listed)]]
        self.listed += new
        if not self.json:
            for key, tier in batch.archived.items():
                say(f"{shown(key)}  ({batch.transform})  archived in {tier}: not sent")
            for name, key in new:
                say(f"{shown(key)}  ({name})")
