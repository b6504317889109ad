"""XML whose records are flat: elements that hold one value each, and attributes. Streamed, whatever its size."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pyexpat import ExpatError, ParserCreate, XMLParserType
from typing import BinaryIO

from silversmith.errors import DataError, DefinitionError, Place
from silversmith.formats import text
from silversmith.formats.archives.content import Content
from silversmith.formats.encoding import MARKED, encoding_of_mark
from silversmith.formats.spill import TextBlock, refuse_sparse, text_table_of
from silversmith.formats.table import MOST_COLUMNS, Table, shorten

#: How deep elements may be nested.
MOST_DEPTH = 64

#: The longest record, in characters, and the longest run of markup in which nothing begins or ends, in bytes.
LONGEST_RECORD = 16 * 1024 * 1024

_PIECE = 256 * 1024

#: Bytes that become one block of rows.
_BLOCK = 4 * 1024 * 1024

_NIL = "xsi:nil"

#: A quote has another code in some of the encodings that begin alike.
_DECLARATION = re.compile(r"<\?xml\s[^>]*?encoding\s*=\s*.([A-Za-z][A-Za-z0-9:._-]*)")

#: Of encodings whose documents begin alike, the one to read the declaration in.
#: https://www.w3.org/TR/xml/#sec-guessing
FAMILIES = ("utf-8", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be", "cp037")

#: Names that other programs have for encodings, and those of Python. https://encoding.spec.whatwg.org/#names-and-labels
_ALIASES = {
    **{f"windows-{page}": f"cp{page}" for page in (874, 932, 936, 949, 950)},
    "windows-31j": "cp932",
    "iso-8859-6-i": "iso-8859-6",
    "iso-8859-8-i": "iso-8859-8",
    "gb_2312-80": "gb2312",
    "cn-big5": "big5",
    "koi8-ru": "koi8-u",
    "mac": "mac-roman",
    "ucs-2": "utf-16",
    "iso-10646-ucs-2": "utf-16",
}


@dataclass(frozen=True)
class Xml:
    """How to read XML files where it cannot be seen from them.

    Args:
        record: which elements are the records: their name (``order``), wherever they are, or their path from the root
            (``/export/orders/order``). Namespace prefixes are part of names, as they stand in the file. What is
            outside of records is not read then. None: found out, and anything outside of records refuses the file.

    Raises:
        DefinitionError: a value cannot be.
    """

    record: str | None = None

    def __post_init__(self) -> None:
        if self.record is None:
            return
        steps = self.record.removeprefix("/").split("/") if isinstance(self.record, str) else [""]
        if not all(steps) or (len(steps) > 1 and not self.record.startswith("/")):
            raise DefinitionError(
                f"Xml(record={self.record!r}): must be a name, as 'order', or a path from the root, as '/orders/order'"
            )


def read(content: Content, options: Xml, as_text: Collection[str]) -> Table:
    """The records of an XML document as rows. A record's attributes and elements are its columns.

    Columns named in ``as_text`` stay text; the types of the others are inferred.

    Raises:
        DataError: ``EmptyFile``, ``UnreadableXml`` with the line, ``DtdRefused``, ``NotFlat``, ``MissingRecord``,
            ``OtherData``, ``TooDeep``, ``TooLarge``: the file cannot be read.
    """
    text.refuse_empty(content)
    content = _as_utf8(content)
    path = options.record or _record_path(content)
    records = _Records(path, strict=options.record is None)
    table = text_table_of(_blocks(content, records), content, "xml", as_text)
    if not records.number:
        raise DataError(
            "MissingRecord",
            f"the document has no element {path}",
            hint="look at the reader's record: Xml(record=…)",
        )
    if not table.height and table.malformed is not None:
        raise DataError(
            "NotFlat",
            f"no record is flat; the first {table.malformed['reason'][0].partition(': ')[2]}",
            hint=f"records are the elements {path}; name other ones with Xml(record=…), or put it as JSON",
            place=Place(row=1),
        )
    return replace(table, dialect={"record": path})


def _as_utf8(content: Content) -> Content:
    """The content as UTF-8. Expat knows few encodings, and none of several bytes but UTF-8 and UTF-16.

    Raises:
        DataError: ``UnreadableXml`` if the document is not in the encoding that it names, or Python does not know that.
    """
    head = content.head(MARKED)
    encoding = encoding_of_mark(head) or _encoding_of(head)
    try:
        if not text.encoding_problem(encoding):
            return text.recode(content, encoding)
        reason = f"its encoding is {encoding}, as it says, and Python knows none of that name"
    except DataError as error:
        reason = error.message
    raise DataError("UnreadableXml", f"not XML: {reason}", hint="write it as UTF-8", place=Place(line=1))


def _encoding_of(head: bytes) -> str:
    """The encoding that the first bytes show and the declaration names.

    One in which the declaration itself cannot be written as it is, such as UTF-16 on a document in ASCII, is a slip.
    https://www.w3.org/TR/xml/#sec-guessing
    """
    family = next((name for name in FAMILIES if head.startswith("<?xml".encode(name))), "utf-8")
    declaration = _DECLARATION.match(head.decode(family, "ignore"))
    if declaration is None or (family.startswith("utf-") and family != "utf-8"):
        return family
    named = declaration[1].lower().removeprefix("x-")
    named = _ALIASES.get(named, named)
    with suppress(LookupError, UnicodeError):
        return named if "<?xml".encode(named) == "<?xml".encode(family) else family
    return named


def _blocks(content: Content, records: _Records) -> Iterator[TextBlock]:
    begun = 0
    with content.open() as file:
        for parsed in _parse(file, records):
            if parsed - begun >= _BLOCK:
                yield records.block(content)
                begun = parsed
    yield records.block(content)


class _XmlElements:
    """Handles the events of expat, and counts them."""

    events = 0

    def __init__(self) -> None:
        self.parser: XMLParserType = ParserCreate("utf-8")
        self.parser.buffer_text = True
        self.parser.ordered_attributes = True
        self.parser.StartElementHandler = self.start
        self.parser.EndElementHandler = self.end
        self.parser.CharacterDataHandler = self.characters
        self.parser.StartDoctypeDeclHandler = self._doctype
        self.path: list[str] = []

    def _doctype(self, *_: object) -> None:
        raise DataError(
            "DtdRefused",
            "the document has a DOCTYPE, whose entities could fetch files or grow without end",
            hint="write it without one; data needs none",
            place=Place(line=self.parser.CurrentLineNumber),
        )

    def start(self, name: str, attributes: list[str]) -> None:  # noqa: ARG002 -- heirs use them
        self.events += 1
        if len(self.path) >= MOST_DEPTH:
            raise DataError(
                "TooDeep",
                f"elements are nested more than {MOST_DEPTH} deep",
                hint="put a flatter form of it",
                place=Place(line=self.parser.CurrentLineNumber),
            )
        self.path.append(name)

    def end(self, name: str) -> None:  # noqa: ARG002
        self.events += 1
        self.path.pop()

    def characters(self, data: str) -> None:  # noqa: ARG002
        self.events += 1


def _parse(file: BinaryIO, elements: _XmlElements) -> Iterator[int]:
    """Parse piece by piece. Yields how many bytes were parsed so far."""
    read, quiet = 0, 0
    while True:
        piece = file.read(_PIECE)
        before = elements.events
        try:
            elements.parser.Parse(piece, not piece)
        except ExpatError as error:
            raise _unreadable(error) from None
        except (ValueError, LookupError) as error:
            raise DataError("UnreadableXml", f"not XML: {error}", hint="write it as UTF-8") from None
        read += len(piece)
        quiet = quiet + len(piece) if before == elements.events else 0
        if quiet > LONGEST_RECORD:
            raise _too_large("a comment, a tag or an attribute", elements.parser.CurrentLineNumber)
        yield read
        if not piece:
            return


def _unreadable(error: ExpatError) -> DataError:
    return DataError(
        "UnreadableXml",
        f"not XML: {str(error).partition(':')[0]} (line {error.lineno}, column {error.offset + 1})",
        hint="it may have been cut off, or a sign such as & is written as itself: &amp; is how XML writes it",
        place=Place(line=error.lineno, column=error.offset + 1),
    )


def _too_large(what: str, line: int) -> DataError:
    return DataError(
        "TooLarge",
        f"{what} is longer than {LONGEST_RECORD:,} bytes",
        hint="put it in smaller parts",
        place=Place(line=line),
    )


class _FirstLeaf(Exception):
    """The first element without elements in it: its path is known, so that the rest need not be parsed."""


class _First(_XmlElements):
    """Goes down from the root to the first element that has none within it."""

    has_attributes = False

    def start(self, name: str, attributes: list[str]) -> None:
        super().start(name, attributes)
        self.has_attributes = any(not _is_namespace(key) for key in attributes[::2])

    def end(self, name: str) -> None:  # noqa: ARG002
        raise _FirstLeaf


def _record_path(content: Content) -> str:
    """The path of the records, which hold the first element without elements. If that is a child of the root and has
    attributes, it is a record itself."""
    first = _First()
    try:
        with content.open() as file:
            for _ in _parse(file, first):
                pass
    except _FirstLeaf:
        pass
    depth = len(first.path)
    is_record = depth == 2 and first.has_attributes
    return "/" + "/".join(first.path if is_record or depth == 1 else first.path[:-1])


class _Records(_XmlElements):
    """Collects records. ``strict``: data outside of them is an error."""

    def __init__(self, path: str, *, strict: bool) -> None:
        super().__init__()
        self._record = path
        self._is_path = path.startswith("/")
        self._strict = strict
        self._depth = 0
        self._cells: dict[str, str | None] = {}
        self._name = ""
        self._text: list[str] = []
        self._length = 0
        self._problem = ""
        self._from = (0, 0)
        self._is_nil = False
        self._has_elements = False
        self._kept: list[tuple[int, dict[str, str | None]]] = []
        self._malformed: list[tuple[int, int, int, str]] = []
        self.number = 0

    def start(self, name: str, attributes: list[str]) -> None:
        super().start(name, attributes)
        if not self._depth:
            if ("/" + "/".join(self.path) if self._is_path else name) == self._record:
                self._begin(attributes)
            elif self._strict and not self._is_around(attributes):
                raise self._other(f"<{name}>")
        elif len(self.path) > self._depth + 1:
            self._problem = self._problem or f"has elements within <{self.path[self._depth]}>"
        else:
            self._leaf(name, attributes)

    def _is_around(self, attributes: list[str]) -> bool:
        """Whether an element is only around records, so that nothing is lost with it. The root may have attributes."""
        silent = len(self.path) == 1 or all(map(_is_namespace, attributes[::2]))
        return silent and self._record.startswith("/" + "/".join(self.path) + "/")

    def _begin(self, attributes: list[str]) -> None:
        self.number += 1
        self._depth = len(self.path)
        self._cells, self._problem, self._text, self._length = {}, "", [], 0
        self._has_elements = False
        self._from = self.parser.CurrentByteIndex, self.parser.CurrentLineNumber
        for key, value in zip(attributes[::2], attributes[1::2], strict=True):
            if not _is_namespace(key):
                self._put(key, value)

    def _leaf(self, name: str, attributes: list[str]) -> None:
        if "".join(self._text).strip():
            self._problem = self._problem or "has text between its elements"
        self._text, self._is_nil, self._has_elements = [], False, True
        for key, value in zip(attributes[::2], attributes[1::2], strict=True):
            if key == _NIL:
                self._is_nil = value in {"true", "1"}
            elif not _is_namespace(key):
                self._put(f"{name}@{key}", value)

    def _put(self, name: str, value: str | None) -> None:
        self._length += len(value or "")
        if name in self._cells:
            self._problem = self._problem or f"has <{name}> twice"
        elif len(self._cells) >= MOST_COLUMNS:
            self._problem = self._problem or f"has more than {MOST_COLUMNS:,} elements"
        else:
            self._cells[name] = value or None

    def characters(self, data: str) -> None:
        super().characters(data)
        if self._depth:
            self._length += len(data)
            if self._length > LONGEST_RECORD:
                raise _too_large("a record", self._from[1])
            self._text.append(data)
        elif self._strict and data.strip():
            raise self._other(f'the text "{shorten(data.strip())}"')

    def end(self, name: str) -> None:
        super().end(name)
        if not self._depth:
            return
        whole = "".join(self._text)
        if len(self.path) == self._depth:
            self._put(name, None if self._is_nil else whole)
            self._text = []
        elif len(self.path) < self._depth:
            if whole.strip() and self._has_elements:
                self._problem = self._problem or "has text between its elements"
            elif whole.strip():
                self._put(name, whole)
            self._done(f"</{name}>")

    def _done(self, closing: str) -> None:
        begin, line = self._from
        if self._problem:
            end = self.parser.CurrentByteIndex + len(closing)
            self._malformed.append((self.number, begin, end, f"line {line}: {self._problem}"))
        else:
            self._kept.append((self.number, self._cells))
        self._depth = 0

    def _other(self, what: str) -> DataError:
        line = self.parser.CurrentLineNumber
        return DataError(
            "OtherData",
            f"beside the records {self._record} the document has {what} (line {line})",
            hint="say which elements are the records, and the rest is not read: Xml(record=…)",
            place=Place(line=line),
        )

    def block(self, content: Content) -> TextBlock:
        """The records since the last block."""
        kept, self._kept = self._kept, []
        malformed, self._malformed = self._malformed, []
        names = dict.fromkeys(name for _, cells in kept for name in cells)
        refuse_sparse(len(names), len(kept))
        columns = {name: [cells.get(name) for _, cells in kept] for name in names}
        if not columns and kept:
            columns = {self._record.rpartition("/")[2]: [None] * len(kept)}
        texts = [(number, _slice(content, begin, end), reason) for number, begin, end, reason in malformed]
        return TextBlock(columns, [number for number, _ in kept], texts)


def _slice(content: Content, begin: int, end: int) -> str:
    """The text of a record as it stands in the file."""
    with content.open() as file:
        file.seek(begin)
        return file.read(min(end - begin, 10_000)).decode("utf-8", "replace")


def _is_namespace(key: str) -> bool:
    """Attributes that say what names mean, not data."""
    return key == "xmlns" or key.startswith(("xmlns:", "xsi:"))
