"""Which modules a module needs, found out by reading: nothing is run.

Imports inside functions count as well; those that stand under ``if TYPE_CHECKING`` do not.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

#: Folders where installers put packages. The second is Debian's.
_INSTALLED = frozenset({"site-packages", "dist-packages"})


@dataclass
class Needs:
    """``files`` are the modules found in the roots, by dotted name; ``outside`` are the top-level names of the others.

    ``certain`` are those of ``outside`` without which the import of a module fails, with the place that imports them.
    """

    files: dict[str, Path] = field(default_factory=dict)
    outside: set[str] = field(default_factory=set)
    certain: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Import:
    name: str
    line: int
    certain: bool


@dataclass(frozen=True)
class _Places:
    """The roots, and which packages are looked for in those where packages are installed."""

    roots: list[Path]
    tops: frozenset[str]

    def of(self, name: str) -> list[Path]:
        """Where a module of that name may be."""
        return self.roots if _top(name) in self.tops else [root for root in self.roots if root.name not in _INSTALLED]


def needs(modules: Iterable[str], roots: Iterable[Path]) -> Needs:
    """Everything that these modules need, themselves too. Where a module is not a file below a root, it is outside.

    A root may be where packages are installed. Then only the packages of ``modules`` are looked for in it: what lies
    beside them is others', is made for this machine, and has more files than those that are imported.

    Raises:
        SyntaxError: a module is no Python.
    """
    found = Needs()
    waiting = [*modules]
    places = _Places([*roots], frozenset(_top(name) for name in waiting))
    while waiting:
        name = waiting.pop()
        if name in found.files:
            continue
        file = locate(name, places.of(name))
        if file is None:
            continue
        found.files[name] = file
        for each in _imports(file, name):
            inside = [part for part in _with_parents(each.name) if locate(part, places.of(part))]
            waiting += inside
            top = _top(each.name)
            if not inside and not _is_folder(top, places.of(top)):
                found.outside.add(top)
                if each.certain:
                    found.certain.setdefault(top, f"{file.name}:{each.line}")
    return found


def locate(name: str, roots: Iterable[Path]) -> Path | None:
    """The file of a module below one of the roots."""
    for root in roots:
        path = root.joinpath(*name.split("."))
        for file in (path / "__init__.py", path.with_name(f"{path.name}.py")):
            if file.is_file():
                return file
    return None


def _top(name: str) -> str:
    return name.partition(".")[0]


def _is_folder(name: str, roots: Iterable[Path]) -> bool:
    """A package without ``__init__.py``."""
    return any((root / name).is_dir() and next((root / name).rglob("*.py"), None) for root in roots)


def _with_parents(name: str) -> list[str]:
    """``a.b.c`` → ``a``, ``a.b``, ``a.b.c``: importing the last imports them all."""
    parts = name.split(".")
    return [".".join(parts[: count + 1]) for count in range(len(parts))]


def _imports(file: Path, name: str) -> Iterator[_Import]:
    tree = ast.parse(file.read_bytes(), filename=str(file))
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    yield from _walk(tree, package, certain=True)


def _walk(node: ast.AST, package: str, *, certain: bool) -> Iterator[_Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            for alias in child.names:
                yield _Import(alias.name, child.lineno, certain)
        elif isinstance(child, ast.ImportFrom):
            base = _absolute(child, package)
            yield _Import(base, child.lineno, certain)
            for alias in child.names:  # each may be a module of its own
                yield _Import(f"{base}.{alias.name}", child.lineno, certain=False)
        elif isinstance(child, ast.Call) and _is_import_module(child):
            yield _Import(ast.literal_eval(child.args[0]), child.lineno, certain=False)
            yield from _walk(child, package, certain=certain)
        elif isinstance(child, ast.Dict | ast.Tuple) and _names_modules(child):
            yield from _late(child)
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            for statement in child.orelse:
                yield from _walk(statement, package, certain=certain)
        else:
            deferred = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.Try | ast.If)
            yield from _walk(child, package, certain=certain and not deferred)


def _absolute(statement: ast.ImportFrom, package: str) -> str:
    if not statement.level:
        return statement.module or ""
    base = package.split(".")[: len(package.split(".")) - statement.level + 1]
    return ".".join([*base, *([statement.module] if statement.module else [])])


def _is_import_module(call: ast.Call) -> bool:
    called = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    first = call.args[0] if call.args else None
    return called == "import_module" and isinstance(first, ast.Constant) and isinstance(first.value, str)


def _names_modules(node: ast.Dict | ast.Tuple) -> bool:
    """A table of modules of ours that are imported when they are first used: ``{"Csv": "silversmith.formats"}``."""
    values = node.values if isinstance(node, ast.Dict) else node.elts
    return bool(values) and all(
        isinstance(value, ast.Constant) and str(value.value).startswith("silversmith.") for value in values
    )


def _late(node: ast.Dict | ast.Tuple) -> Iterator[_Import]:
    values = node.values if isinstance(node, ast.Dict) else node.elts
    for value in values:
        assert isinstance(value, ast.Constant)
        yield _Import(str(value.value), value.lineno, certain=False)
