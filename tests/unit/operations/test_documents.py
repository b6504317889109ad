"""Error documents: read whatever is in them, and which bronze key an object in quarantine is about."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from silversmith.lineage import error_key, rejected_key
from silversmith.operations.failures import bronze_key, parse

DOCUMENT = {
    "error": {
        "code": "MissingColumn",
        "message": "no column 'a'",
        "hint": "add it",
        "place": {"line": 1, "column": "a"},
    },
    "transform": "flights",
    "bronze": {"key": "flights/a.csv", "etag": "e1", "version": "v1", "size": 12},
    "fingerprint": "f",
    "attempt": 2,
    "at": "2026-01-02T03:04:05.678+00:00",
}


def test_a_document_is_read() -> None:
    result = parse("flights/flights/a.csv.error.json", json.dumps(DOCUMENT).encode())
    assert (result.transform, result.key, result.code) == ("flights", "flights/a.csv", "MissingColumn")
    assert (result.message, result.hint, result.place) == ("no column 'a'", "add it", {"line": 1, "column": "a"})
    assert (result.etag, result.version, result.size, result.attempt, result.at) == ("e1", "v1", 12, 2, DOCUMENT["at"])
    assert result.document == "flights/flights/a.csv.error.json"


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"{}", b'{"error": 5}', b'{"error": {"x": NaN}}', b"\xff", b"[" * 10**5]
)
def test_a_document_that_cannot_be_read_is_a_failure_that_says_so(body: bytes) -> None:
    result = parse("flights/deep/a.csv.error.json", body)
    assert (result.transform, result.key, result.code) == ("flights", "deep/a.csv", "UnreadableDocument")


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.dictionaries(st.text(), inner), max_leaves=8
)


@given(st.dictionaries(st.sampled_from(["error", "bronze", "transform", "attempt", "at"]), values))
def test_key_and_transform_of_any_document_are_texts(document: dict[str, object]) -> None:
    result = parse("t/k.error.json", json.dumps(document).encode())
    assert isinstance(result.key, str)
    assert isinstance(result.transform, str)
    assert isinstance(result.attempt, int)


keys = st.text(min_size=1, max_size=300).filter(lambda text: len(text.encode("utf-8", "surrogatepass")) < 1024)


@given(keys, st.sampled_from([error_key, rejected_key]))
def test_the_name_in_quarantine_gives_the_bronze_key_or_nothing(key: str, derived) -> None:  # type: ignore[no-untyped-def]
    assert bronze_key(derived("flights", key)) in {key, None}


@pytest.mark.parametrize(
    "key", ["a.csv", "a.error.json", "a.rejected.parquet", "x/y/z", "/", "a.csv.error.json.error.json"]
)
def test_a_short_key_is_given_exactly(key: str) -> None:
    assert bronze_key(error_key("flights", key)) == key
    assert bronze_key(rejected_key("flights", key)) == key


def test_a_key_that_was_cut_short_is_not_guessed() -> None:
    assert bronze_key(error_key("flights", "k" * 1020)) is None


@pytest.mark.parametrize("name", ["no-slash.error.json", "flights/a.csv", "flights/a.csv.parquet", ""])
def test_other_objects_in_quarantine_are_about_no_key(name: str) -> None:
    assert bronze_key(name) is None
