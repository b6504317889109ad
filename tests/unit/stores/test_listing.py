"""Pages of a listing: what is parsed here is what the SDK's parser makes of the same answer."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from urllib.parse import quote_plus
from xml.sax.saxutils import escape

import botocore.session
import pytest
from botocore.handlers import decode_list_object_v2
from botocore.parsers import create_parser
from hypothesis import given
from hypothesis import strategies as st

from silversmith.stores import Head
from silversmith.stores.listing import ENTRIES, ListedObject, entries, pages, parse_page, parsed_here, stamp

SHAPE = botocore.session.get_session().get_service_model("s3").operation_model("ListObjectsV2").output_shape
KEYS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
OBJECTS = st.lists(st.tuples(KEYS, st.integers(0, 2**40), st.sampled_from(["STANDARD", "GLACIER", ""])), max_size=5)


def answer(*objects: str, more: str = "") -> bytes:
    head = (
        "<Name>b</Name><Prefix></Prefix><KeyCount>2</KeyCount><MaxKeys>1000</MaxKeys><EncodingType>url</EncodingType>"
    )
    end = "<IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>"
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"{head}{end}{''.join(objects)}{more}</ListBucketResult>"
    ).encode()


def item(
    key: str, size: int = 1, storage: str = "STANDARD", *, checksum: str = "", etag: str = "&quot;e1-2&quot;"
) -> str:
    kind = f"<StorageClass>{storage}</StorageClass>" if storage else ""
    return (
        f"<Contents><Key>{escape(quote_plus(key, safe='/'))}</Key><LastModified>2026-03-01T10:20:30.000Z</LastModified>"
        f"<ETag>{etag}</ETag>{checksum}<Size>{size}</Size>{kind}</Contents>"
    )


def by_sdk(body: bytes) -> dict[str, Any]:
    parsed: dict[str, Any] = create_parser("rest-xml").parse({"status_code": 200, "headers": {}, "body": body}, SHAPE)
    decode_list_object_v2(parsed, {"encoding_type_auto_set": True})
    return parsed


def parsed(body: bytes, status: int = 200) -> tuple[list[ListedObject] | None, bytes]:
    response: dict[str, Any] = {"status_code": status, "body": body}
    own: dict[str, Any] = {}
    parse_page(response, own)
    assert own == {}, "nobody has asked for it"
    with parsed_here():
        parse_page(response, own)
    return own.get(ENTRIES), response["body"]


@given(OBJECTS)
def test_it_is_what_the_sdk_says(objects: list[tuple[str, int, str]]) -> None:
    body = answer(*(item(*each) for each in objects))
    own, rest = parsed(body)
    whole = by_sdk(body)
    assert (own or []) == list(entries(whole))
    left = by_sdk(rest)
    assert {name: value for name, value in left.items() if name != "Contents"} == {
        name: value for name, value in whole.items() if name != "Contents"
    }


@pytest.mark.parametrize(
    "body",
    [
        answer(item("a"), more="<Contents><Key>b</Key></Contents>"),
        answer(item("a"), "<CommonPrefixes><Prefix>p</Prefix></CommonPrefixes>", item("b")),
        answer(item("a"), "\n", item("b")),
        answer(item("a").replace("<Size>1</Size>", "<Size>1</Size><Owner><ID>x</ID></Owner>")),
        answer(item("a").replace(".000Z", "Z")),
        answer(item("a").replace("<Key>a", "<Key>a&amp;b")),
        answer(item("a")).replace(b"<EncodingType>url</EncodingType>", b""),
        answer(item("a")).replace(b"<Key>a", b"<Key>\xff"),
        answer(),
        b"",
    ],
)
def test_listings_in_another_form_are_left_to_the_sdk(body: bytes) -> None:
    assert parsed(body) == (None, body)


def test_an_error_is_left_to_the_sdk() -> None:
    body = answer(item("a"))
    assert parsed(body, status=500) == (None, body)


def test_checksums_and_bare_quotes_are_known() -> None:
    checksum = "<ChecksumAlgorithm>CRC64NVME</ChecksumAlgorithm><ChecksumType>FULL_OBJECT</ChecksumType>"
    own, _ = parsed(answer(item("a", checksum=checksum), item("b", etag='"e"')))
    assert own is not None
    assert [(entry.key, entry.etag) for entry in own] == [("a", "e1-2"), ("b", "e")]


def test_an_entry_is_a_head() -> None:
    head = ListedObject("a", "2026-03-01T10:20:30.000Z", "e", "7", "GLACIER").head()
    assert head == Head("a", "e", 7, datetime(2026, 3, 1, 10, 20, 30, tzinfo=UTC), archived="GLACIER")
    assert ListedObject("a", "2026-03-01T10:20:30.000Z", "e", "7", "STANDARD").head().archived == ""


@given(st.datetimes(datetime(2006, 3, 14), timezones=st.just(timezone(timedelta(hours=5)))))  # noqa: DTZ001
def test_texts_compare_as_times_do(moment: datetime) -> None:
    second = moment.replace(microsecond=0)
    assert (stamp(second) <= stamp(moment)) == (second <= moment)
    assert datetime.fromisoformat(stamp(moment)) == moment.replace(microsecond=moment.microsecond // 1000 * 1000)


class Listing:
    """A store that lists these keys."""

    def __init__(self, *keys: str) -> None:
        self._keys = keys

    def list(self, prefix: str = "", *, start_after: str = "") -> Iterator[Head]:
        for key in self._keys:
            if key.startswith(prefix) and key > start_after:
                yield Head(key, "e", 1, datetime(2026, 3, 1, tzinfo=UTC))


def test_a_range_of_any_store_comes_in_pages() -> None:
    store: Any = Listing("a", "b", "c", "d", "e")
    listed = pages(store, "", start_after="a", until="d", size=2)
    assert [[entry.key for entry in page] for page in listed] == [["b", "c"], ["d"]]
