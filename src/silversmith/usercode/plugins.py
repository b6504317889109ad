"""What installed packages offer under a name: readers and writers.

https://packaging.python.org/en/latest/specifications/entry-points/
"""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from silversmith.errors import DefinitionError


def named(group: str, name: str, problem_of: Callable[[object], str]) -> Any:
    """The object that an installed package offers in a group; of a class, an object made without arguments.

    Args:
        group: ``silversmith.readers`` or ``silversmith.pipeline.writers``.
        name: of the entry point.
        problem_of: what keeps an object from being one of the group, or nothing.

    Raises:
        DefinitionError: there is none of that name, there are two, or what is there cannot be loaded or is none.
    """
    kind = group.rpartition(".")[2].removesuffix("s")
    points = entry_points(group=group)
    found = {one.value: one for one in points if one.name == name}
    if not found:
        there = ", ".join(sorted({one.name for one in points})) or "none"
        raise DefinitionError(
            f"no installed package offers a {kind} {name!r}; there are: {there}. Install the package that has it, or "
            f"give the {kind} itself: an object, not its name"
        )
    if len(found) > 1:
        raise DefinitionError(
            f"several installed packages offer a {kind} {name!r}: {', '.join(sorted(found))}. Remove all but one, or "
            f"give the {kind} itself"
        )
    (point,) = found.values()
    return _loaded(point, kind, problem_of)


def _loaded(point: EntryPoint, kind: str, problem_of: Callable[[object], str]) -> object:
    place = f"the {kind} {point.name!r}, {point.value} of an installed package,"
    try:
        found = point.load()
        found = found() if isinstance(found, type) else found
    except Exception as error:
        raise DefinitionError(f"{place} cannot be loaded: {type(error).__name__}: {error}") from error
    problem = problem_of(found)
    if problem:
        raise DefinitionError(f"{place} is none: {problem}")
    return found


def problem_of(value: object, method: str, signature: str) -> str:
    """What keeps an object from having a name and a method, or nothing."""
    if isinstance(value, type):
        return f"it is the class {value.__name__}; give an object: {value.__name__}()"
    if not callable(getattr(value, method, None)):
        return f"{type(value).__name__} has no method {signature}"
    name = getattr(value, "name", None)
    if not isinstance(name, str) or not re.fullmatch(r"[a-z][a-z0-9-]{0,39}", name):
        return f"its name is {name!r}; it must be lower-case letters, digits and '-', at most 40, a letter first"
    return ""
