"""The merge of two listings against sets, which know no order and no bound."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from silversmith.lineage import silver_key
from silversmith.reconcile.compare import Pair, overtaken, pairs
from silversmith.stores import Head

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)

#: Pieces that make keys begin with each other and sort around ".parquet", are cut short, or look as if they were.
_PIECES = ["a", "b", "/", "-", ".", ".parquet", ".par", ".q", "~", "é", "😀", "z" * 300, "~" + "0" * 64, " "]
KEYS = (
    st.lists(st.sampled_from(_PIECES), min_size=1, max_size=7)
    .map("".join)
    .filter(lambda key: len(key.encode()) <= 1024)
)


def heads(keys: set[str]) -> list[Head]:
    return [Head(key, "e", 1, NOON) for key in sorted(keys, key=str.encode)]


def name(head: Head | None) -> str | None:
    return None if head is None else head.key


@given(st.sets(KEYS, max_size=40), st.sets(KEYS, max_size=40), st.sets(KEYS, max_size=5))
def test_each_object_comes_once_and_beside_its_own(bronze: set[str], made_of: set[str], strangers: set[str]) -> None:
    silver = {silver_key("t", key) for key in made_of} | {f"t/{key}" for key in strangers}
    result = list(pairs("t", heads(bronze), heads(silver)))

    by_name = {silver_key("t", key): key for key in bronze}
    messages = [pair for pair in result if pair.is_paired]
    assert {pair.key for pair in result if pair.bronze} == bronze
    assert sorted(pair.key for pair in result if pair.bronze) == sorted(bronze)
    for pair in messages:
        if pair.bronze is not None:
            expected = silver_key("t", pair.key)
            assert name(pair.silver) == (expected if expected in silver else None)
        else:
            assert pair.silver is not None
            assert pair.silver.key == f"t/{pair.key}.parquet"
            assert pair.silver.key not in by_name
    listed = [pair.silver.key for pair in result if pair.silver]
    assert sorted(listed) == sorted(key for key in silver if key.endswith(".parquet") and key != "t/.parquet")


@given(st.sets(KEYS, max_size=40), st.sets(KEYS, max_size=40))
def test_they_come_in_the_order_of_silver(bronze: set[str], made_of: set[str]) -> None:
    silver = {silver_key("t", key) for key in made_of}
    names = [pair.key + ".parquet" for pair in pairs("t", heads(bronze), heads(silver)) if pair.is_paired]
    assert names == sorted(names)


@given(st.sets(KEYS, max_size=40), KEYS)
def test_overtaken_are_all_that_come_before_in_bronze_and_after_in_silver(keys: set[str], key: str) -> None:
    result = set(overtaken(key))
    for candidate in keys | result:
        assert (candidate in result) == (candidate < key and candidate + ".parquet" > key + ".parquet")


def test_a_key_and_its_extensions_are_paired() -> None:
    keys = {"a", "a-1", "a-1-2", "a.parquet", "a/b", "ab"}
    result = list(pairs("t", heads(keys), heads({silver_key("t", key) for key in keys})))
    assert [pair.key for pair in result] == ["a-1-2", "a-1", "a", "a.parquet", "a/b", "ab"]
    assert all(pair.bronze and pair.silver for pair in result)


def test_a_key_that_was_cut_short_is_left_to_a_look() -> None:
    long = "x" * 1020
    result = list(pairs("t", heads({long}), heads({silver_key("t", long)})))
    assert [(pair.key, pair.is_paired) for pair in result] == [(long, False), ("", False)]


def test_memory_does_not_grow_with_the_bucket() -> None:
    """Many keys, of which one holds back all others: at no time are more than a few objects alive."""
    number = 20_000
    alive, most = 0, 0

    class Counted(Head):
        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

    def listing(form: str, first: str = "") -> Iterator[Head]:
        nonlocal alive, most
        for key in [first] if first else []:
            alive += 1
            yield Counted(key, "e", 1, NOON)
        for at in range(number):
            alive += 1
            most = max(most, alive)
            yield Counted(form.format(at), "e", 1, NOON)

    last: Pair | None = None
    seen = 0
    for pair in pairs("t", listing("a-{:06}", first="a"), listing("t/a-{:06}.parquet")):
        assert pair.key == "a" or (pair.bronze is not None and pair.silver is not None)
        last = pair
        seen += 1
    assert (seen, last and last.key, last and last.silver) == (number + 1, "a", None)
    assert most < 20
