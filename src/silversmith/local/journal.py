"""The engine's memory: one SQLite file, its statements by name, its transactions.

Write-ahead logging with ``synchronous=NORMAL``: a killed process loses nothing; a power cut may lose the last
transactions, never a part of one. That is enough, because silver is a function of bronze: what the journal forgets is
found again in the buckets (docs/decisions/0006-the-journal-may-forget.md). A file that is damaged is forgotten as a
whole: :func:`open_or_rebuild`.
"""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from silversmith import faults
from silversmith.errors import SilversmithError

#: From nothing to the schema that this code reads and writes: one file for each version (SQLite's PRAGMA user_version),
#: only ever added to.
MIGRATIONS = ("schema.sql", "schema_2.sql", "schema_3.sql")

#: The write-ahead log is cut back to this many bytes after a checkpoint.
LOG_BYTES = 64 * 1024 * 1024

#: After so many pages of 4 KiB in the write-ahead log they are moved into the file, which syncs both. Most pages are
#: written again and again meanwhile, and are moved once. https://sqlite.org/wal.html#performance_considerations
CHECKPOINT_PAGES = 8000

#: SQLite's files beside the journal's own.
SIDES = ("-wal", "-shm")

#: SQLite's words for a file that is not what it should be, rather than a disk or a lock that is:
#: SQLITE_ERROR (a table or column is missing), SQLITE_CORRUPT and SQLITE_NOTADB. https://sqlite.org/rescode.html
_DAMAGE = frozenset({sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


class JournalTooNew(SilversmithError):
    """The journal was written by a newer Silversmith than this one."""


class JournalTooOld(SilversmithError):
    """The journal was written by an older Silversmith, and who only looks at it cannot bring it up to date."""


class Journal:
    """A connection to the journal. Not for use by several threads at once; every process opens its own.

    Args:
        path: the SQLite file; made when missing, unless ``readonly``.
        readonly: for commands that only look, also while an engine writes.
        migrations: the SQL that leads to each version from the one before.

    Raises:
        JournalTooNew, JournalTooOld: another Silversmith wrote it.
        sqlite3.Error: it is damaged, or cannot be opened.
    """

    def __init__(self, path: Path, *, readonly: bool = False, migrations: Sequence[str] | None = None) -> None:
        self.path = path
        target = f"file:{_uri(path)}?mode={'ro' if readonly else 'rwc'}"
        self._db = sqlite3.connect(target, uri=True, isolation_level=None, timeout=10, cached_statements=64)
        try:
            self._db.execute("PRAGMA busy_timeout = 10000")
            if not readonly:
                self._db.execute("PRAGMA auto_vacuum = INCREMENTAL")  # only a file that is still empty takes this
                self._write_ahead()
                self._db.execute("PRAGMA synchronous = NORMAL")
                self._db.execute("PRAGMA secure_delete = OFF")  # on, as Debian has it, freed pages are written, too
                self._db.execute("PRAGMA temp_store = MEMORY")
                self._db.execute("PRAGMA cache_size = -32000")
                self._db.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
                self._db.execute(f"PRAGMA journal_size_limit = {LOG_BYTES}")
            self._prepare(_migrations() if migrations is None else migrations, readonly=readonly)
        except BaseException:
            self._db.close()
            raise

    def _write_ahead(self) -> None:
        """Several who open a new file at once get in each other's way here, and SQLite does not wait by itself."""
        patience = time.monotonic() + 10
        while True:
            try:
                self._db.execute("PRAGMA journal_mode = WAL")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > patience:
                    raise
                time.sleep(0.001)
            else:
                return

    def _prepare(self, migrations: Sequence[str], *, readonly: bool) -> None:
        version, newest = self._version(), len(migrations)
        if version > newest:
            raise JournalTooNew(
                f"{self.path} was written by a newer Silversmith (journal version {version}, this one knows {newest}). "
                "Upgrade Silversmith, or move the file away: the engine then rebuilds it from the buckets."
            )
        if readonly and 0 < version < newest:
            raise JournalTooOld(
                f"{self.path} was written by an older Silversmith (journal version {version}, this one needs "
                f"{newest}). Start `silversmith run` once: it brings the journal up to date, with all that it holds."
            )
        if version < newest and not readonly:
            with self.transaction():
                for script in migrations[self._version() :]:  # asked again: another process may have been first
                    for statement in _split(script):
                        self._db.execute(statement)
                self._db.execute(f"PRAGMA user_version = {newest}")
                faults.point("journal.migrated")

    def _version(self) -> int:
        return int(self._db.execute("PRAGMA user_version").fetchone()[0])

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All of the block's statements, or none: on an exception nothing has happened."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            with suppress(sqlite3.Error):  # a full disk has rolled back already: what it says of that is no news
                self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def rows(self, name: str, /, **values: Any) -> list[tuple[Any, ...]]:
        """Run the statement of this name from queries.sql and return all its rows."""
        return self._db.execute(queries()[name], values).fetchall()

    def row(self, name: str, /, **values: Any) -> tuple[Any, ...] | None:
        """Run the statement of this name from queries.sql and return its first row, or None."""
        row: tuple[Any, ...] | None = self._db.execute(queries()[name], values).fetchone()
        return row

    def change(self, name: str, /, **values: Any) -> int:
        """Run a statement that changes rows, and return how many it changed."""
        return self._db.execute(queries()[name], values).rowcount

    def change_many(self, name: str, values: Iterable[Mapping[str, Any] | Sequence[Any]]) -> int:
        """Run a statement that changes rows once for each set of values, and return how many rows it changed in all."""
        return max(0, self._db.executemany(queries()[name], values).rowcount)

    def count(self, name: str, by: int = 1) -> None:
        """Add to the counter of this name."""
        self.change("count", name=name, by=by)

    def counter(self, name: str) -> int:
        """The counter's value; 0 when it was never counted."""
        row = self.row("counter", name=name)
        return int(row[0]) if row else 0

    def hop_before(self, at: float) -> int:
        """The number of the last hop before a time (Unix seconds), 0 if there is none: a few look-ups, however many
        hops there are. Where the clock was set back, one of the places that the time has."""
        first, last = 0, int(self.rows("newest_hop")[0][0] or 0)
        while first < last:
            middle = (first + last) // 2
            number, time_of_hop = self.row("next_hop", after=middle) or (last, at)
            if time_of_hop < at:
                first = number
            else:
                last = middle
        return first

    def plan(self, name: str) -> list[str]:
        """SQLite's plan for the statement of this name, step by step.

        https://sqlite.org/eqp.html
        """
        statement = queries()[name]
        values = [1] * statement.count("?") or _Anything()
        return [str(row[3]) for row in self._db.execute(f"EXPLAIN QUERY PLAN {statement}", values)]

    def damage(self, *, thorough: bool = True) -> str:
        """The damage of the file, by reading all of it; empty if there is none.

        ``thorough``: also whether the indexes agree with the tables, which takes four times as long.
        https://sqlite.org/pragma.html#pragma_integrity_check
        """
        try:
            for name in queries():
                self.plan(name)  # fails where a table or a column is not there
            check = "integrity_check" if thorough else "quick_check"
            problems = [str(row[0]) for row in self._db.execute(f"PRAGMA {check}(1)")]
        except sqlite3.DatabaseError as error:
            if not _is_damage(error):
                raise
            return str(error)
        return "" if problems == ["ok"] else "; ".join(problems)

    def shrink(self, pages: int) -> int:
        """Give back to the file system up to so many pages that nothing is in. Returns how many pages are still free.

        https://sqlite.org/pragma.html#pragma_incremental_vacuum
        """
        self._db.executescript(f"PRAGMA incremental_vacuum({int(pages)})")  # execute() would end after the first page
        return int(self._db.execute("PRAGMA freelist_count").fetchone()[0])

    def scrub(self) -> bool:
        """Write the file anew, without what was deleted from it: pages that are free keep their bytes, and so does the
        write-ahead log. False: somebody reads it at this moment, so that the log is still there.

        https://sqlite.org/lang_vacuum.html
        """
        self._db.execute("VACUUM")
        ((is_busy, _, _),) = self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        return not is_busy

    def pages(self) -> tuple[int, int]:
        """The number of pages of the file, and of its free pages."""
        total, free = (
            int(self._db.execute(f"PRAGMA {name}").fetchone()[0]) for name in ("page_count", "freelist_count")
        )
        return total, free

    def close(self) -> None:
        """Close the connection; what was committed stays."""
        self._db.close()


def open_or_rebuild(path: Path, *, warn: Callable[[str], None]) -> Journal:
    """The engine's journal; one that is damaged is moved aside, and a new one begun. For the only engine of a lake.

    The engine's first search of bronze then finds every object again, and lineage says which are done. Lost are the
    history, the totals, and what lay in dead-letter queues: reconciliation tries that again.

    Args:
        path: the SQLite file.
        warn: called with a text for a person: what was wrong, and where the old file is.

    Raises:
        JournalTooNew: a newer Silversmith wrote it.
        sqlite3.Error: it cannot be opened for another reason: a full disk, no permission, a lock.
    """
    killed = _has_log(path)
    try:
        journal = Journal(path)
    except sqlite3.DatabaseError as error:
        if not _is_damage(error):
            raise
        damage = str(error)
    else:
        damage = journal.damage(thorough=killed)
        if not damage:
            return journal
        journal.close()
    aside = _move_aside(path)
    warn(
        f"the engine's journal was damaged ({damage}) and is rebuilt from the buckets; the old one is kept as {aside}. "
        "No file in a bucket is touched by this. History is lost, and what lay in dead-letter queues is tried again."
    )
    return Journal(path)


def _has_log(path: Path) -> bool:
    """Whether there is a write-ahead log: SQLite removes it when the last connection ends well."""
    try:
        return Path(f"{path}-wal").stat().st_size > 0
    except OSError:
        return False


def _move_aside(path: Path) -> Path:
    """Only the last damaged journal is kept. Its write-ahead log goes with it, under the name that SQLite looks for."""
    aside = path.with_name(f"{path.name}.damaged")
    for side in SIDES:
        Path(f"{aside}{side}").unlink(missing_ok=True)
    path.replace(aside)
    for side in SIDES:
        with suppress(FileNotFoundError):
            Path(f"{path}{side}").replace(f"{aside}{side}")
    return aside


def _is_damage(error: sqlite3.Error) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGE


def _uri(path: Path) -> str:
    return str(path.resolve()).replace("%", "%25").replace("?", "%3f").replace("#", "%23")


class _Anything(dict[str, Any]):
    """A value for every parameter: to explain a statement SQLite needs some, and they do not matter."""

    def __missing__(self, name: str) -> int:
        return 1


@cache
def queries() -> dict[str, str]:
    """The statements of queries.sql by their ``-- name:`` lines."""
    text = resources.files("silversmith.local").joinpath("queries.sql").read_text("utf-8")
    parts = re.split(r"^-- name: (\w+)\n", text, flags=re.MULTILINE)[1:]
    return {name: body.strip() for name, body in zip(parts[::2], parts[1::2], strict=True)}


@cache
def _migrations() -> tuple[str, ...]:
    folder = resources.files("silversmith.local")
    return tuple(folder.joinpath(file).read_text("utf-8") for file in MIGRATIONS)


def _split(script: str) -> Iterator[str]:
    """The single statements of a script. A trigger is one, with all that stands between its BEGIN and END."""
    pending = ""
    for line in script.splitlines(keepends=True):
        pending += line
        if sqlite3.complete_statement(pending):
            yield pending.strip()
            pending = ""
    if re.sub(r"--[^\n]*", "", pending).strip():
        raise ValueError(f"the script's last statement has no end: {pending.strip()!r}")


#: Seconds from one step to the next, while there is something to do and when there is not.
SOON = 0.25
LATER = 60.0

#: Seconds between two searches through all objects and outcomes for what is no more.
SEARCH = 3600.0

#: The counter that remembers up to which hop the trace was looked through.
CURSOR = "compaction.hop"

#: Free pages are given back to the file system when there are more than so many, and more than this share of the file.
FREE_PAGES = 1024
FREE_SHARE = 0.25


#: The part of the past that is kept: in seconds, as long as SQS keeps a message at the most; and of one key as many
#: hops as ``silversmith trace`` shows.
KEPT_SECONDS = 14 * 86_400.0
KEPT_HOPS = 2000

#: The widths of the slots of time in which numbers are kept, and how long each is kept, in seconds: twice as long as
#: the page looks back. In every time zone midnight is at the beginning of a quarter of an hour.
TALLIES = {10: 1_200, 120: 14_400, 900: 2 * 86_400}

#: Deletes at most so many messages of a queue whose retention has ended: the journal, the queue's ARN, Unix seconds.
Expire = Callable[["Journal", str, float, int], int]


class Compaction:
    """Removes from a journal what need not be kept.

    Args:
        journal: the engine's; steps are to be taken in its thread.
        bucket: the name of the bronze bucket.
        expire: deletes what a queue keeps no longer.
        sweep: takes one step of another search for what is no more, and says whether it has more to do.
        seconds: for so long hops are kept, and outcomes of objects that are no more.
        hops: so many of the newest hops of a key are kept.
        most: how many rows of each kind one step looks at.
    """

    def __init__(
        self,
        journal: Journal,
        *,
        bucket: str,
        expire: Expire,
        sweep: Callable[[], bool] = lambda: False,
        seconds: float = KEPT_SECONDS,
        hops: int = KEPT_HOPS,
        most: int = 1000,
    ) -> None:
        self._journal = journal
        self._bucket = bucket
        self._expire_queue = expire
        self._sweep = sweep
        self._seconds = seconds
        self._hops = hops
        self._most = most
        self._due = float("-inf")
        self._search_due = float("-inf")
        self._searches: list[Callable[[], bool]] = []
        self._outcome = ("", "")
        self._now = 0.0

    def step(self, now: float) -> bool:
        """Remove a little, if it is time. ``now`` in Unix seconds. Returns whether a next step is due soon."""
        if 0 < self._due - now <= LATER:  # else it is time, or the clock was set back
            return self._due - now <= SOON
        self._now = now
        if not self._searches and now >= self._search_due:
            self._search_due = now + SEARCH
            self._searches = [self._forget, self._sweep]
        with self._journal.transaction():
            more = [self._expire(), self._age(), self._trim()]
            faults.point("compaction.before_commit")
        self._searches = [search for search in self._searches if search()]
        more += [bool(self._searches), self._shrink()]
        self._due = now + (SOON if any(more) else LATER)
        return any(more)

    def _expire(self) -> bool:
        """Messages of every queue, also of those that the template no longer has."""
        queues = [row[0] for row in self._journal.rows("queues_in_use")]
        return any(self._expire_queue(self._journal, queue, self._now, self._most) >= self._most for queue in queues)

    def _age(self) -> bool:
        before = self._now - self._seconds
        aged = [self._journal.change("oldest_hops", before=before, most=self._most)]
        for width, seconds in TALLIES.items():
            slot = int((self._now - seconds) // width)
            aged.append(self._journal.change("old_tallies", width=width, before=slot, most=self._most))
        return max(aged) >= self._most

    def _trim(self) -> bool:
        """Each hop is looked at once, soon after it was written: only then can its key have too many."""
        after = self._journal.counter(CURSOR)
        newest = self._journal.rows("newest_hop")[0][0] or 0
        if newest < after:  # all hops have been removed: the numbers of the next ones begin anew
            after = 0
        upto = min(after + self._most, newest)
        crowded = self._journal.rows("crowded", after=after, upto=upto, keep=self._hops)
        for key in {row[0] for row in crowded}:
            self._journal.change("trim_hops", key=key, keep=self._hops, most=self._most)
        self._journal.change("set_counter", name=CURSOR, value=upto)
        return upto < newest

    def _forget(self) -> bool:
        """The outcomes of objects that the bucket room does not know any more."""
        transform, key = self._outcome
        looked = self._journal.rows("outcomes_after", transform=transform, key=key, most=self._most)
        old = [(transform, key) for transform, key, at in looked if at < self._now - self._seconds]
        with self._journal.transaction():
            for transform, key in old:
                if self._journal.row("object", bucket=self._bucket, key=key) is None:
                    self._journal.change("forget_outcome", transform=transform, key=key)
        self._outcome = (looked[-1][0], looked[-1][1]) if len(looked) >= self._most else ("", "")
        return len(looked) >= self._most

    def _shrink(self) -> bool:
        total, free = self._journal.pages()
        enough = max(FREE_PAGES, total * FREE_SHARE)
        return free > enough and self._journal.shrink(self._most) > enough
