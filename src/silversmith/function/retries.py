"""The two retry budgets: faults of the system come back for a day; the user's code has ``max_receive_count`` tries.

How often the user's code has failed on some bytes is counted in ``.failed.json``, in quarantine: the receives of a
message say nothing about that, because the system may have failed the others.
docs/decisions/0107-two-budgets.md
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import orjson

from silversmith.errors import PreconditionFailed, SilversmithError, SourceChanged, as_utf8
from silversmith.function.task import Task
from silversmith.stores import DocumentSnapshot, Head, read_snapshot, replace_snapshot

#: The document remembers the tries of so many messages, those that failed last.
MESSAGES = 8

#: How often a document that another worker changes at the same moment is read again.
ATTEMPTS = 5

#: The error that is written before a try begins, and stays if the function dies in it.
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


def begin_try(task: Task, head: Head) -> None:
    """A try is about to begin. From the second receive on it is written down before: it may kill the function.

    Nothing is read or written for a message that succeeds at its first receive.

    Raises:
        TriesSpent: it was tried as often as is allowed.
        OSError, AccessDenied, NotOurs, PreconditionFailed, SourceChanged: the document cannot be written.
    """
    if not task.message_id:
        return
    task.head = head
    if task.receives < 2 or (task.try_begun is not None and task.try_begun[0] == head.etag):
        return
    snapshot, document = _read(task)
    tries = _tries(document, task.message_id)
    if tries >= task.transform.max_receive_count:
        assert document is not None
        _write(task, snapshot, document | {"dead": True})
        raise TriesSpent(document["error"])
    # Noted first: a document that was written although the answer was lost must be taken back, too.
    task.try_begun, task.document_before = (head.etag, tries), document
    try:
        _write(task, snapshot, _counted(task, document, tries + 1, DIED))
    except PreconditionFailed:
        task.try_begun = None
        raise


def count_failure(task: Task, error: Mapping[str, Any]) -> int:
    """The user's code failed with this error, as JSON values. Returns how often it has by now.

    Raises:
        OSError, AccessDenied, NotOurs, PreconditionFailed, SourceChanged: nothing could be written or is counted.
    """
    for attempt in range(1, ATTEMPTS + 1):
        snapshot, document = _read(task)
        if task.try_begun is not None and task.try_begun[0] == _etag(task):
            tries = task.try_begun[1]
        else:
            tries = _tries(document, task.message_id)
        try:
            _write(task, snapshot, _counted(task, document, tries + 1, error))
        except PreconditionFailed:
            if attempt == ATTEMPTS:
                raise
        else:
            return tries + 1
    raise AssertionError("the loop ends by itself")


def take_back_try(task: Task) -> None:
    """The system failed a try that had begun: it does not count. If even that cannot be written, it does.

    Raises:
        OSError, AccessDenied, PreconditionFailed: it cannot be written.
    """
    if task.try_begun is None:
        return
    snapshot, document = _read(task)
    if document is None:
        return
    tries = {**document["messages"], task.message_id: task.try_begun[1]}
    tries = {message: count for message, count in tries.items() if count}
    if not tries:
        task.lake.quarantine.delete(task.failed_key, if_match=snapshot.etag)
    else:
        is_ours = document["message"] == task.message_id  # else another message's failure stands there by now
        before = (is_ours and task.document_before) or {}
        _write(task, snapshot, {**document, **before, "messages": tries})
    task.try_begun = None


def _etag(task: Task) -> str:
    """The ETag of the bytes that the try was about; empty if there is no bronze object any more."""
    if task.head is None:
        task.head = task.lake.bronze.head(task.key)
    return task.head.etag if task.head is not None else ""


def _read(task: Task) -> tuple[DocumentSnapshot, dict[str, Any] | None]:
    """The document as it is, and its content if it is about these bytes, this code and these lookups.

    Raises:
        NotOurs: another pipeline wrote it.
        SourceChanged: it is about other bytes, and these are not in bronze any more.
    """
    etag = _etag(task)
    snapshot = read_snapshot(task.lake.quarantine, task.failed_key)
    if snapshot.etag is None:
        return snapshot, None
    document = parse(snapshot.body)
    task.require_ours(document["owner"] if document is not None else "", bucket="quarantine", key=task.failed_key)
    if document is None or document["bronze"]["etag"] != etag:
        bronze = task.lake.bronze.head(task.key)
        if bronze is not None and bronze.etag != etag:
            raise SourceChanged(f"{task.key} changed while it was processed")
        return snapshot, None
    same = document["fingerprint"] == task.transform.fingerprint and document["lookups"] == task.lookups.digest
    return snapshot, document if same else None


def _write(task: Task, before: DocumentSnapshot, document: Mapping[str, Any]) -> None:
    body = json.dumps(document, indent=2, ensure_ascii=False).encode()
    replace_snapshot(task.lake.quarantine, before, body)


def _counted(task: Task, document: Mapping[str, Any] | None, tries: int, error: Mapping[str, Any]) -> dict[str, Any]:
    """The document as it is when the message has failed so often."""
    messages = {} if document is None else {**document["messages"]}
    messages.pop(task.message_id, None)
    was_dead = document is not None and document["dead"]
    about = task.quarantine_document(task.head) if task.head is not None else _about_nothing(task)
    return {
        "error": {"code": as_utf8(str(error.get("code", ""))), "message": as_utf8(str(error.get("message", "")))},
        **about,
        "lookups": task.lookups.digest,
        "tries": tries,
        "dead": was_dead or (error is not DIED and tries >= task.transform.max_receive_count),
        "message": task.message_id,
        "messages": dict([*messages.items(), (task.message_id, tries)][-MESSAGES:]),
        "log": {name: task.log.get(name) for name in ("group", "stream", "request")},
    }


def _about_nothing(task: Task) -> dict[str, Any]:
    """The bronze object is gone by now."""
    head = Head(task.key, "", 0, task.now(), version=task.event.version)
    return task.quarantine_document(head)


def _tries(document: Mapping[str, Any] | None, message_id: str) -> int:
    return document["messages"].get(message_id, 0) if document is not None else 0


def parse(body: bytes) -> dict[str, Any] | None:
    """The content of a ``.failed.json``, with every field of the type that it has; None if it is no such document."""
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(content, dict):
        return None
    error, bronze, log = (_mapping(content.get(name)) for name in ("error", "bronze", "log"))
    return {
        "error": {name: _text(error.get(name)) for name in ("code", "message")},
        "transform": _text(content.get("transform")),
        "owner": _text(content.get("owner")),
        "bronze": {
            **{name: _text(bronze.get(name)) for name in ("key", "etag", "version")},
            "size": _count(bronze.get("size")),
        },
        "fingerprint": _text(content.get("fingerprint")),
        "lookups": _text(content.get("lookups")),
        "tries": _count(content.get("tries")),
        "dead": content.get("dead") is True,
        "message": _text(content.get("message")),
        "messages": {name: _count(tries) for name, tries in _mapping(content.get("messages")).items()},
        "at": _text(content.get("at")),
        "log": {name: _text(log.get(name)) or None for name in ("group", "stream", "request")},
    }


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _count(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0
