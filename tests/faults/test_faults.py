"""Whatever S3 answers, nothing is lost: seeds of faults, each reproducible by its number.

``make chaos`` runs many; SILVERSMITH_CHAOS_SEEDS says how many, SILVERSMITH_CHAOS_SEED runs one alone.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.faults.world import World

ONE = os.environ.get("SILVERSMITH_CHAOS_SEED")
SEEDS = [int(ONE)] if ONE else range(int(os.environ.get("SILVERSMITH_CHAOS_SEEDS", "3")))


@pytest.mark.parametrize("seed", SEEDS)
def test_one_right_silver_object_for_each_file(seed: int, tmp_path: Path) -> None:
    result = World(seed, tmp_path).run()
    print(result)
    assert not result.problems
