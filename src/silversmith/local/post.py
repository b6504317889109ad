"""What travels between the rooms of the engine, and the note each leaves in the trace. The one thing they share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from silversmith.local.journal import Journal


@dataclass(frozen=True, slots=True)
class Post:
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


def send_on(
    post: Post, *, source: str, target: str, delivery: str, now: float, body: bytes | None = None
) -> dict[str, Any]:
    """The outbox row that carries a post one room further. To be written in the room's own transaction."""
    return {
        "source": source,
        "target": target,
        "delivery": delivery,
        "key": post.key,
        "version": post.version,
        "body": post.body if body is None else body,
        "created": now,
        "due": now,
    }


def note(
    key: str, version: str, *, at: float, room: str, name: str, what: str, detail: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The trace's row for one thing that happened to one version of an object."""
    text = orjson.dumps(detail).decode() if detail else "{}"
    return {"key": key, "version": version, "at": at, "room": room, "name": name, "what": what, "detail": text}


def write(
    journal: Journal, *, posts: Sequence[Mapping[str, Any]] = (), notes: Sequence[Mapping[str, Any]] = ()
) -> None:
    """Write a room's outgoing posts and its notes, in the transaction that is open."""
    if posts:
        journal.change_many("post", posts)
    if notes:
        journal.change_many("hop", notes)
