"""The pipeline's definition while the engine runs: loaded again when its files change."""

from __future__ import annotations

import json
import logging
from pathlib import Path

from silversmith.errors import DefinitionError
from silversmith.keypatterns import InvalidPattern
from silversmith.local.iam import UnsupportedPolicy
from silversmith.local.kinds import UnsupportedTemplate
from silversmith.local.stack import read
from silversmith.pipeline import Pipeline, load
from silversmith.template import compile_for_engine
from silversmith.usercode.loading import imported_files

_log = logging.getLogger("silversmith")

#: A file's path, time of change in nanoseconds, and size in bytes.
_State = tuple[tuple[str, int, int], ...]


class Definition:
    """The files that define a pipeline.

    Args:
        target: ``path/to/file.py`` or ``package.module:attribute``.
        pipeline: the one that was loaded from it.
    """

    def __init__(self, target: str, pipeline: Pipeline) -> None:
        self.target = target
        self._fingerprints = _fingerprints(pipeline)
        self._files = imported_files()
        self._state = _state(self._files)

    def changed(self) -> Pipeline | None:
        """The new definition, if the files changed since the last call and the work with them; None otherwise.

        A definition that cannot be loaded is logged and passed over: the engine goes on with the one that it has.
        """
        state = _state(self._files)
        if state == self._state:
            return None
        self._state = state
        try:
            pipeline = load(self.target)
            fingerprints = _fingerprints(pipeline)
        except (DefinitionError, UnsupportedTemplate, UnsupportedPolicy, InvalidPattern) as error:
            _log.error("the pipeline's new definition is not taken: %s", error)
            return None
        self._files = imported_files()
        self._state = _state(self._files)
        if fingerprints == self._fingerprints:
            return None
        self._fingerprints = fingerprints
        return pipeline


def _fingerprints(pipeline: Pipeline) -> tuple[object, ...]:
    """Everything on which the engine's work depends: the buckets, each transform with its options, and the tables."""
    buckets = (pipeline.name, pipeline.bronze, pipeline.silver, pipeline.quarantine, pipeline.gold)
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
            dict(transform.environment),
            dict(transform.secrets),
            transform.permissions,
            transform.since,
            transform.was,
        )
        for transform in pipeline.transforms
    ]
    return (*buckets, *options, pipeline.tables, _patched(pipeline))


def _patched(pipeline: Pipeline) -> str:
    """The template as a patch of the user's made it; empty where there is none.

    Raises:
        DefinitionError, UnsupportedTemplate, UnsupportedPolicy, InvalidPattern: the engine could not run it.
    """
    if all(deployment.patch is None for deployment in pipeline.deployments.values()):
        return ""
    template = compile_for_engine(pipeline)
    read(template)
    return json.dumps(template, sort_keys=True)


def _state(files: list[Path]) -> _State:
    states = []
    for path in files:
        try:
            stat = path.stat()
        except OSError:
            states.append((str(path), 0, 0))
        else:
            states.append((str(path), stat.st_mtime_ns, stat.st_size))
    return tuple(states)
