"""The public API as text: every public name with its signature. ``python tests/api.py`` rewrites ``api.txt``."""

from __future__ import annotations

import dataclasses
import enum
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

MODULES = ("silversmith", "silversmith.logs", "silversmith.patterns", "silversmith.testing")

WRITTEN = Path(__file__).with_name("api.txt")


def described() -> str:
    """All of it, a name a line, those of a class indented below it."""
    text = "".join(f"{line}\n" for module in MODULES for line in _module(module))
    return re.sub(r" at 0x[0-9a-f]+", "", text)  # where a default is in memory is nobody's API


def _module(name: str) -> Iterator[str]:
    module = importlib.import_module(name)
    yield f"# {name}"
    for public in sorted(module.__all__):
        result = getattr(module, public)
        if inspect.isclass(result):
            yield from _class(public, result)
        elif inspect.isroutine(result):
            yield f"def {public}{inspect.signature(result)}"
        else:
            yield f"{public} = {_value(result)}"
    yield ""


def _value(actual: object) -> str:
    """A log with its columns: silver that was made has them, so they are an API."""
    columns = getattr(actual, "columns", None)
    return f"Log({', '.join(f'{name}: {dtype}' for name, dtype in columns.items())})" if columns else str(actual)


def _class(name: str, actual: type) -> Iterator[str]:
    bases = ", ".join(base.__name__ for base in actual.__bases__ if base is not object)
    yield f"class {name}({bases})" if bases else f"class {name}"
    if issubclass(actual, enum.Enum):
        yield from (f"    {member.name} = {member.value!r}" for member in actual)
        return
    if actual.__init__ is not object.__init__ and not getattr(actual, "_is_protocol", False):
        yield f"    {_signature('__init__', actual.__init__)}"
    fields = {field.name for field in dataclasses.fields(actual)} if dataclasses.is_dataclass(actual) else set()
    for member in sorted(set(dir(actual)) - fields):
        if member.startswith("_") or (issubclass(actual, BaseException) and hasattr(Exception, member)):
            continue
        value = inspect.getattr_static(actual, member)
        if isinstance(value, property):
            yield f"    {member}: {inspect.signature(value.fget).return_annotation if value.fget else '?'}"
        elif isinstance(value, (staticmethod, classmethod)):
            yield f"    {type(value).__name__} {_signature(member, value.__func__)}"
        elif callable(value):
            yield f"    {_signature(member, value)}"
        else:
            yield f"    {member}"


def _signature(name: str, function: object) -> str:
    return f"def {name}{inspect.signature(function)}"  # type: ignore[arg-type]


if __name__ == "__main__":
    WRITTEN.write_text(described(), encoding="utf-8")
