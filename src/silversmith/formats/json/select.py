"""The columns that a reader of JSON names by their place in each record, and the rest of the record as text.

Where the keys of records differ from one to the next, as in logs, the columns of silver stay the same, and nothing is
lost.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from silversmith.formats.json.kinds import Kind, as_text
from silversmith.formats.json.pointer import steps_of
from silversmith.formats.json.rows import Block, Blocks
from silversmith.formats.table import ROW

#: By key, the column that holds its value, or the same of the object that it holds.
_Tree = dict[str, "str | _Tree"]


@dataclass(frozen=True)
class Selection:
    """The part of a record to take. ``columns`` are pairs of a column and its pointer; empty: the record as it is."""

    columns: tuple[tuple[str, str], ...] = ()
    each: str | None = None
    extra: str | None = None
    null_values: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.columns or self.each or self.null_values)

    def of(self, blocks: Blocks) -> Blocks:
        """The blocks, with the selected parts of their records."""
        return self._selected(blocks) if self else blocks

    def _selected(self, blocks: Blocks) -> Blocks:
        def selected(_: Mapping[str, Kind]) -> Iterator[Block]:
            first = 1
            for block in blocks({}):  # columns are parsed at once only where kinds are known
                assert isinstance(block, Block)
                part = block if self.each is None else _exploded_block(block, steps_of(self.each), first)
                first += len(part.records) + len(part.malformed)
                yield Block(list(map(self._row, part.records)), part.numbers, part.malformed)

        return selected

    def _row(self, record: dict[str, Any]) -> dict[str, Any]:
        if not self.columns:
            return {name: None if value in self.null_values else value for name, value in record.items()}
        row: dict[str, Any] = {}
        rest = self._take(record, _tree(self.columns), row)
        if rest and self.extra is not None:
            row[self.extra] = as_text(rest)
        return row

    def _take(self, value: dict[str, Any], tree: _Tree, row: dict[str, Any]) -> dict[str, Any]:
        """Fill the row, and return what is left of the object."""
        rest = {}
        for key, item in value.items():
            branch = tree.get(key)
            if isinstance(branch, str):
                if isinstance(item, dict | list):
                    row[branch] = as_text(item)
                else:
                    row[branch] = None if item in self.null_values else item
            elif branch is not None and isinstance(item, dict):
                if left := self._take(item, branch, row):
                    rest[key] = left
            elif branch is None or item is not None:
                rest[key] = item
        return rest


#: Each record as it is.
ALL = Selection()


def _exploded_block(block: Block, steps: Sequence[str], first: int) -> Block:
    """The elements of the records' lists as records of their own, with numbers from ``first`` on."""
    items: dict[int, Any] = dict(zip(block.numbers, block.records, strict=True))
    items |= {number: (text, reason) for number, text, reason in block.malformed}
    records: list[dict[str, Any]] = []
    numbers: list[int] = []
    malformed: list[tuple[int, str, str]] = []
    for number in sorted(items):
        item = items[number]
        if isinstance(item, tuple):
            malformed.append((first, *item))
            first += 1
        else:
            parts = _exploded(item, steps)
            records += parts
            numbers += range(first, first + len(parts))
            first += len(parts)
    return Block(records, numbers, malformed)


def _exploded(record: dict[str, Any], steps: Sequence[str]) -> list[dict[str, Any]]:
    """The record once for each element of its list, which stands in the list's place; without a list, as it is."""
    key, *deeper = steps
    value = record.get(key)
    parts = value
    if deeper:
        parts = _exploded(value, deeper) if isinstance(value, dict) else None
    return [{**record, key: part} for part in parts] if isinstance(parts, list) else [record]


@cache
def _tree(columns: tuple[tuple[str, str], ...]) -> _Tree:
    tree: _Tree = {}
    for column, pointer in columns:
        *parents, last = steps_of(pointer)
        branch = tree
        for step in parents:
            inner = branch.setdefault(step, {})
            if isinstance(inner, str):
                raise ValueError(f"{pointer!r} leads into {inner!r}, which is a column of its own")
            branch = inner
        if last in branch:
            raise ValueError(f"{pointer!r} is named twice, or holds what another column is made of")
        branch[last] = column
    return tree


def problem_of(columns: Any, each: Any, extra: Any, null_values: Any) -> str:
    """The end of an error about these options of ``Json``; empty if they are fine."""
    if columns is not None:
        pairs = list(columns.items()) if isinstance(columns, Mapping) else []
        if not pairs or not all(_is_name(name) and _is_pointer(pointer) for name, pointer in pairs):
            return f"columns={columns!r}): must say where in a record each column is, as {{'city': '/customer/city'}}"
        try:
            _tree(tuple(pairs))
        except ValueError as error:
            return f"columns=…): {error}"
    if each is not None and not _is_pointer(each):
        return f"each={each!r}): must be where a record has its list, as '/logEvents'"
    if extra is not None and (not _is_name(extra) or columns is None or extra in columns):
        return f"extra={extra!r}): must be the name of another column, beside columns=…"
    if isinstance(null_values, str) or not all(isinstance(value, str) for value in null_values):
        return f"null_values={null_values!r}): give a list of texts, as null_values=['-']"
    return ""


def _is_name(name: object) -> bool:
    return isinstance(name, str) and name not in {"", ROW}


def _is_pointer(pointer: object) -> bool:
    return isinstance(pointer, str) and pointer.startswith("/")
