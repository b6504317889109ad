"""A pipeline over the files of a test, through the whole engine: bucket, rule, topic, queue, worker processes."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from silversmith.local.engine import Engine
from silversmith.local.lake import LakeFolder
from silversmith.operations.local import open_lake
from silversmith.pipeline import load
from silversmith.testing.files import Files, encode
from silversmith.testing.result import Result, collect


class NotIdle(AssertionError):
    """The engine was still at work when its time was over."""


def run_engine(target: str, *landings: Files, folder: Path, workers: int = 1, timeout: float = 60) -> Result:
    """What the engine makes of files, as ``silversmith run --until-idle`` would. Takes a second or so.

    Args:
        target: where the pipeline is, as on the command line: the workers load it from there.
        landings: what lands in bronze, by key; each when the one before is done.
        folder: becomes the lake.
        workers: how many worker processes.
        timeout: in seconds, of each landing.

    Raises:
        DefinitionError: there is no such pipeline.
        NotIdle: the time was over.
    """
    pipeline = load(target)
    lake = LakeFolder(folder)
    lake.create(pipeline.bronze, pipeline.silver, pipeline.quarantine)
    keys: dict[str, None] = {}
    for files in landings:
        bronze = lake.store(pipeline.bronze, foreign_writers=True)
        for key, content in files.items():
            bronze.put(key, encode(key, content))
        keys |= dict.fromkeys(files)
        _until_idle(Engine(lake, pipeline, target=target, workers=workers), timeout)
    failures: dict[tuple[str, str], dict[str, Any]] = {}
    with open_lake(lake, pipeline) as opened:
        for message in opened.dead():
            error = dict(message.error or {"code": "Undelivered", "message": message.reason})
            names = [message.transform] if message.transform else [one.name for one in pipeline.matching(message.key)]
            failures |= {(name, message.key): error for name in names}
    return collect(pipeline, lake.stores(pipeline), list(keys), failures)


def _until_idle(engine: Engine, timeout: float) -> None:
    ends = time.monotonic() + timeout
    is_late = False

    def late() -> bool:
        nonlocal is_late
        is_late = time.monotonic() >= ends
        return is_late

    try:
        progress = engine.run(until_idle=True, stopped=late, tick=lambda _: None)
    finally:
        engine.close()
    if is_late:
        raise NotIdle(f"the engine was not done within {timeout:g} s: {progress}")
