"""Completions of a shell beside options and files: transforms, keys, tables and pipelines, as they are on this machine.

cyclopts calls these while a person types, and takes an error for no candidates.
https://cyclopts.readthedocs.io/en/latest/shell_completion.html
"""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cyclopts.completion import CompletionContext

    from silversmith.pipeline import Pipeline

#: So many keys are offered.
MOST = 200


def transforms(context: CompletionContext) -> dict[str, str]:
    """The names of the transforms, each with its pattern."""
    return {each.name: each.pattern.text for each in _pipeline(context).transforms}


def tables(context: CompletionContext) -> dict[str, str]:
    """The names of the tables and views."""
    gold = _pipeline(context).tables
    return {each.name: "table" for each in gold.tables} | {each.name: "view" for each in gold.views}


def keys(context: CompletionContext) -> list[str]:
    """The first keys in bronze that begin with what is there; none on AWS, which would take a request."""
    from silversmith.local.lake import LakeFolder

    if _value(context, "--target", "local") != "local":
        return []
    lake, bronze = LakeFolder(Path(_value(context, "--lake", "lake"))), _pipeline(context).bronze
    if not lake.bucket(bronze).is_dir():
        return []
    listed = lake.store(bronze, foreign_writers=True).list(context.incomplete)
    return [head.key for head in islice(listed, MOST)]


def pipelines(context: CompletionContext) -> list[str]:
    """Python files, and the folders that may have some."""
    typed = Path(context.incomplete)
    folder = typed if context.incomplete.endswith("/") or not context.incomplete else typed.parent
    paths = [path for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
    return [f"{path}/" if path.is_dir() else str(path) for path in paths if path.is_dir() or path.suffix == ".py"]


def _pipeline(context: CompletionContext) -> Pipeline:
    from silversmith.pipeline import load

    return load(_value(context, "--pipeline", "pipeline.py"))


def _value(context: CompletionContext, option: str, default: str) -> str:
    typed = context.get(option)
    return (typed.raw if typed is not None else None) or default
