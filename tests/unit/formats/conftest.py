"""Objects to read, as a store hands them over: in memory, or as a file."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from silversmith.stores import Head, Source

Opener = Callable[..., Source]


@pytest.fixture
def in_memory() -> Opener:
    """``in_memory(data, key)``: a small object."""

    def opened(data: bytes, key: str = "data.csv") -> Source:
        return Source(Head(key, "etag", len(data), datetime.now(UTC)), data, None)

    return opened


@pytest.fixture
def in_file(tmp_path: Path) -> Opener:
    """``in_file(data, key)``: an object that is handed over as a file, whose name says nothing of its format."""
    numbers = itertools.count()

    def opened(data: bytes, key: str = "data.csv") -> Source:
        path = tmp_path / f"object-[{next(numbers)}]-year=2013"
        path.write_bytes(data)
        return Source(Head(key, "etag", len(data), datetime.now(UTC)), None, path)

    return opened
