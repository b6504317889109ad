"""The engine's memory: one SQLite file, its statements by name, its transactions.

Write-ahead logging with ``synchronous=NORMAL``: a killed process loses nothing; a power cut may lose the last
transactions, never a part of one. That is enough, because silver is a function of bronze: what the journal forgets is
found again in the buckets (docs/decisions/0006-the-journal-may-forget.md).
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from silversmith.errors import SilversmithError

#: The schema this code reads and writes (SQLite's PRAGMA user_version).
VERSION = 1


class JournalTooNew(SilversmithError):
    """The journal was written by a newer Silversmith than this one."""


class Journal:
    """A connection to the journal. Not for use by several threads at once; every process opens its own.

    Args:
        path: the SQLite file; made when missing, unless ``readonly``.
        readonly: for commands that only look, also while an engine writes.
    """

    def __init__(self, path: Path, *, readonly: bool = False) -> None:
        self.path = path
        target = f"file:{_uri(path)}?mode={'ro' if readonly else 'rwc'}"
        self._db = sqlite3.connect(target, uri=True, isolation_level=None, timeout=10, cached_statements=64)
        self._db.execute("PRAGMA busy_timeout = 10000")
        if not readonly:
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = NORMAL")
            self._db.execute("PRAGMA temp_store = MEMORY")
            self._db.execute("PRAGMA cache_size = -32000")
        self._prepare(readonly=readonly)

    def _prepare(self, *, readonly: bool) -> None:
        found = int(self._db.execute("PRAGMA user_version").fetchone()[0])
        if found > VERSION:
            raise JournalTooNew(
                f"{self.path} was written by a newer Silversmith (journal version {found}, this one knows {VERSION}). "
                "Upgrade Silversmith, or move the file away: the engine then rebuilds it from the buckets."
            )
        if found < VERSION and not readonly:
            with self.transaction():
                for version in range(found + 1, VERSION + 1):
                    for statement in _migration(version):
                        self._db.execute(statement)
                self._db.execute(f"PRAGMA user_version = {VERSION}")

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All of the block's statements, or none: on an exception nothing has happened."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def rows(self, name: str, /, **values: Any) -> list[tuple[Any, ...]]:
        """Run the statement of this name from queries.sql and return all its rows."""
        return self._db.execute(_statements()[name], values).fetchall()

    def row(self, name: str, /, **values: Any) -> tuple[Any, ...] | None:
        """Run the statement of this name from queries.sql and return its first row, or None."""
        found: tuple[Any, ...] | None = self._db.execute(_statements()[name], values).fetchone()
        return found

    def change(self, name: str, /, **values: Any) -> int:
        """Run a statement that changes rows, and return how many it changed."""
        return self._db.execute(_statements()[name], values).rowcount

    def change_many(self, name: str, values: Iterable[Mapping[str, Any]]) -> None:
        """Run a statement once for each set of values."""
        self._db.executemany(_statements()[name], values)

    def count(self, name: str, by: int = 1) -> None:
        """Add to the counter of this name."""
        self.change("count", name=name, by=by)

    def counter(self, name: str) -> int:
        """The counter's value; 0 when it was never counted."""
        found = self.row("counter", name=name)
        return int(found[0]) if found else 0

    def close(self) -> None:
        """Close the connection; what was committed stays."""
        self._db.close()


def _uri(path: Path) -> str:
    return str(path.resolve()).replace("%", "%25").replace("?", "%3f").replace("#", "%23")


@cache
def _statements() -> dict[str, str]:
    """The statements of queries.sql by their ``-- name:`` lines."""
    text = resources.files("silversmith.local").joinpath("queries.sql").read_text("utf-8")
    parts = re.split(r"^-- name: (\w+)\n", text, flags=re.MULTILINE)[1:]
    return {name: body.strip() for name, body in zip(parts[::2], parts[1::2], strict=True)}


def _migration(version: int) -> list[str]:
    """The statements that lead from the version before to this one. Version 1 is schema.sql, made from nothing."""
    file = "schema.sql" if version == 1 else f"migration_{version}.sql"
    text = resources.files("silversmith.local").joinpath(file).read_text("utf-8")
    without_comments = re.sub(r"--[^\n]*", "", text)
    return [statement for part in without_comments.split(";") if (statement := part.strip())]
