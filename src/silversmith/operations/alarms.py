"""The alarms of a local run: the conditions of ``Deployment.alarm_on``, judged by the journal, and sent to channels.

Nothing here is a part of the engine: it reads the journal in a thread of its own, and keeps its state in a file of its
own beside it. docs/observability.md
"""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from silversmith.local.journal import Journal
from silversmith.local.lake import LakeFolder
from silversmith.operations.alarm_state import Alarm, AlarmState, Change, Delivery
from silversmith.operations.channels import Channel, Undelivered
from silversmith.operations.profile import Follower
from silversmith.operations.target import Hop
from silversmith.operations.text import count, duration, iso, moment
from silversmith.pipeline.deployment import AlarmCondition, Deployment, alarm_conditions, named

#: A share is of an hour, anything else of five minutes, in seconds: as the alarms on AWS are. A raised alarm stays for
#: as long, so that it does not come and go.
HOUR, MINUTES = 3600, 300

#: Counts are kept for steps of so many seconds.
STEP = 10

#: Seconds from one judgement to the next, and from the start of a run to the first.
EVERY, FIRST = 5.0, 30.0

#: A channel gets one notice in so many seconds; after a failure it is tried again after the first of these times, which
#: doubles up to the second.
APART, AGAIN, LATEST = 60.0, 5.0, 300.0

#: At the end of a run, so many seconds are left for the last notices.
LAST = 45.0

_log = logging.getLogger("silversmith")


@dataclass
class _Counts:
    quarantined: int = 0
    committed: int = 0
    rejected: int = 0
    written: int = 0

    def add(self, other: _Counts) -> None:
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)


class Judge:
    """Counts what happens to files, and says which conditions are true.

    Args:
        conditions: as ``Deployment.alarm_on`` has them.
        committed: by transform, when it last made silver, in Unix seconds.
        began: likewise of the transforms that never did: since when they could have.
    """

    def __init__(self, conditions: Sequence[str], committed: Mapping[str, float | None], *, began: float) -> None:
        self._conditions = dict(zip(conditions, alarm_conditions(conditions), strict=True))
        self._last = {name: began if at is None else at for name, at in committed.items()}
        self._steps: dict[str, dict[int, _Counts]] = defaultdict(dict)

    def add_hop(self, key: str, hop: Hop) -> None:
        """Count a hop, if it is the end of a file in a function."""
        del key
        if hop.room != "function" or hop.what not in {"committed", "quarantined"}:
            return
        transform, detail = str(hop.detail.get("transform") or hop.name), hop.detail
        if hop.what == "committed":
            self._last[transform] = max(hop.at, self._last.get(transform, 0.0))
            counts = _Counts(0, 1, int(detail.get("rows_rejected") or 0), int(detail.get("rows_written") or 0))
        else:
            counts = _Counts(quarantined=1)
        self._steps[transform].setdefault(int(hop.at // STEP), _Counts()).add(counts)

    def true(self, now: float) -> dict[tuple[str, str], str]:
        """The conditions that are true, as (transform, condition), each with a sentence."""
        sentences = {}
        for transform in sorted({*self._last, *self._steps}):
            steps = self._steps[transform]
            for old in [step for step in steps if step * STEP < now - HOUR - STEP]:
                del steps[old]
            for text, condition in self._conditions.items():
                if sentence := self._sentence(transform, condition, now):
                    sentences[transform, text] = sentence
        return sentences

    def _sentence(self, transform: str, condition: AlarmCondition, now: float) -> str:
        kind, limit = condition
        if kind == "silent":
            silent = now - self._last.get(transform, now)
            return f"no new silver for {duration(silent)}" if silent > limit * 3600 else ""
        total = _Counts()
        for step, counts in self._steps[transform].items():
            if now - step * STEP < (HOUR if limit else MINUTES) + STEP:
                total.add(counts)
        bad, good = total.quarantined, total.committed
        noun, what, ask = "file", "quarantine", "silversmith failures"
        if kind == "rejected":
            bad, good = total.rejected, total.written
            noun, what, ask = "row", "rejected", "silversmith failures --rejected"
        if not bad or bad / (bad + good) <= limit:
            return ""
        whole = f" of {count(bad + good, noun)}" if limit else ""
        number = f"{bad:,}{whole}" if limit else count(bad, noun)
        verb = "was" if bad == 1 else "were"
        happened = f"{verb} rejected" if what == "rejected" else "went to quarantine"
        return f"{number} {happened} within {'an hour' if limit else '5 minutes'}: see `{ask}`"


class Source(Protocol):
    """What the alarms are judged by."""

    def true(self, now: float) -> Mapping[tuple[str, str], str]:
        """See :meth:`Judge.true`."""


class Alarms:
    """Raises alarms and resolves them, once each, and sends what changes to the channels. For one thread.

    Args:
        state: from the last run.
        channels: where changes go.
        place: the pipeline and the lake, for a person.
        clock: the time of day, in Unix seconds.
    """

    def __init__(
        self, state: AlarmState, channels: Sequence[Channel], place: str, *, clock: Callable[[], float] = time.time
    ) -> None:
        self.state = state
        self._place = place
        self._clock = clock
        self._channels = {channel.name: channel for channel in channels}
        state.channels = {name: state.channels.get(name, Delivery()) for name in self._channels}
        self._due = dict.fromkeys(self._channels, 0.0)
        self._wait = dict.fromkeys(self._channels, AGAIN)

    def judge(self, source: Source) -> list[Change]:
        """Compare what is true now with the alarms that are raised, and return what changed."""
        now = self._clock()
        at, true = iso(now) or "", dict(source.true(now))
        changes, kept = [], []
        for alarm in self.state.alarms:
            raised = moment(alarm.since) or 0.0
            if (alarm.transform, alarm.condition) not in true and not 0 <= now - raised < MINUTES:
                text = f"over after {duration(max(0.0, now - raised))}"
                changes.append(Change(alarm.transform, alarm.condition, "resolved", at, text))
                continue
            true.pop((alarm.transform, alarm.condition), None)
            kept.append(alarm)
        for (transform, condition), text in true.items():
            kept.append(Alarm(transform, condition, at, text))
            changes.append(Change(transform, condition, "alarm", at, text))
        self.state.alarms = kept
        for delivery in self.state.channels.values():
            delivery.add(changes)
        return changes

    def deliver(self, *, last: bool = False) -> bool:
        """Send what is due, and say whether the state changed. ``last``: nothing waits for its time."""
        changed = False
        for name, channel in self._channels.items():
            delivery, now = self.state.channels[name], self._clock()
            if not delivery.pending or (now < self._due[name] and not last):
                continue
            changed = True
            try:
                channel.send(self._notice(delivery))
            except Undelivered as error:
                if not delivery.problem:
                    _log.warning("alarms do not reach the %s, and are sent again: %s", name, error)
                delivery.problem, delivery.since = str(error), delivery.since or iso(now) or ""
                self._due[name] = now + max(self._wait[name], error.wait)
                self._wait[name] = min(2 * self._wait[name], LATEST)
            else:
                self.state.channels[name] = Delivery()
                self._due[name], self._wait[name] = now + APART, AGAIN
        return changed

    def _notice(self, delivery: Delivery) -> dict[str, Any]:
        """JSON values: a text for a person, and the changes for a program."""
        lines = [
            f"{self._place}: {each.transform} {each.condition}: {each.state}: {each.text}" for each in delivery.pending
        ]
        if delivery.dropped:
            lines.insert(0, f"{self._place}: {count(delivery.dropped, 'older change')} could not be sent")
        return {"text": "\n".join(lines), "changes": [asdict(change) for change in delivery.pending]}


def local_conditions(names: Mapping[str, object], deployment: str = "") -> tuple[str, ...]:
    """The conditions of a deployment among a module's names. Without its name it is the one called ``deployment``; none
    where a module has others only.

    Raises:
        DefinitionError: there is no deployment of that name.
    """
    if not deployment and not isinstance(names.get("deployment"), Deployment):
        return ()
    return named(names, deployment).alarm_on


@contextmanager
def watching(
    folder: LakeFolder,
    pipeline: str,
    transforms: Sequence[str],
    conditions: Sequence[str],
    channels: Sequence[Channel],
    *,
    clock: Callable[[], float] = time.time,
) -> Iterator[None]:
    """Judge the conditions in a thread while the block lasts, and once more at its end. The engine must have made its
    journal.

    Args:
        folder: the lake.
        pipeline: the pipeline's name.
        transforms: the names of its transforms.
        conditions: as ``Deployment.alarm_on`` has them.
        channels: where changes go.
        clock: the time of day, in Unix seconds.
    """
    ended = threading.Event()

    def work() -> None:
        path = folder.alarms
        with closing(Journal(folder.journal, readonly=True)) as journal:
            state, now = AlarmState.read(path), clock()
            state.began = state.began or iso(now) or ""
            committed = {name: _last_commit(journal, f"{pipeline}_{name}") for name in transforms}
            judge = Judge(conditions, committed, began=moment(state.began) or now)
            follower = Follower(journal, judge.add_hop, since=now - HOUR)
            alarms = Alarms(state, channels, f"pipeline {pipeline} in {folder.path}", clock=clock)
            _write(state, path)
            wait, is_last = FIRST, False
            while not is_last:
                is_last = ended.wait(wait)
                _step(alarms, judge, follower, path, last=is_last)
                wait = EVERY

    def guarded() -> None:
        try:
            work()
        except Exception:  # noqa: BLE001 -- whatever it is, files go on
            _log.exception("the alarms of this run ended")

    thread = threading.Thread(target=guarded, name="alarms", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(LAST)


def _step(alarms: Alarms, judge: Judge, follower: Follower, path: Path, *, last: bool) -> None:
    follower.catch_up()
    changes = alarms.judge(judge)
    if changes:
        _write(alarms.state, path)  # before it is sent: killed between, it is sent twice rather than never
    if alarms.deliver(last=last):
        _write(alarms.state, path)


def _write(state: AlarmState, path: Path) -> None:
    try:
        state.write(path)
    except OSError as error:
        _log.warning("the state of the alarms could not be written: %s", error.strerror)


def _last_commit(journal: Journal, function: str) -> float | None:
    row = journal.row("last_commit", name=function)
    return None if row is None else float(row[0])
