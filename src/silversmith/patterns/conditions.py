"""One alternative in a leaf of a pattern, and how several become one test."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple

#: Whether a leaf value of an event (a string, number, boolean or null; never an object or an array) is wanted.
Test = Callable[[Any], bool]


class AnchorKind(Enum):
    """What an index can look a value up by."""

    EXACT = "exact"
    PREFIX = "prefix"
    SUFFIX = "suffix"


class Anchor(NamedTuple):
    """Something that is true of every value that a condition matches: what an index finds the condition by.

    ``value`` of an EXACT anchor is made by :func:`exact_key`; of the others it is the text, never empty.
    """

    kind: AnchorKind
    value: str | int | float | tuple[bool | None]


@dataclass(frozen=True, slots=True)
class Condition:
    """One alternative. ``absent``: it is met where there is no value; then ``test`` never is.

    ``literal`` is the string or number that an exact match is for, ``anchors`` are what an index may use: any one of
    them holds for all that match.
    """

    test: Test
    literal: str | int | float | None = None
    anchors: tuple[Anchor, ...] = ()
    absent: bool = False


def exact_key(value: Any) -> str | int | float | tuple[bool | None]:
    """A key that two leaf values share when they are equal in JSON: 1 and 1.0 do, 1 and true do not."""
    return (value,) if value is None or isinstance(value, bool) else value


def never(_value: Any) -> bool:
    """The test that nothing passes."""
    return False


def any_of(conditions: Iterable[Condition]) -> Test:
    """One test for all alternatives: strings and numbers are looked up, the rest is tried in turn."""
    strings: set[str] = set()
    numbers: set[int | float] = set()
    tests: list[Test] = []
    for condition in conditions:
        if isinstance(condition.literal, str):
            strings.add(condition.literal)
        elif condition.literal is not None:
            numbers.add(condition.literal)
        elif not condition.absent:
            tests.append(condition.test)
    if numbers:
        tests.insert(0, _one_of_numbers(frozenset(numbers)))
    if strings:
        tests.insert(0, _one_of_strings(frozenset(strings)))
    if not tests:
        return never
    return tests[0] if len(tests) == 1 else _first_of(tuple(tests))


def _one_of_strings(strings: frozenset[str]) -> Test:
    if len(strings) == 1:
        (only,) = strings
        return lambda value: bool(value == only)
    return lambda value: isinstance(value, str) and value in strings


def _one_of_numbers(numbers: frozenset[int | float]) -> Test:
    return lambda value: (type(value) is int or type(value) is float) and value in numbers


def _first_of(tests: tuple[Test, ...]) -> Test:
    def test(value: Any) -> bool:
        for alternative in tests:  # noqa: SIM110 - any() with a generator costs twice as much here
            if alternative(value):
                return True
        return False

    return test
