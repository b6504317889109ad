"""``silversmith put``, ``redrive`` and ``replay``: the commands that send files and messages."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from cyclopts import Parameter, validators

from silversmith.cli.options import (
    HERE,
    LAKE,
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
    complete_transforms,
    flag,
    key_pattern,
    load_pipeline,
    number,
    open_target,
    point,
    warn_no_engine,
)
from silversmith.cli.screen import confirm, progress_bar, require_person, say, say_json, set_quiet, warn
from silversmith.operations import WrongCall
from silversmith.operations.text import count, duration, iso, shown, size

if TYPE_CHECKING:
    from silversmith.operations.pace import Certainty, Counts, FileCount, SendPlan
    from silversmith.operations.send import Failure, Place, PutResult, RedriveBatch, ReplayBatch, SentBatch, Upload
    from silversmith.operations.target import Target
    from silversmith.pipeline import Pipeline

    _Batch = TypeVar("_Batch", bound=SentBatch)


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


# -- what the commands that send many files have in common: a rate, a brake, and how to go on

_Rate = Annotated[
    float | None,
    Parameter(validator=validators.Number(gt=0), show_default=None, help="Send at most so many files a second."),
]
_MaxFailures = Annotated[
    float,
    Parameter(
        validator=validators.Number(gte=0, lte=1),
        help="Stop when a larger share of the files that were sent fails, from 0 to 1; 1: never stop.",
    ),
]
_Yes = Annotated[bool, flag("Do not plan, and do not ask, before many files are sent: for scripts.", "--yes")]
_After = Annotated[
    str,
    Parameter(
        name="--after",
        show_default=False,
        help="Go on after this TRANSFORM/KEY, as the command printed it when it stopped.",
    ),
]


@Parameter(name="*")
@dataclass(frozen=True)
class SendOptions:
    """How files are sent."""

    rate: _Rate = None
    max_failures: _MaxFailures = 0.1
    after: _After = ""
    yes: _Yes = False
    dry_run: DryRunOption = False


@Parameter(name="*")
@dataclass(frozen=True)
class RedriveOptions(SendOptions):
    """The same for files that have failed before."""

    max_failures: _MaxFailures = 0.5


#: More files than these are sent only if somebody agrees.
MOST_UNASKED = 1_000

#: At most so many keys are named, unless --limit asks for more.
MOST_NAMED = 100


@dataclass
class Sending:
    """One call of a command that sends files: how fast, until when, and how to go on where it was cut short.

    ``command`` is its name and argument, ``options`` those that choose files, as they are to be given again. Set at the
    end: ``stopped``, why the brake stopped it; ``is_idle``, no engine runs that would take what was sent; ``plan``, of
    what a dry run has counted.
    """

    command: Sequence[str]
    options: Mapping[str, object]
    pipeline: str
    where: Where
    how: SendOptions
    json: bool = False
    stopped: str = ""
    is_idle: bool = False
    plan: SendPlan | None = None
    _place: str = ""
    _sent: int = 0
    _counts: dict[str, FileCount] = field(default_factory=dict)

    @contextmanager
    def opened(self, transform: str | None) -> Iterator[tuple[Pipeline, Target, Place | None]]:
        """Open the target, and find the place to begin at. Where an error or Ctrl-C ends it, say how to go on."""
        from silversmith.operations.pace import Certainty
        from silversmith.operations.send import Place

        with (
            open_target(self.pipeline, self.where, writable=not self.how.dry_run) as (definition, target),
            self.cut_short(),
        ):
            yield definition, target, Place.parse(self.how.after, transform)
            self.is_idle = not self.how.dry_run and not target.running()
            if self.how.dry_run:
                self.plan = self.plan_of(self._counts, Certainty.EXACT, definition, target)

    def paced(
        self,
        batches: Iterable[_Batch],
        target: Target,
        *,
        unit: str = "files",
        number: Callable[[_Batch], int] = lambda batch: len(batch.files),
    ) -> Iterator[_Batch]:
        """The batches as they are sent, until the brake stops them, with a bar that counts the ``number`` of each.
        Where no engine runs, there is nothing to watch."""
        from silversmith.operations.pace import Brake, FileCount, Limiter, TooManyFailures, WatchedTarget, paced

        dry_run, brake = self.how.dry_run, None
        self._place = self.how.after
        if self.how.max_failures < 1 and not dry_run and target.running():
            brake = Brake(self.how.max_failures, WatchedTarget(target), tell=warn, workers=target.workers)
        with progress_bar(unit, json=self.json) as advance:
            try:
                for batch in paced(batches, Limiter(None if dry_run else self.how.rate), brake):
                    self._sent += 0 if dry_run else len(batch.files)
                    for file in batch.files if dry_run else ():
                        self._counts[file.transform] = self._counts.get(file.transform, FileCount()).plus(1, file.size)
                    if batch.place and batch.place.isprintable():  # else it goes on a little before
                        self._place = batch.place
                    advance(number(batch))
                    yield batch
            except TooManyFailures as error:
                self.stopped = str(error)

    @property
    def _again(self) -> str:
        where, how = self.where, self.how
        options = {
            **self.options,
            "--yes": how.yes,
            "--pipeline": self.pipeline,
            "--target": where.target if where.on_aws else "",
            "--lake": where.lake,
            "--deployment": where.deployment,
            "--endpoint-url": where.endpoint_url,
            "--rate": how.rate,
            "--max-failures": how.max_failures,
            "--after": self._place,
        }
        defaults = (None, "", PIPELINE, LAKE)
        arguments = [
            name if value is True else f"{name}={value}"
            for name, value in options.items()
            if value is not False and value not in defaults
        ]
        return shlex.join(["silversmith", *self.command, *arguments])

    @contextmanager
    def cut_short(self) -> Iterator[None]:
        """Where an error or Ctrl-C ends the block, say how to go on."""
        try:
            yield
        except BaseException:
            if self._place:
                warn(f"cut short after {count(self._sent, 'file')}; to go on: {self._again}")
            raise

    def require_agreement(
        self, counted: Callable[[], tuple[Counts, Certainty]], pipeline: Pipeline, target: Target
    ) -> None:
        """If so many files are many, show the plan of sending them, and ask whether to go on. Nothing is counted for a
        dry run, nor where an option agrees.

        Raises:
            WrongCall: somebody said no, or nobody can be asked.
        """
        if self.how.yes or self.how.dry_run:
            return
        counts, certainty = counted()
        if sum(files for files, _ in counts.values()) <= MOST_UNASKED:
            return
        plan = self.plan_of(counts, certainty, pipeline, target)
        if not self.json:
            show_plan(plan)
        number = f"{plan.certainty} {count(plan.files, 'file')}".strip()
        require_person(f": {number} would be sent. Look at the plan with --dry-run, and say yes with --yes.")
        if not confirm(f"Send {number}?"):
            raise WrongCall("nothing was sent")

    def plan_of(self, counts: Counts, certainty: Certainty, pipeline: Pipeline, target: Target) -> SendPlan:
        """The time and costs of sending so many files of each transform."""
        from silversmith.operations.pace import plan_of

        return plan_of(counts, certainty, pipeline, target, rate=self.how.rate, deployed=self.where.on_aws)

    def document(self) -> dict[str, Any]:
        """As JSON values: why the brake stopped it, and the command that goes on (empty: it did not), and the plan of a
        dry run."""
        again = self._again if self.stopped else ""
        takes = self.plan.to_dict() if self.plan is not None else None
        return {"stopped": self.stopped, "again": again, "takes": takes}

    def end(self) -> int:
        """The exit code. Where the brake stopped it, say so."""
        if self.stopped:
            warn(f"stopped after {count(self._sent, 'file')}: {self.stopped}\nto go on: {self._again}")
        return 1 if self.stopped else 0


def show_plan(plan: SendPlan | None) -> None:
    if plan is None:
        return
    for each in plan.transforms:
        bytes_ = f", {size(each.size)}" if each.size else ""
        takes = f": {duration(60 * each.minutes)} with {each.at_once:,} at once" if each.at_once else ""
        dollars = f", ${each.dollars:,.2f}" if each.dollars else ""
        number = f"{plan.certainty} {count(each.files, 'file')}".strip()
        say(f"{each.transform or 'every transform that matches'}: {number}{bytes_}{takes}{dollars}")


# -- redrive and replay


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
    how: RedriveOptions = RedriveOptions(),
    where: Where = HERE,
    quiet: QuietOption = False,
    json: JsonOption = False,
) -> int:
    """Try again what failed: files in quarantine, and messages in dead-letter queues.

    An error document stays until its file succeeds. A message leaves its dead-letter queue at once.
    """
    set_quiet(quiet)
    from silversmith.operations.pace import batch_of, count_redrive
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
    chosen = {"--transform": transform, "--key": key, "--error": error, "--limit": limit}
    chosen |= {"--newer-than": iso(selection.since), "--older-than": iso(selection.until)}
    sending = Sending(["redrive"], chosen, pipeline, where, how, json)
    tally = _RedriveTally(limit or MOST_NAMED, None if json else now)
    with sending.opened(transform) as (definition, target, place):
        if (limit or MOST_UNASKED + 1) > MOST_UNASKED:
            sending.require_agreement(
                lambda: count_redrive(definition, target, selection, after=place), definition, target
            )
        batches = operation(
            definition,
            target,
            selection,
            most=limit,
            dry_run=how.dry_run,
            batch=batch_of(how.rate, REDRIVE_BATCH),
            after=place,
            named=limit or MOST_NAMED,
        )
        for batch in sending.paced(batches, target, unit="failures", number=lambda batch: len(batch.failures)):
            tally.add(batch)
    if json:
        failures = [{**vars(failure), "at": iso(failure.at)} for failure in tally.listed]
        numbers = {"found": tally.total, "sent": tally.sent, "lost": tally.lost}
        say_json({"dry_run": how.dry_run, **numbers, "failures": failures, **sending.document()})
    elif not tally.total:
        say("nothing failed" if selection == FailureSelection() else "nothing failed that these options choose")
    else:
        _show_redriven(tally, dry_run=how.dry_run)
        show_plan(sending.plan)
        if tally.sent and sending.is_idle:
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
    transform: Annotated[str | None, Parameter(completer=complete_transforms, help="Only by this transform.")] = None,
    how: SendOptions = SendOptions(),
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
    from silversmith.operations.pace import batch_of, count_replay
    from silversmith.operations.send import REPLAY_BATCH, Range
    from silversmith.operations.send import replay as operation

    now = time.time()
    keys = key_pattern(pattern, "PATTERN")
    assert keys is not None
    chosen = Range(keys, since=point(since, "--since", now), until=point(until, "--until", now))
    options = {"--transform": transform, "--changed": changed, "--force": force}
    options |= {"--since": iso(chosen.since), "--until": iso(chosen.until)}
    sending = Sending(["replay", pattern], options, pipeline, where, how, json)
    tally = _ReplayTally(json)
    with sending.opened(transform) as (definition, target, place):
        sending.require_agreement(
            lambda: count_replay(definition, target, chosen, transform=transform, changed=changed, after=place),
            definition,
            target,
        )
        batches = operation(
            definition,
            target,
            chosen,
            transform=transform,
            changed=changed,
            force=now if force else None,
            dry_run=how.dry_run,
            batch=batch_of(how.rate, REPLAY_BATCH),
            after=place,
        )
        for batch in sending.paced(batches, target, number=lambda batch: len(batch.keys)):
            tally.add(batch)
    if json:
        say_json(
            {
                "dry_run": how.dry_run,
                "sent": 0 if how.dry_run else tally.total,
                "found": tally.total,
                "keys": [{"transform": name, "key": key} for name, key in tally.listed],
                "archived": tally.archived,
                "markers": tally.markers,
                "before_since": tally.before_since,
                **sending.document(),
            }
        )
        return sending.end()
    if tally.before_since:
        early = count(tally.before_since, "file")
        say(f"not sent: {early} from before the transform's since; name the key of one to send it")
    if tally.archived or tally.markers:
        say(
            f"not sent: {tally.archived:,} archived, which must be restored first; {count(tally.markers, 'marker')} of "
            "folders and jobs"
        )
    if not tally.total:
        warn("there is no such file in bronze that a transform takes")
        return sending.end()
    say_more(tally.total - len(tally.listed))
    say(f"{count(tally.total, 'file')} {'would be sent' if how.dry_run else 'sent'}")
    show_plan(sending.plan)
    if not force and not changed:
        say("what the same code made of the same bytes is left as it is; --force makes it again")
    if sending.is_idle:
        warn_no_engine()
    return sending.end()


@dataclass
class _ReplayTally:
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
