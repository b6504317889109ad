from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from silversmith.stores import batched, map_in_threads


@given(st.lists(st.integers()), st.integers(1, 4))
def test_the_answers_come_in_the_order_of_the_questions(items: list[int], workers: int) -> None:
    assert list(map_in_threads(lambda item: item * 2, items, workers)) == [item * 2 for item in items]


def test_questions_are_asked_at_once() -> None:
    together = threading.Barrier(3, timeout=30)
    assert len(list(map_in_threads(lambda _: together.wait(), range(3), 3))) == 3


@pytest.mark.parametrize("workers", [1, 2])
def test_only_a_few_are_taken_ahead(workers: int) -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for item in range(10_000):
            taken.append(item)
            yield item

    answers = map_in_threads(lambda item: item, items(), workers)
    for answer in range(100):
        assert next(answers) == answer
        assert len(taken) <= answer + 4 * workers
    del answers


@pytest.mark.parametrize("workers", [1, 3])
def test_a_failure_is_raised_in_its_turn(workers: int) -> None:
    answers = map_in_threads(lambda item: 1 // item, [1, 1, 0, 1], workers)
    assert [next(answers), next(answers)] == [1, 1]
    with pytest.raises(ZeroDivisionError):
        next(answers)


@given(st.lists(st.integers()), st.integers(1, 5))
def test_batches_are_full_but_for_the_last(items: list[int], most: int) -> None:
    batches = list(batched(items, most))
    assert [item for batch in batches for item in batch] == items
    assert all(len(batch) == most for batch in batches[:-1])
    assert all(batches)
