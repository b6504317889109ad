"""How the site is made: ``make docs``. docs/decisions/0101-the-site-is-made-by-sphinx.md"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx

DOCS = Path(__file__).parent

project = "Silversmith"
html_title = "Silversmith"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_*"]
html_theme = "furo"

myst_heading_anchors = 4
suppress_warnings = ["misc.highlighting_failure"]

napoleon_use_ivar = True  # else what a class's docstring lists would be described twice
autodoc_typehints = "description"  # types stand beside each parameter; signatures stay short
autodoc_typehints_description_target = "documented"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "undoc-members": False}


def link_to_files(_: Sphinx, document: str, source: list[str]) -> None:
    """Have links to Markdown outside of ``docs/`` lead to the file itself: the site has no page of it."""

    def file(match: re.Match[str]) -> str:
        target = (DOCS / document).parent / match[1]
        return match[0] if target.resolve().is_relative_to(DOCS) else f"](path:{match[1]})"

    source[0] = re.sub(r"\]\((\.\./[^)#]*\.md)(?:#[^)]*)?\)", file, source[0])


def setup(app: Sphinx) -> None:
    app.connect("source-read", link_to_files)
