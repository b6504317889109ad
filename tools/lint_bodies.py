"""No body of an answer of AWS's is read past the checks: `make lint` runs this over the code.

    python tools/lint_bodies.py src bench examples

Botocore's body of an answer, used as a context manager, hands out the connection's own stream, which compares no
length; so does its ``_raw_stream``, and iterating over it compares the length only for those who come to the end. In
Silversmith bodies are read by ``stores/s3_transfer.py``: its ``pieces`` takes the body and its length. Elsewhere a
whole ``.read()``, which compares the length, is the only other way. docs/decisions/0105-every-byte-is-proven.md
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

#: Methods of a body that read it bit by bit.
_BITWISE = {"iter_chunks", "iter_lines", "readinto", "readlines"}


def lint(text: str) -> Iterator[tuple[int, str]]:
    """The lines of a Python module that read a body past the checks, and what is wrong there."""
    tree = ast.parse(text)
    names = _names(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.With | ast.AsyncWith):
            for item in node.items:
                if _is_body(item.context_expr, names):
                    yield item.context_expr.lineno, "as a context manager a body is the raw stream: use pieces()"
        elif isinstance(node, ast.Attribute) and node.attr == "_raw_stream":
            yield node.lineno, "the raw stream compares no length: use pieces()"
        elif isinstance(node, ast.For | ast.AsyncFor | ast.comprehension) and _is_body(node.iter, names):
            yield node.iter.lineno, "iterating over a body may end early: use pieces()"
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            yield from _lint_call(node, node.func, names)


def _lint_call(call: ast.Call, method: ast.Attribute, names: set[str]) -> Iterator[tuple[int, str]]:
    if method.attr == "enter_context" and any(_is_body(argument, names) for argument in call.args):
        yield call.lineno, "as a context manager a body is the raw stream: use pieces()"
    if not _is_body(method.value, names):
        return
    if method.attr in _BITWISE:
        yield call.lineno, f"{method.attr} of a body may end early: use pieces()"
    if method.attr == "read" and (call.args or call.keywords):
        yield call.lineno, "read of some bytes of a body compares no length: use pieces()"


def _is_body(node: ast.expr, names: set[str]) -> bool:
    """Whether it is ``…["Body"]``, ``….get("Body")``, or one of these names."""
    if isinstance(node, ast.Subscript):
        return isinstance(node.slice, ast.Constant) and node.slice.value == "Body"
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "get":
        return bool(node.args) and isinstance(node.args[0], ast.Constant) and node.args[0].value == "Body"
    return isinstance(node, ast.Name) and node.id in names


def _names(tree: ast.Module) -> set[str]:
    """The names that a body is assigned to."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign | ast.AnnAssign | ast.NamedExpr) and node.value and _is_body(node.value, set()):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {target.id for target in targets if isinstance(target, ast.Name)}
    return names


def main(places: list[str]) -> int:
    """Print what is wrong; the exit code says whether anything is."""
    files = [path for place in places for path in sorted(Path(place).rglob("*.py"))]
    wrong = [f"{path}:{line}: {text}" for path in files for line, text in lint(path.read_text("utf-8"))]
    print(*wrong, sep="\n", end="\n" if wrong else "")
    return 1 if wrong or not files else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
