"""The bucket: a file that landed in bronze becomes a version of an object, and an event for the bus.

Reading a file for its ETag takes time, so it happens beside the engine's loop: small files in one thread, in the order
in which they came, each large one in a thread of its own.
https://docs.aws.amazon.com/AmazonS3/latest/userguide/ev-events.html
"""

from __future__ import annotations

import queue
import secrets
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson

from silversmith import faults
from silversmith.errors import SilversmithError
from silversmith.local import stack
from silversmith.local.journal import Journal
from silversmith.local.post import Outgoing, note, tokens, uuids, write
from silversmith.stores import Head
from silversmith.stores.local import Glance, LocalStore

#: How many small files, if so many were found at once, there are to take when the engine is woken: each time it is, it
#: makes several transactions.
AT_ONCE = 64


class Inbox:
    """What landed and was not taken yet.

    Args:
        store: the bronze bucket's folder.
        wake: called, from any thread, when there is something to take.
    """

    def __init__(self, store: LocalStore, wake: Callable[[], None]) -> None:
        self._store = store
        self._wake = wake
        self._ready: queue.SimpleQueue[Landed] = queue.SimpleQueue()
        self._gone: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._folders_gone: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._pending = 0
        self._small = ThreadPoolExecutor(1, thread_name_prefix="inbox")
        self._large = ThreadPoolExecutor(1, thread_name_prefix="inbox-large")

    @property
    def pending(self) -> int:
        """How many keys were found and are not taken yet."""
        with self._lock:
            return self._pending

    def found(self, keys: Sequence[str], *, scanned: bool = False) -> None:
        """Keys whose files may be new. From any thread; returns at once. ``scanned``: they were only found there."""
        with self._lock:
            self._pending += len(keys)
        self._small.submit(self._look, keys, scanned)

    def gone(self, keys: Sequence[str]) -> None:
        """Keys whose files were removed. From any thread."""
        for key in keys:
            self._gone.put(key)
        self._wake()

    def folder_gone(self, prefix: str) -> None:
        """A folder that was moved away, with all that was in it; ``prefix`` ends with a slash. From any thread."""
        self._folders_gone.put(prefix)
        self._wake()

    def take(self, most: int) -> list[Landed]:
        """What is ready, up to ``most``, in the order in which it landed; the newest state of each key, once."""
        landed: dict[str, Landed] = {}
        taken = 0
        while taken < most:
            try:
                file = self._ready.get_nowait()
            except queue.Empty:
                break
            landed.pop(file.key, None)
            landed[file.key] = file
            taken += 1
        with self._lock:
            self._pending -= taken
        return list(landed.values())

    def take_gone(self) -> tuple[list[str], list[str]]:
        """The keys that were removed since the last call, and the prefixes of the folders that were moved away."""
        return _emptied(self._gone), _emptied(self._folders_gone)

    def close(self) -> None:
        """End the threads; what was not looked at yet is found by the next start's scan."""
        self._small.shutdown(wait=True, cancel_futures=True)
        self._large.shutdown(wait=True, cancel_futures=True)

    def _look(self, keys: Sequence[str], scanned: bool) -> None:
        for number, key in enumerate(keys, 1):
            try:
                found = self._store.look(key)
            except (OSError, SilversmithError):
                found = None
            if found is not None and found[1] is None:
                self._large.submit(self._read, key, found[0], scanned)
            else:
                self._put(key, found, scanned)
            if number % AT_ONCE == 0 or number == len(keys):
                self._wake()

    def _read(self, key: str, glance: Glance, scanned: bool) -> None:
        try:
            head = self._store.head(key)
        except (OSError, SilversmithError):
            head = None
        self._put(key, (glance, head), scanned)
        self._wake()

    def _put(self, key: str, found: tuple[Glance, Head | None] | None, scanned: bool) -> None:
        """A file that went away meanwhile, or cannot be read, is one the less; its next event or a scan brings it.

        Its identity was taken before it was read: if it changes meanwhile, its old identity tells the next scan.
        """
        glance, head = found or (None, None)
        if glance is None or head is None:
            with self._lock:
                self._pending -= 1
        else:
            identity = glance.identity + DOUBTFUL * glance.racy
            self._ready.put(Landed(key, identity, head.etag, head.size, scanned))


def _emptied(waiting: queue.SimpleQueue[str]) -> list[str]:
    found = []
    while True:
        try:
            found.append(waiting.get_nowait())
        except queue.Empty:
            return found


#: Takes events on, in the transaction that is open, at a time in Unix seconds. Says which rooms have them then.
Carry = Callable[[Sequence[Outgoing], float], Sequence[str]]

#: Ends the identity of a file that was noticed so soon after it was written that it could change and keep it.
DOUBTFUL = "?"


@dataclass(frozen=True, slots=True)
class Landed:
    """A file in the bucket's folder as it was found: ``identity`` changes with every write, ``size`` is in bytes.

    ``scanned``: nobody said that it changed; it was only found. Then it is no new version unless its ETag is new.
    """

    key: str
    identity: str
    etag: str
    size: int
    scanned: bool = False


class Bucket:
    """One bucket whose events go to the default bus.

    Args:
        journal: where versions and outgoing events are kept.
        settings: from the template.
        bus: the ARN of the event bus.
        account: the account's number, twelve digits.
        region: the region's name.
        clock: the time in Unix seconds.
    """

    def __init__(
        self,
        journal: Journal,
        settings: stack.Bucket,
        *,
        bus: str,
        account: str,
        region: str,
        clock: Callable[[], float],
    ) -> None:
        self._journal = journal
        self._settings = settings
        self.name = settings.name
        self._arn = settings.arn
        self._bus = bus
        self._account = account
        self._region = region
        self._clock = clock
        self._sequencer = journal.counter("sequencer")
        self._swept = ""

    def unchanged(self, key: str, identity: Callable[[], str | None], *, trusting: bool) -> bool:
        """Whether this very state of the file was noticed before, or there is no file: then a scan has nothing to tell.

        ``identity`` tells the file's, None where there is none; it is not asked about a key that is new. One that was
        :data:`DOUBTFUL` is believed only when ``trusting``: by a scan whose findings an event of the watcher would have
        told, too.
        """
        found = self._journal.row("object", bucket=self.name, key=key)
        if found is None:
            return False
        seen = identity()
        return seen is None or found[0] == seen or (trusting and found[0] == seen + DOUBTFUL)

    def notice(self, landed: Sequence[Landed], *, reason: str = "PutObject", carry: Carry | None = None) -> None:
        """Make each a new version of its object and send its ``Object Created`` event, in one transaction.

        The events go with ``carry``, at once; None: they lie in the outbox then.
        """
        if not landed:
            return
        now = self._clock()
        moment = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        objects, posts, notes = [], [], []
        for file in landed:
            if file.scanned and (known := self._known(file)):
                objects.append(known)
                continue
            version, sequencer = secrets.token_urlsafe(24), self._next_sequencer(now)
            objects.append(self._object(file, version, sequencer))
            if self._settings.eventbridge:
                event = self._event(file, version, sequencer, moment, reason)
                posts.append(self._post(file.key, version, event, now))
            notes.append(
                note(
                    file.key, version, at=now, room="bucket", name=self.name, what="created",
                    detail={"etag": file.etag, "size": file.size, "sequencer": sequencer, "reason": reason},
                )
            )  # fmt: skip
        with self._journal.transaction():
            self._journal.change_many("put_object", objects)
            self._journal.change("set_counter", name="sequencer", value=self._sequencer)
            self._journal.count("bucket.created", len(notes))
            write(self._journal, posts=posts if carry is None else (), notes=notes)
            passed = carry(posts, now) if carry is not None else ()
            faults.point("bucket.before_commit")
        for name in ("bucket", *passed):
            faults.point(f"{name}.after_commit")

    def forget(self, keys: Sequence[str], *, folders: Sequence[str] = ()) -> None:
        """Note that these objects are gone from bronze, and all in these folders, whose names end with a slash.

        Their silver stays; ``reconcile`` reports it as orphaned.
        """
        if not keys and not folders:
            return
        now = self._clock()
        with self._journal.transaction():
            inside = [
                row[0]
                for folder in folders
                for row in self._journal.rows("objects_below", bucket=self.name, start=folder, end=folder[:-1] + "0")
            ]
            for key in (*keys, *inside):
                found = self._journal.row("object", bucket=self.name, key=key)
                if found and self._journal.change("forget_object", bucket=self.name, key=key):
                    write(
                        self._journal,
                        notes=[note(key, found[2], at=now, room="bucket", name=self.name, what="deleted")],
                    )
            faults.point("bucket.forgotten")

    def sweep(self, exists: Callable[[str], bool], *, most: int = 200) -> bool:
        """Forget what was removed while nobody watched: one step through the objects that the journal knows.

        ``exists``: whether there is such a file. Returns whether there are more; the next call after the last step
        begins anew.
        """
        keys = [row[0] for row in self._journal.rows("objects_after", bucket=self.name, after=self._swept, most=most)]
        self.forget([key for key in keys if not exists(key)])
        self._swept = keys[-1] if len(keys) == most else ""
        return bool(self._swept)

    def _known(self, file: Landed) -> dict[str, Any] | None:
        """The object as it was noticed before, with the file's identity of now, if its bytes are still the same."""
        found = self._journal.row("object", bucket=self.name, key=file.key)
        if found is None or found[1] != file.etag:
            return None
        return self._object(file, found[2], found[3])

    def _next_sequencer(self, now: float) -> str:
        """Rises with every version in the bucket, also when the clock is set back."""
        self._sequencer = max(self._sequencer + 1, int(now * 1_000_000))
        return f"{self._sequencer:018X}"

    def _object(self, file: Landed, version: str, sequencer: str) -> dict[str, Any]:
        return {
            "bucket": self.name,
            "key": file.key,
            "identity": file.identity,
            "etag": file.etag,
            "version": version,
            "sequencer": sequencer,
            "size": file.size,
        }

    def _post(self, key: str, version: str, event: bytes, now: float) -> Outgoing:
        return self._arn, self._bus, "", key, version, event, now, now

    def _event(self, file: Landed, version: str, sequencer: str, moment: str, reason: str) -> bytes:
        (identifier,), (request,) = uuids(1), tokens(1, 8)
        return orjson.dumps(
            {
                "version": "0",
                "id": identifier,
                "detail-type": "Object Created",
                "source": "aws.s3",
                "account": self._account,
                "time": moment,
                "region": self._region,
                "resources": [self._arn],
                "detail": {
                    "version": "0",
                    "bucket": {"name": self.name},
                    "object": {
                        "key": file.key,
                        "size": file.size,
                        "etag": file.etag,
                        **({"version-id": version} if self._settings.versioned else {}),
                        "sequencer": sequencer,
                    },
                    "request-id": request.upper(),
                    "requester": self._account,
                    "source-ip-address": "127.0.0.1",
                    "reason": reason,
                },
            }
        )
