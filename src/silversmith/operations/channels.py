"""The places that alarms of a local run go to: a webhook, and a command. Their addresses may hold secrets: no text of
ours shows more than a host or a program's name."""

from __future__ import annotations

import http.client
import os
import shlex
import shutil
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import PurePath
from typing import Any, Protocol
from urllib.parse import urlsplit

import orjson

from silversmith.operations import WrongCall
from silversmith.operations.text import shown

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
