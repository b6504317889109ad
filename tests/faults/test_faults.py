"""Nothing is lost, whatever S3 answers: seeds of faults, each reproducible by its number.

``make chaos`` is the long form. SILVERSMITH_CHAOS_SEEDS: how many seeds of it; SILVERSMITH_CHAOS_SEED: one alone.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.world import Result, World, table

LONG = int(os.environ.get("SILVERSMITH_CHAOS_SEEDS", "0"))
ONE = os.environ.get("SILVERSMITH_CHAOS_SEED")
SEEDS = [int(ONE)] if ONE else range(LONG or 3)

#: How many files land, and how many of them are replaced.
KEYS, OVERWRITES = (80, 60) if LONG or ONE else (30, 20)


@pytest.fixture(scope="module")
def results() -> Iterator[list[Result]]:
    """The results of all seeds, printed as a table in the end."""
    results: list[Result] = []
    yield results
    print(f"\n\n{table(results)}")


@pytest.mark.parametrize("seed", SEEDS)
def test_each_file_has_one_right_silver_object(seed: int, results: list[Result], tmp_path: Path) -> None:
    result = World(seed, tmp_path, keys=KEYS, overwrites=OVERWRITES).run()
    results.append(result)
    assert not result.problems


@pytest.mark.parametrize("seed", [SEEDS[0]])
def test_functions_with_several_threads_lose_nothing(seed: int, results: list[Result], tmp_path: Path) -> None:
    result = World(seed, tmp_path, keys=KEYS, overwrites=OVERWRITES, io_threads=4).run()
    results.append(result)
    assert not result.problems


def test_a_seed_gives_the_same_faults_each_time(tmp_path: Path) -> None:
    first, second = (World(7, tmp_path, keys=8, overwrites=5, large=False) for _ in range(2))
    first.run()
    second.run()
    assert first.story() == second.story()
    assert len(first.story()) > 50
