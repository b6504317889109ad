"""The job of bench/queues.py for each peer: send, receive and delete messages of a queue that lies in SQLite.

    python bench/jobs/queues.py PEER FOLDER DEPTH MESSAGES

Runs in the peer's own environment. None of the peers has batches, so each message is a call. The last line is the
messages per second of the three operations, at this depth of the queue.
"""

from __future__ import annotations

import json
import sqlite3
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

BODY = "x" * 1000

#: Seconds that one operation is measured at the most.
BUDGET = 20


class Queue(Protocol):
    """The least that a peer must do. ``fill`` makes it deep before anything is measured, as fast as that goes."""

    def fill(self, depth: int) -> None: ...
    def send(self, body: str) -> None: ...
    def receive(self) -> Any: ...
    def delete(self, message: Any) -> None: ...


class LiteQueue:
    """It locks a message with ``pop`` and forgets it with ``done``, which keeps the row until it is pruned."""

    def __init__(self, folder: Path) -> None:
        from litequeue import LiteQueue as Library  # type: ignore[import-not-found]

        self._queue = Library(str(folder / "queue.db"))

    def fill(self, depth: int) -> None:
        connection = self._queue.conn
        connection.execute("BEGIN")
        for _ in range(depth):
            self._queue.put(BODY)
        connection.execute("COMMIT")

    def send(self, body: str) -> None:
        self._queue.put(body)

    def receive(self) -> Any:
        return self._queue.pop()

    def delete(self, message: Any) -> None:
        self._queue.done(message.message_id)


class PersistQueue:
    """Its queue on SQLite with acknowledgements."""

    def __init__(self, folder: Path) -> None:
        from persistqueue import SQLiteAckQueue  # type: ignore[import-not-found]

        self._folder, self._open = folder, SQLiteAckQueue
        self._queue = SQLiteAckQueue(str(folder))

    def fill(self, depth: int) -> None:
        """Below its interface, which takes ten minutes for a million."""
        from persistqueue.serializers import pickle  # type: ignore[import-not-found]

        self._queue.put(BODY)
        self._queue.close()
        with sqlite3.connect(self._folder / "data.db") as database:
            insert = "INSERT INTO ack_queue_default (data, timestamp, status) VALUES (?, ?, 0)"
            database.executemany(insert, ((pickle.dumps(BODY), time.time()) for _ in range(depth)))
        database.close()
        self._queue = self._open(str(self._folder))

    def send(self, body: str) -> None:
        self._queue.put(body)

    def receive(self) -> Any:
        return self._queue.get(block=False, raw=True)

    def delete(self, message: Any) -> None:
        self._queue.ack(message)


class Huey:
    """The storage under it. A message is gone when it is received: there is nothing to delete, and none comes back."""

    def __init__(self, folder: Path) -> None:
        from huey.storage import SqliteStorage  # type: ignore[import-not-found]

        self._queue = SqliteStorage("bench", str(folder / "queue.db"))

    def fill(self, depth: int) -> None:
        with self._queue.db(commit=True) as cursor:
            rows = (("bench", BODY.encode()) for _ in range(depth))
            cursor.executemany("INSERT INTO task (queue, data) VALUES (?, ?)", rows)

    def send(self, body: str) -> None:
        self._queue.enqueue(body.encode())

    def receive(self) -> Any:
        return self._queue.dequeue()

    def delete(self, message: Any) -> None:
        """huey deletes a message when it hands it out."""


KINDS: dict[str, Callable[[Path], Queue]] = {"litequeue": LiteQueue, "persist-queue": PersistQueue, "huey": Huey}


def rate(action: Callable[[Any], Any], over: list[Any]) -> tuple[float, list[Any]]:
    """Calls per second, and their answers. It ends early if the calls are too slow for so many."""
    began = time.perf_counter()
    answers = []
    for each in over:
        answers.append(action(each))
        if time.perf_counter() - began > BUDGET:
            break
    return len(answers) / (time.perf_counter() - began), answers


def main() -> None:
    _, name, folder, depth, messages = sys.argv
    queue = KINDS[name](Path(folder))
    queue.fill(int(depth))
    sent, _ = rate(queue.send, [BODY] * int(messages))
    received, messages_received = rate(lambda _: queue.receive(), [None] * int(messages))
    assert all(message is not None for message in messages_received), "a message is missing"
    deleted, _ = rate(queue.delete, messages_received)
    print(f"\n{json.dumps({'send': sent, 'receive': received, 'delete': 0 if name == 'huey' else deleted})}")


if __name__ == "__main__":
    main()
