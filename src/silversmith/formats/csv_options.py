"""What a person may say of how a CSV file is written."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from silversmith.errors import DefinitionError
from silversmith.formats.table import ROW
from silversmith.formats.text_lines import encoding_problem

#: The value of an option that is found out from the file.
AUTO = "auto"

#: What may stand between groups of three digits; the spaces are those that do not break a line.
GROUPS = (",", ".", "'", "\u2019", "_", " ", "\u00a0", "\u202f")


@dataclass(frozen=True)
class Csv:
    """How to read CSV files that are not as most are.

    Args:
        separator: between fields: one ASCII character. None: ``\\t`` where the name ends with ``.tsv`` or ``.tab``,
            ``|`` where it ends with ``.psv``, else found out among ``, ; tab |``.
        quote: around fields that have separators, quotes or line ends in them; None: quotes mean nothing. ``"auto"``:
            ``"``, or ``'`` where only that makes regular records of the first ones.
        escape: before a separator, a quote, a line end or itself, which then are text; before anything else it is text
            itself. None: nothing is. ``"auto"``: ``\\`` where only that makes regular records of the first ones.
        header: whether the first record holds the columns' names.
        columns: the columns' names, instead of the header's; without either they are ``column_1``, ``column_2`` …
        null_values: texts that mean null, exactly so, besides the empty one.
        encoding: any that Python knows: ``utf-8``, ``utf-16``, ``cp1252``, ``latin-1`` … None: UTF-8, or what is found
            out with confidence; what is not, is refused with the likeliest.
        skip_lines: so many lines before the header (or the first record) are not read.
        comment: lines that begin with this are not read.
        ragged: records may end before the last column, and the rest is null; and they may have empty fields beyond it.
            Without it such records are rejected. Records with more fields that say something always are.
        decimal_comma: ``1,5`` means one and a half.
        thousands: what stands between groups of three digits: ``1,234,567`` or ``1.234,5`` or ``1 234``.
        padded: blanks after a separator are no part of the field, so that it may be quoted: ``"a", "b"``. None: found
            out, where only that makes regular records of the first ones.

    Raises:
        DefinitionError: a value cannot be.
    """

    separator: str | None = None
    quote: str | None = AUTO
    escape: str | None = AUTO
    header: bool = True
    columns: Sequence[str] | None = None
    null_values: Collection[str] = ()
    encoding: str | None = None
    skip_lines: int = 0
    comment: str | None = None
    ragged: bool = False
    decimal_comma: bool = False
    thousands: str | None = None
    padded: bool | None = None

    def __post_init__(self) -> None:
        for name, value in (("columns", self.columns), ("null_values", self.null_values)):
            if isinstance(value, str) or (value is not None and not all(isinstance(item, str) for item in value)):
                raise DefinitionError(f"Csv({name}={value!r}): give a list of texts, as {name}=['a', 'b']")
        object.__setattr__(self, "columns", None if self.columns is None else tuple(self.columns))
        object.__setattr__(self, "null_values", tuple(sorted(self.null_values)))
        problem = _marks_problem(self) or _other_problem(self)
        if problem:
            raise DefinitionError(f"Csv({problem}")


def _marks_problem(options: Csv) -> str:
    """Which of the marks cannot be; empty if none."""
    marks = {"separator": options.separator, "quote": options.quote, "escape": options.escape}
    given = {name: mark for name, mark in marks.items() if mark is not None and (mark, name) not in _FOUND_OUT}
    for name, mark in given.items():
        if not (isinstance(mark, str) and len(mark) == 1 and mark.isascii() and mark not in "\r\n\0"):
            return f"{name}={mark!r}): must be one ASCII character, and no line end"
    if len(set(given.values())) < len(given):
        return f"{', '.join(f'{name}={mark!r}' for name, mark in given.items())}): must differ"
    if options.decimal_comma and options.separator == ",":
        return "decimal_comma=True, separator=','): the comma cannot be both; with decimal commas it mostly is ';'"
    if options.thousands is not None and options.thousands not in GROUPS:
        return f"thousands={options.thousands!r}): must be one of {' '.join(map(repr, GROUPS))}"
    if options.thousands == ("," if options.decimal_comma else "."):
        return f"thousands={options.thousands!r}): is what stands before the decimals; look at decimal_comma"
    return ""


_FOUND_OUT = {(AUTO, "quote"), (AUTO, "escape")}


def _other_problem(options: Csv) -> str:
    names, lines, comment = options.columns, options.skip_lines, options.comment
    if comment is not None and not (isinstance(comment, str) and comment.strip()):
        return f"comment={comment!r}): must be text, such as '#'"
    if options.padded not in {None, True, False}:
        return f"padded={options.padded!r}): must be True, False or None (find out)"
    if not isinstance(lines, int) or isinstance(lines, bool) or lines < 0:
        return f"skip_lines={lines!r}): must be a number of lines, 0 or more"
    if names is not None and (not names or "" in names or ROW in names or len(set(names)) < len(names)):
        return f"columns={names!r}): must be names, each once, none of them empty or {ROW!r}"
    return encoding_problem(options.encoding)
