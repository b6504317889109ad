"""Compare bronze's listing with the lineage: what agrees needs no request, and only what differs is looked at.

A row may be late, or lie. One that differs from bronze costs a look at the objects themselves, and if these are well,
the lineage is told to look again. One that agrees where silver does not is found by the proof: against silver's own
listing, or by asking a sample of the objects. docs/decisions/0142-reconciliation-by-difference.md
"""

from __future__ import annotations

import zlib
from bisect import bisect_right
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain, pairwise
from queue import Empty, Queue
from threading import Event
from typing import NamedTuple

import polars as pl

from silversmith.lineage import Decision, Lineage, bronze_key_of, error_key, failed_key, silver_key
from silversmith.reconcile.compare import FileComparison, Finding, Looked, Pair, before_since, overtaken
from silversmith.reconcile.rows import LineageSource
from silversmith.stores import Head, map_in_threads
from silversmith.stores.listing import ListedObject, Listing, pages
from silversmith.tables.spec import ETAG, FILE

#: So many keys of a range are compared at once: the memory of a range is that of so many keys and rows.
WINDOW = 10_000

#: A key has at most so many rows.
_STATES = 3

#: So many objects of a window are looked at side by side.
WORKERS = 8

#: Up to so many keys of a window that only the lineage has are asked for in bronze.
ASKED = 100


class KeyRange(NamedTuple):
    """The keys after the one and up to the other; an empty ``until``: to the end."""

    after: str = ""
    until: str = ""


@dataclass(frozen=True)
class Proof:
    """The proof of the rows that agree with bronze.

    ``listing``: silver is listed, too, and every row compared with it. One of ``share`` objects is headed, in round
    after round others: ``turn`` says which; 0: none.
    """

    listing: bool = False
    share: int = 0
    turn: int = 0

    def chooses(self, key: str) -> bool:
        """Whether this key's object is headed."""
        return self.share > 0 and zlib.crc32(key.encode()) % self.share == self.turn % self.share


@dataclass(frozen=True)
class ComparedRange:
    """Some keys of a range were compared.

    Attributes:
        number: of the range.
        left: what is left of it; None: nothing.
        checked: how many keys of bronze were compared.
        looked: what was found; of keys with which all is well there is nothing here.
        behind: keys in silver and quarantine of which the lineage does not say what they say themselves.
        proven: how many rows were compared with silver itself.
    """

    number: int
    left: KeyRange | None
    checked: int
    looked: Sequence[Looked] = ()
    behind: Sequence[str] = ()
    proven: int = 0


@dataclass(frozen=True)
class LineageComparison:
    """Compares the files of one transform.

    Attributes:
        comparison: what they are compared with, and how a file is looked at.
        rows: the lineage.
        proof: what is proven beside.
        window: keys that are compared at once.
        inventory: is read in the place of bronze's listing. It may be days old: what it says otherwise than the rows is
            asked for in bronze.
    """

    comparison: FileComparison
    rows: LineageSource
    proof: Proof = field(default_factory=Proof)
    window: int = WINDOW
    inventory: Listing | None = None

    def parts(self, ranges: Sequence[KeyRange], *, workers: int) -> Generator[ComparedRange]:
        """Compare ranges of keys side by side; the parts of a range come in order, those of several mixed.

        Args:
            ranges: they do not overlap.
            workers: how many ranges are listed at once: each keeps a window of keys in memory.
        """
        if workers == 1 or len(ranges) < 2:
            for number, each in enumerate(ranges):
                yield from self.compare(each, number)
            return
        yield from _side_by_side(self, ranges, min(workers, len(ranges)))

    def compare(self, keys: KeyRange, number: int = 0) -> Iterator[ComparedRange]:
        """Compare one range, window by window."""
        after = keys.after
        for entries, ended in self._windows(keys):
            bound = keys.until if ended else entries[-1].key
            left = entries
            while True:  # mostly once: the lineage may have many rows of files that bronze no longer has
                rows, last = self._rows(after, bound)
                at = len(left) if last == bound else bisect_right(left, last, key=lambda entry: entry.key)
                rest = None if ended and last == bound else KeyRange(last, keys.until)
                yield self._compared(number, KeyRange(after, last), left[:at], rows, rest)
                left, after = left[at:], last
                if last == bound:
                    break

    def _rows(self, after: str, until: str) -> tuple[pl.DataFrame, str]:
        """The rows of a range of keys, and the last key up to which they are all there."""
        most = 2 * self.window + _STATES
        rows = self.rows.between(self.comparison.transform.name, after, until, most)
        if rows.height < most:
            return rows, until
        last = rows[FILE][-1]
        whole = rows.filter(pl.col(FILE) < last)  # of the last key there may be more
        return (whole, str(whole[FILE][-1])) if whole.height else (rows, str(last))

    def _windows(self, keys: KeyRange) -> Iterator[tuple[list[ListedObject], bool]]:
        """The objects in bronze that the transform wants, and whether they are the last."""
        pattern, entries = self.comparison.transform.pattern, list[ListedObject]()
        bronze, after, until = self.inventory or self.comparison.lake.bronze, keys.after, keys.until
        prefixes = [prefix for prefix in pattern.prefixes if prefix >= after or after.startswith(prefix)]
        listings = (
            pages(bronze, prefix, start_after=after, until=until) for prefix in prefixes if not until or prefix <= until
        )
        for page in chain.from_iterable(listings):
            entries += [entry for entry in page if pattern.matches(entry[0])]
            if len(entries) >= self.window:
                yield entries, False
                entries = []
        yield entries, True

    def _compared(
        self, number: int, keys: KeyRange, entries: Sequence[ListedObject], rows: pl.DataFrame, rest: KeyRange | None
    ) -> ComparedRange:
        listed = pl.DataFrame(
            {"key": [entry[0] for entry in entries], "etag": [entry[2] for entry in entries]},
            schema={"key": pl.String, "etag": pl.String},
        ).with_row_index("at")
        good = rows.filter(self._is_good())
        agreeing = {"left_on": ["key", "etag"], "right_on": [FILE, "bronze_etag"]}
        doubtful = set(listed.join(good, how="anti", **agreeing)["at"])  # type: ignore[arg-type]
        looked: list[Looked] = []
        if not self.comparison.dead:
            spent = rows.filter((pl.col("state") == "given_up") & self._is_of_this_code())
            given_up = set(listed.join(spent, how="semi", **agreeing)["at"]) & doubtful  # type: ignore[arg-type]
            looked += [Looked("", None, given_up=self._given_up(entries[at])) for at in sorted(given_up)]
            doubtful -= given_up
        behind: list[str] = []
        self._look([entries[at] for at in sorted(doubtful)], looked, behind)
        lone = rows.filter(pl.col("state") == "silver").join(listed, left_on=FILE, right_on="key", how="anti")
        self._look_at_lone(lone[FILE].to_list(), looked, behind)
        proven = self._prove(keys, rows, good, looked, behind)
        return ComparedRange(number, rest, len(entries), looked, sorted(set(behind)), proven)

    # -- which rows agree

    def _is_good(self) -> pl.Expr:
        """Whether a row accounts for the bronze object that it names."""
        comparison, silver = self.comparison, pl.col("state") == "silver"
        is_ours = pl.lit(True) if comparison.owners is None else pl.col("owner").is_in(list(comparison.owners))
        if comparison.changed:
            version = pl.col("schema_version")
            is_ours &= self._is_of_this_code() & ((version >= comparison.schema) | (version == 0))
        return (silver & is_ours) | ((pl.col("state") == "quarantined") & self._is_of_this_code())

    def _is_of_this_code(self) -> pl.Expr:
        comparison = self.comparison
        is_of_it = pl.col("fingerprint") == comparison.transform.fingerprint
        return is_of_it if comparison.lookups is None else is_of_it & (pl.col("lookups") == comparison.lookups)

    # -- what is looked at

    def _given_up(self, entry: ListedObject) -> Finding:
        name, head = self.comparison.transform.name, entry.head()
        silver = silver_key(name, entry.key)
        return Finding(name, entry.key, Decision.MISSING, silver, entry.etag, "", head.size, head.modified)

    def _look(self, entries: Iterable[ListedObject], looked: list[Looked], behind: list[str]) -> None:
        """Look at objects themselves, where the lineage does not account for them."""
        comparison, name = self.comparison, self.comparison.transform.name
        heads: Iterable[Head | None] = (entry.head() for entry in entries)
        if self.inventory is not None:
            keys = [entry.key for entry in entries]
            heads = map_in_threads(comparison.lake.bronze.head, keys, _threads(keys))
        settled = comparison.settled
        old = [head for head in heads if head is not None and (settled is None or head.modified < settled)]
        # Without a request each: all of history may be so.
        early = [head for head in old if comparison.transform.is_before_since(head.modified)]
        looked += [Looked("", before_since(comparison.transform, head)) for head in early]
        old = [head for head in old if not comparison.transform.is_before_since(head.modified)]
        pairs = [Pair(head.key, head, None, is_paired=False) for head in old]
        for pair, look in zip(pairs, map_in_threads(comparison.look, pairs, _threads(pairs)), strict=True):
            if look.finding is not None:
                looked.append(look)
            elif look.given_up is not None:
                looked.append(look)
                behind.append(failed_key(name, pair.key))
            else:  # all is well with it: the lineage is late
                behind += [silver_key(name, pair.key), error_key(name, pair.key)]

    def _look_at_lone(self, keys: Sequence[str], looked: list[Looked], behind: list[str]) -> None:
        """Silver that the lineage has of keys that bronze's listing has not. Many, as after a rule of expiry, are only
        counted: nothing is done about them, but where silver goes with its files."""
        comparison, name = self.comparison, self.comparison.transform.name
        orphans = [Finding(name, key, Decision.ORPHANED, silver_key(name, key)) for key in keys]
        if not comparison.transform.removes and len(keys) > ASKED:
            if self.inventory is None:  # it has not the files of the last day, or two
                looked += [Looked("", orphan) for orphan in orphans]
            return

        def ask(orphan: Finding) -> tuple[Head | None, Looked]:
            head = comparison.lake.silver.head(orphan.silver)
            return head, comparison.look(Pair(orphan.key, None, head)) if head is not None else Looked("", None)

        for orphan, (head, look) in zip(orphans, map_in_threads(ask, orphans, _threads(orphans)), strict=True):
            if head is None:
                behind.append(orphan.silver)
            elif look.finding is not None:
                looked.append(look)

    # -- the proof

    def _prove(
        self,
        keys: KeyRange,
        rows: pl.DataFrame,
        good: pl.DataFrame,
        looked: list[Looked],
        behind: list[str],
    ) -> int:
        """Compare rows that agree with bronze with silver itself. Returns how many."""
        if not self.proof.listing and not self.proof.share:
            return 0
        silver = rows.filter(pl.col("state") == "silver")
        etags: dict[str, str] = dict(zip(silver[FILE], silver[ETAG], strict=True))
        lies, asked = set[str](), set[str]()
        if self.proof.listing:
            lies, asked = self._listed_otherwise(keys, etags)
        well = good.filter(pl.col("state") == "silver")
        asked |= {key for key in well[FILE] if self.proof.chooses(key)}
        said = {row[FILE]: row for row in silver.filter(pl.col(FILE).is_in(list(asked))).iter_rows(named=True)}
        ordered = sorted(asked)
        for key, head in zip(ordered, map_in_threads(self._silver, ordered, _threads(ordered)), strict=True):
            if not _says(head, said.get(key)):
                lies.add(key)
        behind += [silver_key(self.comparison.transform.name, key) for key in sorted(lies)]
        ours = set(well[FILE]) & lies
        if ours:
            heads = (self.comparison.lake.bronze.head(key) for key in sorted(ours))
            pairs = [Pair(head.key, head, None, is_paired=False) for head in heads if head is not None]
            looked += [look for look in map(self.comparison.look, pairs) if look.finding is not None]
        return len(etags) if self.proof.listing else len(asked)

    def _silver(self, key: str) -> Head | None:
        return self.comparison.lake.silver.head(silver_key(self.comparison.transform.name, key))

    def _listed_otherwise(self, keys: KeyRange, etags: dict[str, str]) -> tuple[set[str], set[str]]:
        """The bronze keys of which silver's listing has another ETag than the rows, or only one of them has any; and
        those whose place in it is elsewhere, which must be asked for."""
        name = self.comparison.transform.name
        elsewhere = {key for key in overtaken(keys.until) if key in etags and key > keys.after}
        elsewhere |= {key for key in etags if bronze_key_of(silver_key(name, key)) != key}
        left = {key: etag for key, etag in etags.items() if key not in elsewhere}
        lies: set[str] = set()
        until = f"{name}/{keys.until}.parquet" if keys.until else ""
        for page in pages(self.comparison.lake.silver, f"{name}/", start_after=f"{name}/{keys.after}", until=until):
            for entry in page:
                key = bronze_key_of(entry[0])
                is_inside = key > keys.after and (not keys.until or key <= keys.until)
                if not is_inside or not entry[0].endswith(".parquet") or key in elsewhere:
                    continue
                if silver_key(name, key) == entry[0] and left.pop(key, None) != entry[2]:
                    lies.add(key)
        return lies | set(left), elsewhere


def _says(head: Head | None, row: dict[str, object] | None) -> bool:
    """Whether a silver object says what its row says."""
    lineage = Lineage.from_metadata(head.metadata) if head is not None else None
    if head is None or lineage is None or row is None:
        return head is None and row is None
    said = (head.etag, lineage.bronze_etag, lineage.fingerprint, lineage.lookups, lineage.schema, lineage.owner)
    names = (ETAG, "bronze_etag", "fingerprint", "lookups", "schema_version", "owner")
    return said == tuple(row[name] for name in names)


def _threads(items: Sequence[object]) -> int:
    return WORKERS if len(items) > 2 else 1


def ranges_of(rows: LineageSource, transform: str, parts: int, *, keys: KeyRange = KeyRange()) -> list[KeyRange]:  # noqa: B008
    """A transform's keys, or those of one range, in up to so many ranges of about one size."""
    cuts = [key for key in rows.split(transform, parts) if key > keys.after and (not keys.until or key < keys.until)]
    edges = [keys.after, *cuts, keys.until]
    return [KeyRange(*edge) for edge in pairwise(edges)]


def _side_by_side(difference: LineageComparison, ranges: Sequence[KeyRange], workers: int) -> Iterator[ComparedRange]:
    """The parts of several ranges as they come, each range in one thread. Few wait to be taken."""
    done: Queue[ComparedRange | Exception | None] = Queue(maxsize=workers)
    is_stopped = Event()

    def work(number: int, keys: KeyRange) -> None:
        try:
            for part in difference.compare(keys, number):
                done.put(part)
                if is_stopped.is_set():
                    return
        except Exception as error:  # noqa: BLE001 -- raised where the parts are taken
            done.put(error)
        finally:
            done.put(None)

    pool = ThreadPoolExecutor(workers, thread_name_prefix="ranges")
    futures = [pool.submit(work, number, keys) for number, keys in enumerate(ranges)]
    running = len(futures)
    try:
        while running:
            part = done.get()
            if isinstance(part, Exception):
                raise part
            if part is None:
                running -= 1
            else:
                yield part
    finally:
        is_stopped.set()
        for future in futures:
            future.cancel()
        while not all(future.done() for future in futures):
            with suppress(Empty):
                done.get(timeout=0.05)
        pool.shutdown()
