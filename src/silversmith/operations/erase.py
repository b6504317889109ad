"""Erase: everything that came of a bronze key, with all its versions and the history of tables.

The order is that of making: what could make the rest again goes first. Bronze, then what quarantine and silver have of
it, the rows of tables and views, the history of these; the records beside the buckets last, for an engine that runs
writes some. Killed at any step, the same call goes on from there. A function that was at work with the bytes when
bronze went may still put them into silver or a table: so they are looked for again, once no such function can be left.

docs/deletion.md, docs/decisions/0170-erase-looks-again.md
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from importlib.metadata import version
from itertools import chain
from typing import TYPE_CHECKING, Any

from silversmith import faults
from silversmith.errors import PreconditionFailed, SilversmithError
from silversmith.lineage import Decision, Lineage, bronze_key_of, error_key, failed_key, rejected_key, silver_key
from silversmith.operations import Record, WrongCall
from silversmith.operations.failures import subject_of
from silversmith.operations.target import Target
from silversmith.operations.versions import (
    ErasedHistory,
    GoldFiles,
    StoredVersion,
    Undeleted,
    Versions,
    dead_files,
    erase_history,
    holding,
    list_files,
    undo_copies,
)
from silversmith.pipeline import Pipeline, Transform
from silversmith.reconcile.compare import look
from silversmith.schemas import schema_key
from silversmith.schemas.recorded import Recorded, owner_of_objects, recorded_transforms
from silversmith.stores import Lake, Store, map_in_threads
from silversmith.tables.spec import LINEAGE

if TYPE_CHECKING:
    from silversmith.tables.delta import DeltaFormat

#: How often a document that others change at the same moment is read again.
TRIES = 8

#: The parts of quarantine and silver that a transform makes of a key.
_QUARANTINE = (rejected_key, error_key, failed_key)


@dataclass(frozen=True)
class InTables:
    """What a table, a view or the lineage has of the keys: how many of them have rows in its newest version, and how
    many data files of older versions hold such rows. A view has neither: its rows name no file."""

    table: str
    keys: int = 0
    old_files: int = 0


@dataclass(frozen=True)
class ErasePlan(Record):
    """What there is of some keys. ``objects`` in the order in which they are deleted, ``schemas`` the transforms whose
    recorded schema names a key, ``records`` how many there are of each kind. ``notes`` tell what is left as it is."""

    keys: Sequence[str]
    objects: Sequence[StoredVersion]
    tables: Sequence[InTables]
    schemas: Sequence[str]
    records: Mapping[str, int]
    undo_copies: int
    notes: Sequence[str]
    problems: Sequence[Undeleted] = ()

    @property
    def is_empty(self) -> bool:
        """Whether nothing is left."""
        in_tables = any(each.keys or each.old_files for each in self.tables)
        rest = (self.objects, self.schemas, self.records, self.undo_copies, self.problems)
        return not in_tables and not any(rest)

    def left(self) -> Iterator[Undeleted]:
        """What there is, as what could not be deleted."""
        for each in self.objects:
            yield Undeleted(each.bucket, each.key, each.version, f"the {each.kind} is still there")
        for table in self.tables:
            if table.keys or table.old_files:
                reason = f"{table.keys:,} of the keys have rows, and {table.old_files:,} older data files hold some"
                yield Undeleted(table.table, "", "", reason)
        yield from (Undeleted(schema_key(name), "", "", "it names a key") for name in self.schemas)
        yield from (Undeleted("records", "", "", f"{number:,} {kind}") for kind, number in self.records.items())
        if self.undo_copies:
            yield Undeleted("uploads that a page can undo", "", "", f"{self.undo_copies:,} copies")
        yield from self.problems


@dataclass(frozen=True)
class EraseReport(Record):
    """The report of an erasure, to be filed.

    ``began`` and ``ended`` in ISO 8601, UTC; ``who``: see :class:`~silversmith.operations.target.Target`. ``deleted``
    are objects by version, ``histories`` the tables whose history was erased, ``records`` what was erased beside the
    buckets, by kind. ``left`` is what is still there, with the reason; ``verified``: it was looked for again, and
    nothing is left. ``notes`` tell where more may be that cannot be erased from here.
    """

    tool: str
    pipeline: str
    place: str
    who: str
    began: str
    ended: str
    keys: Sequence[str]
    kept_bronze: bool
    deleted: Sequence[StoredVersion]
    histories: Sequence[ErasedHistory]
    schemas: Sequence[str]
    records: Mapping[str, int]
    undo_copies: int
    left: Sequence[Undeleted]
    verified: bool
    notes: Sequence[str]


class Erasure:
    """Everything that came of some bronze keys, to be found and erased.

    Args:
        keys: the keys in bronze.
        pipeline: the pipeline.
        target: where it runs, writable.
        keep_bronze: leave the bronze objects as they are.
        lookups: also keys that transforms read as lookups.
        step: told the name of each step, for tests that die there.
        clock: the time in Unix seconds.
        pause: waits so many seconds.

    Raises:
        InvalidKey: a text is no key.
        WrongCall: there is no key; one is a lookup, and ``lookups`` is not set; or the packages of tables are missing.
    """

    def __init__(
        self,
        keys: Sequence[str],
        pipeline: Pipeline,
        target: Target,
        *,
        keep_bronze: bool = False,
        lookups: bool = False,
        step: Callable[[str], None] = faults.point,
        clock: Callable[[], float] = time.time,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        from silversmith.stores.keys import check

        self._keys = list(dict.fromkeys(keys))
        for key in self._keys:
            check(key)
        if not self._keys:
            raise WrongCall("name at least one key to erase")
        self._pipeline = pipeline
        self._target = target
        self._keep_bronze = keep_bronze
        self._step = step
        self._clock = clock
        self._pause = pause
        self._lookups = _lookups(self._keys, pipeline)
        if self._lookups and not (lookups or keep_bronze):
            key, names = next(iter(self._lookups.items()))
            raise WrongCall(
                f"{key} is a lookup of {', '.join(names)}: without it no file of theirs can be processed. To take "
                "somebody out of it, put it again without them, and run `silversmith reconcile --changed`. To erase it "
                "nevertheless, add --lookups"
            )

    # -- finding

    def find(self) -> ErasePlan:
        """Look for everything that there is.

        Raises:
            AccessDenied, OSError, GoldFailed: something cannot be looked at.
        """
        order = {each.bucket: number for number, each in enumerate(self._buckets)}
        versions = map_in_threads(
            lambda key: [each for bucket, name in self._places_of(key) for each in bucket.of(name)],
            self._keys,
            self._target.workers,
        )
        objects = sorted(chain.from_iterable(versions), key=lambda each: order[each.bucket])
        problems: list[Undeleted] = []
        return ErasePlan(
            self._keys,
            objects,
            list(self._in_tables(problems)),
            [name for name in self._transforms if self._names_a_key(name)],
            dict(self._target.records(self._keys)),
            sum(1 for _ in undo_copies(self._keys)),
            [*self._notes(), *self._target.elsewhere(self._keys)],
            problems,
        )

    @cached_property
    def _buckets(self) -> list[Versions]:
        roles = ("quarantine", "silver") if self._keep_bronze else ("bronze", "quarantine", "silver")
        return [self._target.versions(role) for role in roles]

    @cached_property
    def _folders(self) -> tuple[list[str], dict[str, str]]:
        """The transforms whose silver and quarantine are this pipeline's, also under former names and those that it no
        longer has, and where only older versions are left; and those of other pipelines, with their owner."""
        lake = self._target.lake
        names = dict.fromkeys(name for each in self._pipeline.transforms for name in (each.name, each.was) if name)
        unknown = unknown_folders(self._pipeline, lake.silver, lake.quarantine)
        ours: list[str] = []
        foreign: dict[str, str] = {}
        for name in dict.fromkeys([*names, *recorded_transforms(lake.silver), *unknown]):
            owner, is_own = _owner_of(name, self._target)
            if is_own or (name in names and not owner):
                ours.append(name)
            else:
                foreign[name] = owner
        return ours, foreign

    @property
    def _transforms(self) -> list[str]:
        return self._folders[0]

    def _places_of(self, key: str) -> Iterator[tuple[Versions, str]]:
        *first, quarantine, silver = self._buckets
        yield from ((bronze, key) for bronze in first)
        for name in self._transforms:
            yield from ((quarantine, derive(name, key)) for derive in _QUARANTINE)
            yield silver, silver_key(name, key)

    def _in_tables(self, problems: list[Undeleted]) -> Iterator[InTables]:
        files = self._gold_files
        if files is None:
            return
        for name in self._tables:
            try:
                snapshot = self._gold.read(name)
                if snapshot is None:
                    continue
                there = snapshot.etags(self._keys)
                old = holding(name, dead_files(name, list_files(name, files), snapshot), self._keys, files)
                yield InTables(name, len(there), sum(1 for _ in old))
            except (SilversmithError, OSError) as error:
                problems.append(Undeleted(name, "", "", str(error)))
        yield from (InTables(view.name) for view in self._views)
        problems += self._undeclared()

    def _undeclared(self) -> Iterator[Undeleted]:
        """Tables that the pipeline no longer declares, as far as they have rows of these keys."""
        files = self._gold_files
        if files is None:
            return
        for name in folders(files.store):
            if name in self._pipeline.tables.names:
                continue
            try:
                snapshot = self._gold.read(name)
                there = snapshot.etags(self._keys) if snapshot is not None else {}
            except (SilversmithError, OSError):
                there = {}  # a view, or nothing of ours
            if there:
                reason = (
                    "the pipeline does not declare this table: declare it, and run this again, or delete its folder"
                )
                yield Undeleted(name, "", "", f"{len(there):,} of the keys have rows; {reason}")

    @cached_property
    def _gold_files(self) -> GoldFiles | None:
        return self._target.gold_files()

    @cached_property
    def _gold(self) -> DeltaFormat:
        gold: Any = self._target.gold
        return gold  # type: ignore[no-any-return]

    @property
    def _tables(self) -> list[str]:
        """The tables whose rows name the file that they came from."""
        spec = self._pipeline.tables
        return [*(table.name for table in spec.tables), *([LINEAGE] if spec.lineage else [])]

    @property
    def _views(self) -> Sequence[Any]:
        return self._pipeline.tables.views if self._gold_files is not None else ()

    def _names_a_key(self, transform: str) -> bool:
        document = Recorded.read(self._target.lake.silver, transform).document
        return any(entry.key in self._keys for entry in document.history)

    def _notes(self) -> Iterator[str]:
        for key, names in self._lookups.items():
            yield (
                f"{key} is a lookup: all silver of {', '.join(names)} may have values of it, and is left as it is. Put "
                "the lookup again without them, then `silversmith reconcile --changed`"
            )
        silver = self._target.lake.silver
        for name, owner in self._folders[1].items():
            for key in self._keys:
                if silver.head(silver_key(name, key)) is not None:
                    whose = f"of the pipeline {owner}" if owner else "whose owner is unknown"
                    yield f"{silver_key(name, key)} is silver {whose}: erase the key there"
        if self._keep_bronze:
            yield "bronze is kept: the next reconciliation makes the results again, where a transform takes the key"

    # -- erasing

    def run(self) -> EraseReport:
        """Erase everything, wait until nothing can come back, look again, and erase what came back after all."""
        began = self._now()
        first = plan = self.find()
        deleted: dict[StoredVersion, None] = {}
        histories: list[ErasedHistory] = []
        left: list[Undeleted] = []
        for _ in range(2):
            deleted |= dict.fromkeys(plan.objects)
            left = self._erase(histories)
            if self._keep_bronze:
                break
            self._target.settle(self._keys, self._pipeline.transforms, self._pause)
            plan = self.find()
            if plan.is_empty:
                break
        last = self.find()
        reasons = {(each.place, each.key, each.version) for each in left}
        left += [each for each in last.left() if (each.place, each.key, each.version) not in reasons]
        gone = [each for each in deleted if each not in last.objects]
        return EraseReport(
            tool=f"silversmith {version('silversmith')}",
            pipeline=self._pipeline.name,
            place=self._target.place,
            who=self._target.who,
            began=began,
            ended=self._now(),
            keys=self._keys,
            kept_bronze=self._keep_bronze,
            deleted=gone,
            histories=histories,
            schemas=first.schemas,
            records=first.records,
            undo_copies=first.undo_copies,
            left=left,
            verified=not left,
            notes=last.notes,
        )

    def _now(self) -> str:
        return datetime.fromtimestamp(self._clock(), UTC).isoformat(timespec="seconds")

    def _erase(self, histories: list[ErasedHistory]) -> list[Undeleted]:
        """One pass. Returns what could not be deleted."""
        left: list[Undeleted] = []
        *first, quarantine, silver = self._buckets
        for path in list(undo_copies(self._keys)):  # a page would put them into bronze again
            path.unlink(missing_ok=True)
        for bronze in first:
            for some in map_in_threads(bronze.delete, self._keys, self._target.workers):
                left += some
            self._step("erase.bronze")
        for versions, derivations in ((quarantine, _QUARANTINE), (silver, (silver_key,))):
            names = [derive(name, key) for key in self._keys for name in self._transforms for derive in derivations]
            for some in map_in_threads(versions.delete, names, self._target.workers):
                left += some
            self._step("erase.results")
        left += self._forget_in_schemas(silver)
        self._step("erase.schemas")
        left += self._erase_from_gold(histories)
        left += [Undeleted("records", "", "", problem) for problem in self._target.erase_records(self._keys)]
        self._step("erase.records")
        return left

    def _forget_in_schemas(self, versions: Versions) -> Iterator[Undeleted]:
        """The recorded schema says which file brought a column."""
        silver = self._target.lake.silver
        for name in self._transforms:
            for attempt in range(TRIES):
                recorded = Recorded.read(silver, name)
                history = tuple(
                    replace(entry, key="") if entry.key in self._keys else entry for entry in recorded.document.history
                )
                if history == recorded.document.history:
                    break
                try:
                    recorded.replaced(silver, replace(recorded.document, history=history))
                except PreconditionFailed as error:
                    if attempt == TRIES - 1:
                        yield Undeleted(versions.bucket, schema_key(name), "", str(error))
            yield from versions.delete_noncurrent(schema_key(name))

    def _erase_from_gold(self, histories: list[ErasedHistory]) -> Iterator[Undeleted]:
        files = self._gold_files
        if files is None:
            return
        spec = self._pipeline.tables
        if not spec:
            return
        yield from self._remove_rows()
        self._step("erase.rows")
        versions = self._target.versions("gold")
        for name, keys in [
            *((name, self._keys) for name in self._tables),
            *((view.name, None) for view in self._views),
        ]:
            try:
                erased = erase_history(
                    name, keys, gold=self._gold, place=files, step=self._step, now=self._clock, pause=self._pause
                )
            except (SilversmithError, OSError) as error:
                yield Undeleted(name, "", "", f"its history: {error}")
                continue
            if erased is not None:
                histories.append(erased)
                yield from versions.delete_noncurrent(f"{name}/")

    def _remove_rows(self) -> Iterator[Undeleted]:
        silver = [silver_key(name, key) for key in self._keys for name in self._transforms]
        documents = [
            derive(name, key) for key in self._keys for name in self._transforms for derive in (error_key, failed_key)
        ]
        views = {view.name for view in self._views}
        for name, key, error in _remove_rows(
            self._pipeline, self._target, self._transforms, silver, documents, step=self._step
        ):
            reason = "the view cannot be brought up to date: " if name in views else ""
            yield Undeleted(name, key, "", f"{reason}{error}")


def _lookups(keys: Collection[str], pipeline: Pipeline) -> dict[str, list[str]]:
    """The keys that are lookups, with the transforms that read them."""
    by_key = {key: [each.name for each in pipeline.transforms if key in each.lookups] for key in keys}
    return {key: names for key, names in by_key.items() if names}


def folders(store: Store) -> Iterator[str]:
    """The names of the folders at the top of a bucket, by a request for each."""
    after = ""
    while (head := next(iter(store.list("", start_after=after)), None)) is not None:
        name, slash, _ = head.key.partition("/")
        if slash:
            yield name
        after = f"{name}0" if slash else head.key  # 0 comes after the slash


def unknown_folders(pipeline: Pipeline, silver: Store, quarantine: Store) -> list[str]:
    """The folders of transforms that the pipeline does not have, in silver and in quarantine."""
    names = dict.fromkeys(chain(folders(silver), folders(quarantine)))
    known = {each.name for each in pipeline.transforms}
    return [name for name in names if name not in known and not name.startswith("_")]


# -- orphans


@dataclass(frozen=True)
class Orphan:
    """What a transform made of a bronze object that is gone, or that it does not take any more. ``silver`` and
    ``quarantine`` are keys there; ``silver`` may be empty."""

    transform: str
    key: str
    silver: str
    quarantine: Sequence[str] = ()


def orphans(pipeline: Pipeline, target: Target, *, transform: str | None = None) -> Iterator[Orphan]:
    """The results that nothing in bronze stands for: of each transform, and of those that the pipeline no longer has
    where their silver is this pipeline's. Silver of other pipelines is none of them, nor is silver under a former name
    (``was=``) that is still to be taken over. ``transform``: only of this one.

    Raises:
        DefinitionError: the pipeline has no such transform.
        NotOurs: another pipeline owns a transform's silver.
    """
    lake = target.lake
    for each in pipeline.transforms if transform is None else [pipeline.find(transform)]:
        seen: set[str] = set()
        for looked in look(each, lake, owner=target.owner, workers=target.workers):
            finding = looked.finding
            if finding is not None and finding.kind in {Decision.ORPHANED, Decision.DELETED}:
                seen.add(finding.key)
                yield Orphan(
                    each.name, finding.key, finding.silver, _documents(each.name, finding.key, lake.quarantine)
                )
        for head in lake.quarantine.list(f"{each.name}/"):
            key = subject_of(lake.quarantine, head.key)
            if key and key not in seen and not _is_taken(each, key, lake.bronze):
                seen.add(key)
                if lake.silver.head(silver_key(each.name, key)) is None:
                    yield Orphan(each.name, key, "", _documents(each.name, key, lake.quarantine))
    if transform is None:
        yield from _of_former_transforms(pipeline, target)


def _of_former_transforms(pipeline: Pipeline, target: Target) -> Iterator[Orphan]:
    lake, heirs = target.lake, {each.was: each for each in pipeline.transforms if each.was}
    for name in unknown_folders(pipeline, lake.silver, lake.quarantine):
        if not _owner_of(name, target)[1]:
            continue
        heir = heirs.get(name)
        for head in lake.silver.list(f"{name}/"):
            key = bronze_key_of(head.key)
            if heir is not None:  # of a key that was cut short, only the object tells
                stored = lake.silver.head(head.key)
                lineage = Lineage.from_metadata(stored.metadata) if stored is not None else None
                key = lineage.bronze_key if lineage is not None else key
            if heir is None or not _is_awaited(heir, key, lake):
                yield Orphan(name, key, head.key)
        for head in lake.quarantine.list(f"{name}/"):
            key = subject_of(lake.quarantine, head.key) or head.key
            is_rejected = head.key == rejected_key(name, key)  # is taken over with silver; error documents are not
            if heir is None or not is_rejected or not _is_awaited(heir, key, lake):
                yield Orphan(name, key, "", [head.key])


def _is_awaited(heir: Transform, key: str, lake: Lake) -> bool:
    """Whether a transform may still take over the silver that its former name has of a key."""
    return _is_taken(heir, key, lake.bronze) and lake.silver.head(silver_key(heir.name, key)) is None


def _owner_of(transform: str, target: Target) -> tuple[str, bool]:
    """Who owns the silver and quarantine of a transform, as far as that is known, and whether it is this pipeline."""
    lake = target.lake
    document = Recorded.read(lake.silver, transform).document
    owner = document.owner or owner_of_objects(lake.silver, transform)[0]
    owner = owner or owner_of_objects(lake.quarantine, transform)[0]
    return owner, bool(owner) and owner in document.owners(target.owner.name)


def _documents(transform: str, key: str, quarantine: Store) -> list[str]:
    return [name for derive in _QUARANTINE if quarantine.head(name := derive(transform, key)) is not None]


def _is_taken(transform: Transform, key: str, bronze: Store) -> bool:
    return transform.pattern.matches(key) and bronze.head(key) is not None


def delete_orphans(found: Sequence[Orphan], pipeline: Pipeline, target: Target) -> list[Orphan]:
    """Delete orphans, in quarantine before silver, and their rows in tables and views. One whose file has come back is
    left alone. Returns those that were deleted.

    Raises:
        GoldFailed, SchemaRefused: the rows cannot be removed: reconcile does it later.
    """
    lake = target.lake
    deleted: list[Orphan] = []
    by_name = {each.name: each for each in pipeline.transforms}
    for orphan in found:
        places = [(lake.quarantine, name) for name in orphan.quarantine]
        places += [(lake.silver, orphan.silver)] if orphan.silver else []
        # headed before bronze is: silver of a file that comes back now is another object
        heads = [(store, head) for store, name in places if (head := store.head(name)) is not None]
        transform = by_name.get(orphan.transform)
        if transform is not None and _is_taken(transform, orphan.key, lake.bronze):
            continue
        with suppress(PreconditionFailed):
            for store, head in heads:
                store.delete(head.key, if_match=head.etag)
            deleted.append(orphan)
    if deleted and pipeline.tables:
        transforms = list(dict.fromkeys([*pipeline.tables.lineage, *(orphan.transform for orphan in deleted)]))
        silver = [orphan.silver for orphan in deleted if orphan.silver]
        documents = [name for orphan in deleted for name in orphan.quarantine]
        for _, key, error in _remove_rows(pipeline, target, transforms, silver, documents):
            if not key:
                raise error
    return deleted


def _remove_rows(
    pipeline: Pipeline,
    target: Target,
    transforms: Sequence[str],
    silver: Sequence[str],
    documents: Sequence[str],
    *,
    step: Callable[[str], None] = faults.point,
) -> Iterator[tuple[str, str, Exception]]:
    """Commit that the newest versions of tables, lineage and views have no rows of what silver and quarantine have no
    more. Yields what failed: the table, the key of the only file that is concerned, and the error."""
    from silversmith.tables.commit import bring
    from silversmith.tables.lineage import follow
    from silversmith.tables.views import refresh

    lake, spec, gold = target.lake, pipeline.tables, target.gold
    for table in spec.tables:
        try:
            brought = bring(table, silver, silver=lake.silver, gold=gold, step=step)
            yield from ((table.name, key, error) for key, error in brought.failed.items())
        except (SilversmithError, OSError) as error:
            yield table.name, "", error
    if spec.lineage:
        try:
            names = [*silver, *documents]
            follow(transforms, names, silver=lake.silver, quarantine=lake.quarantine, gold=gold, step=step)
        except (SilversmithError, OSError) as error:
            yield LINEAGE, "", error
    for view in spec.views:
        try:
            refresh([view], gold, step=step)
        except (SilversmithError, OSError) as error:
            yield view.name, "", error
