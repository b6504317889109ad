"""Findings, against an oracle that holds everything in sets."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from silversmith import Pipeline
from silversmith.lineage import Decision, Lineage, error_key, silver_key
from silversmith.pipeline import Transform
from silversmith.reconcile.compare import Looked, look
from silversmith.schemas import Owner, schema_key
from silversmith.stores import Head, Lake, Source, Store

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)

pipeline = Pipeline("p")


@pipeline.transform("a*")
def copy(rows: pl.LazyFrame) -> pl.LazyFrame:
    return rows


COPY = pipeline.find("copy")


@dataclass
class Objects:
    """A bucket in memory, which counts what it is asked. No more of a store than is needed to look."""

    heads: dict[str, Head] = field(default_factory=dict)
    bodies: dict[str, bytes] = field(default_factory=dict)
    headed: int = 0
    read_: int = 0

    def put(self, key: str, etag: str = "e", metadata: Mapping[str, str] | None = None, body: bytes = b"") -> None:
        self.heads[key] = Head(key, etag, 3, NOON, metadata=metadata or {})
        self.bodies[key] = body

    def head(self, key: str) -> Head | None:
        self.headed += 1
        return self.heads.get(key)

    def read(self, key: str) -> bytes | None:
        self.read_ += 1
        return self.bodies.get(key)

    @contextmanager
    def open(self, key: str) -> Iterator[Source | None]:
        yield Source(self.heads[key], self.bodies[key], None) if key in self.heads else None

    def verify(self, source: Source) -> None:
        """Bytes in memory never change."""

    def list(self, prefix: str = "", *, start_after: str = "") -> Iterator[Head]:
        for key in sorted(self.heads, key=str.encode):
            if key.startswith(prefix) and key > start_after:
                head = self.heads[key]
                yield Head(key, head.etag, head.size, head.modified)


def lineage(key: str, etag: str, fingerprint: str) -> dict[str, str]:
    return Lineage(
        bronze_key=key,
        bronze_etag=etag,
        bronze_version="",
        bronze_size=3,
        sequencer="",
        transform="copy",
        fingerprint=fingerprint,
        rows_read=1,
        rows_written=1,
        rows_rejected=0,
        committed_at="2026-01-02T12:00:00.000+00:00",
        attempt=1,
    ).to_metadata()


def document(etag: str, fingerprint: str) -> bytes:
    return json.dumps({"bronze": {"etag": etag}, "fingerprint": fingerprint}).encode()


@dataclass
class Buckets:
    """The three buckets, filled through the names that lineage gives."""

    bronze: Objects = field(default_factory=Objects)
    silver: Objects = field(default_factory=Objects)
    quarantine: Objects = field(default_factory=Objects)

    @property
    def lake(self) -> Lake:
        return Lake(*(cast("Store", store) for store in (self.bronze, self.silver, self.quarantine)))

    def commit(self, key: str, etag: str = "e", fingerprint: str = COPY.fingerprint) -> None:
        self.silver.put(silver_key("copy", key), metadata=lineage(key, etag, fingerprint))

    def fail(self, key: str, etag: str = "e", fingerprint: str = COPY.fingerprint) -> None:
        self.quarantine.put(error_key("copy", key), body=document(etag, fingerprint))

    def findings(self, **options: Any) -> dict[str, Decision]:
        findings = [looked.finding for looked in look(COPY, self.lake, **options) if looked.finding]
        assert len({finding.key for finding in findings}) == len(findings)
        return {finding.key: finding.kind for finding in findings}


#: "a" holds back those that begin with it; some sort around ".parquet"; some are cut short; one is not wanted.
KEYS = ["a", "a-1", "a-1-2", "a.parquet", "a.parquet.parquet", "a/b", "ab", "a" * 1010, "a" * 1010 + "b", "z"]
ETAGS = st.sampled_from(["e", "f"])
CODES = st.sampled_from([COPY.fingerprint, "other"])
some = st.sampled_from(KEYS)


@st.composite
def lakes(draw: st.DrawFn) -> tuple[Buckets, dict[str, str], dict[str, tuple[str, str]], dict[str, tuple[str, str]]]:
    bronze = draw(st.dictionaries(some, ETAGS))
    silver = draw(st.dictionaries(some, st.tuples(ETAGS, CODES)))
    errors = draw(st.dictionaries(some, st.tuples(ETAGS, CODES)))
    buckets = Buckets()
    for key, etag in bronze.items():
        buckets.bronze.put(key, etag)
    for key, (etag, code) in silver.items():
        buckets.commit(key, etag, code)
    for key, (etag, code) in errors.items():
        buckets.fail(key, etag, code)
    return buckets, bronze, silver, errors


def expected(
    bronze: dict[str, str], silver: dict[str, tuple[str, str]], errors: dict[str, tuple[str, str]], *, changed: bool
) -> dict[str, Decision]:
    expectation = {key for key in bronze if key.startswith("a")}
    result = dict.fromkeys(set(silver) - expectation, Decision.ORPHANED)
    for key in expectation:
        if errors.get(key) == (bronze[key], COPY.fingerprint):
            continue
        if key not in silver:
            result[key] = Decision.MISSING
        elif silver[key][0] != bronze[key]:
            result[key] = Decision.STALE
        elif silver[key][1] != COPY.fingerprint and changed:
            result[key] = Decision.OUTDATED
    return result


@given(lakes(), st.booleans(), st.sampled_from([1, 3]))
def test_it_finds_what_the_oracle_finds(
    drawn: tuple[Buckets, dict[str, str], dict[str, tuple[str, str]], dict[str, tuple[str, str]]],
    changed: bool,
    workers: int,
) -> None:
    buckets, bronze, silver, errors = drawn
    # What is accounted for in quarantine may also have silver that is up to date: that is nothing to find either.
    assert buckets.findings(changed=changed, workers=workers) == expected(bronze, silver, errors, changed=changed)


@given(lakes(), st.integers(1, 5))
def test_a_look_that_is_taken_up_again_misses_nothing_and_repeats_nothing(
    drawn: tuple[Buckets, dict[str, str], dict[str, tuple[str, str]], dict[str, tuple[str, str]]], steps: int
) -> None:
    buckets = drawn[0]
    whole = list(look(COPY, buckets.lake))
    pieces: list[Looked] = []
    after = ""
    while True:
        piece: list[Looked] = []
        for looked in look(COPY, buckets.lake, after=after):
            piece.append(looked)
            if looked.after and sum(bool(item.after) for item in piece) >= steps:
                break
        pieces += piece
        places = [looked.after for looked in piece if looked.after]
        if not places:
            break
        assert after == "" or places[-1] + ".parquet" > after + ".parquet"
        after = places[-1]
    assert [looked for looked in pieces if looked.after] == [looked for looked in whole if looked.after]
    assert {looked.finding for looked in pieces} >= {looked.finding for looked in whole}


def test_silver_that_does_not_say_where_it_came_from_is_missing() -> None:
    buckets = Buckets()
    buckets.bronze.put("a")
    buckets.silver.put("copy/a.parquet")
    assert buckets.findings() == {"a": Decision.MISSING}


def test_a_strangers_object_in_silver_is_no_orphan() -> None:
    buckets = Buckets()
    buckets.silver.put("copy/notes.txt")
    buckets.silver.put("copy/.parquet")
    buckets.silver.put("elsewhere/a.parquet")
    buckets.silver.put(f"copy/x~{'0' * 64}.parquet")
    buckets.silver.put(f"copy/y~{'0' * 64}.parquet", metadata=lineage("another", "e", "f"))
    assert buckets.findings() == {}


def test_silver_goes_with_its_bronze_object_where_the_pipeline_says_so() -> None:
    """But only what says that it was made of it, for a key that the transform wants, and for us."""
    buckets = Buckets()
    keys = ["a", "a" * 1010]
    for key in (*keys, "b"):
        buckets.commit(key)
    buckets.silver.put("copy/a2.parquet")
    buckets.silver.put("copy/a3.parquet", metadata=lineage("a", "e", "f"))
    buckets.silver.put("copy/a4.parquet", metadata=lineage("a4", "e", "f") | {"owner": "other"})
    buckets.silver.put(schema_key("copy"), body=b'{"owner": "us"}')
    kept = dict.fromkeys([*keys, "a2", "a3", "a4", "b"], Decision.ORPHANED)
    assert buckets.findings() == kept
    removing = replace(COPY, removes=True)
    owner = Owner("us", "silver", "quarantine")
    actual = [looked.finding for looked in look(removing, buckets.lake, owner=owner) if looked.finding]
    assert {item.key: item.kind for item in actual} == kept | dict.fromkeys(keys, Decision.DELETED)
    assert {item.key for item in actual if item.is_to_be_sent} == set(keys)
    assert all(item.event("bronze").deleted == (item.key in keys) for item in actual)


def test_a_bronze_object_that_lands_behind_the_listing_makes_no_orphan() -> None:
    """It was not there when its place in the listing was passed, and its silver is there when its place comes."""
    buckets = Buckets()
    buckets.commit("a1")
    listed = buckets.bronze.list

    def list_then_land(prefix: str = "", *, start_after: str = "") -> Iterator[Head]:
        yield from listed(prefix, start_after=start_after)
        buckets.bronze.put("a1")

    buckets.bronze.list = list_then_land  # type: ignore[method-assign]
    assert buckets.findings() == {}


def test_recent_files_are_left_to_their_event() -> None:
    buckets = Buckets()
    buckets.bronze.put("a")
    assert buckets.findings(settled=NOON) == {}
    assert buckets.findings(settled=NOON + timedelta(seconds=1)) == {"a": Decision.MISSING}


@pytest.mark.parametrize("nothing", [None, ""])
def test_objects_without_an_etag_are_left_alone(nothing: str | None) -> None:
    buckets = Buckets()
    buckets.bronze.put("a")
    tell: Callable[[Head], str | None] = lambda _: nothing  # noqa: E731
    assert buckets.findings(etag=tell) == {}


def test_a_finding_becomes_the_event_that_was_missed() -> None:
    buckets = Buckets()
    buckets.bronze.put("a", "etag")
    (looked,) = look(COPY, buckets.lake)
    assert looked.finding is not None
    event = looked.finding.event("bronze")
    assert (event.bucket, event.key, event.etag, event.size, event.deleted) == ("bronze", "a", "etag", 3, False)


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"{}", b'{"bronze": 1, "fingerprint": "f"}', b'{"bronze": {"etag": 1}, "fingerprint": 2}'],
)
def test_an_error_document_that_says_nothing_accounts_for_nothing(body: bytes) -> None:
    buckets = Buckets()
    buckets.bronze.put("a", "etag")
    buckets.quarantine.put(error_key("copy", "a"), body=body)
    (looked,) = look(COPY, buckets.lake)
    assert looked.finding is not None


def test_many_keys_are_looked_at_with_a_few_in_memory_and_one_request_each() -> None:
    number = 20_000
    alive, most, headed = 0, 0, 0
    metadata = lineage("any", "e", COPY.fingerprint)

    class Counted(Head):
        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

    @dataclass
    class Endless:
        form: str
        metadata: Mapping[str, str]

        def list(self, prefix: str = "", *, start_after: str = "") -> Iterator[Head]:
            nonlocal alive, most
            for at in range(number):
                alive += 1
                most = max(most, alive)
                yield Counted(self.form.format(at), "e", 1, NOON)

        def head(self, key: str) -> Head:
            nonlocal headed
            headed += 1
            return Head(key, "e", 1, NOON, metadata=self.metadata)

    bronze, silver = Endless("a{:06}", {}), Endless("copy/a{:06}.parquet", metadata)
    lake = Lake(cast("Store", bronze), cast("Store", silver), cast("Store", Objects()))
    seen = 0
    for looked in look(COPY, lake):
        seen += 1
        assert looked.finding is None
    assert (seen, headed) == (number, number)
    assert most < 20


def test_silver_in_the_listing_is_not_headed() -> None:
    buckets = Buckets()
    for at in range(50):
        buckets.bronze.put(f"a{at}")
    assert len(buckets.findings()) == 50
    assert (buckets.silver.headed, buckets.bronze.headed, buckets.quarantine.read_) == (0, 0, 2 * 50)


def test_the_pipelines_pattern_decides_not_its_prefix() -> None:
    narrow = Pipeline("p")
    narrow.transform("a/*.csv", name="copy")(copy)
    transform: Transform = narrow.find("copy")
    buckets = Buckets()
    buckets.bronze.put("a/1.csv")
    buckets.bronze.put("a/1.txt")
    assert [looked.after for looked in look(transform, buckets.lake)] == ["a/1.csv"]
