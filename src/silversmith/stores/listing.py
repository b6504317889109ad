"""Pages of a listing as S3 sends them, at a tenth of what the SDK's parser takes: that makes objects of every value.

https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, NamedTuple, Protocol, cast
from urllib.parse import unquote_plus

from silversmith.stores import Head, Store, batched

#: The most keys in one answer of S3's.
PAGE = 1_000

#: The storage classes of which an object may have to be restored before it can be read.
ARCHIVING = frozenset({"GLACIER", "DEEP_ARCHIVE", "INTELLIGENT_TIERING"})


class ListedObject(NamedTuple):
    """An object of a listing. ``modified`` as S3 writes it, so that texts compare as times do:
    ``2026-03-01T00:00:00.000Z``. ``storage``: its storage class, or empty."""

    key: str
    modified: str
    etag: str
    size: str
    storage: str

    def head(self) -> Head:
        """The same as any store gives it."""
        archived = self.storage if self.storage in ARCHIVING else ""
        return Head(self.key, self.etag, int(self.size), datetime.fromisoformat(self.modified), archived=archived)


def stamp(moment: datetime) -> str:
    """A time as a listing writes it."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03}Z"


class Listing(Protocol):
    """Has pages of its own, as a store on S3 has."""

    def pages(self, prefix: str, *, start_after: str = "") -> Iterator[Sequence[ListedObject]]:
        """The objects below a prefix, in the order of their keys."""


def pages(
    store: Store | Listing, prefix: str, *, start_after: str = "", until: str = "", size: int = PAGE
) -> Iterator[Sequence[ListedObject]]:
    """The objects of a range of keys, page by page, in the order of their keys.

    Args:
        store: the bucket.
        prefix: what every key begins with.
        start_after: keys up to this one are left out.
        until: keys after this one are left out; empty: none.
        size: the objects of a page, where the store has no pages of its own.
    """
    own = getattr(store, "pages", None)
    if own is None:
        heads = cast("Store", store).list(prefix, start_after=start_after)
        own = ([_entry(head) for head in some] for some in batched(heads, size))
    else:
        own = own(prefix, start_after=start_after)
    for page in own:
        if until and page and page[-1][0] > until:
            yield [entry for entry in page if entry[0] <= until]
            return
        yield page


def _entry(head: Head) -> ListedObject:
    return ListedObject(head.key, stamp(head.modified), head.etag, str(head.size), head.archived)


# -- S3's answers

#: One object as S3 writes it when keys are encoded, as botocore asks for. If one is written otherwise, the whole answer
#: is left to the SDK.
_OBJECT = re.compile(
    r"<Contents><Key>([^<&]*)</Key><LastModified>(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z)</LastModified>"
    r'<ETag>(?:&quot;|")?([^<&"]*)(?:&quot;|")?</ETag>(?:<Checksum\w+>[^<]*</Checksum\w+>)*<Size>(\d+)</Size>'
    r"(?:<StorageClass>(\w*)</StorageClass>)?</Contents>"
)

_ENCODED = "<EncodingType>url</EncodingType>"

#: The name under which the parsed objects stand in the SDK's answer.
ENTRIES = "SilversmithEntries"


_asked = threading.local()


@contextmanager
def parsed_here() -> Iterator[None]:
    """Have :func:`parse_page` parse the listings that this thread asks for: who asks the SDK alone gets its answers."""
    _asked.is_ours = True
    try:
        yield
    finally:
        _asked.is_ours = False


def parse_page(response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: Any) -> None:
    """Parse the objects of an answer before botocore parses it, and leave it the rest. The arguments are those of its
    event ``before-parse``."""
    body = response_dict["body"]
    if response_dict["status_code"] != 200 or not isinstance(body, bytes) or not getattr(_asked, "is_ours", False):
        return
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return
    objects = _OBJECT.findall(text)
    start, end = text.find("<Contents>"), text.rfind("</Contents>") + len("</Contents>")
    # each is followed by the next, or something would be lost that stands between them
    is_known = _ENCODED in text and text.count("</Contents><Contents>", start, end) == len(objects) - 1
    if not objects or not is_known or text.count("<Contents>") != len(objects):
        return
    customized_response_dict[ENTRIES] = [
        ListedObject(unquote_plus(item[0]), *item[1:]) if "%" in item[0] or "+" in item[0] else ListedObject._make(item)
        for item in objects
    ]
    response_dict["body"] = (text[:start] + text[end:]).encode()


def entries(answer: Mapping[str, Any]) -> Sequence[ListedObject]:
    """The objects in an answer of the SDK's, whoever parsed them."""
    own: Sequence[ListedObject] | None = answer.get(ENTRIES)
    if own is not None:
        return own
    return [
        ListedObject(
            item["Key"],
            stamp(item["LastModified"]),
            str(item["ETag"]).strip('"'),
            str(item["Size"]),
            str(item.get("StorageClass", "")),
        )
        for item in answer.get("Contents", ())
    ]
