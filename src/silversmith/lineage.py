"""The lineage of a silver object: where it came from, and what follows from that. Pure: no I/O, no clock."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from functools import cached_property, lru_cache
from typing import Any
from urllib.parse import quote, unquote

import orjson

#: The longest key S3 takes, in bytes of UTF-8.
#: https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html
LONGEST_KEY = 1024

#: How much user metadata S3 takes, in bytes. https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingMetadata.html
MOST_METADATA = 2048

#: How long a dialect may be.
LONGEST_DIALECT = 160

#: The name of the entry in the Parquet file's key-value metadata that holds the lineage as JSON.
PARQUET_ENTRY = "silversmith"

#: The fields that are written only if they are not empty.
_OPTIONAL = frozenset({"lookups", "owner", "rows_dropped"})


@dataclass(frozen=True)
class Lineage:
    """The origin of a silver object. Sizes in bytes, ``committed_at`` in ISO 8601 UTC, ``attempt`` from 1.

    ``schema`` is the version of the transform's recorded schema that it has; 0: none is recorded. ``dialect`` says how
    the file is written, as JSON, see :func:`brief`: a wrong guess can be seen there. ``owner`` is the name of the stack
    that made it, or locally of the pipeline; empty: it is not known. ``lookups`` is a digest of the keys and ETags of
    the transform's lookups, empty if it has none; ``looked_up`` are these, for which only the Parquet file has room.
    ``rows_read`` are those written, where the transform makes one of each, ``rows_rejected`` and ``rows_dropped``.
    """

    bronze_key: str
    bronze_etag: str
    bronze_version: str
    bronze_size: int
    sequencer: str
    transform: str
    fingerprint: str
    rows_read: int
    rows_written: int
    rows_rejected: int
    committed_at: str
    attempt: int
    format: str = ""
    schema: int = 0
    dialect: str = ""
    lookups: str = ""
    looked_up: Mapping[str, str] = field(default_factory=dict)
    owner: str = ""
    rows_dropped: int = 0

    @property
    def is_partial(self) -> bool:
        """Whether silver lacks rows of the file, because they were rejected."""
        return self.rows_rejected > 0

    def to_metadata(self) -> dict[str, str]:
        """As S3 user metadata: ASCII, names in lower case with dashes, below S3's 2 KB in all, for which the dialect,
        then the owner make room where the key is very long: the schema document names the owner, too.

        https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingMetadata.html
        """
        return dict(self._metadata)

    @cached_property
    def _metadata(self) -> Mapping[str, str]:
        metadata = {
            dashed: str(value)
            for name, dashed in _NAMES.items()
            if (value := getattr(self, name)) or name not in _OPTIONAL
        }
        metadata["bronze-key"] = encode_key(self.bronze_key)
        for name in ("dialect", "owner"):
            if name in metadata and len("".join((*metadata, *metadata.values()))) > MOST_METADATA:
                metadata[name] = ""
        return metadata

    @staticmethod
    def from_metadata(metadata: Mapping[str, str]) -> Lineage | None:
        """The lineage in S3 user metadata; None if it has none, or one that cannot be read (then it counts as none)."""
        texts = {name.replace("-", "_"): text for name, text in metadata.items()}
        try:
            values: dict[str, Any] = {name: texts[name] for name in _NAMES if name in texts}
            numbers = {name: int(text) for name, text in values.items() if name in _NUMBERS}
            return Lineage(**{**values, **numbers, "bronze_key": decode_key(texts["bronze_key"])})
        except (KeyError, TypeError, ValueError):  # a field is missing, or is not what it must be
            return None

    def of_bytes(self, etag: str, version: str | None, **fields: Any) -> Lineage:
        """The lineage of the very bytes that were read, from one that says what an event claims of them.

        An event may be about other bytes: then neither its version nor its sequencer is theirs. ``version`` is the
        store's word; None: it has none. ``fields`` are what else is known by now.
        """
        if self.bronze_etag != etag:
            fields |= {"bronze_etag": etag, "bronze_version": version or "", "sequencer": ""}
        return replace(self, **fields)

    def to_json(self) -> str:
        """As the value of the Parquet file's key-value metadata entry :data:`PARQUET_ENTRY`."""
        metadata = self.to_metadata()
        if self.looked_up:
            metadata["looked-up"] = json.dumps(dict(self.looked_up))
        return orjson.dumps(metadata).decode()


#: The names in metadata of the fields for which S3's metadata has room.
_NAMES = {field.name: field.name.replace("_", "-") for field in fields(Lineage) if field.name != "looked_up"}
_NUMBERS = frozenset(field.name for field in fields(Lineage) if field.type == "int")


def parquet_entry(footer: bytes) -> dict[str, object]:
    """The entry :data:`PARQUET_ENTRY` in the footer of a Parquet file; empty if there is none, or it is no JSON object.

    Without a Parquet library, which not every function has. Thrift's compact protocol writes a text as its length, as a
    varint, and its bytes; 0x18 begins a field that is a text. The key-value metadata stands behind everything that rows
    can put into a footer, so the last such entry is the one.
    https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
    """
    name = b"\x18" + bytes([len(PARQUET_ENTRY)]) + PARQUET_ENTRY.encode() + b"\x18"
    at = footer.rfind(name) + len(name)
    length = shift = 0
    for byte in footer[at : at + 5] if at >= len(name) else b"":
        length |= (byte & 127) << shift
        shift += 7
        at += 1
        if byte < 128:
            break
    try:
        entry = json.loads(footer[at : at + length])
    except (ValueError, RecursionError):
        return {}
    return entry if isinstance(entry, dict) else {}


def brief(dialect: Mapping[str, object]) -> str:
    """A dialect as JSON in ASCII, short enough for a lineage: without explanations; what comes last may be missing."""
    items = tuple((name, type(value), value) for name, value in dialect.items())
    try:
        return _brief(items)
    except TypeError:  # a list is in it, which is no key of a cache
        return _brief.__wrapped__(items)


@lru_cache(maxsize=64)
def _brief(items: tuple[tuple[str, type, object], ...]) -> str:
    """The files of one transform are mostly written alike. Types are told apart, for 1 is as good as True."""
    dialect = {name: value for name, _, value in items}
    known = {name: value for name, value in dialect.items() if value is not None and name not in {"why", "hint"}}
    while len(text := json.dumps(known, separators=(",", ":"), default=str)) > LONGEST_DIALECT:
        known.popitem()
    return text.replace("\x7f", "\\u007f") if known else ""


class Decision(StrEnum):
    """The work that one (transform, bronze key) needs."""

    DUPLICATE = "duplicate"  #: silver is of this very version, made by this very code: nothing to do
    MISSING = "missing"  #: there is no silver, or none that says where it came from
    STALE = "stale"  #: silver was made of other bytes
    OUTDATED = "outdated"  #: silver was made by other code or with other lookups, or before its schema was widened
    GONE = "gone"  #: there is no bronze object, and no silver of it
    MARKER = "marker"  #: the bronze object stands for a folder or a job, and is no data
    BEFORE_SINCE = (
        "before since"  #: silver is missing, stale or outdated, and bronze landed before the transform's since
    )
    ARCHIVED = "archived"  #: silver is missing or stale, and bronze must be restored before it can be read
    ORPHANED = "orphaned"  #: there is no bronze object, but silver that was made of one
    DELETED = "deleted"  #: the same, and the pipeline says that such silver goes, too
    FOREIGN = "foreign"  #: another pipeline made silver: it is left as it is


def decide(
    bronze_etag: str | None,
    silver: Lineage | None,
    fingerprint: str,
    *,
    silver_exists: bool,
    schema: int = 0,
    lookups: str = "",
    owners: Collection[str] | None = None,
) -> Decision:
    """Decide about a key, from the objects that bronze and silver hold now. An event plays no part in it.

    Args:
        bronze_etag: of the bronze object; None: there is none.
        silver: the lineage of the silver object; None: it has none.
        fingerprint: of the current code.
        silver_exists: whether there is a silver object.
        schema: the version that silver of this code has now. Silver of an older one is as good as of other code.
        lookups: the digest of what the transform's lookups are now. So is silver that was made with others.
        owners: the pipelines whose silver may be replaced, an empty name for silver that names none; None: anybody's.
    """
    if owners is not None and silver is not None and silver.owner not in owners:
        return Decision.FOREIGN
    if bronze_etag is None:
        return Decision.ORPHANED if silver_exists else Decision.GONE
    if not silver_exists or silver is None:
        return Decision.MISSING
    if silver.bronze_etag != bronze_etag:
        return Decision.STALE
    is_current = silver.fingerprint == fingerprint and (silver.schema >= schema or not silver.schema)
    is_current = is_current and silver.lookups == lookups
    return Decision.DUPLICATE if is_current else Decision.OUTDATED


def silver_key(transform: str, bronze_key: str) -> str:
    """The one key of the silver object: ``{transform}/{bronze key}.parquet``."""
    return _derived(transform, bronze_key, SILVER_ENDING)


#: How the keys end of silver, and of the two documents in quarantine that speak of a file.
SILVER_ENDING, ERROR_ENDING, FAILED_ENDING = ".parquet", ".error.json", ".failed.json"


def bronze_key_of(key: str) -> str:
    """The bronze key that a key in silver, or of a document in quarantine, is made of; but for one that is too long,
    which only the object tells."""
    name = key.partition("/")[2]
    ending = next((each for each in (SILVER_ENDING, ERROR_ENDING, FAILED_ENDING) if name.endswith(each)), "")
    return name.removesuffix(ending)


def rejected_key(transform: str, bronze_key: str) -> str:
    """The key in quarantine of the rows that broke the contract."""
    return _derived(transform, bronze_key, ".rejected.parquet")


def error_key(transform: str, bronze_key: str) -> str:
    """The key in quarantine of the error document of a file that cannot become silver."""
    return _derived(transform, bronze_key, ERROR_ENDING)


def failed_key(transform: str, bronze_key: str) -> str:
    """The key in quarantine of the count of a file's failed tries, by the transform's code."""
    return _derived(transform, bronze_key, FAILED_ENDING)


_DIGESTED = re.compile(r"~[0-9a-f]{64}\Z")


def _derived(transform: str, bronze_key: str, ending: str) -> str:
    """A key too long for its prefix and ending is cut short and made unique again by a digest of the whole.

    So is one that looks as if it had been, whatever its length: or it could be taken for the one that was.
    """
    key = f"{transform}/{bronze_key}{ending}"
    if len(key.encode()) <= LONGEST_KEY and not _DIGESTED.search(bronze_key):
        return key
    digest = "~" + hashlib.sha256(bronze_key.encode()).hexdigest()
    room = LONGEST_KEY - len(f"{transform}/{digest}{ending}".encode())
    return f"{transform}/{bronze_key.encode()[:room].decode(errors='ignore')}{digest}{ending}"


def encode_key(key: str) -> str:
    """A key as ASCII metadata: percent-encoded, or in base64 where that would not fit S3's 2 KB."""
    quoted = quote(key, safe="/!'()*")
    if len(quoted) <= LONGEST_KEY:
        return quoted
    return "base64:" + base64.urlsafe_b64encode(key.encode()).decode()


def decode_key(text: str) -> str:
    """The inverse of :func:`encode_key`. Raises ValueError on what it cannot have made."""
    if text.startswith("base64:"):
        return base64.urlsafe_b64decode(text.removeprefix("base64:")).decode()
    return unquote(text, errors="strict")
