"""A finished put or delete survives a power cut; one that was cut off leaves the old object or the new."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from silversmith.stores import Put
from silversmith.stores.local import LocalStore
from tests.examples import examples
from tests.unit.local.power import Plug

KEYS = ("a", "a/b", "a/b/c", "d/e")
BODIES = st.sampled_from([b"one", b"another", b"x" * 100])

#: A key to be deleted, or keys and what is put there, several at once or one by itself.
Step = str | dict[str, bytes]
steps = st.lists(st.sampled_from(KEYS) | st.dictionaries(st.sampled_from(KEYS), BODIES, min_size=1), max_size=8)


class Cut(BaseException):
    """The power fails here."""


class Fuse:
    """Lets so many syncs happen, and then none."""

    def __init__(self, plug: Plug, left: int) -> None:
        self._plug = plug
        self._left = left

    def sync(self, descriptor: int) -> None:
        if self._left == 0:
            raise Cut
        self._left -= 1
        self._plug.fsync(descriptor)


@settings(max_examples=examples(150))
@given(steps, st.integers(0, 30), st.integers(0, 2**16))
def test_a_power_cut_at_any_sync(steps: list[Step], at: int, seed: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder, plug = Path(name).resolve(), Plug()
        store = _store(folder, Fuse(plug, at))
        objects: dict[str, bytes | None] = dict.fromkeys(KEYS)
        undecided: dict[str, bytes | None] = {}
        for step in steps:
            undecided = {step: None} if isinstance(step, str) else dict(step)
            try:
                _take(store, step)
            except Cut:
                break
            objects |= undecided
            undecided = {}
        plug.pull(folder / "bucket", random.Random(seed))
        after = _store(folder, Fuse(plug, -1))
        for key in KEYS:
            allowed = {objects[key]} | ({undecided[key]} if key in undecided else set())
            assert after.read(key) in allowed, key
        assert {head.key for head in after.list()} == {key for key in KEYS if after.read(key) is not None}


def _take(store: LocalStore, step: Step) -> None:
    if isinstance(step, str):
        store.delete(step)
    elif len(step) == 1:
        store.put(*next(iter(step.items())))
    else:
        assert all(isinstance(etag, str) for etag in store.put_all([Put(key, body) for key, body in step.items()]))


def _store(folder: Path, fuse: Fuse) -> LocalStore:
    return LocalStore(
        folder / "bucket", scratch=folder / "scratch", locks=folder / "locks", foreign_writers=False, fsync=fuse.sync
    )
