"""Rules for every test: hypothesis never judges how busy the machine is, and repeats the same examples in every run.

Tests of the folders in :data:`FULL`, and those with ``@pytest.mark.full``, are the full tier: ``make test-full``. It
takes those of hypothesis once more, with all their examples.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import botocore.session
import pytest
from hypothesis import HealthCheck, settings

from tests import examples

#: Folders whose tests start engines, kill processes, deploy, drive a browser, or read whole corpora.
FULL = frozenset({"crash", "data", "deploy", "engine", "faults", "fuzz", "page"})

# AWS's service descriptions are read once, not for every session: that took half of the time of tests with moto.
botocore.session.create_loader = cache(botocore.session.create_loader)


def pytest_configure(config: pytest.Config) -> None:
    examples.is_fast = config.option.markexpr == "not full"
    settings.register_profile(
        "silversmith",
        deadline=None,
        max_examples=examples.examples(100),
        derandomize=not examples.FUZZED,
        suppress_health_check=[HealthCheck.too_slow],
    )
    settings.load_profile("silversmith")


@pytest.fixture(autouse=True)
def import_path() -> Iterator[None]:
    """A pipeline's folder goes on the path when it is loaded, and would hide the next test's modules."""
    before = sys.path[:]
    yield
    sys.path[:] = before


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here) and item.path.relative_to(here).parts[0] in FULL:
            item.add_marker(pytest.mark.full)
