"""The site is built without a warning, has every page and every public name, and none of its links is dead."""

from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

import silversmith
from tests.markdown import ROOT


class Links(HTMLParser):
    """The links and pictures of a page, and the ids that others can link to."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.ids: set[str] = set()
        self.feed(page.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.ids.add(values.get("id") or "")
        target = values.get("href") if tag == "a" else values.get("src") if tag == "img" else None
        if target and not re.match(r"\w+:", target):
            self.targets.append(target)


def dead_links(site: Path) -> list[str]:
    pages = {page: Links(page) for page in site.rglob("*.html")}
    dead = []
    for page, links in pages.items():
        for target in links.targets:
            path, _, fragment = target.partition("#")
            file = (page.parent / unquote(path)).resolve() if path else page
            if not file.exists() or (fragment and file in pages and fragment not in pages[file].ids):
                dead.append(f"{page.relative_to(site)}: {target}")
    return sorted(dead)


def test_a_dead_link_is_found(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text('<a href="b.html#there"></a><a href="b.html#no"></a><img src="c.png"><p id="x">')
    (tmp_path / "b.html").write_text('<p id="there"><a href="#nowhere"></a><a href="https://example.com/"></a>')
    assert dead_links(tmp_path) == ["a.html: b.html#no", "a.html: c.png", "b.html: #nowhere"]


@pytest.mark.full
def test_the_site_is_built(tmp_path: Path) -> None:
    command: list[str | Path] = [
        sys.executable,
        "-m",
        "sphinx",
        "-q",
        "-W",
        "--keep-going",
        "-b",
        "html",
        "docs",
        tmp_path,
    ]
    done = subprocess.run(
        [*command, "-d", tmp_path / "trees"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    for page in ROOT.glob("docs/**/*.md"):
        assert (tmp_path / page.relative_to(ROOT / "docs")).with_suffix(".html").exists()
    reference = (tmp_path / "reference.html").read_text("utf-8")
    for public in silversmith.__all__:
        assert f'.{public}"' in reference, public
    assert dead_links(tmp_path) == []
