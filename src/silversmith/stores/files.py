"""One file of a bucket's folder: its etag, its times, its bytes, what it says of itself, and how it is made durable."""

from __future__ import annotations

import fcntl
import io
import json
import os
import shutil
import time
from datetime import UTC, datetime
from pathlib import Path

from silversmith.errors import SourceChanged
from silversmith.lineage import PARQUET_ENTRY


def flush(descriptor: int) -> None:
    """Have the disk hold what was written: fsync, or on macOS, where fsync stops at the drive's cache, F_FULLFSYNC."""
    full = getattr(fcntl, "F_FULLFSYNC", None)
    if full is None:
        os.fsync(descriptor)
    else:
        fcntl.fcntl(descriptor, full)


def etag(stat: os.stat_result) -> str:
    """Of a file that is only ever replaced: no two versions of a key have the same inode number, time and size."""
    return f"{stat.st_ino:x}-{stat.st_mtime_ns:x}-{stat.st_size:x}"


def modified(stat: os.stat_result) -> datetime:
    try:
        return datetime.fromtimestamp(stat.st_mtime, UTC)
    except (OverflowError, ValueError, OSError):  # a file can be given any time, also one beyond the calendar
        return datetime.fromtimestamp(0, UTC)


def write(descriptor: int, body: bytes | Path) -> None:
    with io.FileIO(descriptor, "w", closefd=False) as file:
        if isinstance(body, Path):
            with body.open("rb") as original, io.BufferedWriter(file) as buffered:
                shutil.copyfileobj(original, buffered, 1024 * 1024)
            return
        rest = memoryview(body)
        while rest:
            rest = rest[file.write(rest) :]


def read_up_to(file: io.FileIO, limit: int) -> bytes:
    parts = []
    while limit > 0 and (part := file.read(limit)):
        parts.append(part)
        limit -= len(part)
    return b"".join(parts)


def require_whole(key: str, file: io.FileIO, data: bytes) -> None:
    """Raise SourceChanged if ``data``, read from a file to its end, is not as long as the file is."""
    size = os.fstat(file.fileno()).st_size
    if len(data) != size:
        raise SourceChanged(f"{key} has {size:,} bytes, and {len(data):,} were read")


def metadata(key: str, file: io.FileIO) -> dict[str, str]:
    """The entry of a Parquet file that holds its lineage; empty for any other file, and for one that has none."""
    if not key.endswith(".parquet"):
        return {}
    import polars as pl

    try:
        file.seek(0)
        entry = json.loads(pl.read_parquet_metadata(file)[PARQUET_ENTRY])
    except (Exception, pl.exceptions.PanicException):  # noqa: BLE001 - whatever the file is, it has no lineage then
        return {}
    if not isinstance(entry, dict):
        return {}
    return {name: value for name, value in entry.items() if isinstance(value, str)}


def set_time(descriptor: int) -> None:
    """Give a file the time of now in nanoseconds.

    The kernel's clock for files moves in steps of milliseconds; with this one, a file that is given the inode number of
    one just replaced still differs from it.
    """
    now = time.time_ns()
    os.utime(descriptor, ns=(now, now))


def begin_writing(descriptor: int) -> None:
    """Have the kernel begin to write a file to the disk, and not wait for it: what syncs it soon has less to wait for.

    Several files that are begun first and then synced cost a third of what they do one after the other. Linux begins
    when it is told that the pages will not be needed soon (https://man7.org/linux/man-pages/man2/posix_fadvise.2.html).
    """
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
