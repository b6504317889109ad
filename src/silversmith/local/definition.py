"""The pipeline's definition while the engine runs: loaded again when its files change."""

from __future__ import annotations

import logging
from pathlib import Path

from silversmith.errors import DefinitionError
from silversmith.pipeline import Pipeline, load
from silversmith.usercode.loading import imported_files

_log = logging.getLogger("silversmith")

#: A file's path, time of change in nanoseconds, and size in bytes.
_State = tuple[tuple[str, int, int], ...]


class Definition:
    """The files that a pipeline is defined in.

    Args:
        target: ``path/to/file.py`` or ``package.module:attribute``.
        pipeline: what was loaded from it.
    """

    def __init__(self, target: str, pipeline: Pipeline) -> None:
        self.target = target
        self._fingerprints = _fingerprints(pipeline)
        self._files = imported_files()
        self._state = _state(self._files)

    def changed(self) -> Pipeline | None:
        """The new definition, if the files changed since the last call and mean something else; None otherwise.

        One that cannot be loaded is reported and passed over: the engine goes on with the one it has.
        """
        state = _state(self._files)
        if state == self._state:
            return None
        self._state = state
        try:
            pipeline = load(self.target)
        except DefinitionError as error:
            _log.error("the pipeline's new definition is not taken: %s", error)
            return None
        self._files = imported_files()
        self._state = _state(self._files)
        found = _fingerprints(pipeline)
        if found == self._fingerprints:
            return None
        self._fingerprints = found
        return pipeline


def _fingerprints(pipeline: Pipeline) -> tuple[object, ...]:
    """All that the engine would do otherwise: the buckets, and each transform with its options."""
    buckets = (pipeline.name, pipeline.bronze, pipeline.silver, pipeline.quarantine)
    options = [
        (
            transform.name,
            transform.fingerprint,
            transform.pattern.text,
            transform.batch_size,
            transform.batch_window,
            transform.memory,
            transform.timeout,
            transform.maximum_concurrency,
            transform.max_receive_count,
        )
        for transform in pipeline.transforms
    ]
    return (*buckets, *options)


def _state(files: list[Path]) -> _State:
    found = []
    for path in files:
        try:
            stat = path.stat()
        except OSError:
            found.append((str(path), 0, 0))
        else:
            found.append((str(path), stat.st_mtime_ns, stat.st_size))
    return tuple(found)
