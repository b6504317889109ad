"""Proof that Polars may read a CSV file, block by block, and the file put right where it may not.

Polars reads regular CSV fast, and guesses at the rest: it fills short records up with nulls, and reads quotes where
they do not belong in its own way. So nothing reaches it that was not proved to be regular first: every record has as
many fields as the header, every quote opens or closes a field or is written twice. The proof is a few passes of C code
over the bytes. A block that fails it is read record by record, and written anew.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from silversmith.formats import text
from silversmith.formats.archives.content import Content
from silversmith.formats.csv_records import Dialect, Malformed, Records

#: Bytes proved at once. One irregular record makes this many be read slowly.
BLOCK = 256 * 1024

#: What text may begin with and Polars takes for zlib's compression; other compressions begin as no UTF-8 does.
#: https://www.rfc-editor.org/rfc/rfc1950
_PACKED = (b"x\x01", b"x\x5e", b"x\x9c", b"x\xda")


def looks_packed(data: bytes) -> bool:
    """Whether Polars would unpack this text, which is not packed. A blank line before it keeps Polars from that."""
    return data.startswith(_PACKED)


@dataclass(frozen=True)
class Proof:
    """What is known of the records after the header, or of some of them: ``before`` is how many come before those.

    ``rewritten`` has a blank line, the regular records without a header, and a placeholder for each malformed one so
    that the others keep their numbers; None where the file itself is regular. ``quoted``: there are quotes;
    ``empty_quotes``: two in a row. The next record begins at byte ``end``, on line ``line``.
    """

    records: int
    quoted: bool
    empty_quotes: bool
    rewritten: bytes | Path | None
    malformed: list[tuple[int, str, str]]
    end: int = 0
    line: int = 1
    before: int = 0


def prove(
    content: Content, dialect: Dialect, malformed: Malformed, *, body: int, line: int, block: int = BLOCK
) -> Proof:
    """Prove the records that begin at byte ``body``, on line ``line``, ``block`` bytes at a time.

    Raises:
        DataError: no UTF-8, NUL bytes, a quote that is never closed, too many malformed records, or no others.
    """
    rewriter = Rewriter(content, dialect)
    with content.open() as file:
        if content.data is None and looks_packed(content.head(2)):
            rewriter.begin(file, body, body)
        proof = _Prover(file, rewriter, malformed, size=block).run(body, line)
    malformed.refuse_header(proof.records - len(proof.malformed))
    return proof


def prove_some(
    file: BinaryIO, dialect: Dialect, malformed: Malformed, *, start: int, until: int, line: int, before: int
) -> Proof:
    """The same for the records from byte ``start``, the first of which has the number ``before + 1``, up to ``until``
    or where the record that this byte is in ends. What is rewritten is in memory. Nothing is said of the header.

    Raises:
        DataError: as :func:`prove`.
    """
    rewriter = Rewriter(Content("", b"", None), dialect)  # of what is in memory, the copy is
    return _Prover(file, rewriter, malformed, size=BLOCK, before=before).run(start, line, until)


class _Prover:
    def __init__(self, file: BinaryIO, rewriter: Rewriter, malformed: Malformed, *, size: int, before: int = 0) -> None:
        self._file = file
        self._size = size
        self._dialect = rewriter.dialect
        self._shape = Shape(rewriter.dialect, malformed.width)
        self._malformed = malformed
        self._rewriter = rewriter
        self._before = self._records = before

    def run(self, body: int, line: int, until: int | None = None) -> Proof:
        position, quoted, doubled = body, False, False
        quote = (self._dialect.written_quote or "").encode()
        known = len(self._malformed.records)
        try:
            while block := self._block(position, until):
                cut = self._shape.cut(block, last=len(block) < self._size)
                quoted = quoted or (bool(quote) and quote in block)
                doubled = doubled or (bool(quote) and 2 * quote in block)
                records = self._shape.regular(block[:cut]) if cut and not self._is_within(block, until) else None
                if records is None:
                    self._rewriter.begin(self._file, body, position)
                    position, line = self._slowly(position, line, position + (cut or len(block)))
                else:
                    text.decode(block[:cut], offset=position, line=line)
                    self._rewriter.block(block[:cut])
                    self._records += records
                    position, line = position + cut, line + text.line_ends(block[:cut])
            rewritten = self._rewriter.result()
            doubled = doubled or (rewritten is not None and bool(quote))
            return Proof(
                self._records - self._before,
                quoted or doubled,
                doubled,
                rewritten,
                self._malformed.records[known:],
                position,
                line,
                self._before,
            )
        finally:
            self._rewriter.close()

    def _is_within(self, block: bytes, until: int | None) -> bool:
        """Whether a block that was just read ends in the middle of a record, since somebody wanted it to end there."""
        return until is not None and not block.endswith(b"\n") and len(block) < self._size and bool(self._file.read(1))

    def _block(self, position: int, until: int | None) -> bytes:
        self._file.seek(position)
        return self._file.read(self._size if until is None else max(0, min(self._size, until - position)))

    def _slowly(self, position: int, line: int, until: int) -> tuple[int, int]:
        """Write the records from ``position`` anew, at least up to ``until``; where the next one begins."""
        self._file.seek(position)
        records = Records(self._file, self._dialect, line=line)
        for record in records:
            self._records += 1
            self._rewriter.record(self._malformed.judge(self._records, record) or ["x"] * self._malformed.width)
            if records.position >= until:
                break
        return records.position, records.line


class Shape:
    """What regular records look like: ``width`` fields each."""

    def __init__(self, dialect: Dialect, width: int) -> None:
        self._separator = dialect.separator.encode()
        self._quote = dialect.quote.encode() if dialect.quote else None
        self._comment = dialect.comment.encode() if dialect.comment else None
        self._escape = dialect.escape.encode() if dialect.escape else None
        self._padded = dialect.padded
        self._width = width
        self._skeleton = self._separator * (width - 1) + b"\n"
        self._flesh = bytes(set(range(256)) - set(self._separator + b"\n"))

    def cut(self, block: bytes, *, last: bool) -> int:
        """How much of the block is whole records, if all of it is regular; 0 if not even one is."""
        if last:
            return len(block)
        end = block.rfind(b"\n") + 1
        if self._quote is None:
            return end
        odd = block.count(self._quote, 0, end) % 2
        while odd and end:  # this line end is within quotes: go back to one that is not
            start = block.rfind(b"\n", 0, end - 1) + 1
            odd ^= block.count(self._quote, start, end) % 2
            end = start
        return end

    def regular(self, block: bytes) -> int | None:
        """How many records the block has; None if not all of them are regular."""
        if self._padded or (self._escape and (self._quote is None or self._escape in block)):
            return None
        outside = self._outside(block) if self._quote is not None and self._quote in block else block
        if outside is None or outside.count(b"\r") != outside.count(b"\r\n"):
            return None
        if not outside.endswith(b"\n"):
            outside += b"\n"
        if self._comment and (outside.startswith(self._comment) or b"\n" + self._comment in outside):
            return None
        if self._width == 1 and (outside.startswith((b"\n", b"\r\n")) or b"\n\n" in outside or b"\n\r\n" in outside):
            return None  # a blank line, which would look like a record with one empty field
        records = outside.count(b"\n")
        skeleton = outside.translate(None, self._flesh)
        return records if skeleton == self._skeleton * records else None

    def _outside(self, block: bytes) -> bytes | None:
        """The block with a lone quote in the place of each quoted field; None if a quote is where it must not be."""
        assert self._quote is not None
        pieces = block.split(self._quote)
        if len(pieces) % 2 == 0:
            return None
        # every other piece is outside of quotes; an empty one between two others is a quote that is written twice
        first, *middle, last = pieces[0::2]
        outside = self._quote.join([first, *filter(None, middle), last])
        quote, quotes = self._quote, outside.count(self._quote)
        opened = outside.count(self._separator + quote) + outside.count(b"\n" + quote) + outside.startswith(quote)
        closed = (
            outside.count(quote + self._separator)
            + outside.count(quote + b"\n")
            + outside.count(quote + b"\r\n")
            + outside.endswith(quote)
        )
        return outside if opened == closed == quotes else None


class Rewriter:
    """A regular copy of a file that is not. Nothing is copied until the first irregular block."""

    def __init__(self, content: Content, dialect: Dialect) -> None:
        self._content = content
        self.dialect = dialect
        self._file: BinaryIO | None = None
        self._path: Path | None = None

    def begin(self, file: BinaryIO, start: int, end: int) -> None:
        """Copy what has been proved so far: the bytes from ``start`` to ``end``."""
        if self._file is not None:
            return
        if self._content.data is None:
            self._path = self._content.scratch.file(".csv")
            self._file = self._path.open("w+b")
        else:
            self._file = io.BytesIO()
        self._file.write(b"\n")
        file.seek(start)
        while piece := file.read(min(BLOCK, end - file.tell())):
            self._file.write(piece)

    def block(self, block: bytes) -> None:
        """A block that is regular as it stands."""
        if self._file is not None:
            self._file.write(block if block.endswith(b"\n") else block + b"\n")

    def record(self, fields: list[str]) -> None:
        """One record, quoted where it must be."""
        assert self._file is not None
        line = self.dialect.separator.join(map(self._field, fields))
        if not line and self.dialect.written_quote:
            line = 2 * self.dialect.written_quote  # one empty field, which else would be a blank line
        self._file.write(f"{line}\n".encode())

    def _field(self, field: str) -> str:
        quote = self.dialect.written_quote
        if quote is None or not any(mark in field for mark in (self.dialect.separator, quote, "\n", "\r")):
            return field
        return f"{quote}{field.replace(quote, 2 * quote)}{quote}"

    def result(self) -> bytes | Path | None:
        """The copy; None where none was needed."""
        if isinstance(self._file, io.BytesIO):
            return self._file.getvalue()
        if self._file is not None:
            self._file.close()
        return self._path

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
