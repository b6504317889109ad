"""The mapping of keys to paths: reversible, injective, in order, and never outside the bucket's folder."""

from __future__ import annotations

import os
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from silversmith.stores import keys

_HOSTILE = ["/", "//", ".", "..", "../", "a", "A", "a/", "\0", "%2F", "~", "=", "-", ".key", keys.RESERVED, "é", "😀"]
ANY_KEY = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
    st.lists(st.sampled_from(_HOSTILE), min_size=1, max_size=400).map("".join),
    st.binary(min_size=1, max_size=1024).map(lambda raw: raw.decode("latin-1")),
).filter(lambda key: len(key.encode()) <= 1024)


@given(ANY_KEY)
@example("a//b")
@example("/")
@example("..")
@example("a/../../etc/passwd")
@example(".silversmith-keys/61.key")
@example(".SilverSmith-Keys/a")
@example("x" * 1024)
@example("/" * 1024)
@example("é" * 512)
@example("a" * 200)
def test_a_key_and_its_places_are_each_others_inverse(key: str) -> None:
    for place in keys.places(key):
        assert keys.key_of(place) == key


@given(ANY_KEY)
def test_a_place_is_inside_the_folder_and_fit_for_any_file_system(key: str) -> None:
    for place in keys.places(key):
        assert os.path.normpath(place) == place
        assert not place.startswith(("/", "../"))
        assert "\0" not in place
        assert all(0 < len(name.encode()) <= 255 for name in place.split("/"))
    *folders, name = keys.escaped(key).split("/")
    assert name.endswith(".key")
    assert not any(folder.endswith(".key") for folder in folders)
    assert keys.escaped(key) == keys.escaped(key).lower()


@given(ANY_KEY, ANY_KEY)
@example("a", "A")
@example("a" * 200, "a" * 201)
@example("a-2f", "a/")
def test_two_keys_share_no_place_and_the_spelling_keeps_their_order(one: str, other: str) -> None:
    if one == other:
        return
    assert not set(keys.places(one)) & set(keys.places(other))
    assert (keys.spell(one) < keys.spell(other)) == (one.encode() < other.encode())
    escaped = keys.escaped(one)
    assert not keys.escaped(other).startswith(escaped + "/")


@given(st.text(max_size=300))
def test_the_reserved_folder_is_never_a_plain_place(rest: str) -> None:
    for name in (keys.RESERVED, keys.RESERVED.upper()):
        assert not keys.is_plain(name)
        assert not keys.is_plain(f"{name}/{rest}")


@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=60))
def test_names_that_no_key_is_spelled_as_are_no_spelling(text: str) -> None:
    key = keys.spelled(text)
    assert key is None or keys.spell(key) == text


def test_bytes_sort_as_their_spellings() -> None:
    spelled = [keys.spell(bytes([byte]).decode("latin-1")) for byte in range(128)]
    assert all(one < other for one, other in pairwise(spelled))


@pytest.mark.parametrize(
    ("key", "plain"),
    [
        ("a.csv", True),
        ("flights/2024/a b.csv", True),
        ("a/.hidden/~b", True),
        ("x" * 255, True),
        ("x" * 256, False),
        ("é" * 127, True),
        ("é" * 128, False),
        ("a//b", False),
        ("/a", False),
        ("a/", False),
        (".", False),
        ("a/../b", False),
        ("a\0b", False),
    ],
)
def test_plain_keys(key: str, plain: bool) -> None:
    assert keys.is_plain(key) is plain
    assert keys.places(key)[0] == (key if plain else keys.escaped(key))


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("", "at least one character"),
        ("x/" * 513, r"1,026 bytes, and S3 takes 1,024 at most"),
        (os.fsdecode(b"a\xff.csv"), r"a\\xff.csv: the name is not UTF-8"),
        (".silversmith-keys/dropped.csv", "kept for Silversmith"),
        (".silversmith-keys/A.key", "kept for Silversmith"),
        (".silversmith-keys/61/62.key", "kept for Silversmith"),
        (".Silversmith-Keys/61.key", "kept for Silversmith"),
        (".silversmith-keys", "kept for Silversmith"),
    ],
)
def test_a_file_that_can_be_no_object_is_refused_with_the_reason(path: str, reason: str) -> None:
    with pytest.raises(keys.InvalidKey, match=reason):
        keys.key_of(path)


@pytest.mark.parametrize("key", ["", "x" * 1025, "é" * 513, "a\ud800"])
def test_invalid_keys_have_no_place(key: str) -> None:
    with pytest.raises(keys.InvalidKey):
        keys.places(key)
