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


def __getattr__(name: str) -> object:
    # every run of pytest imports this package to load the plugin, so its modules are loaded late
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    module = "result" if name in {"Result", "assert_same"} else "running"
    value = globals()[name] = getattr(import_module(f"{__name__}.{module}"), name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
