"""The files below a folder in the order of their keys. Memory grows with the largest folder, not with the tree.

S3 sorts whole keys, so that ``a.csv`` comes before ``a/b.csv`` and ``a-b/c.csv`` before both: a folder takes its place
among its neighbours with its slash. Python compares texts by code point, which is the order of their UTF-8 bytes.
https://docs.aws.amazon.com/AmazonS3/latest/userguide/ListingKeysUsingAPIs.html
"""

from __future__ import annotations

import heapq
import os
from collections.abc import Callable, Iterator
from typing import NamedTuple

from silversmith.stores import folders, keys

#: Files looked at together, so that no descriptor stays open while the caller works on what it was given.
_TOGETHER = 500


class Found(NamedTuple):
    """A regular file: its key, its path below the root, and what it is."""

    key: str
    path: str
    stat: os.stat_result


class _Entry(NamedTuple):
    """An entry of a folder; ``text`` is what all keys below it begin with, or its whole key, in the walk's spelling."""

    text: str
    is_folder: bool
    name: str


class _Asked(NamedTuple):
    """What a walk is to find. ``spell`` makes an entry's text of its folder's; None: the entry is not to be there."""

    spell: Callable[[str, str, bool], str | None]
    prefix: str
    after: str

    def for_entry(self, text: str, *, is_folder: bool) -> bool:
        if not is_folder:
            return text.startswith(self.prefix) and text > self.after
        if not text.startswith(self.prefix) and not self.prefix.startswith(text):
            return False
        return text > self.after or self.after.startswith(text)


def listed(root: str, prefix: str, start_after: str) -> Iterator[Found]:
    """The objects whose keys begin with ``prefix`` and come after ``start_after``, in the order of their keys."""
    if not _is_text(prefix):
        return
    last = None
    for found in heapq.merge(_plain(root, prefix, start_after), _escaped(root, prefix, start_after), key=_key):
        if found.key != last:  # where a key has both of its places, the first one wins
            yield found
        last = found.key


def _is_text(prefix: str) -> bool:
    try:
        prefix.encode()
    except UnicodeEncodeError:
        return False
    return True


def _key(found: Found) -> str:
    return found.key


def _plain(root: str, prefix: str, after: str) -> Iterator[Found]:
    start = prefix[: prefix.rfind("/") + 1]
    if start and not keys.is_plain(start[:-1]):
        return
    for path, stat in _walk(root, start, start, _Asked(_spell_plain, prefix, after)):
        yield Found(path, path, stat)


def _spell_plain(text: str, name: str, is_folder: bool) -> str | None:
    path = text + name
    try:
        keys.key_of(path)
    except keys.InvalidKey:
        return None
    return path + "/" if is_folder else path


def _escaped(root: str, prefix: str, after: str) -> Iterator[Found]:
    spelled = keys.spell(prefix)
    text = keys.spelled_folder(spelled)
    start = "/".join([keys.RESERVED, *(text[at : at + keys.CHUNK] for at in range(0, len(text), keys.CHUNK)), ""])
    for path, stat in _walk(root, start, text, _Asked(_spell_escaped, spelled, keys.spell(after))):
        try:
            key = keys.key_of(path)
        except keys.InvalidKey:  # a stranger's file in the reserved folder
            continue
        yield Found(key, path, stat)


def _spell_escaped(text: str, name: str, is_folder: bool) -> str | None:
    part = keys.spelled_entry(name, is_folder=is_folder)
    return None if part is None else text + part


def _walk(root: str, start: str, text: str, asked: _Asked) -> Iterator[tuple[str, os.stat_result]]:
    """The paths below ``start`` (empty, or with its slash) whose spelled texts are asked for, in their order."""
    todo = [(start, _entries(root, start, text, asked))]
    while todo:
        path, entries = todo[-1]
        if not entries:
            todo.pop()
        elif entries[-1].is_folder:
            entry = entries.pop()
            below = f"{path}{entry.name}/"
            todo.append((below, _entries(root, below, entry.text, asked)))
        else:
            yield from _files(root, path, entries)


def _entries(root: str, path: str, text: str, asked: _Asked) -> list[_Entry]:
    """What is to be visited in one folder, the first one last."""
    found: list[_Entry] = []
    with folders.folder(root, path.split("/")[:-1]) as here:
        if here is None:
            return []
        with os.scandir(here) as entries:
            for entry in entries:
                is_folder = entry.is_dir(follow_symlinks=False)
                if not is_folder and not entry.is_file(follow_symlinks=False):
                    continue
                spelled = asked.spell(text, entry.name, is_folder)
                if spelled is not None and asked.for_entry(spelled, is_folder=is_folder):
                    found.append(_Entry(spelled, is_folder, entry.name))
    found.sort(reverse=True)
    return found


def _files(root: str, path: str, entries: list[_Entry]) -> Iterator[tuple[str, os.stat_result]]:
    """Take the next files off ``entries``."""
    found: list[tuple[str, os.stat_result]] = []
    with folders.folder(root, path.split("/")[:-1]) as here:
        while entries and not entries[-1].is_folder and len(found) < _TOGETHER:
            name = entries.pop().name
            stat = None if here is None else folders.regular(name, here)
            if stat is not None:
                found.append((path + name, stat))
    yield from found
