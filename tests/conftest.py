"""Rules for every test: hypothesis never judges how busy the machine is, and repeats the same examples in every run.

Tests of the folders in :data:`FULL`, and those with ``@pytest.mark.full``, are the full tier: ``make test-full``.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

#: Folders whose tests start engines, kill processes, deploy, drive a browser, or read whole corpora.
FULL = frozenset({"crash", "data", "deploy", "engine", "faults", "fuzz", "page"})

#: ``make fuzz`` sets how many examples there are, and means random ones.
_EXAMPLES = os.environ.get("SILVERSMITH_EXAMPLES")

settings.register_profile(
    "silversmith",
    deadline=None,
    max_examples=int(_EXAMPLES or "100"),
    derandomize=_EXAMPLES is None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("silversmith")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here) and item.path.relative_to(here).parts[0] in FULL:
            item.add_marker(pytest.mark.full)
