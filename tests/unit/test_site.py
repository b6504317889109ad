"""The site is built without a warning, and has every page and every public name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import silversmith
from tests.markdown import ROOT


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
