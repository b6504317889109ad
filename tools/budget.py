"""The size budget of ``src/silversmith``, and its import cycles. Exit code 1 where a limit is passed.

Run by ``make lint``. A feature that needs more room raises a limit here, in one line with its reason.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

PACKAGE = "silversmith"
SOURCE = Path(__file__).resolve().parents[1] / "src"

#: What the Lambda functions of a bundle start with: it needs these modules and all that they import.
ENTRY_POINTS = {
    "lines in a bundle": ("silversmith.function.handler", "silversmith.reconcile.handler"),
    "lines in the tables' bundle": ("silversmith.tables.handler",),
}

#: What is counted, the most that there may be, and why it is that much.
LIMITS = {
    "lines": (
        61_500,
        "4,850 gold, 1,400 logs, 1,050 files of issue 16, 14,500 issues 17 to 19; to be 29,000, or 33,000 with these",
    ),
    "modules": (
        216,
        "15 gold, 5 the lineage, 2 previews and completion, the estimate, 25 issues 17 to 19; to be 170, or 200",
    ),
    "lines in a bundle": (
        24_200,
        "800 of it logs, 840 the files of issue 16, 450 .xlsx, 2,800 issues 17 to 19; to come down to 12,000",
    ),
    "lines in the tables' bundle": (6_400, "all that gold is on Lambda"),
    "lines in one module": (700, "what a reader reads in one sitting"),
    "files at the top": (9, "what a newcomer takes in at a glance, and the CDK construct"),
    "folders at the top": (18, "the nouns of the README"),
    "import cycles": (0, "a circle has no layer"),
}


@dataclass(frozen=True)
class Module:
    """A module: its number of lines, and the modules of the package that it imports, lazily or for types too."""

    lines: int
    imports: frozenset[str]


def modules(source: Path) -> dict[str, Module]:
    """All modules of the package, by dotted name."""
    trees = {_name(path, source): path for path in sorted((source / PACKAGE).rglob("*.py"))}
    return {
        name: Module(
            len(path.read_text().splitlines()),
            frozenset(_imports(ast.parse(path.read_text()), trees)) - {name},
        )
        for name, path in trees.items()
    }


def _name(path: Path, source: Path) -> str:
    parts = path.relative_to(source).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imports(tree: ast.AST, known: Mapping[str, Path]) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                if name in known or node.module in known:
                    yield name if name in known else node.module


def reached(graph: Mapping[str, Module], starts: Iterable[str]) -> set[str]:
    """The modules that importing ``starts`` may load, with the packages that they lie in."""
    seen: set[str] = set()
    waiting = [name for name in starts if name in graph]
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            parent = name.rpartition(".")[0]
            waiting += [*graph[name].imports, *([parent] if parent in graph else [])]
    return seen


def cycles(graph: Mapping[str, Module]) -> list[list[str]]:
    """The groups of modules that import each other in a circle (Tarjan's strongly connected components)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    groups: list[list[str]] = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for imported in graph[name].imports:
            if imported not in index:
                visit(imported)
                low[name] = min(low[name], low[imported])
            elif imported in stack:
                low[name] = min(low[name], index[imported])
        if low[name] == index[name]:
            at = stack.index(name)
            groups.append(sorted(stack[at:]))
            del stack[at:]

    for name in graph:
        if name not in index:
            visit(name)
    return sorted(group for group in groups if len(group) > 1)


def measure(source: Path) -> dict[str, int]:
    """The numbers that :data:`LIMITS` bounds."""
    graph = modules(source)
    below = {name: module for name, module in graph.items() if name != PACKAGE}  # its own imports are late
    top = source / PACKAGE
    return {
        "lines": sum(module.lines for module in graph.values()),
        "modules": len(graph),
        **{name: sum(graph[each].lines for each in reached(below, starts)) for name, starts in ENTRY_POINTS.items()},
        "lines in one module": max(module.lines for module in graph.values()),
        "files at the top": len(list(top.glob("*.py"))),
        "folders at the top": sum(child.is_dir() and any(child.glob("*.py")) for child in top.iterdir()),
        "import cycles": len(cycles(graph)),
    }


def main() -> int:
    measured = measure(SOURCE)
    passed = {name for name, number in measured.items() if number > LIMITS[name][0]}
    for name, number in measured.items():
        limit, reason = LIMITS[name]
        print(f"{'OVER' if name in passed else 'ok':>4}  {name}: {number:,} of {limit:,} ({reason})")
    if "import cycles" in passed or "--cycles" in sys.argv:
        for group in cycles(modules(SOURCE)):
            print("      " + " ↔ ".join(group))
    return 1 if passed else 0


if __name__ == "__main__":
    sys.exit(main())
