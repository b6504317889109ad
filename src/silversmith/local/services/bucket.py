"""The bucket: a file that landed in bronze becomes a version of an object, and an event for the bus; so does its end.

Reading a file for its ETag takes time, so it happens beside the engine's loop: small files in one thread, in the order
in which they came, each large one in a thread of its own.
https://docs.aws.amazon.com/AmazonS3/latest/userguide/ev-events.html
"""

from __future__ import annotations

import secrets
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import orjson

from silversmith import faults
from silversmith.errors import SilversmithError
from silversmith.local.journal import Journal
from silversmith.local.services import Change, ServiceMessage, hop_row, write
from silversmith.local.stack import Bucket
from silversmith.stores import Head
from silversmith.stores.local import Glance, LocalStore

#: The engine is woken once for so many small files: each time it makes several transactions.
FILES_PER_WAKE = 64


class Inbox:
    """Files that landed and that the engine has not taken yet.

    Args:
        store: the bronze bucket's folder.
        wake: called, from any thread, when there is something to take.
    """

    def __init__(self, store: LocalStore, wake: Callable[[], None]) -> None:
        self._store = store
        self._wake = wake
        self._landed: deque[Landed] = deque()
        self._gone: deque[str] = deque()
        self._folders_gone: deque[str] = deque()
        self._lock = threading.Lock()
        self._pending = 0
        self._small = ThreadPoolExecutor(1, thread_name_prefix="inbox")
        self._large = ThreadPoolExecutor(1, thread_name_prefix="inbox-large")

    @property
    def pending(self) -> int:
        """How many keys were added and are not taken yet."""
        with self._lock:
            return self._pending

    def add(self, keys: Sequence[str], *, scanned: bool = False) -> None:
        """Keys whose files may be new. From any thread; returns at once. ``scanned``: a listing found them."""
        with self._lock:
            self._pending += len(keys)
        self._small.submit(self._look_at, keys, scanned)

    def remove(self, keys: Sequence[str]) -> None:
        """Keys whose files were removed. From any thread."""
        self._gone += keys
        self._wake()

    def remove_folder(self, prefix: str) -> None:
        """A folder that was moved away with its files; ``prefix`` ends with a slash. From any thread."""
        self._folders_gone.append(prefix)
        self._wake()

    def take(self, most: int) -> list[Landed]:
        """Up to ``most`` files that were read, in the order in which they landed; each key once, in its last state."""
        landed: dict[str, Landed] = {}
        taken = 0
        while self._landed and taken < most:
            file = self._landed.popleft()
            landed.pop(file.key, None)
            landed[file.key] = file
            taken += 1
        with self._lock:
            self._pending -= taken
        return list(landed.values())

    def take_gone(self) -> tuple[list[str], list[str]]:
        """The keys that were removed since the last call, and the prefixes of the folders that were moved away."""
        gone = [self._gone.popleft() for _ in range(len(self._gone))]
        return gone, [self._folders_gone.popleft() for _ in range(len(self._folders_gone))]

    def close(self) -> None:
        """End the threads; the scan at the next start finds the files that were not read yet."""
        self._small.shutdown(wait=True, cancel_futures=True)
        self._large.shutdown(wait=True, cancel_futures=True)

    def _look_at(self, keys: Sequence[str], scanned: bool) -> None:
        for number, key in enumerate(keys, 1):
            try:
                glance, head = self._store.look(key) or (None, None)
            except (OSError, SilversmithError):
                glance, head = None, None
            if glance is not None and head is None:
                self._large.submit(self._read, key, glance, scanned)
            else:
                self._put(key, glance, head, scanned)
            if number % FILES_PER_WAKE == 0 or number == len(keys):
                self._wake()

    def _read(self, key: str, glance: Glance, scanned: bool) -> None:
        try:
            head = self._store.head(key)
        except (OSError, SilversmithError):
            head = None
        self._put(key, glance, head, scanned)
        self._wake()

    def _put(self, key: str, glance: Glance | None, head: Head | None, scanned: bool) -> None:
        """A file that was removed meanwhile, or cannot be read, is passed over; its next event or a scan brings it.

        Its identity was taken before it was read: if it changes meanwhile, the next scan sees that it is another.
        """
        if glance is None or head is None:
            with self._lock:
                self._pending -= 1
        else:
            identity = glance.identity + DOUBTFUL * glance.racy
            self._landed.append(Landed(key, identity, head.etag, head.size, scanned))


#: Carries messages to the next services, in the transaction that is open, at a time in Unix seconds. Returns the names
#: of the services that have them when it is committed.
Carry = Callable[[Sequence[ServiceMessage], float], Sequence[str]]

#: The kinds of events, and what else is in their detail.
_PUT = ("Object Created", {"reason": "PutObject"})
_GONE = ("Object Deleted", {"reason": "DeleteObject", "deletion-type": "Permanently Deleted"})
_MARKED = ("Object Deleted", {"reason": "DeleteObject", "deletion-type": "Delete Marker Created"})

#: Ends the identity of a file that was noticed so soon after it was written that another write could leave it as it is.
DOUBTFUL = "?"


@dataclass(frozen=True, slots=True)
class Landed:
    """A file in the bucket's folder: ``identity`` changes with every write, ``size`` is in bytes.

    ``scanned``: a listing found it, no notification named it. Then it is a new version only if its ETag is new.
    """

    key: str
    identity: str
    etag: str
    size: int
    scanned: bool = False


class BucketService:
    """One bucket whose events go to the default bus.

    Args:
        journal: where versions and events are kept.
        settings: from the template.
        bus: the ARN of the event bus.
        account: the account's number, twelve digits.
        region: the region's name.
        clock: the time in Unix seconds.
    """

    def __init__(
        self,
        journal: Journal,
        settings: Bucket,
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
        self._swept = ""

    def unchanged(self, key: str, identity: Callable[[], str | None], *, trusting: bool) -> bool:
        """Whether this very state of the file was noticed before, or there is no file.

        ``identity`` returns the file's, None where there is none; it is not called for a key that is new. A
        :data:`DOUBTFUL` identity counts only when ``trusting``: in a scan beside a watcher that would report a change.
        """
        row = self._journal.row("object", bucket=self.name, key=key)
        if row is None:
            return False
        current = identity()
        return current is None or row[0] == current or (trusting and row[0] == current + DOUBTFUL)

    def notice(self, landed: Sequence[Landed], *, carry: Carry | None = None) -> None:
        """Make each file a new version of its object and send its ``Object Created`` event, in one transaction.

        ``carry`` brings the events to the next services at once; without it they wait in the outbox.
        """
        if not landed:
            return
        now = self._clock()
        objects, messages, hops = [], [], []
        last = self._journal.counter("sequencer")
        for file in landed:
            if known := self._known(file):
                objects.append(known)
                continue
            last = _next(last, now)
            version, sequencer = secrets.token_urlsafe(24), f"{last:018X}"
            objects.append(self._object(file, version, sequencer))
            details = {"key": file.key, "size": file.size, "etag": file.etag}
            messages += self._events(_PUT, details, version, sequencer, now)
            hops.append(
                hop_row(
                    file.key, version, at=now, room="bucket", name=self.name, what="created",
                    detail={"etag": file.etag, "size": file.size, "sequencer": sequencer, "reason": "PutObject"},
                )
            )  # fmt: skip
        with self._journal.transaction():
            self._journal.change_many("put_object", objects)
            self._journal.change("set_counter", name="sequencer", value=last)
            self._journal.count("bucket.created", len(hops))
            write(self._journal, messages=messages if carry is None else (), hops=hops)
            passed = carry(messages, now) if carry is not None else ()
            faults.point("bucket.before_commit")
        for name in ("bucket", *passed):
            faults.point(f"{name}.after_commit")

    def announce(self, changes: Sequence[Change], now: float, carry: Carry) -> None:
        """Send the events of objects that functions have put here, or that are gone, in the transaction that is open.

        Nobody reads the object for that, so that its event has no size and no ETag: an event is a hint, and its key is
        what is taken of it.
        """
        if not changes or not self._settings.eventbridge:
            return
        last = self._journal.counter("sequencer")
        messages = []
        for change in changes:
            last = _next(last, now)
            kind, version = _GONE if change.is_gone else _PUT, secrets.token_urlsafe(24)
            (message,) = self._events(kind, {"key": change.key}, version, f"{last:018X}", now)
            messages.append(message._replace(key=change.bronze_key, version=change.version))
        self._journal.change("set_counter", name="sequencer", value=last)
        carry(messages, now)

    def forget(self, keys: Sequence[str], *, folders: Sequence[str] = ()) -> None:
        """Note that these objects are gone from bronze, and all in these folders, whose names end with a slash, and
        send their ``Object Deleted`` events, in one transaction. Such an event names the version that was deleted, not
        a delete marker, so that the trace of a version tells of its end."""
        if not keys and not folders:
            return
        now = self._clock()
        with self._journal.transaction():
            inside = [
                row[0]
                for folder in folders
                for row in self._journal.rows("objects_below", bucket=self.name, start=folder, end=folder[:-1] + "0")
            ]
            last = self._journal.counter("sequencer")
            for key in (*keys, *inside):
                row = self._journal.row("object", bucket=self.name, key=key)
                if row and self._journal.change("forget_object", bucket=self.name, key=key):
                    last = _next(last, now)
                    kind = _MARKED if self._settings.versioned else _GONE
                    messages = self._events(kind, {"key": key}, row[2], f"{last:018X}", now)
                    hop = hop_row(key, row[2], at=now, room="bucket", name=self.name, what="deleted")
                    write(self._journal, messages=messages, hops=[hop])
            self._journal.change("set_counter", name="sequencer", value=last)
            faults.point("bucket.forgotten")

    def sweep(self, exists: Callable[[str], bool], *, most: int = 200) -> bool:
        """Forget objects whose files were removed unseen: one step through those that the journal knows.

        ``exists``: whether there is such a file. Returns whether there are more; the next call after the last step
        begins anew.
        """
        keys = [row[0] for row in self._journal.rows("objects_after", bucket=self.name, after=self._swept, most=most)]
        self.forget([key for key in keys if not exists(key)])
        self._swept = keys[-1] if len(keys) == most else ""
        return bool(self._swept)

    def _known(self, file: Landed) -> dict[str, Any] | None:
        """The object as it was noticed before, if this is no other write of it.

        A listing that found a file says only that it is there: its bytes tell. A notification names a write, unless it
        is of the very state that a listing found before the notification was read, as happens in a new folder.
        """
        row = self._journal.row("object", bucket=self.name, key=file.key)
        if row is None or row[1] != file.etag:
            return None
        is_same_state = row[0].removesuffix(DOUBTFUL) == file.identity.removesuffix(DOUBTFUL)
        return self._object(file, row[2], row[3]) if file.scanned or is_same_state else None

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

    def _events(
        self, kind: tuple[str, Mapping[str, str]], details: Mapping[str, Any], version: str, sequencer: str, at: float
    ) -> list[ServiceMessage]:
        """The event of this kind for the bus, or none if the bucket sends none. ``details`` are the object's, ``at`` is
        when its version began or ended, in Unix seconds."""
        if not self._settings.eventbridge:
            return []
        name, more = kind
        event = orjson.dumps(
            {
                "version": "0",
                "id": str(uuid4()),
                "detail-type": name,
                "source": "aws.s3",
                "account": self._account,
                "time": datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
                "region": self._region,
                "resources": [self._arn],
                "detail": {
                    "version": "0",
                    "bucket": {"name": self.name},
                    "object": {
                        **details,
                        **({"version-id": version} if self._settings.versioned else {}),
                        "sequencer": sequencer,
                    },
                    "request-id": secrets.token_hex(8).upper(),
                    "requester": self._account,
                    "source-ip-address": "127.0.0.1",
                    **more,
                },
            }
        )
        return [ServiceMessage(self._arn, self._bus, "", details["key"], version, event, at, at)]


def _next(sequencer: int, now: float) -> int:
    """It rises with every version, also when the clock is set back."""
    return max(sequencer + 1, int(now * 1_000_000))
