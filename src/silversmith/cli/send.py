"""``silversmith put``, ``redrive`` and ``replay``: the commands that send files and messages."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
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
    ago,
    flag,
    key_pattern,
    load_pipeline,
    number,
    open_target,
    point,
    warn_no_engine,
)
from silversmith.cli.screen import progress_bar, say, say_json, set_quiet, warn
from silversmith.operations import WrongCall
from silversmith.operations.text import count, duration, iso, shown, size

if TYPE_CHECKING:
    from silversmith.operations.send import Failure, PutResult, Upload


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
        str | None, Parameter(help="Only what failed longer ago than this, as in 10m, 2h, 3d.")
    ] = None,
    newer_than: Annotated[str | None, Parameter(help="Only what failed since then, as in 10m, 2h, 3d.")] = None,
    limit: Annotated[int | None, number("Not more than so many.", 1)] = None,
    dry_run: DryRunOption = False,
    where: Where = HERE,
    quiet: QuietOption = False,
    json: JsonOption = False,
) -> int:
    """Try again what failed: files in quarantine, and messages in dead-letter queues.

    An error document stays until its file succeeds. A message leaves its dead-letter queue at once.
    """
    set_quiet(quiet)
    from silversmith.operations.send import FailureSelection
    from silversmith.operations.send import redrive as operation

    now = time.time()
    selection = FailureSelection(
        transform,
        key_pattern(key, "--key"),
        error,
        since=ago(newer_than, "--newer-than", now),
        until=ago(older_than, "--older-than", now),
    )
    total = sent = lost = 0
    listed: list[Failure] = []
    with (
        open_target(pipeline, where, writable=not dry_run) as (definition, target),
        progress_bar("failures", json=json) as advance,
    ):
        for batch in operation(definition, target, selection, most=limit, dry_run=dry_run):
            total, sent = total + len(batch.failures), sent + batch.sent
            lost += sum(failure.lost for failure in batch.failures)
            advance(len(batch.failures))
            new = batch.failures[: (limit or MOST_NAMED) - len(listed)]
            listed += new
            for failure in () if json else new:
                _show_failure(failure, now)
        running = target.running()
    if json:
        failures = [{**vars(failure), "at": iso(failure.at)} for failure in listed]
        say_json({"dry_run": dry_run, "found": total, "sent": sent, "lost": lost, "failures": failures})
    elif not total:
        say("nothing failed" if selection == FailureSelection() else "nothing failed that these options choose")
    else:
        say_more(total - len(listed))
        say(
            f"{count(total - lost, 'failure')} would be tried again"
            if dry_run
            else f"{count(sent, 'failure')} tried again"
        )
        if lost:
            warn(
                f"{count(lost, 'failure')} cannot be given back: the pipeline no longer has the transform, "
                "subscription or rule that it came from. Run the file again with `silversmith replay`."
            )
        if sent and not running:
            warn_no_engine()
    return 0


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
    from silversmith.operations.send import Range
    from silversmith.operations.send import replay as operation

    now = time.time()
    keys = key_pattern(pattern, "PATTERN")
    assert keys is not None
    chosen = Range(keys, since=point(since, "--since", now), until=point(until, "--until", now))
    total, listed = 0, list[tuple[str, str]]()
    archived, markers = 0, 0
    with (
        open_target(pipeline, where, writable=not dry_run) as (definition, target),
        progress_bar("files", json=json) as advance,
    ):
        for batch in operation(
            definition,
            target,
            chosen,
            transform=transform,
            changed=changed,
            force=now if force else None,
            dry_run=dry_run,
        ):
            advance(len(batch.keys))
            total += len(batch.keys)
            archived += len(batch.archived)
            markers += batch.markers
            for key, tier in batch.archived.items():
                if not json:
                    say(f"{shown(key)}  ({batch.transform})  archived in {tier}: not sent")
            for key in batch.keys[: MOST_NAMED - len(listed)]:
                listed.append((batch.transform, key))
                if not json:
                    say(f"{shown(key)}  ({batch.transform})")
        running = target.running()
    passed = {"archived": archived, "markers": markers}
    if not json and any(passed.values()):
        say(
            f"not sent: {archived:,} archived, which must be restored first; {count(markers, 'marker')} of folders and "
            "jobs"
        )
    if json:
        documents = [{"transform": name, "key": key} for name, key in listed]
        say_json({"dry_run": dry_run, "sent": 0 if dry_run else total, "found": total, "keys": documents} | passed)
    elif not total:
        warn("there is no such file in bronze that a transform takes")
    else:
        say_more(total - len(listed))
        say(f"{count(total, 'file')} {'would be sent' if dry_run else 'sent'}")
        if not force and not changed:
            say("what the same code made of the same bytes is left as it is; --force makes it again")
        if not dry_run and not running:
            warn_no_engine()
    return 0
