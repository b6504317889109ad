"""The pages as tests read them: fenced blocks, commands with what they shall show, headings and links.

How a block says what it is for, in its fence:

- ``console``: lines with ``$ `` are commands, run one after the other in one folder; each must end with exit code 0. A
  line below a command must occur in what the command shows.
- ``python file=NAME``, or another language with ``file=NAME``: is written to that file. ``python``: is run.
- ``json`` and ``toml``: must be such.
- ``text``, or nothing: is for reading only. That is the only way to show code that is not to run.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[1]

_FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(?<!!)\[(?:[^\[\]]|\[[^\]]*\])*\]\(([^)\s]+)\)")


@dataclass(frozen=True)
class Block:
    """One fenced block. ``options`` are what stands in the fence after the language."""

    language: str
    options: dict[str, str]
    text: str


@dataclass
class Command:
    """One line that a reader types, and the lines that it shall show, among others."""

    line: str
    shows: list[str] = field(default_factory=list)


def pages() -> list[Path]:
    """Every page that a reader sees, by its path."""
    actual = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")]
    return sorted(path for path in actual if not any(part.startswith(".") for part in path.relative_to(ROOT).parts))


def name(page: Path) -> str:
    """Of a page, as the tests' ids have it."""
    return page.relative_to(ROOT).as_posix()


def blocks(text: str) -> list[Block]:
    """The fenced blocks, in order."""
    return [_block(fence, body) for fence, body in _FENCE.findall(text)]


def _block(fence: str, body: str) -> Block:
    language, *words = fence.split() or [""]
    options = {word.partition("=")[0]: word.partition("=")[2] for word in words}
    return Block(language, options, body)


def commands(block: Block) -> list[Command]:
    """The commands that a ``console`` block has a reader type."""
    actual: list[Command] = []
    for line in block.text.splitlines():
        if line.startswith("$ "):
            actual.append(Command(line[2:]))
        elif line.strip():
            actual[-1].shows.append(line.strip())
    return actual


def anchors(text: str) -> set[str]:
    """The fragments that headings can be linked by, as GitHub and the site make them."""
    result: set[str] = set()
    for heading in re.findall(r"^#{1,6} +(.+?)\s*$", _FENCE.sub("", text), re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", plain).strip().replace(" ", "-")
        result.add(
            slug if slug not in result else next(f"{slug}-{n}" for n in range(1, 99) if f"{slug}-{n}" not in result)
        )
    return result


def links(text: str) -> Iterator[str]:
    """The links of the prose; not those in code."""
    prose = re.sub(r"`[^`\n]*`", "", _FENCE.sub("", text))
    yield from (target for target in _LINK.findall(prose) if not target.startswith("<"))
