"""The services of the local engine, and what they share: messages between them, rows of the trace.

A service keeps its state in the journal and never calls another one: it returns the messages that go on from it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import orjson

from silversmith.local.journal import Journal

#: A row of the trace: key, version, at, room, name, what, detail, message (schema.sql).
HopRow = tuple[str, str, float, str, str, str, str, int | None]


class ServiceMessage(NamedTuple):
    """A message on its way from one service to another; its fields are the columns of the journal's outbox.

    ``source`` and ``target`` are ARNs. ``delivery`` is the ARN of the rule or subscription, whose dead-letter queue
    takes the message when the target refuses it. ``created`` and ``due``, when it may arrive, are in Unix seconds.
    ``id`` is 0 for a message that has not been in the outbox.
    """

    source: str
    target: str
    delivery: str
    key: str
    version: str
    body: bytes
    created: float
    due: float = 0.0
    id: int = 0

    def forward(
        self, *, source: str, target: str, delivery: str, now: float, body: bytes | None = None
    ) -> ServiceMessage:
        """The message that goes on from a service, due at once."""
        onward = self.body if body is None else body
        return ServiceMessage(source, target, delivery, self.key, self.version, onward, now, now)


class ReceivedMessage(NamedTuple):
    """A message received from a queue. Times in Unix seconds; ``receives`` counts this receive too."""

    id: int
    message_id: str
    key: str
    version: str
    body: bytes
    sent: float
    receives: int
    first_received: float
    receipt: str


class Change(NamedTuple):
    """An object that a function has put in silver, or that is gone from there; or a document that it has put in
    quarantine. The trace keeps its event under the bronze object that it follows from: ``bronze_key`` and its
    ``version``."""

    key: str
    bronze_key: str
    version: str = ""
    is_gone: bool = False
    in_quarantine: bool = False


@dataclass(frozen=True, slots=True)
class MessageRefused:
    """A message that its target will never accept, and why."""

    message: ServiceMessage
    reason: str


class Accepted(NamedTuple):
    """The result of handing messages to a service: those that it refuses for good, and those that go on from it."""

    refused: Sequence[MessageRefused] = ()
    onward: Sequence[ServiceMessage] = ()


class Service(Protocol):
    """Anything that can be the target of a message."""

    def accept(self, messages: Sequence[ServiceMessage], now: float) -> Accepted:
        """Take the messages, in the transaction that is open."""


def hop_row(
    key: str,
    version: str,
    *,
    at: float,
    room: str,
    name: str,
    what: str,
    detail: Mapping[str, Any] | None = None,
    message: int | None = None,
) -> HopRow:
    """The trace's row for one thing that happened to one version of an object.

    ``message`` is the row of the message that entered a queue by this hop: messages are found by key through it.
    """
    return key, version, at, room, name, what, orjson.dumps(detail).decode() if detail else "{}", message


def write(journal: Journal, *, messages: Sequence[ServiceMessage] = (), hops: Sequence[HopRow] = ()) -> None:
    """Write messages to the outbox and rows to the trace, in the transaction that is open."""
    if messages:
        journal.change_many("send_on", [message[:8] for message in messages])
    if hops:
        journal.change_many("hop", hops)
