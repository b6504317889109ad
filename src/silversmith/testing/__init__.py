"""The test kit: what a pipeline makes of files, in a test, in milliseconds. docs/testing.md

As a pytest plugin it has the fixtures ``pipeline``, ``pipeline_run`` and ``engine_run``. Without pytest, and in tests
of hypothesis, :func:`run` does the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from silversmith.testing.result import Result, assert_same
    from silversmith.testing.running import Content, Files, context, encode, run, run_engine

__all__ = ["Content", "Files", "Result", "assert_same", "context", "encode", "run", "run_engine"]

#: The module of each name. Every pytest run imports this package to load the plugin, so the modules are loaded late.
_LATE = {
    "Content": "running",
    "Files": "running",
    "Result": "result",
    "assert_same": "result",
    "context": "running",
    "encode": "running",
    "run": "running",
    "run_engine": "running",
}


def __getattr__(name: str) -> object:
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(f"{__name__}.{_LATE[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
