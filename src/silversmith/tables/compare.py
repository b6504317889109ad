"""Silver against a table: which keys a table lacks, has of other bytes, or has though silver does not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime

from silversmith.lineage import Lineage, silver_key
from silversmith.stores import Head, Store, batched, map_in_threads
from silversmith.tables.format import Format, Snapshot
from silversmith.tables.spec import TableSpec

#: So many silver objects that a table lacks are asked at a time whether they have rows at all.
ASKED = 1_000

WORKERS = 16


def differing(table: TableSpec, silver: Store, gold: Format, *, before: datetime | None = None) -> list[str]:
    """The keys in silver that a table does not have as silver has them now, to be sent to its queue.

    ``before``: what was put in silver since then is left out.

    One listing of the transform's silver, and the two columns ``_file`` and ``_etag`` of the table. Silver objects
    without rows are in no table: those that look missing are headed, for their lineage says how many rows they have.
    Where most of those that were headed have rows, the others are sent unasked: the table's function heads them anyway.
    A table that lacks nothing but silver without rows has all of it headed, and nothing is sent.
    """
    snapshot = gold.read(table.name)
    young: set[str] = set()

    def listed() -> Iterator[Head]:
        for head in silver.list(f"{table.transform}/"):
            if before is not None and head.modified is not None and head.modified >= before:
                young.add(head.key)
            yield head

    lacking, others = compared(table, listed(), snapshot)
    lacking, others = ([key for key in keys if key not in young] for keys in (lacking, others))
    return sorted([*_to_be_sent(lacking, silver), *others])


def _to_be_sent(lacking: Iterable[str], silver: Store) -> Iterator[str]:
    is_asked = True
    for some in batched(lacking, ASKED):
        chosen = some
        if is_asked:
            heads = map_in_threads(silver.head, some, WORKERS)
            chosen = [key for key, head in zip(some, heads, strict=True) if head is not None and not _is_empty(head)]
            is_asked = 2 * len(chosen) <= len(some)
        yield from chosen


def compared(table: TableSpec, listing: Iterable[Head], snapshot: Snapshot | None) -> tuple[list[str], list[str]]:
    """The keys of a listing that a table has nothing of, and those that it has of other bytes or silver no more."""
    transform = table.transform
    etags = snapshot.all_etags() if snapshot is not None else {}
    short = {silver_key(transform, file): file for file in etags if len(file) > _LONG or "~" in file}
    lacking: list[str] = []
    others: list[str] = []
    for head in listing:
        if not head.key.endswith(".parquet"):
            continue
        file = short.get(head.key) or head.key[len(transform) + 1 : -len(".parquet")]
        etag = etags.pop(file, None)
        if etag is None:
            lacking.append(head.key)
        elif etag != head.etag:
            others.append(head.key)
    return lacking, [*others, *(silver_key(transform, file) for file in etags)]


#: Keys of fewer characters, and without the mark of a digest, are whole in silver: S3 takes 1,024 bytes, a character
#: has at most four, and a transform's name at most forty.
_LONG = 200


def _is_empty(head: Head) -> bool:
    lineage = Lineage.from_metadata(head.metadata)
    return lineage is not None and lineage.rows_written == 0
