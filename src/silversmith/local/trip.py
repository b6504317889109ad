"""What a worker is handed at once: one batch, or several of a function whose batches are quick.

Each stays an invocation of its own, of no more messages than the mapping says, and ends as one. That a worker has
several at the same time is as if it were several environments of Lambda, whose files happen to be committed together:
what it costs to hand over a batch, to sync a folder and to write down what came of it is paid once for all of them.
docs/decisions/0104-a-worker-takes-several-batches.md
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from silversmith.local.invocation import Invocation, Settings


class Trip:
    """Invocations of one function, the first of which is worked on first. ``began``: the message that the worker was at
    when it died, the last that it had begun to convert; None: it is not known, or there was none."""

    def __init__(self, invocations: Sequence[Invocation]) -> None:
        self.invocations = tuple(invocations)
        self.began: str | None = None
        self._of = {message: invocation for invocation in self.invocations for message in invocation.messages}

    @property
    def settings(self) -> Settings:
        """The function's."""
        return self.invocations[0].settings

    @property
    def started(self) -> float:
        """When the worker began with it, in Unix seconds; to be set for all of them."""
        return self.invocations[0].started

    @started.setter
    def started(self, now: float) -> None:
        for invocation in self.invocations:
            invocation.started = now

    @property
    def deadline(self) -> float:
        """When Lambda would end them, in Unix seconds."""
        return self.invocations[0].deadline

    @property
    def messages(self) -> list[str]:
        """The ids of all messages, as the worker gets them."""
        return list(self._of)

    def of(self, message: str) -> Invocation:
        """The invocation that a message belongs to."""
        return self._of[message]

    def request(self, *, careful: bool) -> dict[str, Any]:
        """What the worker is sent. ``careful``: it shall finish each file before it begins the next."""
        return {
            "function": self.settings.name,
            "events": [invocation.event() for invocation in self.invocations],
            "timeout": self.settings.function.timeout,
            "memory": self.settings.function.memory,
            "careful": careful,
        }


def split(response: Mapping[str, Any], events: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A handler's response to the records of several events, as its response to each."""
    failed = {item["itemIdentifier"] for item in response["batchItemFailures"]}
    return [
        {
            "batchItemFailures": [
                {"itemIdentifier": record["messageId"]} for record in event["Records"] if record["messageId"] in failed
            ]
        }
        for event in events
    ]
