"""The one analyser of the user's code, by its source: definitions, names, imports, and the fingerprint.

Nothing is run: a module is found as ``import`` would find it, and read.

The fingerprint is a digest of what a transform's code means: the same after reformatting, another one after a change
that could matter. It is taken from the syntax tree of the function and, from there, of every function, class and
constant of the user's own modules that it refers to. Comments, docstrings, annotations of functions and layout are not
in it, and nothing that differs between machines, processes or versions of Python: no paths, no bytecode, no ``repr`` of
objects. The code of installed packages is not in it either: a new version of a library makes no silver outdated. The
packages of custom readers and writers are the exception: the fix of a reader must make outdated what it read wrongly.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.util
import inspect
import json
import linecache
import sys
from collections.abc import Iterable, Iterator
from dataclasses import Field, dataclass, fields, is_dataclass
from functools import lru_cache
from pathlib import Path
from types import CodeType, FunctionType, MethodType
from typing import Any

#: A dotted name as it stands in the code: ``cleaning.fix`` is ("cleaning", "fix").
Name = tuple[str, ...]

#: Folders where installers put packages. The second is Debian's.
INSTALLED = frozenset({"site-packages", "dist-packages"})

_Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
_Comprehension = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp


#: In the metadata of a dataclass's field: silver of before there was this option must not be outdated for it.
ADDED_LATER = "added later"


@dataclass(frozen=True, eq=False)
class Module:
    """A module: its top-level statements by the names that they bind, and the modules from which it imports ``*``.

    In its tree, all imports are absolute.
    """

    name: str
    file: str
    tree: ast.Module
    definitions: dict[str, list[ast.stmt]]
    stars: tuple[str, ...]

    def functions_at(self, code: CodeType) -> list[_Function]:
        """The definition that ``code`` was compiled from; of lambdas on one line, all."""
        return [node for node in ast.walk(self.tree) if isinstance(node, _Function) and _compiles_to(node, code)]


def _compiles_to(node: _Function, code: CodeType) -> bool:
    if isinstance(node, ast.Lambda):
        return code.co_name == "<lambda>" and node.lineno == code.co_firstlineno
    first = node.decorator_list[0].lineno if node.decorator_list else node.lineno
    return node.name == code.co_name and first == code.co_firstlineno


@lru_cache(maxsize=256)
def parse_module(name: str, file: str, source: str) -> Module:
    """Read a module from its source.

    Raises:
        SyntaxError: it is no Python.
    """
    tree = ast.parse(source, filename=file)
    package = name if Path(file).name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package.split(".")[: len(package.split(".")) - node.level + 1]
            node.module, node.level = ".".join([*base, *([node.module] if node.module else [])]), 0
    definitions: dict[str, list[ast.stmt]] = {}
    stars = []
    for statement in _statements(tree.body):
        for bound in _bound_by(statement):
            definitions.setdefault(bound, []).append(statement)
        if isinstance(statement, ast.ImportFrom) and any(alias.name == "*" for alias in statement.names):
            stars.append(statement.module or "")
    return Module(name, file, tree, definitions, tuple(stars))


def _module_of(item: FunctionType | type) -> Module | None:
    """The module that a function or class was written in; None where there is no source."""
    module = sys.modules.get(item.__module__)
    if isinstance(item, FunctionType):
        return _read(item.__module__, item.__code__.co_filename, item.__globals__)
    return _read(item.__module__, getattr(module, "__file__", None) or "", vars(module)) if module else None


def _read(name: str, file: str, scope: dict[str, object] | None = None) -> Module | None:
    lines = linecache.getlines(file, scope)
    try:
        return parse_module(name, file, "".join(lines)) if lines else None
    except SyntaxError:
        return None


def _source_file(name: str) -> str | None:
    """The file of the module ``name``; None if there is none, or it is no Python source."""
    module = sys.modules.get(name)
    file = getattr(module, "__file__", None)
    if module is None:
        try:
            spec = importlib.util.find_spec(name)
        except (ImportError, ValueError, AttributeError):
            return None
        file = spec.origin if spec else None
    return file if isinstance(file, str) and file.endswith(".py") else None


def is_library(name: str, file: str) -> bool:
    """Whether a module is not the user's own: the standard library's, an installed package's, or Silversmith's.

    In a Lambda bundle packages lie flat beside the user's code: there the records of the installed packages tell.
    """
    top = name.partition(".")[0]
    path = Path(file)
    if top in sys.stdlib_module_names or top == "silversmith" or INSTALLED & set(path.parts):
        return True
    root = path.parent.parents[name.count(".") - 1] if "." in name else path.parent
    return top in _installed(root.parent if path.name == "__init__.py" else root)


@lru_cache(maxsize=64)
def _installed(folder: Path) -> frozenset[str]:
    """The top-level names that packages with a RECORD installed in this folder.

    https://packaging.python.org/en/latest/specifications/recording-installed-packages/
    """
    records = sorted(folder.glob("*.dist-info/RECORD"))
    paths = (line.partition(",")[0] for record in records for line in record.read_text("utf-8").splitlines())
    return frozenset(path.partition("/")[0].removesuffix(".py") for path in paths)


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements of a module, those under ``if`` and ``try`` too."""
    for statement in body:
        if isinstance(statement, ast.If | ast.Try | ast.TryStar):
            handlers = [handler.body for handler in getattr(statement, "handlers", [])]
            for block in (statement.body, *handlers, statement.orelse, getattr(statement, "finalbody", [])):
                yield from _statements(block)
        else:
            yield statement


def _bound_by(statement: ast.stmt) -> set[str]:
    """The names that a statement binds, or whose value it changes: ``TABLE["x"] = 1``, ``TABLE.append(1)``."""
    names = set(_bindings(statement))
    if isinstance(statement, ast.Assign | ast.AugAssign | ast.AnnAssign):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        names |= {_root(target) for target in targets}
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
        names.add(_root(statement.value.func) if isinstance(statement.value.func, ast.Attribute) else "")
    return names - {""}


def _root(node: ast.AST) -> str:
    while isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def _bindings(node: ast.AST) -> Iterator[str]:
    """The names bound in the scope that ``node`` stands in, not those of the scopes within it."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield node.name
        return
    if isinstance(node, ast.Import | ast.ImportFrom):
        for alias in node.names:
            yield alias.asname or (alias.name.partition(".")[0] if isinstance(node, ast.Import) else alias.name)
        return
    if isinstance(node, ast.Lambda):
        return
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store | ast.Del):
        yield node.id
    if isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and node.name:
        yield node.name
    if isinstance(node, ast.MatchMapping) and node.rest:
        yield node.rest
    skipped = {id(generator.target) for generator in node.generators} if isinstance(node, _Comprehension) else set()
    for child in ast.iter_child_nodes(node):
        inner = [*ast.iter_child_nodes(child)] if isinstance(child, ast.comprehension) and skipped else [child]
        for item in inner:
            if id(item) not in skipped:
                yield from _bindings(item)


def _declares(decorator: ast.AST) -> bool:
    """Whether it is ``@pipeline.transform(…)``: its pattern and limits do not change what comes out for a key."""
    called = decorator.func if isinstance(decorator, ast.Call) else None
    return isinstance(called, ast.Attribute) and called.attr == "transform"


def _local_imports(node: ast.AST) -> dict[str, ast.Import | ast.ImportFrom]:
    """The imports inside a piece of code, by the names that they bind."""
    imports = [item for item in ast.walk(node) if isinstance(item, ast.Import | ast.ImportFrom)]
    return {name: statement for statement in imports for name in _bindings(statement)}


class _FreeNames(ast.NodeVisitor):
    """The dotted names that a node reads and does not bind itself, inside functions only those that are not local."""

    def __init__(self, node: ast.AST) -> None:
        self.names: set[Name] = set()
        self._scopes: list[set[str]] = []
        self.visit(node)

    def visit_FunctionDef(self, node: _Function) -> None:
        decorators = [item for item in getattr(node, "decorator_list", ()) if not _declares(item)]
        for outer in (*decorators, *node.args.defaults, *filter(None, node.args.kw_defaults)):
            self.visit(outer)
        self._within(_local_names(node), [node.body] if isinstance(node, ast.Lambda) else node.body)

    visit_AsyncFunctionDef = visit_Lambda = visit_FunctionDef  # noqa: N815

    def _comprehension(self, node: _Comprehension) -> None:
        targets = {name for generator in node.generators for name in _bindings(generator.target)}
        self._within(targets, ast.iter_child_nodes(node))

    visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp = _comprehension  # noqa: N815

    def _within(self, names: set[str], nodes: Iterable[ast.AST]) -> None:
        self._scopes.append(names)
        for node in nodes:
            self.visit(node)
        self._scopes.pop()

    def visit_Attribute(self, node: ast.Attribute) -> None:
        parts = [node.attr]
        value = node.value
        while isinstance(value, ast.Attribute):
            parts.append(value.attr)
            value = value.value
        if isinstance(value, ast.Name):
            self._note((value.id, *reversed(parts)))
        else:
            self.visit(value)

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Load):
            self._note((node.id,))

    def _note(self, name: Name) -> None:
        if not any(name[0] in scope for scope in self._scopes):
            self.names.add(name)


def _local_names(node: _Function) -> set[str]:
    """The names that are local to a function, but not its imports: they lead to the user's modules all the same."""
    arguments = node.args
    names = {item.arg for item in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)}
    names |= {item.arg for item in (arguments.vararg, arguments.kwarg) if item}
    for statement in [node.body] if isinstance(node, ast.Lambda) else node.body:
        names |= set(_bindings(statement))
    elsewhere = {name for item in ast.walk(node) if isinstance(item, ast.Global | ast.Nonlocal) for name in item.names}
    return names - elsewhere - set(_local_imports(node))


def fingerprint(function: object, *parts: object, followed: tuple[object, ...] = ()) -> str:
    """32 hexadecimal digits for a transform's function and ``parts``: whatever else decides what its silver is.

    ``followed`` are custom readers and writers, whose own packages' code counts though it is installed.
    """
    walk = _Walk(frozenset(type(item).__module__.partition(".")[0] for item in followed))
    values = [walk.value(function), *(walk.value(part) for part in parts)]
    digest = hashlib.sha256(json.dumps([values, sorted(walk.definitions)]).encode())
    return digest.hexdigest()[:32]


def _is_unused(item: Field[Any], value: object) -> bool:
    """Whether an option that a later version brought is at its default: then the meaning is what it was without it."""
    return ADDED_LATER in item.metadata and getattr(value, item.name) == item.default


class _Walk:
    """One walk over everything that a function refers to. ``definitions`` is what it found on the way."""

    def __init__(self, packages: frozenset[str]) -> None:
        self.definitions: set[str] = set()
        self._seen: set[tuple[str, str]] = set()
        self._values: set[int] = set()
        self._own: str | None = None
        self._packages = packages - {"silversmith"}

    def value(self, value: object) -> Any:
        """A value as JSON that says what it is; the code that it leads to is noted in ``definitions``."""
        if value is None or isinstance(value, bool | int | float | complex | str | bytes):
            return [type(value).__name__, repr(value)]
        if id(value) in self._values:
            return ["again", type(value).__qualname__]  # a function that calls itself, a list within itself
        self._values.add(id(value))
        try:
            return [type(value).__qualname__, self._content(value)]
        finally:
            self._values.discard(id(value))

    def _content(self, value: object) -> Any:  # noqa: PLR0911 -- one line a type
        if isinstance(value, list | tuple):
            return [self.value(item) for item in value]
        if isinstance(value, set | frozenset):
            return sorted(json.dumps(self.value(item)) for item in value)
        if isinstance(value, dict):
            return [[self.value(key), self.value(item)] for key, item in value.items()]
        if isinstance(value, functools.partial):
            return [self.value(value.func), self.value(value.args), self.value(value.keywords)]
        if isinstance(value, MethodType):
            return [self.value(value.__func__), self.value(value.__self__)]
        if isinstance(value, FunctionType):
            return self._function(value)
        if isinstance(value, type):
            return self._class(value)
        return [self._class(type(value)), self._state(value)]

    def _state(self, value: object) -> Any:
        """The fields of a dataclass or of an object of the user's own classes. Other objects may hold anything."""
        if is_dataclass(value):
            return [
                [item.name, self.value(getattr(value, item.name))]
                for item in fields(value)
                if not _is_unused(item, value)
            ]
        module = _module_of(type(value))
        own = module is not None and self._is_own(module.name, module.file)
        return self.value(dict(vars(value))) if own and hasattr(value, "__dict__") else []

    def _class(self, kind: type) -> str:
        module = _module_of(kind)
        if module is not None and self._is_own(module.name, module.file):
            self._follow(module, (kind.__qualname__.partition(".")[0],))
        return kind.__qualname__

    def _function(self, function: FunctionType) -> Any:
        original = inspect.unwrap(function)
        if not isinstance(original, FunctionType):
            return self.value(original)
        module = _module_of(original)
        nodes = module.functions_at(original.__code__) if module else []
        cells = zip(original.__code__.co_freevars, original.__closure__ or (), strict=True)
        state = [
            self.value(original.__defaults__),
            self.value(original.__kwdefaults__),
            [[name, self.value(cell.cell_contents)] for name, cell in cells],
        ]
        if module is None or not nodes:
            return ["bytecode", _bytecode(original.__code__), state]
        self._own = self._own or module.name.partition(".")[0]
        for node in nodes:
            self._follow_all(module, node)
        return ["source", [_meaning(node, named=False) for node in nodes], state]

    def _is_own(self, name: str, file: str) -> bool:
        top = name.partition(".")[0]
        return top == self._own or top in self._packages or not is_library(name, file)

    def _follow_all(self, module: Module, node: ast.AST) -> None:
        imports = _local_imports(node)
        for path in sorted(_FreeNames(node).names):
            if path[0] in imports:
                self._follow_import(imports[path[0]], path[0], path[1:])
            else:
                self._follow(module, path)

    def _follow(self, module: Module, path: Name) -> None:
        """Note the definition of the dotted name ``path`` of ``module``, and follow what it refers to in turn."""
        name, rest = path[0], path[1:]
        for statement in module.definitions.get(name, ()):
            place = module.name, f"{name}:{statement.lineno}:{statement.col_offset}"
            if isinstance(statement, ast.Import | ast.ImportFrom):
                self._follow_import(statement, name, rest)
            elif place not in self._seen:
                self._seen.add(place)
                self.definitions.add(_meaning(statement))
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
        """Go on in the module ``name``; of a library only the name of what is taken from it counts."""
        below = f"{name}.{path[0]}" if path else ""
        file = _source_file(name)
        module = _read(name, file) if file and self._is_own(name, file) else None
        if module and not path:
            self._follow_whole(module)
        elif module and (path[0] in module.definitions or (module.stars and not _source_file(below))):
            self._follow(module, path)
        elif below and (module or not file) and _source_file(below):
            self._enter(below, path[1:])
        else:
            self.definitions.add(f"import {'.'.join((name, *path[:1]))}")

    def _follow_whole(self, module: Module) -> None:
        """A module that is handed about as a value: all of it may be used."""
        if (module.name, "") not in self._seen:
            self._seen.add((module.name, ""))
            self.definitions.add(_meaning(module.tree))
            for name in module.definitions:
                self._follow(module, (name,))


def _bytecode(code: CodeType) -> list[str]:
    """For code that was typed at a prompt, and so has no source. It differs between versions of Python."""
    constants = [
        item
        for const in code.co_consts
        for item in (_bytecode(const) if isinstance(const, CodeType) else [repr(const)])
    ]
    return [code.co_code.hex(), *code.co_names, *constants]


#: Fields of a syntax tree that say nothing of its meaning.
_MEANINGLESS = {"returns", "annotation", "type_comment", "type_params", "kind", "ctx"}


def _meaning(node: ast.AST, *, named: bool = True) -> str:
    """A syntax tree as text, without what says nothing of its meaning; ``named`` False leaves out its own name.

    Not ``ast.dump``: its text is another one in every other version of Python.
    """
    return " ".join(_tokens(node, named=named))


def _tokens(node: object, *, named: bool = True) -> Iterator[str]:
    if isinstance(node, ast.AST):
        yield f"({type(node).__name__}"
        for name, value in ast.iter_fields(node):
            # The annotation of a class's field may make a field (of a dataclass), that of an argument does nothing.
            skipped = name in _MEANINGLESS and not (name == "annotation" and isinstance(node, ast.AnnAssign))
            kept = _without_remarks(name, value)
            if kept in (None, []) or skipped or (name == "name" and not named):
                continue
            yield f"{name}="
            yield from _tokens(kept)
        yield ")"
    elif isinstance(node, list):
        yield "["
        for item in node:
            yield from _tokens(item)
        yield "]"
    else:
        yield f"{type(node).__name__}:{node!r}"


def _without_remarks(name: str, value: Any) -> Any:
    """Without docstrings and other constants that stand by themselves, and without ``@pipeline.transform``."""
    if name == "body" and isinstance(value, list):
        return [item for item in value if not _is_remark(item)] or [ast.Pass()]
    if name == "decorator_list":
        return [item for item in value if not _declares(item)]
    return value


def _is_remark(statement: ast.AST) -> bool:
    return isinstance(statement, ast.Pass) or (
        isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    )
