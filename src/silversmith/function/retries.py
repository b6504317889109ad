"""The two retry budgets: faults of the system come back for a day; the user's code has ``max_receive_count`` tries.

docs/decisions/0107-two-budgets.md
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson

from silversmith.errors import PreconditionFailed, SilversmithError, SourceChanged, SystemFault, told
from silversmith.stores import Head, as_seen

if TYPE_CHECKING:
    from silversmith.function.task import Work


#: A queue lets a message be received so often more than the transform allows failures: with the waits below that takes
#: a day. So no outage of hours ends in the dead-letter queue.
SYSTEM_RECEIVES = 50

#: Seconds to wait after the first, second … fault of the system; after more of them as after the last.
SYSTEM_WAITS = (10, 60, 300, 900, 1800)

#: Up to this share of a wait is added to it, for each message another: else all that failed in an outage would come
#: back in the same second.
JITTER = 0.2

#: The longest wait after a failure of the user's code, in seconds.
LONGEST_USER_WAIT = 900


def is_system_fault(error: BaseException) -> bool:
    """Whether another try may succeed though nobody mends anything: S3, KMS, SQS, a disk, access rights, contention, a
    lookup that is not there yet. Everything else is charged to the user's code: what it raised, a bug of Silversmith's,
    memory that ran out, for each would be there at the next try, too.

    ``OSError`` is of the system because one that the user's code raises arrives as TransformError.
    """
    if isinstance(error, SystemFault | OSError):
        return True
    # By name, so that a worker of the local engine need not import botocore.
    return any(kind.__module__.partition(".")[0] == "botocore" for kind in type(error).__mro__)


def wait_for_system(receives: int, message_id: str) -> float:
    """Seconds until the next try of a message that the system failed at its n-th receive."""
    wait = SYSTEM_WAITS[min(receives, len(SYSTEM_WAITS)) - 1]
    spread = zlib.crc32(f"{receives} {message_id}".encode()) / 2**32
    return round(wait * (1 + JITTER * spread), 3)


def wait_for_user(tries: int) -> float:
    """Seconds until the next try of what the user's code failed for the n-th time: 1, 4, 16, 64 … up to 15 minutes.

    A worker that died waits as long: the local engine knows of it, AWS only by the visibility timeout.
    """
    return float(min(LONGEST_USER_WAIT, 4 ** (min(tries, 8) - 1)))


def queue_receives(max_receive_count: int) -> int:
    """A queue's ``maxReceiveCount``, by how often the transform may fail."""
    return max_receive_count + SYSTEM_RECEIVES


def transform_tries(queue_receives: int) -> int:
    """The inverse: how often the transform may fail, by its queue's ``maxReceiveCount``."""
    return max(1, queue_receives - SYSTEM_RECEIVES)


#: The document remembers the tries of so many messages, those that failed last.
MESSAGES = 8

#: How often a document that another worker changes at the same moment is read again.
ATTEMPTS = 5

#: What is written before a try begins, and stays if nobody lives to write more.
DIED = {
    "code": "FunctionDied",
    "message": "the function ended before it was done: it ran out of time or memory, or was killed",
}


class TriesSpent(SilversmithError):
    """The message was tried as often as its transform allows, and the last try ended with the function's death.

    ``error`` is the last error, as JSON values.
    """

    def __init__(self, error: Mapping[str, Any]) -> None:
        super().__init__(str(error.get("message", "")))
        self.error = error


@dataclass(frozen=True)
class Message:
    """The SQS message that a try is for.

    ``receives`` counts this one, too. ``seek``: a document of an earlier failure may be there even at the first
    receive. ``log`` says where the log of this invocation is: ``group``, ``stream``, ``request``; None where unknown.
    """

    id: str
    receives: int
    seek: bool = False
    log: Mapping[str, str | None] = field(default_factory=dict)


class Tries:
    """The failed tries of one message on one file.

    Nothing is read or written for a message that succeeds at its first receive.

    Args:
        message: which.
    """

    def __init__(self, message: Message) -> None:
        self._message = message
        self._head: Head | None = None
        self._begun: tuple[str, int] | None = None
        self._before: dict[str, Any] | None = None

    @property
    def may_be_there(self) -> bool:
        """Whether a document may have to be removed when the file succeeds."""
        return self._message.receives > 1 or self._message.seek

    def begin(self, work: Work, head: Head) -> None:
        """A try is about to begin. From the second receive on it is written down before: it may kill the function.

        Raises:
            TriesSpent: it was tried as often as is allowed.
            OSError, AccessDenied, PreconditionFailed, SourceChanged: the document cannot be written.
        """
        self._head = head
        if self._message.receives < 2 or (self._begun is not None and self._begun[0] == head.etag):
            return
        seen, document = self._read(work)
        tries = _tries(document, self._message.id)
        if tries >= work.transform.max_receive_count:
            assert document is not None
            self._write(work, seen, document | {"dead": True})
            raise TriesSpent(document["error"])
        # Noted first: what was written although the answer was lost must be taken back, too.
        self._begun, self._before = (head.etag, tries), document
        try:
            self._write(work, seen, self._counted(work, document, tries + 1, DIED))
        except PreconditionFailed:
            self._begun = None
            raise

    def note(self, head: Head) -> None:
        """The try failed on these bytes. The etag of a large local file can be told only while it is open."""
        self._head = head
        _ = head.etag

    def fail(self, work: Work, error: Mapping[str, Any]) -> int:
        """The user's code failed with this error, as JSON values. Returns how often it has by now.

        Raises:
            OSError, AccessDenied, PreconditionFailed, SourceChanged: nothing could be written, and nothing is counted.
        """
        for attempt in range(1, ATTEMPTS + 1):
            seen, document = self._read(work)
            begun = self._begun is not None and self._begun[0] == self._etag(work)
            tries = self._begun[1] if begun and self._begun is not None else _tries(document, self._message.id)
            counted = self._counted(work, document, tries + 1, error)
            try:
                self._write(work, seen, counted)
            except PreconditionFailed:
                if attempt == ATTEMPTS:
                    raise
            else:
                return tries + 1
        raise AssertionError("the loop ends by itself")

    def set_back(self, work: Work) -> None:
        """The system failed what had begun: that try does not count. Where even that cannot be written, it does.

        Raises:
            OSError, AccessDenied, PreconditionFailed: it cannot be written.
        """
        if self._begun is None:
            return
        seen, document = self._read(work)
        if document is None or seen is None:
            return
        tries = {**document["messages"], self._message.id: self._begun[1]}
        tries = {message: count for message, count in tries.items() if count}
        if not tries:
            work.lake.quarantine.delete(work.failed, if_match=seen.etag)
        else:
            self._write(work, seen, {**document, **(self._before or {}), "messages": tries})
        self._begun = None

    def _etag(self, work: Work) -> str:
        """Of the bytes that the try was about; empty where bronze does not tell any more."""
        if self._head is None:
            self._head = work.lake.bronze.head(work.key)
        return self._head.etag if self._head is not None else ""

    def _read(self, work: Work) -> tuple[Head | None, dict[str, Any] | None]:
        """What is there, and the document if it is about these bytes, this code and these lookups.

        Raises:
            SourceChanged: it is about other bytes, and these are not what bronze has any more.
        """
        etag = self._etag(work)
        with work.lake.quarantine.open(work.failed) as source:
            if source is None:
                return None, None
            body = source.data if source.data is not None else b""
            seen = source.head
        document = parse(body)
        if document is None or document["bronze"]["etag"] != etag:
            bronze = work.lake.bronze.head(work.key)
            if bronze is not None and bronze.etag != etag:
                raise SourceChanged(f"{work.key} changed while it was processed")
            return seen, None
        same = document["fingerprint"] == work.transform.fingerprint and document["lookups"] == work.lookups.digest
        return seen, document if same else None

    def _write(self, work: Work, seen: Head | None, document: Mapping[str, Any]) -> None:
        """
        Raises:
            PreconditionFailed: another worker changed the document since it was read.
        """
        body = json.dumps(document, indent=2, ensure_ascii=False).encode()
        try:
            work.lake.quarantine.put(work.failed, body, **as_seen(seen))
        except PreconditionFailed:
            # The SDK sends a request again whose answer was lost, and is then refused by what it has written itself.
            if work.lake.quarantine.read(work.failed) != body:
                raise

    def _counted(
        self, work: Work, document: Mapping[str, Any] | None, tries: int, error: Mapping[str, Any]
    ) -> dict[str, Any]:
        """The document as it is when the message has failed so often."""
        others = {name: count for name, count in _messages(document).items() if name != self._message.id}
        head = self._head
        log = self._message.log
        return {
            "error": {"code": told(str(error.get("code", ""))), "message": told(str(error.get("message", "")))},
            "transform": work.transform.name,
            "bronze": {
                "key": work.key,
                "etag": self._etag(work),
                "version": (head.version if head is not None else None) or work.event.version,
                "size": head.size if head is not None else 0,
            },
            "fingerprint": work.transform.fingerprint,
            "lookups": work.lookups.digest,
            "tries": tries,
            "dead": _is_dead(document) or (error is not DIED and tries >= work.transform.max_receive_count),
            "message": self._message.id,
            "messages": dict([*others.items(), (self._message.id, tries)][-MESSAGES:]),
            "at": work.now().isoformat(timespec="milliseconds"),
            "log": {name: log.get(name) for name in ("group", "stream", "request")},
        }


def parse(body: bytes) -> dict[str, Any] | None:
    """The document, with every field of the type that it has; None for what is none."""
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(found, dict):
        return None
    error, bronze, log = (_mapping(found.get(name)) for name in ("error", "bronze", "log"))
    return {
        "error": {name: _text(error.get(name)) for name in ("code", "message")},
        "transform": _text(found.get("transform")),
        "bronze": {
            **{name: _text(bronze.get(name)) for name in ("key", "etag", "version")},
            "size": _count(bronze.get("size")),
        },
        "fingerprint": _text(found.get("fingerprint")),
        "lookups": _text(found.get("lookups")),
        "tries": _count(found.get("tries")),
        "dead": found.get("dead") is True,
        "message": _text(found.get("message")),
        "messages": {name: _count(tries) for name, tries in _mapping(found.get("messages")).items()},
        "at": _text(found.get("at")),
        "log": {name: _text(log.get(name)) or None for name in ("group", "stream", "request")},
    }


def _messages(document: Mapping[str, Any] | None) -> Mapping[str, int]:
    return document["messages"] if document is not None else {}


def _tries(document: Mapping[str, Any] | None, message: str) -> int:
    return _messages(document).get(message, 0)


def _is_dead(document: Mapping[str, Any] | None) -> bool:
    return document is not None and document["dead"] is True


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _count(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0
