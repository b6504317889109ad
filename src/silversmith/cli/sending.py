"""What the commands that send many files have in common: a rate, a brake, and how to go on."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from cyclopts import Parameter, validators

from silversmith.cli.options import LAKE, PIPELINE, Where, flag
from silversmith.cli.screen import can_ask, confirm, say, warn
from silversmith.operations import WrongCall
from silversmith.operations.text import count, duration, size

if TYPE_CHECKING:
    from silversmith.operations.pace import SentBatch
    from silversmith.operations.plan import Certainty, Counts, SendPlan
    from silversmith.operations.target import Target
    from silversmith.pipeline import Pipeline

    _Batch = TypeVar("_Batch", bound=SentBatch)

RateOption = Annotated[
    float | None,
    Parameter(validator=validators.Number(gt=0), show_default=None, help="Send at most so many files a second."),
]
MaxFailuresOption = Annotated[
    float,
    Parameter(
        validator=validators.Number(gte=0, lte=1),
        help="Stop when a larger share of the files that were sent fails, from 0 to 1; 1: never stop.",
    ),
]
YesOption = Annotated[bool, flag("Do not plan, and do not ask, before many files are sent: for scripts.", "--yes")]
AfterOption = Annotated[
    str,
    Parameter(
        name="--after",
        show_default=False,
        help="Go on after this TRANSFORM/KEY, as the command printed it when it stopped.",
    ),
]

#: More files than these are sent only if somebody agrees.
MOST_UNASKED = 1_000

#: The values of options that are not repeated.
_DEFAULTS = (None, False, "", PIPELINE, LAKE)


class Sending:
    """One call of a command that sends files: how fast, until when, and how to go on where it was cut short.

    Args:
        command: its name and arguments.
        pipeline: as it was named.
        options: those that choose files, as they are to be given again.
        where: the target.
        rate: files a second, or None.
        max_failures: the share of files that may fail.
    """

    def __init__(
        self,
        *command: str,
        pipeline: str,
        options: Mapping[str, object],
        where: Where,
        rate: float | None,
        max_failures: float,
    ) -> None:
        places = {"--pipeline": pipeline, "--target": where.target if where.on_aws else "", "--lake": where.lake}
        places |= {"--deployment": where.deployment, "--endpoint-url": where.endpoint_url}
        pace = {"--rate": rate, "--max-failures": max_failures}
        self._command = [*command, *_arguments({**options, **places, **pace})]
        self._rate = rate
        self._max_failures = max_failures
        self._place = ""
        self._sent = 0
        self._counts: dict[str, tuple[int, int]] = {}
        #: Why the brake stopped it; empty: it did not.
        self.stopped = ""

    def paced(self, batches: Iterable[_Batch], target: Target, *, after: str, dry_run: bool) -> Iterator[_Batch]:
        """The batches as they are sent, from the place ``after`` on, until the brake stops them. Where no engine runs,
        there is nothing to watch."""
        from silversmith.operations.pace import Brake, Limiter, TooManyFailures, WatchedTarget, paced

        self._place = after
        brake = None
        if self._max_failures < 1 and not dry_run and target.running():
            brake = Brake(self._max_failures, WatchedTarget(target), tell=warn, workers=target.workers)
        try:
            for batch in paced(batches, Limiter(None if dry_run else self._rate), brake):
                self._sent += 0 if dry_run else len(batch.files)
                for file in batch.files if dry_run else ():
                    before = self._counts.get(file.transform, (0, 0))
                    self._counts[file.transform] = (before[0] + 1, before[1] + file.size)
                if batch.place and batch.place.isprintable():  # else it goes on a little before
                    self._place = batch.place
                yield batch
        except TooManyFailures as error:
            self.stopped = str(error)

    @property
    def _again(self) -> str:
        after = [f"--after={self._place}"] if self._place else []
        return shlex.join(["silversmith", *self._command, *after])

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
        self, counted: tuple[Counts, Certainty], pipeline: Pipeline, target: Target, where: Where, *, json: bool
    ) -> None:
        """If so many files are many, show the plan of sending them, and ask whether to go on.

        Raises:
            WrongCall: somebody said no, or nobody can be asked.
        """
        from silversmith.operations.plan import plan_of

        counts, certainty = counted
        if sum(files for files, _ in counts.values()) <= MOST_UNASKED:
            return
        plan = plan_of(counts, certainty, pipeline, target, rate=self._rate, deployed=where.on_aws)
        if not json:
            show_plan(plan)
        number = f"{plan.certainty} {count(plan.files, 'file')}".strip()
        if not can_ask():
            raise WrongCall(
                f"nobody can be asked, because this is no terminal: {number} would be sent. Look at the plan with "
                "--dry-run, and say yes with --yes."
            )
        if not confirm(f"Send {number}?"):
            raise WrongCall("nothing was sent")

    def plan(self, pipeline: Pipeline, target: Target, where: Where) -> SendPlan:
        """The plan of what a dry run has counted."""
        from silversmith.operations.plan import Certainty, plan_of

        return plan_of(self._counts, Certainty.EXACT, pipeline, target, rate=self._rate, deployed=where.on_aws)

    def document(self, plan: SendPlan | None = None) -> dict[str, Any]:
        """As JSON values: why the brake stopped it, and the command that goes on (empty: it did not), and the plan of a
        dry run."""
        again = self._again if self.stopped else ""
        return {"stopped": self.stopped, "again": again, "takes": plan.to_dict() if plan is not None else None}

    def end(self) -> int:
        """The exit code. Where the brake stopped it, say so."""
        if self.stopped:
            warn(f"stopped after {count(self._sent, 'file')}: {self.stopped}\nto go on: {self._again}")
        return 1 if self.stopped else 0


def show_plan(plan: SendPlan) -> None:
    """What it takes to send files, a line for each transform."""
    for each in plan.transforms:
        bytes_ = f", {size(each.size)}" if each.size else ""
        takes = f": {duration(60 * each.minutes)} with {each.at_once:,} at once" if each.at_once else ""
        dollars = f", ${each.dollars:,.2f}" if each.dollars else ""
        number = f"{plan.certainty} {count(each.files, 'file')}".strip()
        say(f"{each.transform or 'every transform that matches'}: {number}{bytes_}{takes}{dollars}")


def _arguments(options: Mapping[str, object]) -> Iterator[str]:
    for name, value in options.items():
        if value is True:
            yield name
        elif value not in _DEFAULTS:
            yield f"{name}={value}"
