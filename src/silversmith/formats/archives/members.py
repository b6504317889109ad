"""The files within one object: the object itself, unpacked, or the members of the archive that it is.

Members are data: their names choose a format and stand in messages, and no file is ever written under them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial

from silversmith.errors import DataError
from silversmith.formats.archives import tars, zips
from silversmith.formats.archives.compression import compression_of, stripped
from silversmith.formats.archives.content import Content, Scratch, collect, packed, unpacked_limit
from silversmith.formats.table import shorten
from silversmith.keypatterns import KeyPattern
from silversmith.stores import Source

#: How many data files one archive may have.
MOST_MEMBERS = 1_000

_PIECE = 1024 * 1024
_HEAD, _MAGIC = 1024, 16

#: Files that macOS and Windows put in archives by themselves.
NOISE = {".DS_Store", "Thumbs.db", "desktop.ini"}

#: The name of each member, and its bytes.
_Members = Iterable[tuple[str, Iterator[bytes]]]


def unpack_all(source: Source, scratch: Scratch, pattern: str | None = None) -> list[Content]:
    """The files of an object: one, unless it is an archive. Of an archive's members only those are unpacked whose name
    matches the pattern; None: all.

    One compression may be within another, and a tar in both: each is known by the bytes.

    Raises:
        DataError: ``UnreadableZip``, ``UnreadableTar``, ``UnreadableGzip`` … , ``NestedArchive``, ``TooManyMembers``,
            ``NoMembers``, or ``TooLarge`` for a file that unpacks to more than a hundred times its size.
    """
    content = packed(source, scratch)
    return _unpack(content, pattern, unpacked_limit(content.size))


def _unpack(content: Content, pattern: str | None, most: int) -> list[Content]:
    """``most``: the bytes that may come out of one packing."""
    scratch = content.scratch
    compression = compression_of(content.head(_MAGIC), content.name)
    name, packing = stripped(content.name), content.packing + ("+" + compression.name if compression else "")
    if compression is None:
        content = content if name == content.name else replace(content, name=name)
        head = content.head(_HEAD)
        if not head.startswith(zips.MAGICS) and not tars.is_tar(head, name):
            return [content]  # as most are
    with content.open() as file:
        stream = tars.Stream(compression.pieces(file) if compression else iter(partial(file.read, _PIECE), b""))
        if tars.is_tar(stream.peek(_HEAD), name):
            return _gather(tars.members(stream), content, pattern, "+tar" + packing)
        if compression is not None:
            is_first = not content.packing
            content = replace(collect(stream.rest(), scratch, most), name=name, packing=packing)
            if is_first and compression_of(content.head(_MAGIC), name) is not None:
                return _unpack(content, pattern, most)  # packed twice, as by Content-Encoding and by its name
    content = replace(content, name=name)
    return _unzip(content, pattern) if content.head(4).startswith(zips.MAGICS) else [_alone(content)]


def _unzip(content: Content, pattern: str | None) -> list[Content]:
    """A workbook is a zip archive, too: that one is a file."""
    with content.open() as file, closing(zips.opened(file)) as archive:
        kind = zips.office(archive)
        if kind:
            return [replace(content, kind=kind)]
        if content.packing:
            raise _nested("a zip archive that is compressed once more")
        members = [
            (member.filename, zips.pieces(archive, member))
            for member in archive.infolist()
            if not member.filename.endswith("/")  # is_dir() fails where there is no name at all
        ]
        return _gather(members, content, pattern, "+zip")


def _gather(members: _Members, archive: Content, pattern: str | None, packing: str) -> list[Content]:
    """The members that match, unpacked; together they may be as large as one file may."""
    contents: list[Content] = []
    used, passed = 0, Counter[str]()
    matches = KeyPattern.parse(pattern).matches if pattern is not None else lambda _: True
    for name, pieces in members:
        base = name.rstrip("/").rpartition("/")[2]
        if base in NOISE or base.startswith("._") or name.startswith("__MACOSX/"):
            continue
        passed[name] += 1
        if passed[name] > 1 or len(passed) > zips.MOST_ENTRIES:
            raise _too_many(name, len(passed))
        if not matches(name):
            continue
        if len(contents) == MOST_MEMBERS:
            raise _too_many("", MOST_MEMBERS + 1)
        content = collect(pieces, archive.scratch, unpacked_limit(archive.size), used=used)
        used += content.size
        contents.append(_alone(replace(content, name=name, packing=packing, member=name)))
    if not contents:
        raise _no_members(list(passed), pattern)
    return contents


def _alone(content: Content) -> Content:
    """A file that came out of one packing, proved to be in no other. A workbook in an archive is no archive."""
    if content.head(4).startswith(zips.MAGICS):
        with content.open() as file, closing(zips.opened(file)) as archive:
            kind = zips.office(archive)
        if not kind:
            raise _nested(_called(content, "a zip archive"))
        return replace(content, kind=kind)
    compression = compression_of(content.head(_MAGIC), content.name)
    if compression is not None:
        raise _nested(_called(content, f"compressed with {compression.name}"))
    if tars.is_tar(content.head(_HEAD), content.name):
        raise _nested(_called(content, "a tar archive"))
    return content


def _called(content: Content, what: str) -> str:
    return (
        f'the member "{shorten(content.member)}", which is {what}'
        if content.member
        else f"data that is {what} once more"
    )


def _nested(what: str) -> DataError:
    return DataError(
        "NestedArchive",
        f"the file contains {what}: deeper nesting is not read",
        hint="unpack it, and put the files in it, packed once or not at all",
    )


def _too_many(name: str, number: int) -> DataError:
    if name and number <= zips.MOST_ENTRIES:
        return DataError(
            "DuplicateMembers",
            f'the archive has two members of the name "{shorten(name)}"',
            hint="pack it again, with each file once",
        )
    return DataError(
        "TooManyMembers",
        f"the archive has {number:,} files or more; {MOST_MEMBERS:,} are read",
        hint='put them in several archives, or say which ones to read: Archive(members="data/*.csv")',
    )


def _no_members(names: list[str], pattern: str | None) -> DataError:
    if not names:
        return DataError("EmptyFile", "the archive has no file in it", hint="put it again with data")
    shown = ", ".join(f'"{shorten(name)}"' for name in names[:8])
    return DataError(
        "NoMembers",
        f'no file of the archive is called like "{pattern}"; it has: {shown}',
        hint="look at the reader's members: Archive(members=…)",
    )
