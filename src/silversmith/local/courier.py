"""Carries posts from room to room: takes what is due in the outbox, and has one room after the other accept it.

All hops of some posts are one transaction, and nothing lies in the outbox between them. A crash repeats nothing and
loses nothing: a post is in the outbox, or its effect is in the journal, never both, never neither. Under chaos each hop
is a transaction of its own, and what goes on lies in the outbox, where it can be late.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from typing import Protocol

from silversmith import faults
from silversmith.local.chaos import Chaos
from silversmith.local.journal import Journal
from silversmith.local.post import Accepted, Outgoing, Post, Refused, note, write


class Room(Protocol):
    """What can be the target of a post."""

    def accept(self, posts: Sequence[Post], now: float) -> Accepted:
        """Take the posts, in the transaction that is open; say which are refused for good, and what goes on."""


class DeadLetterQueue(Protocol):
    """A queue that takes what could not be delivered."""

    def take_dead(self, post: Post, now: float, *, source: str, reason: str) -> None:
        """Keep the post, in the transaction that is open."""


class Courier:
    """Delivers what lies in the outbox.

    Args:
        journal: where the outbox is.
        rooms: what accepts posts, by ARN; the name of each is for the fault points.
        dead_letters: by the ARN of a rule or subscription, the queue that takes what its target refuses.
        most: how many posts one transaction carries at the most.
        dead_letter_refusal: why a post may not be sent to its dead-letter queue, or None when that queue's policy
            allows it. EventBridge and SNS have no other right to send there.
        chaos: what disturbs the posts on their way; only in trials. May be set later, too.
    """

    def __init__(
        self,
        journal: Journal,
        *,
        rooms: Mapping[str, tuple[str, Room]],
        dead_letters: Mapping[str, DeadLetterQueue],
        most: int = 500,
        dead_letter_refusal: Callable[[Post], str | None] = lambda _: None,
        chaos: Chaos | None = None,
    ) -> None:
        self._journal = journal
        self._rooms = rooms
        self._dead_letters = dead_letters
        self._most = most
        self._dead_letter_refusal = dead_letter_refusal
        self.chaos = chaos

    def deliver(self, now: float) -> int:
        """Deliver all that is due, hop by hop, until nothing is. Returns how many posts were carried."""
        carried = 0
        while posts := self._due(now):
            carried += self._carry(posts, now)
        return carried

    def carry(self, sent: Sequence[Outgoing], now: float) -> list[str]:
        """Deliver what a room sends in the transaction that is open: without chaos it need not lie in the outbox.

        Returns the names of the rooms that have it when that is committed.
        """
        if self.chaos is None:
            return self._hop([Post(0, *row) for row in sent], now)[1]
        write(self._journal, posts=sent)
        return []

    def _due(self, now: float) -> list[Post]:
        return [Post._make(row) for row in self._journal.rows("due", now=now, most=self._most)]

    def _carry(self, posts: Sequence[Post], now: float) -> int:
        """All hops of these posts, or under chaos one. Returns how many there were."""
        with self._journal.transaction():
            self._journal.change_many("taken", [(post.id,) for post in posts])
            carried, passed = self._hop(posts, now)
        for name in passed:
            faults.point(f"{name}.after_commit")
        return carried

    def _hop(self, posts: Sequence[Post], now: float) -> tuple[int, list[str]]:
        """As :meth:`_carry`, in the transaction that is open. How many hops there were, and the rooms' names."""
        passed: dict[str, None] = {}
        carried = 0
        while posts:
            carried += len(posts)
            onward: list[Outgoing] = []
            for target, group in groupby(sorted(posts, key=_target), key=_target):
                name, sent = self._hand_over(target, list(group), now)
                passed |= {name: None}
                onward += sent
            if self.chaos is not None:
                write(self._journal, posts=onward)
                onward = []
            posts = [Post(0, *row) for row in onward]
        return carried, list(filter(None, passed))

    def _hand_over(self, target: str, posts: Sequence[Post], now: float) -> tuple[str, Sequence[Outgoing]]:
        """The name of the room that was the target, and what goes on from there."""
        name, room = self._rooms.get(target, ("", None))
        arrived = posts if self.chaos is None else self._disturb(posts, self.chaos, now)
        if room is None:
            accepted = Accepted([Refused(post, f"there is no such target: {target}") for post in arrived])
        else:
            accepted = room.accept(arrived, now)
        for item in accepted.refused:
            self._bury(item, now)
        return name, accepted.onward

    def _bury(self, item: Refused, now: float) -> None:
        """A refusal by policy is final, as on AWS: no retry would change it, so it goes to the dead-letter queue.

        https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-rule-dlq.html
        https://docs.aws.amazon.com/sns/latest/dg/sns-dead-letter-queues.html
        """
        post = item.post
        queue = self._dead_letters.get(post.delivery)
        refusal = self._dead_letter_refusal(post) if queue is not None else ""
        if queue is not None and not refusal:
            queue.take_dead(post, now, source=post.delivery, reason=item.reason)
            return
        detail = {"reason": item.reason, "from": post.source, "to": post.target}
        if refusal:
            detail["dead_letter_queue"] = refusal
        self._note(post, "dropped", now, detail)
        self._journal.count("dropped")

    def _disturb(self, posts: Sequence[Post], chaos: Chaos, now: float) -> list[Post]:
        """The posts that arrive now, in whatever order. What is late goes back to the outbox, what is lost is noted.

        Each hop disturbs a post once: copies of copies of what is late would never come to an end.
        """
        arrived = [post for post in posts if post.late]
        for post in posts:
            if post.late:
                continue
            delays = chaos.arrivals()
            arrived += [post for delay in delays if not delay]
            write(self._journal, posts=[_again(post, now + delay) for delay in delays if delay])
            if not delays:
                self._note(post, "lost", now, {"from": post.source, "to": post.target})
                self._journal.count("lost")
        return chaos.shuffled(arrived)

    def _note(self, post: Post, what: str, now: float, detail: Mapping[str, str]) -> None:
        row = note(post.key, post.version, at=now, room="courier", name="-", what=what, detail=detail)
        write(self._journal, notes=[row])


def _target(post: Post) -> str:
    return post.target


def _again(post: Post, due: float) -> Outgoing:
    """The outbox row that brings the post once more, later."""
    return post.source, post.target, post.delivery, post.key, post.version, post.body, post.created, due
