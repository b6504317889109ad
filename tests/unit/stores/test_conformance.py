"""The promises of every store, against the protocol and a dict. A new store joins with an entry in STORES."""

from __future__ import annotations

import contextlib
import io
import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import boto3
import polars as pl
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from moto import mock_aws

from silversmith.errors import PreconditionFailed
from silversmith.lineage import PARQUET_ENTRY
from silversmith.stores import IN_MEMORY, Put, Store
from silversmith.stores.keys import InvalidKey
from silversmith.stores.local import LocalStore
from silversmith.stores.s3 import S3Store, connect
from tests.examples import examples
from tests.stand_in import S3Server

SESSION = boto3.session.Session("some", "thing", region_name="us-east-1")

#: How many objects a page of the listing has in the tests over S3.
S3_PAGE = 7


def _no_sync(descriptor: int) -> None:
    """These tests pull no plug."""


@contextlib.contextmanager
def _local(*, foreign_writers: bool) -> Iterator[Store]:
    with tempfile.TemporaryDirectory() as lake:
        state = Path(lake, ".silversmith")
        yield LocalStore(
            Path(lake, "bucket"),
            scratch=state / "scratch",
            locks=state / "locks",
            foreign_writers=foreign_writers,
            fsync=_no_sync,
        )


@contextlib.contextmanager
def _s3(*, versions: bool) -> Iterator[Store]:
    """On moto, in this process: it checks every condition as S3 does, but that of CompleteMultipartUpload."""
    with mock_aws(), tempfile.TemporaryDirectory() as scratch:
        client = connect(SESSION)
        client.create_bucket(Bucket="bucket")
        if versions:
            client.put_bucket_versioning(Bucket="bucket", VersioningConfiguration={"Status": "Enabled"})
        # Short pages, so that a listing has several of them without thousands of objects.
        client.meta.events.register(
            "provide-client-params.s3.ListObjectsV2", lambda params, **_: {**params, "MaxKeys": S3_PAGE}
        )
        yield S3Store("bucket", client=client, scratch=Path(scratch))


@contextlib.contextmanager
def _socket(*, versions: bool) -> Iterator[Store]:
    """On the stand-in, over a socket."""
    with S3Server() as server, tempfile.TemporaryDirectory() as scratch:
        server.bucket("bucket", versioned=versions)
        client = server.client()
        client.meta.events.register(
            "provide-client-params.s3.ListObjectsV2", lambda params, **_: {**params, "MaxKeys": S3_PAGE}
        )
        yield S3Store("bucket", client=client, scratch=Path(scratch))


#: Each opens an empty bucket. Moto cannot do the odder keys (``///.`` is no URL to it), nor thousands of calls soon: so
#: only folders get whatever hypothesis thinks of.
FOLDERS: dict[str, Callable[[], AbstractContextManager[Store]]] = {
    "folder": lambda: _local(foreign_writers=False),
    "shared-folder": lambda: _local(foreign_writers=True),
}
STORES: dict[str, Callable[[], AbstractContextManager[Store]]] = {
    **FOLDERS,
    "s3": lambda: _s3(versions=False),
    "s3-versioned": lambda: _s3(versions=True),
    "s3-socket": lambda: _socket(versions=False),
    "s3-socket-versioned": lambda: _socket(versions=True),
}

#: Keys that get in each other's way as paths, and ones that are no paths.
_PARTS = ["a", "b", "/", "//", ".", "..", "-", "a.b", "A", "é", "😀", "z" * 130, ".silversmith-keys", "\0", "\n", "~"]
KEYS = (
    st.lists(st.sampled_from(_PARTS), min_size=1, max_size=8).map("".join).filter(lambda key: len(key.encode()) < 900)
)


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    with STORES[request.param]() as opened:
        yield opened


def keys_of(store: Store, prefix: str = "", start_after: str = "") -> list[str]:
    return [head.key for head in store.list(prefix, start_after=start_after)]


def test_put_objects_are_read(store: Store) -> None:
    etag = store.put("flights/1.csv", b"one")
    head = store.head("flights/1.csv")
    assert head is not None
    assert (head.key, head.etag, head.size) == ("flights/1.csv", etag, 3)
    assert head.modified.tzinfo is UTC
    assert abs(head.modified - datetime.now(UTC)) < timedelta(minutes=1)
    assert store.read("flights/1.csv") == b"one"
    with store.open("flights/1.csv") as source:
        assert source is not None
        assert (source.head, source.data, source.path) == (head, b"one", None)
        store.verify(source)


def test_each_of_several_puts_stands_for_itself(store: Store) -> None:
    old = store.put("taken", b"old")
    puts = [
        Put("one", b"1", metadata={"a": "b"}, if_none_match=True),
        Put("taken", b"2", if_none_match=True),
        Put("taken", b"3", if_match="another"),
        Put("x" * 2000, b"4"),
        Put("taken", b"5", if_match=old),
        Put("folder/two", b"6"),
    ]
    first, second, third, fourth, fifth, sixth = store.put_all(puts)
    assert isinstance(second, PreconditionFailed)
    assert isinstance(third, PreconditionFailed)
    assert isinstance(fourth, InvalidKey)
    etags = {head.key: head.etag for head in store.list()}
    assert etags == {"one": first, "taken": fifth, "folder/two": sixth}
    assert [store.read(key) for key in etags] == [b"6", b"1", b"5"]
    assert store.put_all([]) == []


def test_missing_objects_are_none(store: Store) -> None:
    store.put("a", b"")
    for key in ("b", "a/", "a/b", "a//b", "..", "/"):
        assert store.head(key) is None
        assert store.read(key) is None
        with store.open(key) as source:
            assert source is None


def test_a_large_object_is_a_file(store: Store) -> None:
    body = b"0123456789abcdef" * (IN_MEMORY // 16) + b"!"
    etag = store.put("large", body)
    with store.open("large") as source:
        assert source is not None
        assert source.data is None
        assert source.path is not None
        assert source.path.read_bytes() == body
        assert (source.head.etag, source.head.size) == (etag, len(body))
        store.verify(source)
    assert store.read("large") == body


def test_a_put_replaces_the_object_and_its_etag(store: Store) -> None:
    first = store.put("a", b"1")
    second = store.put("a", b"2")
    assert first != second
    assert store.read("a") == b"2"
    assert keys_of(store) == ["a"]


def test_a_body_can_be_a_file(store: Store, tmp_path: Path) -> None:
    body = tmp_path / "body"
    body.write_bytes(b"from a file")
    etag = store.put("deep/down/key", body)
    head = store.head("deep/down/key")
    assert head is not None
    assert head.etag == etag
    assert store.read("deep/down/key") == b"from a file"


def test_if_none_match_creates_but_never_replaces(store: Store, tmp_path: Path) -> None:
    etag = store.put("t/a", b"first", if_none_match=True)
    body = tmp_path / "body"
    body.write_bytes(b"second")
    for second in (b"second", body):
        with pytest.raises(PreconditionFailed, match="t/a"):
            store.put("t/a", second, if_none_match=True)
    assert body.read_bytes() == b"second"
    head = store.head("t/a")
    assert head is not None
    assert head.etag == etag
    assert store.read("t/a") == b"first"
    store.delete("t/a")
    store.put("t/a", b"second", if_none_match=True)
    assert store.read("t/a") == b"second"


def test_if_match_replaces_only_what_it_names(store: Store) -> None:
    first = store.put("a", b"1")
    second = store.put("a", b"2", if_match=first)
    for key, stale in (("a", first), ("a", "never"), ("missing", second)):
        with pytest.raises(PreconditionFailed, match=key):
            store.put(key, b"3", if_match=stale)
    assert store.read("a") == b"2"
    assert keys_of(store) == ["a"]
    store.put("a", b"3", if_match=second)
    assert store.read("a") == b"3"


def test_delete(store: Store) -> None:
    first = store.put("a/b", b"1")
    second = store.put("a/b", b"2")
    with pytest.raises(PreconditionFailed, match="a/b"):
        store.delete("a/b", if_match=first)
    assert store.read("a/b") == b"2"
    store.delete("a/b", if_match=second)
    assert store.head("a/b") is None
    store.delete("a/b")
    with pytest.raises(PreconditionFailed, match="a/b"):
        store.delete("a/b", if_match=second)
    assert keys_of(store) == []


def test_the_lineage_in_a_parquet_file_is_its_metadata() -> None:
    metadata = {"bronze-key": "a.csv", "rows-read": "2"}
    body = io.BytesIO()
    pl.DataFrame({"a": [1, 2]}).write_parquet(body, metadata={PARQUET_ENTRY: json.dumps(metadata)})
    with STORES["folder"]() as store:
        store.put("t/a.csv.parquet", body.getvalue(), metadata=metadata)
        head = store.head("t/a.csv.parquet")
        assert head is not None
        assert head.metadata == metadata
        with store.open("t/a.csv.parquet") as source:
            assert source is not None
            assert source.head == head
        assert [listed.metadata for listed in store.list()] == [{}]


def test_a_listing_is_in_the_order_of_whole_keys(store: Store) -> None:
    names = [
        "a",
        "a!",
        "a-b/c",
        "a.csv",
        "a/b",
        "a/b/c",
        "a//b",
        "a/é",
        "aa",
        "b",
        "Z",
        "é/x",
        "\ue000",
        "😀",
        "..",
        "/",
    ]
    etags = {key: store.put(key, key.encode()) for key in names}
    expected = sorted(names, key=str.encode)
    assert keys_of(store) == expected
    for head in store.list():
        assert head.size == len(head.key.encode())
        assert head.etag == etags[head.key]
        assert head.metadata == {}


@pytest.mark.parametrize("name", FOLDERS)
@settings(max_examples=examples(40), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(KEYS, max_size=12, unique=True),
    st.text(st.sampled_from("ab/.-é"), max_size=4),
    st.text(st.sampled_from("ab/.-é"), max_size=4),
)
@example(["a", "a/b", "a//b", "a.b"], "a", "a/")
@example(["a/b/a", "a/b/b", "a/ba"], "a/b", "a/b/a")
def test_a_listing_of_a_prefix(name: str, names: list[str], prefix: str, start_after: str) -> None:
    with STORES[name]() as store:
        for key in names:
            store.put(key, b"")
        for after in (start_after, *names):
            expected = [key for key in names if key.startswith(prefix) and key.encode() > after.encode()]
            assert keys_of(store, prefix, after) == sorted(expected, key=str.encode)
        for key in names:  # every prefix of a key, too
            for end in range(0, len(key), 7):
                expected = sorted((name for name in names if name.startswith(key[:end])), key=str.encode)
                assert keys_of(store, key[:end]) == expected


@pytest.mark.parametrize("name", STORES)
def test_a_listing_goes_on_while_its_objects_are_deleted(name: str) -> None:
    names = [f"n/{number:04}" for number in range(1_200 if name in FOLDERS else 3 * S3_PAGE + 1)]
    with STORES[name]() as store:
        for key in names:
            store.put(key, b"")
        seen = []
        for head in store.list():
            seen.append(head.key)
            store.delete(head.key)
        assert seen == names
        assert keys_of(store) == []


class Machine(RuleBasedStateMachine):
    """A store and a dict with the same calls."""

    key = st.one_of(st.sampled_from(["a", "a/b", "a/b/c", "b", "a//b", "b/"]), KEYS)
    body = st.binary(max_size=3)

    def __init__(self, name: str) -> None:
        super().__init__()
        self.closing = contextlib.ExitStack()
        self.store = self.closing.enter_context(STORES[name]())
        self.model: dict[str, tuple[bytes, str]] = {}

    @rule(key=key, body=body)
    def put(self, key: str, body: bytes) -> None:
        self.model[key] = body, self.store.put(key, body)

    @rule(key=key, body=body)
    def create(self, key: str, body: bytes) -> None:
        if key in self.model:
            with pytest.raises(PreconditionFailed):
                self.store.put(key, body, if_none_match=True)
        else:
            self.model[key] = body, self.store.put(key, body, if_none_match=True)

    @rule(key=key, other_key=key, body=body)
    def swap(self, key: str, other_key: str, body: bytes) -> None:
        """With the etag of the same object or of another; the bytes, and so the etags, may be the same."""
        etag = self.model[other_key][1] if other_key in self.model else "none"
        if key in self.model and self.model[key][1] == etag:
            self.model[key] = body, self.store.put(key, body, if_match=etag)
        else:
            with pytest.raises(PreconditionFailed):
                self.store.put(key, body, if_match=etag)

    @rule(puts=st.lists(st.tuples(key, body, st.booleans()), max_size=4))
    def put_several(self, puts: list[tuple[str, bytes, bool]]) -> None:
        """Some only where there is no such object: of the same key, all but the first fail."""
        result = self.store.put_all([Put(key, body, if_none_match=new) for key, body, new in puts])
        for (key, body, new), etag in zip(puts, result, strict=True):
            if new and key in self.model:
                assert isinstance(etag, PreconditionFailed)
            else:
                assert isinstance(etag, str)
                self.model[key] = body, etag

    @rule(key=key)
    def delete(self, key: str) -> None:
        self.store.delete(key)
        self.model.pop(key, None)

    @rule(key=key)
    def delete_as_it_is(self, key: str) -> None:
        if key in self.model:
            self.store.delete(key, if_match=self.model.pop(key)[1])

    @rule(key=key)
    def look(self, key: str) -> None:
        head = self.store.head(key)
        assert (head and head.etag) == (self.model[key][1] if key in self.model else None)
        assert self.store.read(key) == (self.model[key][0] if key in self.model else None)

    @invariant()
    def the_listing_is_the_model(self) -> None:
        listed = [(head.key, head.size, head.etag) for head in self.store.list()]
        expected = [(key, len(body), etag) for key, (body, etag) in self.model.items()]
        assert listed == sorted(expected, key=lambda entry: entry[0].encode())

    def teardown(self) -> None:
        self.closing.close()


@pytest.mark.parametrize("name", FOLDERS)
def test_any_sequence_of_calls_does_what_it_does_to_a_dict(name: str) -> None:
    run_state_machine_as_test(
        lambda: Machine(name),  # type: ignore[arg-type]  # annotated as a class, documented as anything that makes one
        settings=settings(max_examples=30, stateful_step_count=25, deadline=None),
    )
