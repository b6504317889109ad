"""The source of the user's modules as syntax trees: what they define, and which names a piece of code refers to.

Nothing is run: a module is found as ``import`` would find it, and read.
"""

from __future__ import annotations

import ast
import importlib.util
import linecache
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import CodeType, FunctionType

#: A dotted name as it stands in the code: ``cleaning.fix`` is ("cleaning", "fix").
Name = tuple[str, ...]

_Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
_Comprehension = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp


@dataclass(frozen=True, eq=False)
class Module:
    """One module: its top-level statements by the names that they bind, and the modules it imports ``*`` from."""

    name: str
    file: str
    tree: ast.Module
    definitions: dict[str, list[ast.stmt]]
    stars: tuple[str, ...]

    @property
    def package(self) -> str:
        """The top-level name."""
        return self.name.partition(".")[0]

    def functions_at(self, code: CodeType) -> list[_Function]:
        """The definition that ``code`` was compiled from; of lambdas on one line, all."""
        return [node for node in ast.walk(self.tree) if isinstance(node, _Function) and _compiles_to(node, code)]


def _compiles_to(node: _Function, code: CodeType) -> bool:
    if isinstance(node, ast.Lambda):
        return code.co_name == "<lambda>" and node.lineno == code.co_firstlineno
    first = node.decorator_list[0].lineno if node.decorator_list else node.lineno
    return node.name == code.co_name and first == code.co_firstlineno


def module_of(item: FunctionType | type) -> Module | None:
    """The module that a function or class was written in; None where there is no source."""
    module = sys.modules.get(item.__module__)
    if isinstance(item, FunctionType):
        return _read(item.__module__, item.__code__.co_filename, item.__globals__)
    return _read(item.__module__, getattr(module, "__file__", None) or "", vars(module)) if module else None


def named_module(name: str) -> Module | None:
    """The module of that name; None where it has no source."""
    file = source_file(name)
    return _read(name, file, None) if file else None


def source_file(name: str) -> str | None:
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


def library(name: str, file: str) -> bool:
    """Whether a module is not the user's own: the standard library's, an installed package's, or Silversmith's.

    In a Lambda bundle packages lie flat beside the user's code: there the records of what was installed tell.
    """
    top = name.partition(".")[0]
    path = Path(file)
    if top in sys.stdlib_module_names or top == "silversmith" or {"site-packages", "dist-packages"} & set(path.parts):
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


def _read(name: str, file: str, scope: dict[str, object] | None) -> Module | None:
    lines = linecache.getlines(file, scope)
    return _parse(name, file, "".join(lines)) if lines else None


@lru_cache(maxsize=256)
def _parse(name: str, file: str, source: str) -> Module | None:
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return None
    definitions: dict[str, list[ast.stmt]] = {}
    package = name if Path(file).name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            _make_absolute(node, package)
    for statement in _statements(tree.body):
        for bound in _bound_by(statement):
            definitions.setdefault(bound, []).append(statement)
    stars = [
        item.module or "" for item in _statements(tree.body) if isinstance(item, ast.ImportFrom) and _is_star(item)
    ]
    return Module(name, file, tree, definitions, tuple(stars))


def _make_absolute(statement: ast.ImportFrom, package: str) -> None:
    base = package.split(".")[: len(package.split(".")) - statement.level + 1]
    statement.module = ".".join([*base, *([statement.module] if statement.module else [])])
    statement.level = 0


def _is_star(statement: ast.ImportFrom) -> bool:
    return any(alias.name == "*" for alias in statement.names)


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


def free_names(node: ast.AST) -> set[Name]:
    """The dotted names that ``node`` reads and does not bind itself, inside functions only those that are not local."""
    reader = _FreeNames()
    reader.visit(node)
    return reader.found


def declares(decorator: ast.AST) -> bool:
    """Whether it is ``@pipeline.transform(…)``: its pattern and limits do not change what comes out for a key."""
    called = decorator.func if isinstance(decorator, ast.Call) else None
    return isinstance(called, ast.Attribute) and called.attr == "transform"


def local_imports(node: ast.AST) -> dict[str, ast.Import | ast.ImportFrom]:
    """The imports inside a piece of code, by the names that they bind."""
    imports = [item for item in ast.walk(node) if isinstance(item, ast.Import | ast.ImportFrom)]
    return {name: statement for statement in imports for name in _bindings(statement)}


class _FreeNames(ast.NodeVisitor):
    def __init__(self) -> None:
        self.found: set[Name] = set()
        self._scopes: list[set[str]] = []

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        decorators = [item for item in node.decorator_list if not declares(item)]
        for outer in (*decorators, *node.args.defaults, *filter(None, node.args.kw_defaults)):
            self.visit(outer)
        self._within(_local(node), node.body)

    visit_AsyncFunctionDef = visit_FunctionDef  # noqa: N815

    def visit_Lambda(self, node: ast.Lambda) -> None:
        for outer in (*node.args.defaults, *filter(None, node.args.kw_defaults)):
            self.visit(outer)
        self._within(_local(node), [node.body])

    def _comprehension(self, node: _Comprehension) -> None:
        targets = {name for generator in node.generators for name in _bindings(generator.target)}
        self._within(targets, list(ast.iter_child_nodes(node)))

    visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp = _comprehension  # noqa: N815

    def _within(self, names: set[str], nodes: list[ast.AST] | list[ast.stmt] | list[ast.expr]) -> None:
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
            self.found.add(name)


def _local(node: _Function) -> set[str]:
    """What is local to a function. What it imports is not counted: it leads to the user's modules all the same."""
    arguments = node.args
    names = {item.arg for item in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)}
    names |= {item.arg for item in (arguments.vararg, arguments.kwarg) if item}
    body = [node.body] if isinstance(node, ast.Lambda) else node.body
    for statement in body:
        names |= set(_bindings(statement))
    elsewhere = {name for item in ast.walk(node) if isinstance(item, ast.Global | ast.Nonlocal) for name in item.names}
    return names - elsewhere - set(local_imports(node))
