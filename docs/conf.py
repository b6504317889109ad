"""How the site is made: ``make docs``. docs/decisions/0101-the-site-is-made-by-sphinx.md"""

project = "Silversmith"
html_title = "Silversmith"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_*"]
html_theme = "furo"

myst_heading_anchors = 4
suppress_warnings = [
    "myst.xref_missing",  # links out of docs/: tests/unit/test_docs.py checks every link and every anchor
    "misc.highlighting_failure",
]

napoleon_use_ivar = True  # else what a class's docstring lists would be described twice
autodoc_typehints = "none"  # the signatures are short; types are in the docstrings where they are not obvious
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "undoc-members": False}
