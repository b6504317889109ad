"""A user's installation: wheel and sdist are built, installed into an empty environment, imported, typed."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from silversmith.aws.packages import find_uv
from silversmith.operations.project import EXAMPLES, SKIPPED

ROOT = Path(__file__).parents[2]

#: Needs pytest or an extra: imported by those alone who have it.
OPTIONAL = (
    "silversmith.cdk",
    "silversmith.operations.prometheus",
    "silversmith.operations.spans",
    "silversmith.local.table_worker",
    "silversmith.testing",
    "silversmith.page",
    *(f"silversmith.tables.{name}" for name in ("commit", "compare", "delta", "format", "handler", "lineage")),
    *(f"silversmith.tables.{name}" for name in ("types", "upkeep", "views")),
)

PROGRAM = """
import polars as pl
from typing import assert_type

from silversmith import Contract, Csv, DataError, Deployment, Pipeline
from silversmith.patterns import Matcher, compile_pattern

pipeline = Pipeline("shop", bronze="b", silver="s", quarantine="q")

@pipeline.transform("orders/*.csv", contract=Contract(schema={"id": pl.Int64}), reader=Csv(separator=";"))
def orders(rows: pl.LazyFrame) -> pl.LazyFrame:
    return rows.with_columns(pl.col("id") * 2)

assert_type(orders(pl.LazyFrame({"id": [1]})), pl.LazyFrame)
assert_type(pipeline, Pipeline)
assert_type(compile_pattern({"source": ["aws.s3"]}), Matcher)
stage = Deployment(prefix="test", reserved_concurrency={"orders": 4})
try:
    raise DataError("Broken", "broken")
except DataError as error:
    assert_type(error.code, str)
"""

#: Each is a mistake that a user makes, with what mypy must say of it.
MISTAKES = {
    "Pipeline(name=3)": "arg-type",
    'Pipeline("shop").transfrom("*.csv")': "attr-defined",
    'Contract(schema={"id": pl.Int64}, rule={})': "call-arg",
    'Deployment(prefix="test", existing_buckets="bronze")': "arg-type",
    'compile_pattern({"a": [1]}).matches(1, 2)': "call-arg",
}


@dataclass(frozen=True)
class Installed:
    """A wheel and an sdist, and the Python of an environment with the wheel and nothing else."""

    wheel: Path
    sdist: Path
    python: Path


def uv(*arguments: str | Path, folder: Path) -> None:
    program = find_uv()
    assert program is not None
    done = subprocess.run([program, *arguments], cwd=folder, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    folder = tmp_path_factory.mktemp("packaging")
    uv("build", "--quiet", "--out-dir", folder, ROOT, folder=folder)  # the wheel is made of the sdist
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    uv("venv", "--quiet", "--python", sys.executable, folder / "venv", folder=folder)
    python = folder / "venv/bin/python"
    uv("pip", "install", "--quiet", "--python", python, wheel, folder=folder)
    return Installed(wheel, sdist, python)


def run(*command: str | Path, folder: Path) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "VIRTUAL_ENV"}}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False, timeout=240)


def test_the_wheel_has_all_that_is_in_the_source_and_nothing_else(installed: Installed) -> None:
    source = {
        path.relative_to(ROOT / "src").as_posix()
        for path in (ROOT / "src/silversmith").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    source |= {
        f"silversmith/operations/project/{path.relative_to(ROOT / 'examples').as_posix()}"
        for folder, _ in EXAMPLES.values()
        for path in (ROOT / "examples" / folder).rglob("*")
        if path.is_file() and not SKIPPED & set(path.parts)
    }
    with zipfile.ZipFile(installed.wheel) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert "silversmith/py.typed" in names
    assert names == source


def test_the_sdist_has_what_the_wheel_is_made_of(installed: Installed) -> None:
    with tarfile.open(installed.sdist) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    assert {"pyproject.toml", "README.md", "LICENSE", "src/silversmith/py.typed"} <= names
    assert not [name for name in names if name.startswith((".venv", "build/", "dist/")) or "__pycache__" in name]


def test_every_module_can_be_imported_without_extras(installed: Installed, tmp_path: Path) -> None:
    code = f"""
import importlib, pkgutil, silversmith
names = [each.name for each in pkgutil.walk_packages(silversmith.__path__, "silversmith.")
         if not each.name.startswith({OPTIONAL!r}) and not each.name.endswith("__main__")
         and ".project." not in each.name]
for name in names:
    importlib.import_module(name)
print(len(names))
"""
    done = run(installed.python, "-c", code, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 150


def test_a_new_project_says_that_it_needs_the_extra_and_works_with_it(installed: Installed, tmp_path: Path) -> None:
    command = installed.python.with_name("silversmith")
    assert run(command, "--help", folder=tmp_path).returncode == 0
    assert run(command, "init", "shop", folder=tmp_path).returncode == 0
    done = run(command, "run", "--until-idle", folder=tmp_path / "shop")
    assert done.returncode == 2
    assert "pip install 'silversmith[tables]'" in done.stderr

    python = tmp_path / "venv/bin/python"
    uv("venv", "--quiet", "--python", sys.executable, tmp_path / "venv", folder=tmp_path)
    uv("pip", "install", "--quiet", "--python", python, f"{installed.wheel}[tables]", folder=tmp_path)
    done = run(python.with_name("silversmith"), "run", "--until-idle", folder=tmp_path / "shop")
    assert "silversmith put" in done.stdout + done.stderr


def test_an_example_is_in_the_wheel_and_runs(installed: Installed, tmp_path: Path) -> None:
    command, folder = installed.python.with_name("silversmith"), tmp_path / "meters"
    assert run(command, "init", "meters", "--example", "meter-readings", folder=tmp_path).returncode == 0
    assert run(command, "put", "data", folder=folder).returncode == 0
    done = run(command, "run", "--until-idle", "--workers", "1", folder=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "47 rows" in done.stdout


def checked(installed: Installed, program: str, folder: Path) -> str:
    """mypy's report on a user's program with the installed wheel: it reads none of the sources here."""
    (folder / "program.py").write_text(program)
    (folder / "mypy.ini").write_text("[mypy]\nstrict = True\n")
    done = run(
        Path(sys.executable).with_name("mypy"), "--python-executable", installed.python, "program.py", folder=folder
    )
    return done.stdout + done.stderr


def test_a_users_program_is_typed(installed: Installed, tmp_path: Path) -> None:
    assert checked(installed, PROGRAM, tmp_path).startswith("Success"), checked(installed, PROGRAM, tmp_path)


def test_a_users_mistakes_are_found(installed: Installed, tmp_path: Path) -> None:
    report = checked(installed, PROGRAM + "".join(f"{line}\n" for line in MISTAKES), tmp_path).splitlines()
    first = len(PROGRAM.splitlines()) + 1
    for number, kind in enumerate(MISTAKES.values(), start=first):
        assert any(f"program.py:{number}: error" in line and f"[{kind}]" in line for line in report), (number, report)
