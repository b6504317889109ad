"""No change of the public API goes unnoticed: docs/decisions/0102-the-public-api-is-written-down.md"""

from __future__ import annotations

import difflib
import inspect

import pytest

import silversmith
from tests.api import WRITTEN, described


def test_the_public_api_is_what_is_written_down() -> None:
    before, now = WRITTEN.read_text("utf-8").splitlines(), described().splitlines()
    difference = "\n".join(difflib.unified_diff(before, now, "tests/api.txt", "now", lineterm="", n=0))
    assert not difference, f"the public API has changed. If that is meant: make api, and CHANGELOG.md\n{difference}"


@pytest.mark.parametrize("name", silversmith.__all__)
def test_every_public_name_says_what_it_is(name: str) -> None:
    assert len(inspect.getdoc(getattr(silversmith, name)) or "") > 20
