from __future__ import annotations

import io
import json
from dataclasses import replace

import polars as pl
from hypothesis import example, given
from hypothesis import strategies as st

from silversmith.lineage import (
    LONGEST_DIALECT,
    LONGEST_KEY,
    PARQUET_ENTRY,
    Decision,
    Lineage,
    brief,
    decide,
    decode_key,
    encode_key,
    error_key,
    parquet_entry,
    rejected_key,
    silver_key,
)

keys = st.text(st.characters(codec="utf-8"), min_size=1, max_size=400).filter(lambda key: len(key.encode()) <= 1024)
transforms = st.from_regex(r"[a-z][a-z0-9_-]{0,39}", fullmatch=True)
etags = st.sampled_from(["a", "b"])


def lineage(key: str = "k", etag: str = "a", fingerprint: str = "f") -> Lineage:
    return Lineage(key, etag, "v" * 32, 10**13, "0" * 18, "t" * 40, fingerprint, 10**9, 1, 2, "2026-01-02", 3, "csv")


@given(keys)
def test_lineage_survives_metadata_within_s3s_limits(key: str) -> None:
    metadata = lineage(key, fingerprint="f" * 64).to_metadata()
    assert all(value.isascii() and value.isprintable() for value in metadata.values())
    assert sum(len(name) + len(value) for name, value in metadata.items()) <= 2048
    assert Lineage.from_metadata(metadata) == lineage(key, fingerprint="f" * 64)


@given(keys, st.dictionaries(st.text(max_size=20), st.none() | st.text() | st.floats() | st.integers()))
def test_a_dialect_is_recorded_if_there_is_room(key: str, dialect: dict[str, object]) -> None:
    messages = brief({"separator": ";", "why": "x" * 400, **dialect})
    assert len(messages) <= LONGEST_DIALECT + 5 * messages.count("\\u007f")
    metadata = replace(lineage(key, fingerprint="f" * 64), dialect=messages).to_metadata()
    assert all(value.isascii() and value.isprintable() for value in metadata.values())
    assert sum(len(name) + len(value) for name, value in metadata.items()) <= 2048
    result = Lineage.from_metadata(metadata)
    assert result is not None
    assert result.bronze_key == key
    assert result.dialect == messages or len(encode_key(key)) > 500


@given(keys, st.from_regex(r"[a-z][a-z0-9-]{0,60}", fullmatch=True))
def test_the_owner_is_recorded_if_there_is_room(key: str, owner: str) -> None:
    created = replace(lineage(key, fingerprint="f" * 64), owner=owner, dialect="x" * LONGEST_DIALECT, lookups="l" * 32)
    metadata = created.to_metadata()
    assert sum(len(name) + len(value) for name, value in metadata.items()) <= 2048
    result = Lineage.from_metadata(metadata)
    assert result is not None
    assert result.owner == owner or len(encode_key(key)) > 1024
    assert replace(result, owner=owner, dialect=created.dialect) == created


@given(keys)
def test_lineage_of_before_has_no_owner(key: str) -> None:
    metadata = lineage(key).to_metadata()
    assert "owner" not in metadata
    assert Lineage.from_metadata(metadata) == lineage(key)


@given(
    st.none() | etags,
    st.sampled_from(["", "shop", "old", "other"]),
    st.frozensets(st.sampled_from(["", "shop", "old"])),
)
def test_silver_of_another_pipeline_is_foreign(bronze: str | None, owner: str, owners: frozenset[str]) -> None:
    silver = replace(lineage(), owner=owner)
    decision = decide(bronze, silver, "f", silver_exists=True, owners=owners)
    assert (decision is Decision.FOREIGN) == (owner not in owners)
    if owner in owners:
        assert decision is decide(bronze, silver, "f", silver_exists=True)


def test_a_dialect_without_explanations() -> None:
    assert brief({"separator": ";", "escape": None, "confidence": 0.9, "why": "because"}) == (
        '{"separator":";","confidence":0.9}'
    )
    assert brief({}) == ""


@given(st.dictionaries(st.sampled_from(list(lineage().to_metadata())), st.text()))
def test_strange_metadata_is_no_lineage(metadata: dict[str, str]) -> None:
    result = Lineage.from_metadata(metadata)
    assert result is None or isinstance(result.rows_read, int)


@given(keys)
def test_keys_survive_encoding(key: str) -> None:
    assert decode_key(encode_key(key)) == key


def test_a_key_of_1024_bytes_fits() -> None:
    assert len(encode_key("日" * 341)) < 1400
    assert decode_key(encode_key("日" * 341)) == "日" * 341


@given(transforms, keys)
def test_derived_keys_are_legal_and_their_own(transform: str, key: str) -> None:
    derived = [silver_key(transform, key), rejected_key(transform, key), error_key(transform, key)]
    assert len(set(derived)) == 3
    for actual in derived:
        assert actual.startswith(f"{transform}/")
        assert len(actual.encode()) <= LONGEST_KEY


@given(transforms, keys, keys)
def test_two_bronze_keys_never_share_a_silver_key(transform: str, one: str, other: str) -> None:
    assert (silver_key(transform, one) == silver_key(transform, other)) == (one == other)


def test_long_keys_that_differ_only_at_the_end_stay_apart() -> None:
    one, other = silver_key("t", "x" * 1023 + "a"), silver_key("t", "x" * 1023 + "b")
    assert one != other
    assert len(one) == LONGEST_KEY


@given(st.none() | etags, st.none() | st.builds(lineage, etag=etags, fingerprint=etags), etags, st.booleans())
def test_decisions(bronze: str | None, silver: Lineage | None, fingerprint: str, readable: bool) -> None:
    exists = silver is not None
    decision = decide(bronze, silver if readable else None, fingerprint, silver_exists=exists)
    if bronze is None:
        assert decision is (Decision.ORPHANED if exists else Decision.GONE)
    elif silver is None or not readable:
        assert decision is Decision.MISSING
    elif silver.bronze_etag != bronze:
        assert decision is Decision.STALE
    else:
        assert decision is (Decision.DUPLICATE if silver.fingerprint == fingerprint else Decision.OUTDATED)


@given(st.text("ab/日", min_size=1), st.sampled_from(["silver", "orders", "t"]))
def test_no_short_key_is_taken_for_a_long_one_that_was_cut(tail: str, transform: str) -> None:
    key = "x" * 1000 + tail[:8]
    cut = silver_key(transform, key).removeprefix(f"{transform}/").removesuffix(".parquet")
    assert (silver_key(transform, cut) == silver_key(transform, key)) == (cut == key)


@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(["a", "b", "why", "ü"]),
            st.none()
            | st.booleans()
            | st.integers(0, 1)
            | st.sampled_from([0.0, 1.0, "1"])
            | st.lists(st.integers(0, 1)),
        ),
        max_size=8,
    )
)
def test_a_dialect_is_recorded_the_same_however_often(
    dialects: list[dict[str, object]],
) -> None:
    for dialect in dialects:
        messages = brief(dialect)
        said = {name: value for name, value in dialect.items() if value is not None and name != "why"}
        assert messages == (json.dumps(said, separators=(",", ":")) if said else "")


_DECOY = "\x18\x0bsilversmith\x18\x02{}"


@given(st.text() | st.dictionaries(st.text(), st.text()).map(json.dumps), st.text())
@example("{}", _DECOY)
@example(json.dumps({_DECOY: "x" * 300}), _DECOY)
def test_the_entry_of_a_parquet_file_is_what_polars_reads(entry: str, cell: str) -> None:
    """For any other entries that its rows put into the footer."""
    file = io.BytesIO()
    pl.DataFrame({"text": [cell], _DECOY: [cell]}).write_parquet(file, metadata={PARQUET_ENTRY: entry})
    footer = file.getvalue()[-8 - int.from_bytes(file.getvalue()[-8:-4], "little") : -8]
    try:
        expected = json.loads(pl.read_parquet_metadata(io.BytesIO(file.getvalue()))[PARQUET_ENTRY])
    except ValueError:
        expected = {}
    assert parquet_entry(footer) == (expected if isinstance(expected, dict) else {})


@given(st.binary())
def test_no_footer_has_an_entry(footer: bytes) -> None:
    assert parquet_entry(footer) == {}
