"""The bus room: every event is held against the rules, and goes to the targets of those that match.

https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-rules.html
"""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from silversmith import faults
from silversmith.local.journal import Journal
from silversmith.local.post import Accepted, Post, note, send_on, write
from silversmith.local.stack import Rule


class Bus:
    """The default event bus with its rules."""

    def __init__(self, journal: Journal, *, rules: Sequence[Rule]) -> None:
        self._journal = journal
        self._rules = tuple(rules)

    def accept(self, posts: Sequence[Post], now: float) -> Accepted:
        """Each event goes on to the targets of the rules it matches. In the caller's transaction."""
        onward, notes, unmatched = [], [], 0
        for post in posts:
            event = orjson.loads(post.body)
            matched = [rule for rule in self._rules if rule.matcher.matches(event)]
            unmatched += not matched
            if not matched:
                notes.append(note(post.key, post.version, at=now, room="rule", name="-", what="unmatched"))
            for rule in matched:
                notes.append(note(post.key, post.version, at=now, room="rule", name=rule.name, what="matched"))
                onward += [
                    send_on(post, source=rule.arn, target=target.arn, delivery=rule.arn, now=now)
                    for target in rule.targets
                ]
        write(self._journal, notes=notes)
        self._journal.count("bus.events", len(posts))
        if unmatched:
            self._journal.count("bus.unmatched", unmatched)
        faults.point("bus.before_commit")
        return Accepted(onward=onward)
