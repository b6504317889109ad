"""The files of a new project, and that nothing is overwritten."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from silversmith import Pipeline
from silversmith.operations import WrongCall
from silversmith.operations.project import EXAMPLES, name_of, plan, write
from silversmith.pipeline import limits
from silversmith.pipeline.deployment import GOLD, ROLES

EVERY = [None, *EXAMPLES]


@pytest.mark.parametrize("example", EVERY)
def test_it_has_all_that_a_project_needs_under_its_own_name(example: str | None, tmp_path: Path) -> None:
    project = plan(tmp_path / "Shop Floor_2", example, ending="0123abcd")
    assert project.name == "shop-floor-2"
    assert set(project.files) >= {
        "pipeline.py", "tests/test_pipeline.py", "README.md",
        "pyproject.toml", ".gitignore", ".github/workflows/ci.yml",
    }  # fmt: skip
    assert any(path.startswith("data/") for path in project.files)
    assert not any("__pycache__" in path for path in project.files)
    assert tomllib.loads(project.files["pyproject.toml"].decode())["project"]["name"] == "shop-floor-2"
    assert tomllib.loads(project.files["pyproject.toml"].decode())["project"]["dependencies"] == ["silversmith[tables]"]
    code = project.files["pipeline.py"].decode()
    assert 'Pipeline("shop-floor-2")' in code
    assert re.findall(r'(\w+)="(shop-floor-2-\w+-0123abcd)"', code) == [
        (role, f"shop-floor-2-{role}-0123abcd")
        for role in ("bronze", "silver", "quarantine", *(["gold"] if example is None else []))
    ]
    for content in project.files.values():
        assert b"my-project" not in content


NAMES = st.text(st.characters(exclude_characters="/\0", codec="utf-8"), min_size=1)


@given(NAMES.filter(lambda name: set(name) != {"."}))
def test_every_folder_gives_a_name_that_aws_takes(folder: str) -> None:
    name = name_of(Path("/somewhere") / folder)
    bronze, silver, quarantine, gold = (f"{name}-{role}-0123abcd" for role in (*ROLES, GOLD))
    Pipeline(name, bronze=bronze, silver=silver, quarantine=quarantine, gold=gold)
    assert limits.pipeline_name(name) == ""


def test_nothing_is_overwritten_and_nothing_begun(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("mine")
    (tmp_path / "pipeline.py").symlink_to("nowhere.py")
    with pytest.raises(WrongCall, match=r"pipeline\.py, .*README\.md are there already|README\.md, .*pipeline\.py are"):
        write(plan(tmp_path, None, ending="0"))
    assert {path.name for path in tmp_path.iterdir()} == {"README.md", "pipeline.py"}
    assert (tmp_path / "README.md").read_text() == "mine"


def test_a_folder_that_holds_other_things_is_fine(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    project = plan(tmp_path, None, ending="0")
    assert {path.relative_to(tmp_path).as_posix() for path in write(project)} == set(project.files)


def test_an_example_that_there_is_not() -> None:
    with pytest.raises(WrongCall, match=r"no example 'x'; there are: messy-csv \(.*\); music-api \("):
        plan(Path("p"), "x", ending="0")
