"""The bucket room: a file that landed in bronze becomes a version of an object and an event for the bus.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/ev-events.html
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson

from silversmith import faults
from silversmith.local.identifiers import tokens, uuids
from silversmith.local.journal import Journal
from silversmith.local.post import Outgoing, note, write

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
        name: the bucket's name.
        arn: its ARN, the source of its events.
        bus: the ARN of the event bus.
        account: the account's number, twelve digits.
        region: the region's name.
        clock: the time in Unix seconds.
    """

    def __init__(
        self, journal: Journal, *, name: str, arn: str, bus: str, account: str, region: str, clock: Callable[[], float]
    ) -> None:
        self._journal = journal
        self.name = name
        self._arn = arn
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
            event = self._event(file, version, sequencer, moment, reason)
            objects.append(self._object(file, version, sequencer))
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
            self._journal.count("bucket.created", len(posts))
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
                        "version-id": version,
                        "sequencer": sequencer,
                    },
                    "request-id": request.upper(),
                    "requester": self._account,
                    "source-ip-address": "127.0.0.1",
                    "reason": reason,
                },
            }
        )
