"""docs/cookbook.md: each recipe makes of its files the silver that it shows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from silversmith.pipeline import load
from silversmith.testing import run
from tests.markdown import ROOT, Block, blocks

PAGE = (ROOT / "docs/cookbook.md").read_text("utf-8")
SECTIONS = dict(re.findall(r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))


def recipe(title: str) -> tuple[str, dict[str, str], dict[str, str]]:
    """The pipeline of a section, its files by key, and its silver by transform."""
    code, files, silver = "", {}, {}
    for block in blocks(SECTIONS[title]):
        if block.language == "python" and not block.options:
            code = block.text
        elif "file" in block.options:
            files[block.options["file"]] = block.text
        elif "silver" in block.options:
            silver[block.options["silver"]] = block.text
    return code, files, silver


RECIPES = [title for title in SECTIONS if recipe(title)[0]]


def test_there_are_recipes() -> None:
    assert len(RECIPES) >= 8
    assert all(recipe(title)[2] for title in RECIPES)


@pytest.mark.parametrize("title", RECIPES)
def test_a_recipe_makes_the_silver_that_it_shows(title: str, tmp_path: Path) -> None:
    code, files, silver = recipe(title)
    (tmp_path / "pipeline.py").write_text(code, "utf-8")
    result = run(load(str(tmp_path / "pipeline.py")), files)
    actual = {(name, key): frame.write_csv() for (name, key), frame in result.silver.items()}
    names = {f"{name}:{key}" if f"{name}:{key}" in silver else name: text for (name, key), text in actual.items()}
    assert names == silver
    assert not result.errors
    assert not result.failures


def test_the_rejected_row_is_as_the_page_says(tmp_path: Path) -> None:
    title = "Read dates and numbers that are not ISO"
    code, files, _ = recipe(title)
    (tmp_path / "pipeline.py").write_text(code, "utf-8")
    (rejected,) = run(load(str(tmp_path / "pipeline.py")), files).rejected.values()
    (reason,) = rejected["reasons"].to_list()
    assert f"`{'; '.join(reason)}`" in " ".join(SECTIONS[title].split())


def query() -> Block:
    (block,) = [block for block in blocks(PAGE) if "query" in block.options]
    return block


def test_the_query(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    code, files, _ = recipe("Write partitioned output")
    (tmp_path / "pipeline.py").write_text(code, "utf-8")
    for (transform, key), frame in run(load(str(tmp_path / "pipeline.py")), files).silver.items():
        path = tmp_path / f"lake/dl-silver-layer/{transform}/{key}.parquet"
        path.parent.mkdir(parents=True)
        frame.write_parquet(path)
    monkeypatch.chdir(tmp_path)
    exec(compile(query().text, "docs/cookbook.md", "exec"), {})
    assert "10.5" in capsys.readouterr().out


def test_the_deployment() -> None:
    (block,) = [block for block in blocks(PAGE) if "deployment" in block.options]
    names: dict[str, object] = {}
    exec(compile(block.text, "docs/cookbook.md", "exec"), names)
    assert "deployment" in names
