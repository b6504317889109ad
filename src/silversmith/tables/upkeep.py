"""Upkeep, which keeps a table fast and its storage small: done by the committer, after its commit.

- Compaction: when a partition has 32 small data files they are written together, up to 64 MiB or 500,000 rows.
- Vacuum: once a day, data files go that no version of the last seven days needs. A query that began before goes on.
- Checkpoints: Delta Lake writes one every 20 versions. The vacuum drops the log's files that are older than seven days;
  in a folder those go as well that are older than an hour and before the last 1,000 versions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from silversmith import faults
from silversmith.tables.format import Format, Refused

#: So many seconds after a vacuum the next one is due.
VACUUM_SECONDS = 24 * 60 * 60

#: A table of fewer versions has had nothing to be deleted yet.
YOUNG = 20

#: The mark that says when the last vacuum was, in seconds since 1970.
VACUUMED = "silversmith.vacuumed"


@dataclass(frozen=True)
class Kept:
    """The upkeep of a table that was done."""

    compacted: bool = False
    vacuumed: bool = False


def keep(
    name: str,
    gold: Format,
    *,
    now: float,
    sort_by: Sequence[str] = (),
    force: bool = False,
    step: Callable[[str], None] = faults.point,
) -> Kept:
    """Do what is due for a table or view. Where somebody else commits meanwhile, it is left for the next time.

    Args:
        name: the table.
        gold: where it is.
        now: the time, in seconds since 1970.
        sort_by: columns by which the rows of compacted files are ordered.
        force: compact and vacuum though nothing is due.
        step: as :func:`silversmith.tables.commit.bring` has it.

    Raises:
        GoldFailed: gold cannot be read or written.
    """
    snapshot = gold.read(name)
    if snapshot is None:
        return Kept()
    compacted = vacuumed = False
    try:
        newest = snapshot.compact(sort_by, force=force)
        compacted = newest.version > snapshot.version
        if compacted:
            step("tables.compacted")
        last = newest.mark(VACUUMED)
        is_due = newest.version >= YOUNG if last is None else now - last >= VACUUM_SECONDS
        if is_due or force:
            newest.vacuum({VACUUMED: int(now)})
            vacuumed = True
        newest.forget()
    except Refused:
        pass
    return Kept(compacted, vacuumed)
