"""A plug to pull: of what was written only that is sure to be there afterwards which somebody made durable.

POSIX promises nothing for the rest. A file that was not synced may be empty, or end somewhere; a name that was not
synced with its folder may be missing, or may still be that of the file which was there before.
"""

from __future__ import annotations

import os
import random
import shutil
import stat
from pathlib import Path

#: An entry of a folder: a folder, the bytes of a file, or a file whose bytes may or may not have reached the disk.
FOLDER = "folder"
Entry = str | bytes | None

#: What the entry of a name is that is not there.
ABSENT = "absent"


def _identity(stat: os.stat_result) -> tuple[int, int, int]:
    return stat.st_ino, stat.st_mtime_ns, stat.st_size


class Plug:
    """Stands in for fsync, remembers what was made durable, and can be pulled."""

    def __init__(self) -> None:
        self._synced: set[tuple[int, int, int]] = set()
        self._folders: dict[str, dict[str, Entry]] = {}

    def fsync(self, descriptor: int) -> None:
        result = os.fstat(descriptor)
        if stat.S_ISDIR(result.st_mode):
            path = Path(f"/proc/self/fd/{descriptor}").readlink()
            entries = self._entries(path)
            gone = [name for name, entry in self._folders.get(str(path), {}).items() if entries.get(name) != entry]
            for name in gone:
                self._forget(path / name)
            self._folders[str(path)] = entries
        else:
            self._synced.add(_identity(result))

    def _forget(self, path: Path) -> None:
        """A folder that is made where another was does not have what was in that one."""
        for known in [known for known in self._folders if Path(known).is_relative_to(path)]:
            del self._folders[known]

    def pull(self, folder: Path, draw: random.Random) -> None:
        """Leave in the folder what a power cut might leave there."""
        durable = self._folders.get(str(folder), {})
        actual = self._entries(folder)
        for name in sorted({*durable, *actual}):
            before, after = durable.get(name, ABSENT), actual.get(name, ABSENT)
            survivor = draw.choice([before, after])
            path = folder / name
            if survivor == FOLDER:
                if after != FOLDER:
                    path.unlink(missing_ok=True)
                    path.mkdir()
                self.pull(path, draw)
            elif survivor != after or survivor is None:
                self._replace(path, self._torn(path, draw) if survivor is None else survivor)

    def _entries(self, folder: Path) -> dict[str, Entry]:
        return {path.name: FOLDER if path.is_dir() else self._content(path) for path in folder.iterdir()}

    def _content(self, path: Path) -> bytes | None:
        return path.read_bytes() if _identity(path.stat()) in self._synced else None

    @staticmethod
    def _torn(path: Path, draw: random.Random) -> bytes:
        content = path.read_bytes() if path.is_file() else b""
        return content[: draw.choice([0, draw.randint(0, len(content)), len(content)])]

    def _replace(self, path: Path, survivor: Entry) -> None:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
        if isinstance(survivor, bytes):
            path.write_bytes(survivor)
            self._synced.add(_identity(path.stat()))
