"""The pytest plugin: what pytest loads by itself wherever Silversmith is installed. docs/testing.md

Nothing of Silversmith is imported before a test asks for it: this is loaded in every test run of whoever has installed
Silversmith, also in those that have nothing to do with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest

if TYPE_CHECKING:
    from silversmith.pipeline import Pipeline
    from silversmith.testing import Files, Result

_SETTING = "silversmith_pipeline"
_LOADED = pytest.StashKey[dict[str, "Pipeline"]]()


class Run(Protocol):
    """Runs the pipeline over files: :func:`silversmith.testing.run`."""

    def __call__(
        self, *landings: Files, pipeline: Pipeline | None = None, secrets: Mapping[str, str] | None = None
    ) -> Result: ...


class RunEngine(Protocol):
    """Runs the pipeline over files, through the whole engine: :func:`silversmith.testing.run_engine`."""

    def __call__(self, *landings: Files, workers: int = 1, timeout: float = 60) -> Result: ...


def pytest_addoption(parser: pytest.Parser) -> None:
    """Where the pipeline is, when it is not in the ``pipeline.py`` next to the tests or in a folder above them."""
    parser.addini(_SETTING, "the pipeline under test: path/to/file.py, or package.module:attribute", default="")


@pytest.fixture
def pipeline_target(request: pytest.FixtureRequest) -> str:
    """Where the pipeline under test is: the ini setting ``silversmith_pipeline``, which is seen from pytest's root
    folder, or the nearest ``pipeline.py`` in the test's folder and those above it, up to the root."""
    named: str = request.config.getini(_SETTING)
    root = request.config.rootpath
    if named:
        place, colon, attribute = named.partition(":")
        return f"{root / place}{colon}{attribute}" if place.endswith(".py") else named
    here = request.path.parent
    for folder in [here, *here.parents]:
        if (folder / "pipeline.py").is_file():
            return str(folder / "pipeline.py")
        if folder == root:
            break
    raise pytest.UsageError(
        f"there is no pipeline.py in {here} or above, up to {root}: set {_SETTING} in pytest's settings, or write a "
        "fixture `pipeline` that returns the Pipeline"
    )


@pytest.fixture
def pipeline(request: pytest.FixtureRequest, pipeline_target: str) -> Pipeline:
    """The pipeline under test. Write a fixture of this name to test another."""
    from silversmith.pipeline import load

    loaded = request.config.stash.setdefault(_LOADED, {})
    if pipeline_target not in loaded:
        loaded[pipeline_target] = load(pipeline_target)
    return loaded[pipeline_target]


@pytest.fixture
def pipeline_run(request: pytest.FixtureRequest) -> Run:
    """``pipeline_run({"orders/1.csv": "id,total\\n1,2.5\\n"})``: what the pipeline makes of files, in milliseconds."""
    from silversmith.testing import run

    def run_pipeline(
        *landings: Files, pipeline: Pipeline | None = None, secrets: Mapping[str, str] | None = None
    ) -> Result:
        chosen: Pipeline = pipeline if pipeline is not None else request.getfixturevalue("pipeline")
        return run(chosen, *landings, secrets=secrets)

    return run_pipeline


@pytest.fixture
def engine_run(pipeline_target: str, tmp_path_factory: pytest.TempPathFactory) -> RunEngine:
    """As ``pipeline_run``, through the whole engine of this machine, in a lake of its own: in a second or so."""
    from silversmith.testing import run_engine

    def run_in_lake(*landings: Files, workers: int = 1, timeout: float = 60) -> Result:
        folder: Path = tmp_path_factory.mktemp("lake")
        return run_engine(pipeline_target, *landings, folder=folder, workers=workers, timeout=timeout)

    return run_in_lake
