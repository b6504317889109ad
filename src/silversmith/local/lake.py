"""The lake on disk: which folder is what."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from silversmith.errors import LakeInUse
from silversmith.stores import Lake
from silversmith.stores.local import LocalStore

if TYPE_CHECKING:
    from silversmith.pipeline import Pipeline
    from silversmith.schemas import Owner

#: The folder in the lake that is Silversmith's own. It is no bucket.
STATE = ".silversmith"


@dataclass(frozen=True)
class LakeFolder:
    """A folder whose folders are the buckets, and Silversmith's own state beside them."""

    path: Path

    @property
    def state(self) -> Path:
        """The engine's state: journal, lock, logs, temporary files."""
        return self.path / STATE

    @property
    def journal(self) -> Path:
        """The SQLite file of the engine."""
        return self.state / "journal.db"

    @property
    def alarms(self) -> Path:
        """The file with the alarms of runs."""
        return self.state / "alarms.json"

    @property
    def scratch(self) -> Path:
        """Temporary files, on the buckets' own file system so that they can be moved into place."""
        return self.state / "scratch"

    @property
    def locks(self) -> Path:
        """The lock files that make conditional puts atomic between processes."""
        return self.state / "locks"

    @property
    def logs(self) -> Path:
        """The folder for the output of functions."""
        return self.state / "logs"

    def bucket(self, name: str) -> Path:
        """The folder of a bucket."""
        return self.path / name

    def create(self, *buckets: str) -> None:
        """Make the folders that are not there yet. Raises OSError when the disk does not allow it."""
        for folder in (self.scratch, self.engine_scratch, self.locks, self.logs, *map(self.bucket, buckets)):
            folder.mkdir(parents=True, exist_ok=True)

    @property
    def engine_scratch(self) -> Path:
        """Temporary files of the engine's workers: apart from others', so that a starting engine may remove them."""
        return self.state / "scratch-engine"

    def first_runs(self, pipeline: Pipeline, *, now: datetime | None = None) -> dict[str, str]:
        """When the transforms that take files from their first deploy on first ran here, in ISO 8601, by name. that
        never did run from ``now`` on, which is kept: only for who holds the lake's lock. None: nothing is."""
        from silversmith.pipeline.since import DEPLOY, iso  # imports Polars, which the process of tables must not

        path = self.state / "first-runs.json"
        try:
            known: dict[str, str] = json.loads(path.read_bytes())
        except (OSError, ValueError):
            known = {}
        names = [each.name for each in pipeline.transforms if each.since == DEPLOY]
        new = {name: iso(now) for name in names if name not in known and now is not None}
        if new:
            written = path.with_suffix(".new")
            with written.open("w") as file:
                json.dump(known | new, file)
                file.flush()
                os.fsync(file.fileno())
            written.replace(path)
        return {name: moment for name, moment in (known | new).items() if name in names}

    def sweep(self) -> None:
        """Remove what the workers of a killed engine left. Only for who holds the lake's lock."""
        for path in self.engine_scratch.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)

    def store(self, name: str, *, foreign_writers: bool, scratch: Path | None = None) -> LocalStore:
        """The store over a bucket's folder. ``foreign_writers``: others write there too, as they do in bronze."""
        return LocalStore(
            self.bucket(name), scratch=scratch or self.scratch, locks=self.locks, foreign_writers=foreign_writers
        )

    def owner(self, pipeline: Pipeline) -> Owner:
        """The owner of a pipeline's silver here: the template of a pipeline without a deployment has its name."""
        from silversmith.schemas import Owner  # imports Polars, which the process of tables must not

        return Owner(pipeline.name, pipeline.silver, pipeline.quarantine)

    def stores(self, pipeline: Pipeline, *, scratch: Path | None = None) -> Lake:
        """The three stores of a pipeline."""
        return Lake(
            bronze=self.store(pipeline.bronze, foreign_writers=True, scratch=scratch),
            silver=self.store(pipeline.silver, foreign_writers=False, scratch=scratch),
            quarantine=self.store(pipeline.quarantine, foreign_writers=False, scratch=scratch),
        )


class LakeLock:
    """One engine for a lake, by a lock that the system takes back when the process ends, however it ends.

    Raises:
        LakeInUse: another engine holds it.
    """

    def __init__(self, lake: LakeFolder) -> None:
        self._path = lake.state / "engine.lock"
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(self._descriptor)
            raise LakeInUse(
                f"another engine (process {holder}) runs over {lake.path}. One engine per lake: stop it, or choose "
                "another folder with --lake."
            ) from None
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Let another engine have the lake."""
        os.close(self._descriptor)


def engine_runs(lake: LakeFolder) -> bool:
    """Whether an engine holds the lake at this moment."""
    try:
        descriptor = os.open(lake.state / "engine.lock", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(descriptor)
