"""The outbox that the services of the engine share: messages between them, the note of each hop, random ids."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson

from silversmith.local.journal import Journal

#: The digit that says of which layout a UUID is, by a random one.
#: https://www.rfc-editor.org/rfc/rfc9562#section-5.4
_VARIANT = {digit: "89ab"[int(digit, 16) % 4] for digit in "0123456789abcdef"}


def uuids(number: int) -> list[str]:
    """So many random UUIDs (version 4), in their usual spelling."""
    return [
        f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{_VARIANT[digits[16]]}{digits[17:20]}-{digits[20:]}"
        for digits in tokens(number, 16)
    ]


def tokens(number: int, size: int) -> list[str]:
    """So many random texts of ``size`` bytes each, in hexadecimal digits."""
    digits = os.urandom(number * size).hex()
    return [digits[start : start + 2 * size] for start in range(0, 2 * size * number, 2 * size)]


#: A row of the outbox: source, target, delivery, key, version, body, created, due (schema.sql).
Outgoing = tuple[str, str, str, str, str, bytes, float, float]

#: A row of the trace: key, version, at, room, name, what, detail, message (schema.sql).
Note = tuple[str, str, float, str, str, str, str, int | None]


class Post(NamedTuple):
    """A message on its way from one room to another, as it lies in the journal's outbox.

    ``delivery`` is the ARN of the rule or subscription it travels by, whose dead-letter queue takes it when the target
    refuses. ``created`` and ``due``, when it may arrive, are in Unix seconds.
    """

    id: int
    source: str
    target: str
    delivery: str
    key: str
    version: str
    body: bytes
    created: float
    due: float = 0.0

    @property
    def late(self) -> bool:
        """Whether it was held up on its way: all that is sent is due at once."""
        return self.due > self.created


@dataclass(frozen=True, slots=True)
class Refused:
    """A post that its target will never take, and why."""

    post: Post
    reason: str


class Accepted(NamedTuple):
    """What a room made of posts: those it will never take, and what goes on from it, which the courier sees to."""

    refused: Sequence[Refused] = ()
    onward: Sequence[Outgoing] = ()


def send_on(post: Post, *, source: str, target: str, delivery: str, now: float, body: bytes | None = None) -> Outgoing:
    """The outbox row that carries a post one room further."""
    return source, target, delivery, post.key, post.version, post.body if body is None else body, now, now


def note(
    key: str,
    version: str,
    *,
    at: float,
    room: str,
    name: str,
    what: str,
    detail: Mapping[str, Any] | None = None,
    message: int | None = None,
) -> Note:
    """The trace's row for one thing that happened to one version of an object.

    ``message``: the row of the message that came to a queue by this. By it messages are found by their key.
    """
    return key, version, at, room, name, what, orjson.dumps(detail).decode() if detail else "{}", message


def write(journal: Journal, *, posts: Sequence[Outgoing] = (), notes: Sequence[Note] = ()) -> None:
    """Write a room's outgoing posts and its notes, in the transaction that is open."""
    if posts:
        journal.change_many("post", posts)
    if notes:
        journal.change_many("hop", notes)
