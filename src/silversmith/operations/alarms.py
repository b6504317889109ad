"""The alarms of a local run: the conditions of ``Deployment.alarm_on``, judged by the journal, and sent to a webhook or
a command. Their addresses may hold secrets: no text of ours shows more than a host or a program's name.

Nothing here is a part of the engine: it reads the journal in a thread of its own, and keeps its state in a file of its
own beside it. docs/observability.md
"""

from __future__ import annotations

import http.client
import logging
import os
import shlex
import shutil
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict
from pathlib import PurePath
from typing import Any, Protocol
from urllib.parse import urlsplit

import orjson

from silversmith.local.journal import Journal
from silversmith.local.lake import LakeFolder
from silversmith.operations import WrongCall
from silversmith.operations.profile import Follower
from silversmith.operations.target import Alarm, AlarmState, Change, Delivery, Hop
from silversmith.operations.text import count, duration, iso, moment, shown
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
        self._steps: dict[str, dict[int, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))

    def add_hop(self, key: str, hop: Hop) -> None:
        """Count a hop, if it is the end of a file in a function."""
        del key
        if hop.room != "function" or hop.what not in {"committed", "quarantined"}:
            return
        transform, detail = str(hop.detail.get("transform") or hop.name), hop.detail
        counts = self._steps[transform][int(hop.at // STEP)]
        counts[hop.what] += 1
        if hop.what == "committed":
            self._last[transform] = max(hop.at, self._last.get(transform, 0.0))
            counts["rejected"] += int(detail.get("rows_rejected") or 0)
            counts["written"] += int(detail.get("rows_written") or 0)

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
        total = Counter[str]()
        for step, counts in self._steps[transform].items():
            if now - step * STEP < (HOUR if limit else MINUTES) + STEP:
                total += counts
        bad, good, noun = total["quarantined"], total["committed"], "file"
        happened, ask = "went to quarantine", "silversmith failures"
        if kind == "rejected":
            bad, good, noun = total["rejected"], total["written"], "row"
            happened, ask = f"{'was' if bad == 1 else 'were'} rejected", "silversmith failures --rejected"
        if not bad or bad / (bad + good) <= limit:
            return ""
        number = f"{bad:,} of {count(bad + good, noun)}" if limit else count(bad, noun)
        return f"{number} {happened} within {'an hour' if limit else '5 minutes'}: see `{ask}`"


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

    def judge(self, conditions: Mapping[tuple[str, str], str]) -> list[Change]:
        """Compare the conditions that are true now, of :meth:`Judge.true`, with the alarms that are raised, and return
        what changed."""
        now, true = self._clock(), dict(conditions)
        at = iso(now) or ""
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

    def write(state: AlarmState) -> None:
        try:
            state.write(folder.alarms)
        except OSError as error:
            _log.warning("the state of the alarms could not be written: %s", error.strerror)

    def work() -> None:
        with closing(Journal(folder.journal, readonly=True)) as journal:
            state, now = AlarmState.read(folder.alarms), clock()
            state.began = state.began or iso(now) or ""
            committed = {name: _last_commit(journal, f"{pipeline}_{name}") for name in transforms}
            judge = Judge(conditions, committed, began=moment(state.began) or now)
            follower = Follower(journal, judge.add_hop, since=now - HOUR)
            alarms = Alarms(state, channels, f"pipeline {pipeline} in {folder.path}", clock=clock)
            write(state)
            wait, is_last = FIRST, False
            while not is_last:
                is_last = ended.wait(wait)
                follower.catch_up()
                if alarms.judge(judge.true(clock())):
                    write(state)  # before it is sent: killed between, it is sent twice rather than never
                if alarms.deliver(last=is_last):
                    write(state)
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


def _last_commit(journal: Journal, function: str) -> float | None:
    row = journal.row("last_commit", name=function)
    return None if row is None else float(row[0])


# -- channels

#: The environment variables with the address of a webhook, and with a command as a shell would take it.
WEBHOOK, COMMAND = "SILVERSMITH_ALARM_WEBHOOK", "SILVERSMITH_ALARM_COMMAND"

#: The seconds that a webhook may let us wait for each answer, and that a command may take.
WEBHOOK_PATIENCE, COMMAND_PATIENCE = 10.0, 30.0

#: Of an answer or of what a command says, so many characters are shown.
SHOWN = 120


class Undelivered(Exception):
    """A channel did not take a notice; ``wait``: the seconds that it asks to be left alone, 0 if it does not say."""

    def __init__(self, problem: str, wait: float = 0.0) -> None:
        super().__init__(problem)
        self.wait = wait


class Channel(Protocol):
    """A place that takes notices."""

    @property
    def name(self) -> str:
        """The channel for a person, without secrets."""

    def send(self, notice: Mapping[str, Any]) -> None:
        """Send one notice, JSON values with a ``text`` for a person.

        Raises:
            Undelivered: it was not taken.
        """


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """After a redirect urllib would ask with GET, and the notice would be lost."""

    def redirect_request(self, *arguments: Any) -> None:
        del arguments


class Webhook:
    """A URL that takes JSON by POST, as Slack, Teams and programs that are like them do.

    Args:
        url: with its secret.

    Raises:
        WrongCall: it is no URL of a webhook.
    """

    def __init__(self, url: str) -> None:
        self._url = url.strip()
        try:
            parts = urlsplit(self._url)
            self._host, _ = parts.hostname, parts.port
        except ValueError:
            parts, self._host = urlsplit(""), None
        if parts.scheme not in {"http", "https"} or not self._host or not self._url.isascii() or " " in self._url:
            raise WrongCall(f"{WEBHOOK} is no URL of a webhook: it must begin with https:// and have a host")
        self._opener = urllib.request.build_opener(_NoRedirects)

    @property
    def name(self) -> str:
        return f"webhook {self._host}"

    def send(self, notice: Mapping[str, Any]) -> None:
        body = orjson.dumps(webhook_body(notice, self._host or ""))
        request = urllib.request.Request(  # noqa: S310 -- the scheme was checked
            self._url, body, {"Content-Type": "application/json", "User-Agent": "silversmith"}, method="POST"
        )
        try:
            with self._opener.open(request, timeout=WEBHOOK_PATIENCE):
                return
        except urllib.error.HTTPError as error:
            with error:
                raise Undelivered(f"it answered {error.code}{_reason(error)}", _retry_after(error)) from None
        except urllib.error.URLError as error:
            reason = error.reason.strerror if isinstance(error.reason, OSError) else None
            raise Undelivered(shown(reason or error.reason)[:SHOWN]) from None
        except (OSError, http.client.HTTPException) as error:  # its text may hold the URL
            raise Undelivered(type(error).__name__) from None


def _reason(error: urllib.error.HTTPError) -> str:
    """The first words of a plain answer, such as Slack's ``invalid_token``. A longer one may repeat the request."""
    with suppress(OSError, http.client.HTTPException):
        text = error.read(SHOWN + 1).decode("utf-8", "replace").strip()
        if 0 < len(text) <= SHOWN // 2 and "/" not in text:
            return f" ({shown(text)})"
    return ""


def _retry_after(error: urllib.error.HTTPError) -> float:
    """https://docs.slack.dev/apis/web-api/rate-limits"""
    text = error.headers.get("Retry-After", "")
    return float(min(int(text), 3600)) if text.isascii() and text.isdigit() and len(text) < 10 else 0.0


def webhook_body(notice: Mapping[str, Any], host: str) -> dict[str, Any]:
    """The JSON that a webhook takes: Slack a text, Teams an Adaptive Card, others what they like of all.

    https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks
    https://learn.microsoft.com/connectors/teams/#microsoft-teams-webhook
    """
    text = str(notice["text"])
    if host == "slack.com" or host.endswith((".slack.com", ".slack-gov.com")):
        for character, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
            text = text.replace(character, entity)
        return {"text": text}
    block = {"type": "TextBlock", "wrap": True}
    card = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "body": [{**block, "text": line} for line in text.splitlines()],
    }
    attachment = {"contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": None, "content": card}
    return {**notice, "type": "message", "attachments": [attachment]}


class Command:
    """A program that gets the notice as JSON on its standard input.

    Args:
        argv: the program and its arguments; no shell reads them.

    Raises:
        WrongCall: there is no such program.
    """

    def __init__(self, argv: Sequence[str], *, patience: float = COMMAND_PATIENCE) -> None:
        self._argv = list(argv)
        self._patience = patience
        if not self._argv or shutil.which(self._argv[0]) is None:
            name = shown(PurePath(self._argv[0]).name) if self._argv else "it is empty"
            raise WrongCall(f"{COMMAND} names no program that can be run: {name}")

    @property
    def name(self) -> str:
        return f"command {shown(PurePath(self._argv[0]).name)}"

    def send(self, notice: Mapping[str, Any]) -> None:
        try:  # in a session of its own: Ctrl-C is for the run, and what the program started ends with it
            process = subprocess.Popen(  # noqa: S603 -- the user's own command
                self._argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError as error:
            raise Undelivered(error.strerror or type(error).__name__) from None
        try:
            process.communicate(orjson.dumps(notice), timeout=self._patience)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise Undelivered(f"it did not end within {self._patience:g} seconds") from None
        if process.returncode:
            raise Undelivered(f"it ended with exit code {process.returncode}")


def channels(environment: Mapping[str, str] = os.environ) -> list[Channel]:
    """The channels that the environment names.

    Raises:
        WrongCall: a variable makes no sense; the message does not show its value.
    """
    chosen: list[Channel] = []
    if url := environment.get(WEBHOOK, ""):
        chosen.append(Webhook(url))
    if text := environment.get(COMMAND, ""):
        try:
            argv = shlex.split(text)
        except ValueError as error:
            raise WrongCall(f"{COMMAND} is no command line: {error}") from None
        chosen.append(Command(argv))
    return chosen
