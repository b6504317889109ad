"""Worksheets of Excel and LibreOffice: one sheet of a workbook as rows, its cells as what they are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from silversmith.errors import DataError, DefinitionError
from silversmith.formats.archives.content import Content
from silversmith.formats.excel import ooxml
from silversmith.formats.excel.sheets import Row, is_blank, sheet
from silversmith.formats.table import ROW, Table, shorten

_OLD = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"

#: What documents in zip archives are which are no workbooks that are read.
_FOREIGN = {
    "xlsb": "an Excel workbook in binary form",
    "docx": "a Word document",
    "pptx": "a PowerPoint presentation",
}


@dataclass(frozen=True)
class Excel:
    """Which sheet of a workbook to read, and how.

    Args:
        sheet: its name, or its number from 1 among all sheets, as the tabs stand. None: the only one that is shown and
            has anything in it; where there are several the file is refused, so that none is left out unnoticed.
        header: whether the first row that has anything in it holds the columns' names.
        skip_rows: so many rows of the sheet, from its top, are not read: titles, for example.
        columns: the columns' names, instead of the header's.

    Raises:
        DefinitionError: a value cannot be.
    """

    sheet: str | int | None = None
    header: bool = True
    skip_rows: int = 0
    columns: Sequence[str] | None = None

    def __post_init__(self) -> None:
        problem = _problem(self)
        if problem:
            raise DefinitionError(f"Excel({problem}")
        object.__setattr__(self, "columns", None if self.columns is None else tuple(self.columns))


def _problem(options: Excel) -> str:
    chosen, names = options.sheet, options.columns
    if isinstance(chosen, bool) or not (
        chosen is None or (isinstance(chosen, str) and chosen) or (isinstance(chosen, int) and chosen >= 1)
    ):
        return f"sheet={chosen!r}): must be a sheet's name, or its number from 1"
    if not isinstance(options.skip_rows, int) or isinstance(options.skip_rows, bool) or options.skip_rows < 0:
        return f"skip_rows={options.skip_rows!r}): must be a number of rows, 0 or more"
    if names is not None and (isinstance(names, str) or not all(isinstance(name, str) for name in names)):
        return f"columns={names!r}): give a list of texts, as columns=['a', 'b']"
    if names is not None and (not names or "" in names or ROW in names or len(set(names)) < len(names)):
        return f"columns={names!r}): must be names, each once, none of them empty or {ROW!r}"
    return ""


class _Workbook(Protocol):
    @property
    def names(self) -> list[str]: ...
    @property
    def visible(self) -> list[str]: ...
    def rows(self, name: str) -> Iterator[Row]: ...


def read(content: Content, options: Excel) -> Table:
    """The rows of one sheet.

    Raises:
        DataError: ``EmptyFile``, ``UnreadableExcel``, ``SeveralSheets``, ``MissingSheet``, ``TooLarge`` … .
    """
    if content.size == 0:
        raise DataError("EmptyFile", "the file is empty", hint="put it again with data")
    kind = content.kind or ("xls" if content.head(len(_OLD)) == _OLD else "")
    if kind in _FOREIGN:
        raise DataError(
            "UnknownFormat",
            f"the file's format cannot be read: it is {_FOREIGN[kind]}",
            hint="save the sheet as .xlsx or as CSV",
        )
    with _opened(content, kind) as workbook:
        name = _chosen(workbook, options)
        found = sheet(
            name,
            workbook.rows(name),
            header=options.header,
            skip_rows=options.skip_rows,
            names=options.columns,
        )
    dialect = {"sheet": name, "header_row": found.header if options.header else None}
    return Table(found.frame.lazy(), kind + content.packing, found.frame, dialect=dialect)


@contextmanager
def _opened(content: Content, kind: str) -> Iterator[_Workbook]:
    if kind == "xls":
        from silversmith.formats.excel.xls import Workbook as OldWorkbook

        yield OldWorkbook(content)
        return
    if kind not in {"xlsx", "ods"}:
        raise ooxml.unreadable("it begins as no workbook does; its name may be wrong")
    with ooxml.opened(content) as archive:
        if kind == "ods":
            from silversmith.formats.excel.ods import Workbook as OpenWorkbook

            yield OpenWorkbook(archive)
        else:
            from silversmith.formats.excel.xlsx import Workbook

            yield Workbook(archive)


def _chosen(workbook: _Workbook, options: Excel) -> str:
    """The name of the sheet to read."""
    names, chosen = workbook.names, options.sheet
    if isinstance(chosen, int):
        if chosen > len(names):
            raise _missing(f"number {chosen}", names)
        return names[chosen - 1]
    if chosen is not None:
        if chosen not in names:
            raise _missing(f'called "{shorten(chosen)}"', names)
        return chosen
    filled = [name for name in workbook.visible if not _is_empty(workbook, name)]
    if len(filled) > 1:
        raise DataError(
            "SeveralSheets",
            f"the workbook has {len(filled)} sheets with something in them: {_listed(filled)}",
            hint=f"say which one to read: Excel(sheet={filled[0]!r})",
        )
    if not filled:
        raise DataError(
            "EmptyFile",
            f"no sheet that is shown has anything in it; the workbook has: {_listed(names) or 'no sheets'}",
            hint="put it again with data, or choose a hidden sheet: Excel(sheet=…)",
        )
    return filled[0]


def _is_empty(workbook: _Workbook, name: str) -> bool:
    return all(is_blank(cells) for _, cells in workbook.rows(name))


def _missing(what: str, names: list[str]) -> DataError:
    return DataError(
        "MissingSheet",
        f"the workbook has no sheet {what}; it has: {_listed(names)}",
        hint="look at the reader's sheet: Excel(sheet=…)",
    )


def _listed(names: list[str]) -> str:
    return ", ".join(f'"{shorten(name)}"' for name in names[:12])
