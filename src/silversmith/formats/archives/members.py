"""The files within one object: the object itself, unpacked, or the members of the archive that it is.

Members are data: their names choose a format and stand in messages, and no file is ever written under them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from silversmith.errors import DataError, DefinitionError
from silversmith.formats.archives import tars, zips
from silversmith.formats.archives.compression import compression_of, stripped
from silversmith.formats.archives.content import Content, collect, packed
from silversmith.formats.archives.scratch import Scratch
from silversmith.formats.table import shorten
from silversmith.patterns import InvalidPattern
from silversmith.patterns.keys import KeyPattern
from silversmith.stores import Source

if TYPE_CHECKING:
    from silversmith.formats import Reader

#: How many data files one archive may have.
MOST_MEMBERS = 1_000

_PIECE = 1024 * 1024
_HEAD = 1024

#: What macOS and Windows put in archives by themselves.
NOISE = {".DS_Store", "Thumbs.db", "desktop.ini"}

#: A member's name, and what gives its bytes.
_Found = Iterable[tuple[str, Callable[[], Iterator[bytes]]]]


@dataclass(frozen=True)
class Archive:
    """How to read archives (zip, tar): which members, and each of them how.

    Args:
        members: the names that are wanted, where ``*`` is any run of characters; the others are not read. None: all.
        reader: how to read each member, such as ``Csv(separator=";")``; None: found out from its bytes and its name.

    Raises:
        DefinitionError: a value cannot be.
    """

    members: str | None = None
    reader: Reader | None = None

    def __post_init__(self) -> None:
        from silversmith.formats import Reader  # they import this module

        if isinstance(self.reader, Archive):
            raise DefinitionError("Archive(reader=Archive(…)): archives in archives are not read")
        if self.reader is not None and not isinstance(self.reader, Reader):
            raise DefinitionError(f"Archive(reader={self.reader!r}): give a reader, such as Csv()")
        if self.members is not None:
            try:
                KeyPattern.parse(self.members)
            except (InvalidPattern, TypeError, AttributeError) as error:
                raise DefinitionError(f"Archive(members={self.members!r}): {error}") from None

    def chooser(self) -> Callable[[str], bool]:
        """Tells of a member's name whether it is wanted."""
        return KeyPattern.parse(self.members).matches if self.members is not None else lambda _: True


def unpack_all(source: Source, scratch: Scratch, chosen: Archive | None = None) -> list[Content]:
    """The files of an object: one, unless it is an archive.

    Raises:
        DataError: ``UnreadableZip``, ``UnreadableTar``, ``UnreadableGzip`` … , ``NestedArchive``, ``TooManyMembers``,
            ``NoMembers``, or ``TooLarge`` for what unpacks to more than a hundred times its size.
    """
    content = packed(source, scratch)
    compression = compression_of(content)
    name, packing = stripped(content.name), "+" + compression.name if compression else ""
    if compression is None:
        content = content if name == content.name else replace(content, name=name)
        head = content.head(_HEAD)
        if not head.startswith(zips.MAGICS) and not tars.is_tar(head, name):
            return [content]  # as most are
    chosen = chosen or Archive()
    with content.open() as file:
        stream = tars.Stream(compression.pieces(file) if compression else iter(partial(file.read, _PIECE), b""))
        if tars.is_tar(stream.peek(_HEAD), name):
            return _gather(_of_tar(stream), content, chosen, "+tar" + packing)
        if compression is not None:
            content = collect(stream.rest(), content, name=name, packing=packing)
    content = replace(content, name=name)
    return _unzip(content, chosen) if content.head(4).startswith(zips.MAGICS) else [_alone(content)]


def _unzip(content: Content, chosen: Archive) -> list[Content]:
    """A workbook is a zip archive, too: that one is a file."""
    with content.open() as file, closing(zips.opened(content, file)) as archive:
        kind = zips.office(archive)
        if kind:
            return [replace(content, kind=kind)]
        if content.packing:
            raise _nested("a zip archive that is compressed once more")
        found = [
            (member.filename, partial(zips.pieces, archive, member))
            for member in archive.infolist()
            if not member.filename.endswith("/")  # is_dir() fails where there is no name at all
        ]
        return _gather(found, content, chosen, "+zip")


def _of_tar(stream: tars.Stream) -> _Found:
    for member, pieces in tars.members(stream):
        if not member.folder:
            yield member.name.removeprefix("./"), partial(iter, pieces)
        for _ in pieces:
            pass  # what was not wanted must pass before the next member comes


def _gather(found: _Found, archive: Content, chosen: Archive, packing: str) -> list[Content]:
    """The wanted members, unpacked; together they may be as large as one file may."""
    contents: list[Content] = []
    used, passed, wanted = 0, Counter[str](), chosen.chooser()
    for name, pieces in found:
        base = name.rstrip("/").rpartition("/")[2]
        if base in NOISE or base.startswith("._") or name.startswith("__MACOSX/"):
            continue
        passed[name] += 1
        if passed[name] > 1 or len(passed) > zips.MOST_ENTRIES:
            raise _too_many(name, len(passed))
        if not wanted(name):
            continue
        if len(contents) == MOST_MEMBERS:
            raise _too_many("", MOST_MEMBERS + 1)
        content = collect(pieces(), archive, name=name, packing=packing, used=used)
        used += content.size
        contents.append(_alone(replace(content, member=name)))
    if not contents:
        raise _no_members(list(passed), chosen)
    return contents


def _alone(content: Content) -> Content:
    """A file that came out of one packing, proved to be in no other. A workbook in an archive is no archive."""
    if content.head(4).startswith(zips.MAGICS):
        with content.open() as file, closing(zips.opened(content, file)) as archive:
            kind = zips.office(archive)
        if not kind:
            raise _nested(_called(content, "a zip archive"))
        return replace(content, kind=kind)
    compression = compression_of(content)
    if compression is not None:
        raise _nested(_called(content, f"compressed with {compression.name}"))
    if tars.is_tar(content.head(_HEAD), content.name):
        raise _nested(_called(content, "a tar archive"))
    return content


def _called(content: Content, what: str) -> str:
    return f'the member "{shorten(content.member)}", which is {what}' if content.member else f"what is {what} once more"


def _nested(what: str) -> DataError:
    return DataError(
        "NestedArchive",
        f"the file holds {what}: packing within packing is not read",
        hint="put what is in it as a file of its own, packed once",
    )


def _too_many(name: str, number: int) -> DataError:
    if name and number <= zips.MOST_ENTRIES:
        return DataError(
            "DuplicateMembers",
            f'the archive has two members of the name "{shorten(name)}"',
            hint="pack it anew, with each file once",
        )
    return DataError(
        "TooManyMembers",
        f"the archive has {number:,} files or more; {MOST_MEMBERS:,} are read",
        hint='put them in several archives, or say which ones to read: Archive(members="data/*.csv")',
    )


def _no_members(names: list[str], chosen: Archive) -> DataError:
    if not names:
        return DataError("EmptyFile", "the archive has no file in it", hint="put it again with data")
    shown = ", ".join(f'"{shorten(name)}"' for name in names[:8])
    return DataError(
        "NoMembers",
        f'no file of the archive is called like "{chosen.members}"; it has: {shown}',
        hint="look at the reader's members: Archive(members=…)",
    )
