"""The pipeline's definition while the engine runs: loaded again when its files change."""

from __future__ import annotations

import logging
from contextlib import suppress
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
        self._work: tuple[object, ...] | None = None
        with suppress(DefinitionError):  # the page shows a pipeline of tables without their packages
            self._work = _work(pipeline)  # as it is now: a patch may read what changes, too
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
            work = _work(pipeline)
        except (DefinitionError, UnsupportedTemplate, UnsupportedPolicy, InvalidPattern) as error:
            _log.error("the pipeline's new definition is not taken: %s", error)
            return None
        self._files = imported_files()
        self._state = _state(self._files)
        if work == self._work:
            return None
        self._work = work
        return pipeline


def _work(pipeline: Pipeline) -> tuple[object, ...]:
    """Everything on which the engine's work depends: the template, the code of each transform, and the tables.

    Raises:
        DefinitionError, UnsupportedTemplate, UnsupportedPolicy, InvalidPattern: the engine could not run it.
    """
    template = compile_for_engine(pipeline)
    read(template)
    code = [
        (each.name, each.fingerprint, each.pattern.text, dict(each.secrets), each.since, each.was)
        for each in pipeline.transforms
    ]
    return template, code, pipeline.tables


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
