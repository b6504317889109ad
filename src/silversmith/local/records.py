"""The records that a lake keeps of a key beside its buckets, found and erased: the journal, logs, temporary files."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from silversmith.errors import LakeInUse
from silversmith.events import NotAnEvent, unwrap
from silversmith.lineage import bronze_key_of, error_key, failed_key, silver_key
from silversmith.local.journal import Journal
from silversmith.local.lake import LakeFolder, LakeLock, engine_runs
from silversmith.local.services.queue import forget

#: A temporary file that is older than so many seconds is of a process that was killed.
ABANDONED = 600.0

#: How often the journal is written anew while others read it, and the seconds between.
SCRUBS, BETWEEN = 50, 0.2

#: What stands in the place of an erased line of a log: a process that appends to the log goes on.
_ERASED = b"(erased)"


@dataclass(frozen=True)
class QueueTimes:
    """Of a queue and its function: the seconds for which a received message is hidden, and those of an invocation."""

    hidden: float
    timeout: float


class LakeRecords:
    """The records of keys in one lake.

    Args:
        folder: the lake.
        journal: the engine's, writable if anything is to be erased; None: no engine ever ran.
        bronze: the name of the bronze bucket.
        transforms: the names of the transforms.
        times: by the ARN of each queue that a function is mapped to.
        clock: the time in Unix seconds.
    """

    def __init__(
        self,
        folder: LakeFolder,
        journal: Journal | None,
        *,
        bronze: str,
        transforms: Collection[str],
        times: Mapping[str, QueueTimes],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._folder = folder
        self._journal = journal
        self._bronze = bronze
        self._transforms = transforms
        self._times = times
        self._clock = clock

    def find(self, keys: Collection[str]) -> Counter[str]:
        """How many records of each kind there are. A message that a worker has at this moment counts as ``at work``."""
        records: Counter[str] = Counter()
        if self._journal is not None:
            names = self._names(keys)
            for name in names:
                records["hops of the trace"] += self._journal.rows("hops_of", key=name)[0][0]
                known = self._journal.row("object", bucket=self._bronze, key=name) is not None
                records["objects that the engine knows"] += known
                for transform in self._outcome_transforms():
                    ((number,),) = self._journal.rows("outcomes_of", transform=transform, key=name)
                    records["last outcomes"] += number
            records["events on the way"] = len(self._on_the_way(names))
            for _, is_held in self._messages(names):
                records["at work" if is_held else "messages"] += 1
        records["lines of logs"] = sum(len(list(_lines(path, keys))) for path in self._logs())
        records["temporary files"] = len(self._abandoned())
        records["damaged journals"] = len(self._damaged())
        return +records

    def is_at_work(self, keys: Collection[str]) -> bool:
        """Whether a running engine still has something to do with these keys: a message that a worker has, or waits, or
        a file whose end it has not noticed."""
        if self._journal is None or not engine_runs(self._folder):
            return False
        names = self._names(keys)
        if any(self._journal.row("object", bucket=self._bronze, key=name) is not None for name in names):
            return True
        return bool(self._on_the_way(names)) or any(True for _ in self._messages(names, dead=False))

    def erase(self, keys: Collection[str]) -> list[str]:
        """Erase all records but messages that a worker has. Returns what could not be erased, and why."""
        problems = [*self._erase_files(keys)]
        journal = self._journal
        if journal is None:
            return problems
        names = self._names(keys)
        with journal.transaction():
            forget(journal, [row for row, is_held in self._messages(names) if not is_held])
            journal.change_many("delivered", [(row,) for row in self._on_the_way(names)])
            for name in names:
                journal.change_many("forget_hops", [(name,)])
                journal.change("forget_object", bucket=self._bronze, key=name)
                for transform in self._outcome_transforms():
                    journal.change("forget_outcome", transform=transform, key=name)
        for _ in range(SCRUBS):
            if journal.scrub():
                return problems
            time.sleep(BETWEEN)
        problems.append(
            f"{journal.path}-wal: other processes read the journal all the time, so that its write-ahead log may still "
            "have what was deleted: end the engine and the page, then run this again"
        )
        return problems

    # -- the journal

    def _names(self, keys: Collection[str]) -> dict[str, None]:
        """The keys as the journal has them: under a silver key that was cut short it knows no more than that."""
        names = dict.fromkeys(keys)
        for key in keys:
            for derive in (silver_key, error_key, failed_key):
                names |= dict.fromkeys(bronze_key_of(derive(transform, key)) for transform in self._transforms)
        return names

    def _outcome_transforms(self) -> list[str]:
        assert self._journal is not None
        return [row[0] for row in self._journal.rows("outcome_transforms")]

    def _on_the_way(self, names: Collection[str]) -> list[int]:
        assert self._journal is not None
        return [
            row for row, key, body in self._journal.rows("all_on_the_way") if key in names or _is_about(body, names)
        ]

    def _messages(self, names: Collection[str], *, dead: bool = True) -> Iterator[tuple[int, bool]]:
        """The rows of messages about these keys, and whether a worker has it. A message that comes back after a failure
        is hidden for less long than one that was just received."""
        assert self._journal is not None
        now, runs = self._clock(), engine_runs(self._folder)
        for row, queue, key, body, receipt, visible, dead_at in self._journal.rows("all_messages"):
            if (key in names or _is_about(body, names)) and (dead or dead_at is None):
                times = self._times.get(queue)
                is_held = times is not None and receipt is not None and visible - now > times.hidden - times.timeout
                yield row, runs and is_held

    # -- files

    def _logs(self) -> list[Path]:
        return sorted(path for path in self._folder.logs.glob("*") if path.is_file() and not path.is_symlink())

    def _damaged(self) -> list[Path]:
        """A journal that was damaged is kept for a person, and says who knows what."""
        return sorted(self._folder.state.glob(f"{self._folder.journal.name}.damaged*"))

    def _abandoned(self) -> list[Path]:
        """The temporary files of processes that were killed: all of the workers', where no engine runs."""
        oldest = self._clock() - ABANDONED
        folders = [self._folder.scratch, self._folder.engine_scratch]
        paths = [path for folder in folders if folder.is_dir() for path in folder.iterdir()]
        runs = engine_runs(self._folder)
        return [
            path
            for path in paths
            if (not runs and path.parent == self._folder.engine_scratch) or _modified(path, oldest) < oldest
        ]

    def _erase_files(self, keys: Collection[str]) -> Iterator[str]:
        for path in self._logs():
            try:
                with path.open("r+b") as file:
                    for start, length in list(_lines(path, keys)):
                        file.seek(start)
                        file.write(_ERASED.ljust(length)[:length])
                    file.flush()
                    os.fsync(file.fileno())
            except OSError as error:
                yield f"{path}: {error.strerror}"
        abandoned, lock = self._abandoned(), None
        try:
            lock = LakeLock(self._folder) if self._folder.state.is_dir() else None
        except LakeInUse:
            abandoned = self._abandoned()  # without those of an engine that has just started
        try:
            for path in [*abandoned, *self._damaged()]:
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)
        except OSError as error:
            yield f"{error.filename}: {error.strerror}"
        finally:
            if lock is not None:
                lock.release()


def _modified(path: Path, default: float) -> float:
    try:
        return path.lstat().st_mtime
    except FileNotFoundError:
        return default


def _is_about(body: bytes, names: Collection[str]) -> bool:
    """Whether an event is about one of these keys, or about what is made of one."""
    try:
        return any(event.key in names or bronze_key_of(event.key) in names for event in unwrap(body))
    except NotAnEvent:
        return False


def _lines(path: Path, keys: Collection[str]) -> Iterator[tuple[int, int]]:
    """The place and length, without its end, of each line of a log that names a key."""
    said = [re.escape(form) for key in keys for form in {key.encode(), _escaped(key)}]
    if not said:
        return
    named = re.compile(rb"(?<![\w.-])(?:" + b"|".join(said) + rb")(?![\w-])")
    try:
        with path.open("rb") as file:
            start = 0
            for line in file:
                text = line.rstrip(b"\n")
                if named.search(text):
                    yield start, len(text)
                start += len(line)
    except FileNotFoundError:
        return


def _escaped(key: str) -> bytes:
    """A key as JSON has it, without its quotes."""
    import json

    return json.dumps(key)[1:-1].encode()
