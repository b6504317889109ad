"""The documents in quarantine: one for each file that cannot become silver, one for each that the code failed on."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from silversmith.errors import PreconditionFailed
from silversmith.function import retries
from silversmith.lineage import error_key, failed_key, rejected_key
from silversmith.operations.target import DeadKind, DeadMessage
from silversmith.stores import Store

ERROR = ".error.json"
REJECTED = ".rejected.parquet"
FAILED = ".failed.json"

#: What lineage.py puts at the end of a key that it had to cut short.
_CUT = re.compile(r"~[0-9a-f]{64}\Z")


@dataclass(frozen=True)
class ErrorDocument:
    """Why a file cannot become silver.

    ``code`` is a stable word, ``message`` what was wrong, ``hint`` what to do, ``place`` where
    (line, row, column, text). ``at`` is in ISO 8601, ``size`` in bytes, ``document`` the document's key in quarantine.
    """

    transform: str
    key: str
    code: str
    message: str
    hint: str
    at: str
    etag: str
    version: str
    size: int
    attempt: int
    document: str
    place: Mapping[str, Any] = field(default_factory=dict)


def parse(document: str, body: bytes) -> ErrorDocument:
    """The document at this quarantine key. One that cannot be read is a failure all the same, and says so."""
    transform, _, rest = document.removesuffix(ERROR).partition("/")
    try:
        found = json.loads(body, parse_constant=_refuse)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or not isinstance(found.get("error"), dict):
        return ErrorDocument(
            transform, rest,
            code="UnreadableDocument", message="the error document itself cannot be read",
            hint="Look at it, and delete it if it is nobody's.",
            at="", etag="", version="", size=0, attempt=0, document=document,
        )  # fmt: skip
    error, bronze = found["error"], found.get("bronze")
    bronze = bronze if isinstance(bronze, dict) else {}
    place = error.get("place")
    return ErrorDocument(
        transform=_text(found, "transform") or transform,
        key=_text(bronze, "key") or rest,
        code=_text(error, "code"),
        message=_text(error, "message"),
        hint=_text(error, "hint"),
        at=_text(found, "at"),
        etag=_text(bronze, "etag"),
        version=_text(bronze, "version"),
        size=_number(bronze, "size"),
        attempt=_number(found, "attempt"),
        document=document,
        place=place if isinstance(place, dict) else {},
    )


def bronze_key(quarantine_key: str) -> str | None:
    """The bronze key that an object in quarantine is about; None where its name does not tell (it was cut short)."""
    for ending, derived in ((ERROR, error_key), (REJECTED, rejected_key), (FAILED, failed_key)):
        transform, slash, rest = quarantine_key.partition("/")
        if slash and rest.endswith(ending):
            key = rest.removesuffix(ending)
            return None if _CUT.search(key) or derived(transform, key) != quarantine_key else key
    return None


def failed_tries(quarantine: Store, transform: str, key: str) -> dict[str, Any] | None:
    """The document that counts the failed tries of the transform's code on a file; None where there is none."""
    body = quarantine.read(failed_key(transform, key))
    return retries.parse(body) if body is not None else None


def explained(quarantine: Store, message: DeadMessage) -> DeadMessage:
    """A dead message with its last error, from the document, where nothing nearer told it."""
    if message.error is not None or message.transform is None or message.kind is not DeadKind.QUEUE or not message.key:
        return message
    document = failed_tries(quarantine, message.transform, message.key)
    if document is None or (message.version and document["bronze"]["version"] not in {"", message.version}):
        return message  # it is about another version
    return replace(
        message,
        error=document["error"],
        attempts=document["tries"],
        log_group=document["log"]["group"],
        log_stream=document["log"]["stream"],
        request_id=document["log"]["request"],
    )


def forget_tries(quarantine: Store, message: DeadMessage) -> None:
    """The failed tries of a dead message count no more: it is given back, and its tries begin again."""
    if message.transform is None or message.kind is not DeadKind.QUEUE or not message.key:
        return
    head = quarantine.head(failed_key(message.transform, message.key))
    if head is not None:
        with contextlib.suppress(PreconditionFailed):  # somebody works on the file and has just written another
            quarantine.delete(head.key, if_match=head.etag)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def _text(found: Mapping[str, Any], name: str) -> str:
    value = found.get(name)
    return value if isinstance(value, str) else ""


def _number(found: Mapping[str, Any], name: str) -> int:
    value = found.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else 0
