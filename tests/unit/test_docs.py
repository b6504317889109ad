"""Every page does what it says: its commands and code are run, its links lead somewhere. tests/markdown.py says how."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

from tests.markdown import ROOT, Block, anchors, blocks, commands, links, name, pages

#: Pages that another test runs, which must speak of them.
ELSEWHERE = {
    "README.md": "tests/unit/test_readme.py",
    "docs/testing.md": "tests/unit/testing/test_page.py",
    "docs/deploy.md": "tests/deploy/test_pages.py",
    "docs/patterns.md": "tests/unit/patterns/test_docs.py",
    "docs/readers.md": "tests/unit/test_own_pages.py",
    "docs/tables.md": "tests/unit/tables/test_page.py",
    "docs/cookbook.md": "tests/unit/test_cookbook.py",
}

#: What is not run, and is not to be checked otherwise: for reading, for other programs, or for the site.
READ_ONLY = {"", "text", "csv", "xml", "sql", "yaml", "{toctree}", "{eval-rst}"}


def elsewhere(page: Path) -> bool:
    return name(page) in ELSEWHERE or page.parent in {ROOT / "docs/formats", ROOT / "docs/errors"}


#: A decision shows what was when it was made; the examples have tests of their own, which run them from `init` on.
RUN = [page for page in pages() if not elsewhere(page) and not name(page).startswith(("docs/decisions/", "examples/"))]

#: Pages whose commands take long; the README's run in the fast tier.
LONG = {"docs/tutorial.md", "docs/install.md", "docs/aws-logs.md"}


@pytest.mark.parametrize(
    "page", [pytest.param(page, marks=[pytest.mark.full] * (name(page) in LONG)) for page in RUN], ids=name
)
def test_examples_of_a_page_are_true(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    module = ModuleType("page")
    monkeypatch.setitem(sys.modules, "page", module)  # where dataclasses look for their module
    for block in blocks(page.read_text("utf-8")):
        if "file" in block.options:
            path = tmp_path / block.options["file"]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, "utf-8")
        elif block.language == "console":
            run(block, tmp_path)
        elif block.language == "python":
            exec(compile(block.text, name(page), "exec"), vars(module))
        elif block.language == "json":
            json.loads(block.text)
        elif block.language == "toml":
            tomllib.loads(block.text)
        else:
            assert block.language in READ_ONLY, f"what is a {block.language!r} block? tests/markdown.py"


def run(block: Block, folder: Path) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for command in commands(block):
        done = subprocess.run(
            ["bash", "-c", command.line],
            cwd=folder,
            env={**os.environ, "PATH": path, "COLUMNS": "120"},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        shown = done.stdout + done.stderr
        assert done.returncode == 0, f"$ {command.line}\n{shown}"
        for line in command.shows:
            assert line in shown, f"$ {command.line}\n{shown}"


@pytest.mark.parametrize("page", [*pages(), *ROOT.glob("bench/**/*.md")], ids=name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in links(page.read_text("utf-8")):
        if re.match(r"https://|mailto:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.is_relative_to(ROOT), link
        assert target.exists(), link
        if anchor and target.suffix == ".md":
            assert anchor in anchors(target.read_text("utf-8")), f"{link}: there is no such heading"


def test_every_page_of_the_site_is_in_the_navigation_once() -> None:
    listed: list[str] = []
    for page in ROOT.glob("docs/**/*.md"):
        for block in blocks(page.read_text("utf-8")):
            if block.language == "{toctree}":
                entries = [line for line in block.text.splitlines() if line and not line.startswith(":")]
                for entry in entries:
                    listed += [name(path) for path in page.parent.glob(f"{entry}.md")] or [f"{entry}: no page"]
    assert sorted(listed) == sorted({name(page) for page in ROOT.glob("docs/**/*.md")} - {"docs/index.md"})


def test_every_test_that_enforces_an_invariant_is_there() -> None:
    """A name without a folder is a file beside the one before it."""
    folder = ROOT
    text = (ROOT / "INVARIANTS.md").read_text("utf-8")
    for path in re.findall(r"`((?:(?:tests|bench)/)?[\w/]+(?:\.py)?)`", text):
        if path.startswith(("tests/", "bench/")):
            assert (ROOT / path).exists(), path
            folder = (ROOT / path).parent
        elif path.startswith("test_"):
            assert (folder / path).exists(), f"{path} beside {folder}"


@pytest.mark.parametrize(("page", "test"), ELSEWHERE.items())
def test_examples_marked_as_run_elsewhere_are(page: str, test: str) -> None:
    assert page.rpartition("/")[2] in (ROOT / test).read_text("utf-8")


def test_there_is_a_page_of_each_kind() -> None:
    assert {f"docs/{kind}.md" for kind in ("tutorial", "explanation", "comparison", "reference", "index")} <= {
        name(page) for page in pages()
    }


def test_every_test_that_the_invariants_name_is_there() -> None:
    named = re.findall(r"`((?:bench|docs|tests)/[^`]*)`", (ROOT / "INVARIANTS.md").read_text("utf-8"))
    assert len(named) > 40
    assert [path for path in named if not (ROOT / path.partition("::")[0]).exists()] == []


@pytest.mark.parametrize("page", sorted(ROOT.glob("docs/decisions/*.md")), ids=name)
def test_a_decision_is_half_a_page(page: Path) -> None:
    text = page.read_text("utf-8")
    assert len(text.split()) <= 250, "measurements go to bench/notes/"
    assert text.startswith(f"# {int(page.name[:4])}. "), "the heading is the number and the decision in words"
    assert "**Decision" in text


def test_every_note_is_in_the_index() -> None:
    notes = ROOT / "bench/notes"
    listed = links((notes / "README.md").read_text("utf-8"))
    assert sorted(listed) == sorted(path.name for path in notes.glob("*.md") if path.name != "README.md")


def test_the_life_of_a_file_names_what_there_is() -> None:
    """A name after a module is a class or a function of it."""
    text = (ROOT / "docs/architecture.md").read_text("utf-8")
    rows = text.partition("## The life of one file")[2].partition("\n## ")[0]
    source = ""
    checked = 0
    for place in re.findall(r"`([\w./]+)`", rows):
        if place.endswith(".py"):
            source = (ROOT / "src/silversmith" / place).read_text("utf-8")
        else:
            assert re.search(rf"^ *(def|class) {place.rpartition('.')[2]}\b", source, re.MULTILINE), place
            checked += 1
    assert checked >= 10
