"""The protocol of a table format: versions that are read, and commits that are valid only while the
version that they are made of is the newest. ``delta.py`` has it of Delta Lake; another format would be a module beside.

docs/decisions/0121-the-diff-knows-no-format.md
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol, Self

from arro3.core import RecordBatch, Schema

from silversmith.errors import PreconditionFailed, SystemFault
from silversmith.tables.types import Columns, Type, from_arrow, settled


class Refused(PreconditionFailed):
    """Somebody else committed first: the table is another version than the one that was read. Begin again."""


class GoldFailed(SystemFault):
    """The table format or its storage failed."""


@dataclass(frozen=True)
class Rows:
    """Rows that are read once, as they come."""

    schema: Schema
    batches: Iterator[RecordBatch]

    @property
    def columns(self) -> dict[str, Type]:
        """The columns that a table of these rows has.

        Raises:
            ValueError: a table cannot have one of them.
        """
        fields = map(self.schema.field, self.schema.names)
        return {field.name: settled(from_arrow(field.type)) for field in fields}


@dataclass(frozen=True)
class Extent:
    """The size of a version: its rows, its data files, and their bytes."""

    rows: int
    files: int
    bytes: int


class Snapshot(Protocol):
    """One version of a table. A commit returns the version that it made; then this one is not used any more."""

    @property
    def version(self) -> int: ...

    @property
    def committed(self) -> float:
        """The time of the newest version's commit, in seconds since 1970."""

    @property
    def extent(self) -> Extent: ...

    @property
    def identity(self) -> str:
        """An identity that tells this table from one that had its name before."""

    @property
    def columns(self) -> Columns: ...

    @property
    def partition_by(self) -> tuple[str, ...]: ...

    def etags(self, files: Sequence[str]) -> dict[str, str]:
        """The files among these that have rows here: the columns ``_file`` and ``_etag``."""

    def all_etags(self, prefix: str = "") -> dict[str, str]:
        """As :meth:`etags`, for all files whose name begins with ``prefix``."""

    def mark(self, name: str) -> int | None:
        """The number that the last commit with this mark left; None where none did."""

    def changes(self, since: int, columns: Sequence[str]) -> Rows | None:
        """The values in some columns of all rows that were inserted or deleted after the version ``since``; None where
        the table was rewritten since, or does not know any more."""

    def commit(
        self, rows: Iterable[RecordBatch], *, where: str | None = None, marks: Mapping[str, int] | None = None
    ) -> Self:
        """Write rows; with ``where``, in place of those for which this SQL is true. It must be true of the new ones.

        Raises:
            Refused: this version is not the newest.
        """

    def rewrite(
        self,
        rows: Iterable[RecordBatch],
        columns: Columns,
        *,
        partition_by: Sequence[str],
        marks: Mapping[str, int] | None = None,
    ) -> Self:
        """Write all rows and the columns anew, in one commit. Raises as :meth:`commit`."""

    def add_columns(self, columns: Columns) -> Self:
        """Add columns that are null in all rows that there are. Raises as :meth:`commit`."""

    def compact(self, sort_by: Sequence[str], *, force: bool = False) -> Self:
        """Write small data files together where there are many; ``force``: where there are two. The rows stay the same.
        Raises as :meth:`commit`."""

    def forget(self, versions: int = ...) -> None:
        """Let versions before the last so many be read no more, where keeping them makes each opening take longer."""

    def vacuum(self, marks: Mapping[str, int], *, hours: int | None = None) -> Self:
        """Delete data files that are needed only by versions older than any that a reader may still be at; ``hours``:
        by versions that were replaced so many hours ago."""


class Format(Protocol):
    """The tables of one place, by name."""

    def read(self, name: str, version: int | None = None) -> Snapshot | None:
        """The newest version of a table, or a certain one; None where there is no such table."""

    def create(
        self, name: str, columns: Columns, *, partition_by: Sequence[str] = (), marks: Mapping[str, int] | None = None
    ) -> Snapshot:
        """A new table without rows.

        Raises:
            Refused: there is one of that name.
        """

    def query(self, sources: Mapping[str, Snapshot], sql: str) -> Rows:
        """The result of a SELECT over these versions, streamed."""

    def spooled(self, rows: Iterable[RecordBatch], columns: Columns) -> AbstractContextManager[Snapshot]:
        """Rows as a table on the local disk, to be queried and thrown away."""


def text(value: str) -> str:
    """A text as SQL has it."""
    return "'" + value.replace("'", "''") + "'"


def quoted(name: str) -> str:
    """A name as SQL has it."""
    return '"' + name.replace('"', '""') + '"'


def is_one_of(column: str, values: Iterable[str]) -> str:
    """SQL that is true where a column has one of these texts."""
    return f"{quoted(column)} in ({','.join(map(text, values))})"
