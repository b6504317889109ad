"""A digest of what a transform's code means: the same after reformatting, another one after a change that could matter.

It is taken from the syntax tree of the function and, from there, of every function, class and constant of the user's
own modules that it refers to. Comments, docstrings, annotations of functions and layout are not in it, and nothing
that differs between machines, processes or versions of Python: no paths, no bytecode, no ``repr`` of objects. What
installed packages do is not in it either: a new version of a library makes no silver outdated. But for the packages of
custom readers and writers: a reader that is mended must make what it had read wrongly outdated.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import inspect
import json
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from types import CodeType, FunctionType, MethodType
from typing import Any

from silversmith.usercode.sources import (
    Module,
    Name,
    declares,
    free_names,
    library,
    local_imports,
    module_of,
    named_module,
    source_file,
)


def fingerprint(function: object, *parts: object, followed: tuple[object, ...] = ()) -> str:
    """32 hexadecimal digits for a transform's function and ``parts``: whatever else decides what its silver is.

    ``followed`` are objects, readers and writers of others, whose own packages' code counts though it be installed.
    """
    walk = _Walk(frozenset(type(one).__module__.partition(".")[0] for one in followed))
    values = [walk.value(function), *(walk.value(part) for part in parts)]
    digest = hashlib.sha256(json.dumps([values, sorted(walk.definitions)]).encode())
    return digest.hexdigest()[:32]


class _Walk:
    """One walk over everything that a function refers to. ``definitions`` is what was found on the way."""

    def __init__(self, packages: frozenset[str] = frozenset()) -> None:
        self.definitions: set[str] = set()
        self._seen: set[tuple[str, str]] = set()
        self._values: set[int] = set()
        self._own: str | None = None
        self._packages = packages - {"silversmith"}

    def value(self, value: object) -> Any:
        """A value as JSON that says what it is, and what code it leads to is noted in ``definitions``."""
        if value is None or isinstance(value, bool | int | float | complex | str | bytes):
            return [type(value).__name__, repr(value)]
        if id(value) in self._values:
            return ["again", type(value).__qualname__]  # a function that calls itself, a list within itself
        self._values.add(id(value))
        try:
            return self._compound(value)
        finally:
            self._values.discard(id(value))

    def _compound(self, value: object) -> Any:
        found: Any
        if isinstance(value, list | tuple):
            found = [self.value(item) for item in value]
        elif isinstance(value, set | frozenset):
            found = sorted(json.dumps(self.value(item)) for item in value)
        elif isinstance(value, dict):
            found = [[self.value(key), self.value(item)] for key, item in value.items()]
        elif isinstance(value, functools.partial):
            found = [self.value(value.func), self.value(value.args), self.value(value.keywords)]
        elif isinstance(value, MethodType):
            found = [self.value(value.__func__), self.value(value.__self__)]
        elif isinstance(value, FunctionType):
            found = self._function(value)
        elif isinstance(value, type):
            found = self._class(value)
        else:
            found = [self._class(type(value)), self._state(value)]
        return [type(value).__qualname__, found]

    def _state(self, value: object) -> Any:
        """What a dataclass or an object of the user's own classes holds. Of others nothing can be relied upon."""
        if is_dataclass(value):
            return [[item.name, self.value(getattr(value, item.name))] for item in fields(value)]
        module = module_of(type(value))
        own = module is not None and self._is_own(module.name, module.file)
        return self.value(dict(vars(value))) if own and hasattr(value, "__dict__") else []

    def _class(self, kind: type) -> str:
        module = module_of(kind)
        if module is not None and self._is_own(module.name, module.file):
            self._follow(module, (kind.__qualname__.partition(".")[0],))
        return kind.__qualname__

    def _function(self, function: FunctionType) -> Any:
        original = inspect.unwrap(function)
        if not isinstance(original, FunctionType):
            return self.value(original)
        module = module_of(original)
        nodes = module.functions_at(original.__code__) if module else []
        held = [self.value(original.__defaults__), self.value(original.__kwdefaults__), self._closure(original)]
        if module is None or not nodes:
            return ["bytecode", _bytecode(original.__code__), held]
        self._own = self._own or module.package
        for node in nodes:
            self._follow_all(module, node)
        return ["source", [meaning(node, named=False) for node in nodes], held]

    def _closure(self, function: FunctionType) -> Any:
        cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
        return [[name, self.value(cell.cell_contents)] for name, cell in cells]

    def _is_own(self, name: str, file: str) -> bool:
        top = name.partition(".")[0]
        return top == self._own or top in self._packages or not library(name, file)

    def _follow_all(self, module: Module, node: ast.AST) -> None:
        inside = local_imports(node)
        for path in sorted(free_names(node)):
            if path[0] in inside:
                self._follow_import(inside[path[0]], path[0], path[1:])
            else:
                self._follow(module, path)

    def _follow(self, module: Module, path: Name) -> None:
        """Note the definition of the dotted name ``path`` of ``module``, and follow what it refers to in turn."""
        name, rest = path[0], path[1:]
        for statement in module.definitions.get(name, ()):
            if isinstance(statement, ast.Import | ast.ImportFrom):
                self._follow_import(statement, name, rest)
            elif (module.name, f"{name}:{statement.lineno}:{statement.col_offset}") not in self._seen:
                self._seen.add((module.name, f"{name}:{statement.lineno}:{statement.col_offset}"))
                self.definitions.add(meaning(statement))
                self._follow_all(module, statement)
        if name not in module.definitions:
            for origin in module.stars:
                self._enter(origin, path)

    def _follow_import(self, statement: ast.Import | ast.ImportFrom, name: str, rest: Name) -> None:
        for alias in statement.names:
            if isinstance(statement, ast.ImportFrom):
                if (alias.asname or alias.name) == name:
                    self._enter(statement.module or "", (alias.name, *rest))
            elif alias.asname == name:
                self._enter(alias.name, rest)
            elif alias.asname is None and alias.name.partition(".")[0] == name:
                self._enter(name, rest)

    def _enter(self, name: str, path: Name) -> None:
        """Go on in the module ``name``; a library's is left alone, but for the name of what is taken from it."""
        below = f"{name}.{path[0]}" if path else ""
        file = source_file(name)
        found = named_module(name) if file and self._is_own(name, file) else None
        if found and not path:
            self._whole(found)
        elif found and (path[0] in found.definitions or (found.stars and not source_file(below))):
            self._follow(found, path)
        elif below and (found or not file) and source_file(below):
            self._enter(below, path[1:])
        else:
            self.definitions.add(f"import {'.'.join((name, *path[:1]))}")

    def _whole(self, module: Module) -> None:
        """A module that is handed about as a value: all of it may be used."""
        if (module.name, "") not in self._seen:
            self._seen.add((module.name, ""))
            self.definitions.add(meaning(module.tree))
            for name in module.definitions:
                self._follow(module, (name,))


def _bytecode(code: CodeType) -> list[str]:
    """For what was typed at a prompt, and so has no source. It differs between versions of Python."""
    constants = [
        item
        for const in code.co_consts
        for item in (_bytecode(const) if isinstance(const, CodeType) else [repr(const)])
    ]
    return [code.co_code.hex(), *code.co_names, *constants]


_SILENT = {"returns", "annotation", "type_comment", "type_params", "kind", "ctx"}


def meaning(node: ast.AST, *, named: bool = True) -> str:
    """A syntax tree as text, without what says nothing of the meaning; ``named`` False leaves out its own name.

    It is no ``ast.dump``, whose text is another one in every other version of Python.
    """
    return " ".join(_tokens(node, named=named))


def _tokens(node: object, *, named: bool = True) -> Iterator[str]:
    if isinstance(node, ast.AST):
        yield f"({type(node).__name__}"
        for name, value in ast.iter_fields(node):
            said = _said(name, value)
            if said in (None, []) or _is_silent(node, name) or (name == "name" and not named):
                continue
            yield f"{name}="
            yield from _tokens(said)
        yield ")"
    elif isinstance(node, list):
        yield "["
        for item in node:
            yield from _tokens(item)
        yield "]"
    else:
        yield f"{type(node).__name__}:{node!r}"


def _is_silent(node: ast.AST, name: str) -> bool:
    """The annotation of a class's field may make a field (of a dataclass), that of an argument does nothing."""
    return name in _SILENT and not (name == "annotation" and isinstance(node, ast.AnnAssign))


def _said(name: str, value: Any) -> Any:
    if name == "body" and isinstance(value, list):
        return [item for item in value if not _is_remark(item)] or [ast.Pass()]
    if name == "decorator_list":
        return [item for item in value if not declares(item)]
    return value


def _is_remark(statement: ast.AST) -> bool:
    """A docstring, or any other constant that stands by itself."""
    return isinstance(statement, ast.Pass) or (
        isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    )
