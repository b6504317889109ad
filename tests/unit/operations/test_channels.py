"""The webhook and the command that alarms go to: what they get, and that no secret is shown."""

from __future__ import annotations

import json
import socket
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from silversmith.operations import WrongCall
from silversmith.operations.alarms import Command, Undelivered, Webhook, channels, webhook_body

SECRET = "T0/B1/s3cr3t"
NOTICE = {"text": "shop: orders silent>24h: alarm: <!channel> & no new silver", "changes": [{"state": "alarm"}]}


class Receiver(HTTPServer):
    """A webhook on this machine. ``answers`` are taken in order: a code, and headers or a text."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.bodies: list[dict[str, Any]] = []
        self.paths: list[str] = []
        self.answers: list[tuple[int, dict[str, str], str]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/{SECRET}"


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        self.server.paths.append(self.path)
        self.server.bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        code, headers, text = self.server.answers.pop(0) if self.server.answers else (200, {}, "ok")
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *arguments: object) -> None:
        """Print nothing."""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_webhook_gets_the_text_the_changes_and_a_card(receiver: Receiver) -> None:
    webhook = Webhook(receiver.url)
    webhook.send(NOTICE)
    (body,) = receiver.bodies
    assert (body["text"], body["changes"], body["type"]) == (NOTICE["text"], NOTICE["changes"], "message")
    (attachment,) = body["attachments"]
    assert attachment["contentType"] == "application/vnd.microsoft.card.adaptive"
    assert [block["text"] for block in attachment["content"]["body"]] == [NOTICE["text"]]
    assert receiver.paths == [f"/{SECRET}"]
    assert webhook.name == "webhook 127.0.0.1"


def test_slack_gets_its_text_alone_with_nothing_that_pings() -> None:
    assert webhook_body(NOTICE, "hooks.slack.com") == {
        "text": "shop: orders silent&gt;24h: alarm: &lt;!channel&gt; &amp; no new silver"
    }
    assert "attachments" in webhook_body(NOTICE, "evilslack.com")


@pytest.mark.parametrize(
    ("answer", "problem", "wait"),
    [
        ((404, {}, "no_service"), "it answered 404 (no_service)", 0.0),
        ((429, {"Retry-After": "17"}, ""), "it answered 429", 17.0),
        ((429, {"Retry-After": "9999999"}, ""), "it answered 429", 3600.0),
        ((503, {"Retry-After": "soon"}, ""), "it answered 503", 0.0),
        ((400, {}, f"no hook at /{SECRET}"), "it answered 400", 0.0),
        ((302, {"Location": "http://127.0.0.1:1/"}, ""), "it answered 302", 0.0),
        ((500, {}, "x" * 100_000), "it answered 500", 0.0),
    ],
)
def test_a_refusal_is_told_without_the_secret(
    receiver: Receiver, answer: tuple[int, dict[str, str], str], problem: str, wait: float
) -> None:
    receiver.answers.append(answer)
    with pytest.raises(Undelivered) as error:
        Webhook(receiver.url).send(NOTICE)
    assert (str(error.value), error.value.wait) == (problem, wait)
    assert error.value.__suppress_context__


def test_a_host_that_nobody_is_at_is_told_without_the_secret() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/{SECRET}"
        with pytest.raises(Undelivered) as error:
            Webhook(url).send(NOTICE)
    assert "refused" in str(error.value)
    assert SECRET not in str(error.value)


def test_a_receiver_that_hangs_up_is_told_without_the_secret() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def hang_up() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(100)
                connection.sendall(b"nonsense\r\n\r\n")

        thread = threading.Thread(target=hang_up)
        thread.start()
        with pytest.raises(Undelivered) as error:
            Webhook(f"http://127.0.0.1:{server.getsockname()[1]}/{SECRET}").send(NOTICE)
        thread.join()
    assert str(error.value)
    assert SECRET not in str(error.value)


@pytest.mark.parametrize(
    "url", ["{}", "ftp://h/{}", "file:///{}", "https:///{}", "https://[/{}", "https://h:x/{}", "https://h/{} x"]
)
def test_what_is_no_webhook_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(WrongCall, match="SILVERSMITH_ALARM_WEBHOOK is no URL of a webhook") as error:
        channels({"SILVERSMITH_ALARM_WEBHOOK": url.format(SECRET)})
    assert SECRET not in str(error.value)


def test_a_command_gets_the_notice_on_its_standard_input(tmp_path: Path) -> None:
    script = "import pathlib, sys; pathlib.Path(sys.argv[1]).write_bytes(sys.stdin.buffer.read())"
    command = Command([sys.executable, "-c", script, str(tmp_path / "notice; touch x")])
    command.send(NOTICE)
    assert json.loads((tmp_path / "notice; touch x").read_text()) == NOTICE
    assert command.name == f"command {Path(sys.executable).name}"


def test_a_command_that_fails_or_does_not_end_is_told() -> None:
    with pytest.raises(Undelivered, match="exit code 3"):
        Command([sys.executable, "-c", "raise SystemExit(3)"]).send(NOTICE)
    with pytest.raises(Undelivered, match=r"did not end within 0.2 seconds"):
        Command([sys.executable, "-c", "import time; time.sleep(600)"], patience=0.2).send(NOTICE)


def test_a_command_that_reads_nothing_is_no_failure() -> None:
    Command([sys.executable, "-c", ""]).send({"text": "x" * 1_000_000})


@pytest.mark.parametrize("command", ["no-such-program --token s3cr3t", "'", " ", "./not/there s3cr3t"])
def test_a_command_that_cannot_be_is_refused(command: str) -> None:
    with pytest.raises(WrongCall, match="SILVERSMITH_ALARM_COMMAND") as error:
        channels({"SILVERSMITH_ALARM_COMMAND": command})
    assert "s3cr3t" not in str(error.value)


def test_the_environment_names_the_channels() -> None:
    assert channels({}) == []
    chosen = channels(
        {"SILVERSMITH_ALARM_WEBHOOK": f"https://hooks.slack.com/{SECRET}", "SILVERSMITH_ALARM_COMMAND": sys.executable}
    )
    assert [type(channel) for channel in chosen] == [Webhook, Command]
    assert [channel.name for channel in chosen] == ["webhook hooks.slack.com", f"command {Path(sys.executable).name}"]
