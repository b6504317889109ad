"""Rules for the buckets when everybody is done."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from silversmith.lineage import Lineage, error_key, rejected_key, silver_key
from tests.unit.interleavings.conftest import CONTENTS, KEY, TRANSFORMS, World, etag_of

ETAGS = {etag_of(content): content for content in CONTENTS}
CODES = {transform.fingerprint: code for code, transform in TRANSFORMS.items()}


@dataclass(frozen=True)
class State:
    """The objects of one key in all buckets."""

    bronze: bytes | None
    silver: Lineage | None
    rejected: Lineage | None
    error: Mapping[str, Any] | None


def look(world: World, key: str = KEY) -> State:
    """The state of a key. Proves on the way that every object is genuine: its rows are those of its own lineage."""
    bronze = world.bronze.objects.get(key)
    error = world.quarantine.objects.get(error_key("t", key))
    return State(
        bronze=bronze[0] if bronze else None,
        silver=_genuine(world.silver.objects.get(silver_key("t", key)), 0),
        rejected=_genuine(world.quarantine.objects.get(rejected_key("t", key)), 1),
        error=json.loads(error[0]) if error else None,
    )


def _genuine(actual: tuple[bytes, Mapping[str, str]] | None, part: int) -> Lineage | None:
    if actual is None:
        return None
    lineage = Lineage.from_metadata(actual[1])
    assert lineage is not None
    expected = CONTENTS[ETAGS[lineage.bronze_etag]][CODES[lineage.fingerprint]]
    assert expected is not None
    assert (lineage.rows_written, lineage.rows_rejected) == (len(expected[0]), len(expected[1]))
    frame = pl.read_parquet(io.BytesIO(actual[0]))
    assert (frame.rows() if part == 0 else frame["x"].to_list()) == expected[part]
    return lineage


def check_buckets(world: World, keys: Iterable[str]) -> None:
    """Every object is where it belongs."""
    assert set(world.silver.objects) <= {silver_key("t", key) for key in keys}
    assert set(world.quarantine.objects) <= {name("t", key) for key in keys for name in (rejected_key, error_key)}


def check_accounted(world: World, key: str = KEY, code: str = "old") -> State:
    """The newest version is in silver, made by this code, with its rejected rows; or it has an error document. Of a
    deleted one nothing is left, where silver goes with it."""
    state = look(world, key)
    if state.bronze is None:
        if world.removes:
            assert state == State(None, None, None, None), "something is left of what was deleted"
        return state
    newest = etag_of(state.bronze), TRANSFORMS[code].fingerprint
    if CONTENTS[state.bronze][code] is None:
        assert state.error is not None, "a broken file is nowhere"
        assert (state.error["bronze"]["etag"], state.error["fingerprint"]) == newest, "the error is about another file"
        return state
    assert state.silver is not None, "a good file is nowhere"
    assert origin(state.silver) == newest, "silver is not of the newest version"
    if state.silver.rows_rejected:
        check_rejected(state)
    return state


def check_truth(world: World, key: str = KEY, code: str = "old") -> None:
    """The same; and beside good silver nothing tells of anything else."""
    state = check_accounted(world, key, code)
    if state.bronze is None or CONTENTS[state.bronze][code] is None:
        return
    assert state.error is None, "an error document is left beside good silver"
    check_rejected(state)


def check_rejected(state: State) -> None:
    """The rejected rows are there if silver says so, and of the same version and code."""
    assert state.silver is not None
    if state.silver.rows_rejected == 0:
        assert state.rejected is None, "rejected rows of another version are left"
        return
    assert state.rejected is not None, "the rejected rows are nowhere"
    assert origin(state.rejected) == origin(state.silver), "the rejected rows are of another version than silver"


def origin(lineage: Lineage) -> tuple[str, str]:
    return lineage.bronze_etag, lineage.fingerprint
