"""A watcher over a folder, and its reports, to wait for."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Self

from silversmith.local.watcher import ChangeSource, Watcher

#: Seconds after which something that should have been told will not be.
DEADLINE = 20.0


class Watching(Watcher):
    """A watcher that watches within a ``with`` block."""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class Reports:
    """The reports of a watcher, to wait for."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.files: list[str] = []
        self.gone: list[str] = []
        self.folders_gone: list[str] = []
        self.refused: list[tuple[str, str]] = []
        self.overflows: list[str] = []

    def on_files(self, lines: list[str]) -> None:
        with self.changed:
            self.files += lines
            self.changed.notify_all()

    def on_gone(self, lines: list[str]) -> None:
        with self.changed:
            self.gone += lines
            self.changed.notify_all()

    def on_folder_gone(self, prefix: str) -> None:
        with self.changed:
            self.folders_gone.append(prefix)
            self.changed.notify_all()

    def on_refused(self, path: str, reason: str) -> None:
        with self.changed:
            self.refused.append((path, reason))
            self.changed.notify_all()

    def on_overflow(self, reason: str) -> None:
        with self.changed:
            self.overflows.append(reason)
            self.changed.notify_all()

    def until(self, condition: Callable[[], object]) -> None:
        with self.changed:
            assert self.changed.wait_for(condition, DEADLINE), vars(self)


def watch(
    root: Path,
    reports: Reports,
    *,
    source: ChangeSource | None = None,
    has_writer: Callable[[int], bool | None] | None = None,
    on_files: Callable[[list[str]], None] | None = None,
) -> Watching:
    root.mkdir(exist_ok=True)
    extra = {} if has_writer is None else {"has_writer": has_writer}
    return Watching(
        root,
        on_files=on_files or reports.on_files,
        on_gone=reports.on_gone,
        on_folder_gone=reports.on_folder_gone,
        on_refused=reports.on_refused,
        on_overflow=reports.on_overflow,
        source=source,
        **extra,
    )


def mark(root: Path, reports: Reports, name: str = "mark") -> None:
    """Wait until everything that happened so far is reported: events come in order."""
    (root / name).write_bytes(b"")
    reports.until(lambda: name in reports.files)


def pass_turn(root: Path, reports: Reports) -> None:
    """Wait until the watcher has done all that it was asked so far: first in its turn are events, then requests."""
    for _ in range(2):
        mark(root, reports, f"turn-{len(reports.files)}")


def scan(watcher: Watcher, now: float) -> list[str]:
    return sorted(key for batch in watcher.scan(now) for key in batch)
