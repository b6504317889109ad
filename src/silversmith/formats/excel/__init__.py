"""Worksheets of Excel and LibreOffice: one sheet of a workbook as rows, each cell with the type that it has."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass

from silversmith.errors import DataError, DefinitionError
from silversmith.formats.archives.content import Content
from silversmith.formats.excel import calamine, xlsx
from silversmith.formats.excel.sheets import is_empty, sheet, unreadable
from silversmith.formats.table import Table, shorten
from silversmith.formats.text import columns_problem, options_problem

#: The first bytes of a compound file: an .xls, or any workbook with a password.
_COMPOUND = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"

#: Documents in zip archives that are no workbooks.
_FOREIGN = {
    "docx": "a Word document",
    "pptx": "a PowerPoint presentation",
}


@dataclass(frozen=True)
class Excel:
    """Which sheet of a workbook to read, and how.

    Args:
        sheet: its name, or its number from 1 among all sheets, as the tabs stand. None: the only sheet that is shown
            and has anything in it; where there are several the file is refused, so that none is left out unnoticed.
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
    chosen = options.sheet
    if isinstance(chosen, bool) or not (
        chosen is None or (isinstance(chosen, str) and chosen) or (isinstance(chosen, int) and chosen >= 1)
    ):
        return f"sheet={chosen!r}): must be a sheet's name, or its number from 1"
    return options_problem(options) or columns_problem(options.columns)


def read(content: Content, options: Excel) -> Table:
    """The rows of one sheet.

    Raises:
        DataError: ``EmptyFile``, ``UnreadableExcel``, ``SeveralSheets``, ``MissingSheet``, ``TooLarge`` … .
    """
    if content.size == 0:
        raise DataError("EmptyFile", "the file is empty", hint="put it again with data")
    kind = content.kind or ("xls" if content.head(len(_COMPOUND)) == _COMPOUND else "")
    if kind in _FOREIGN:
        raise DataError(
            "UnknownFormat",
            f"the file's format cannot be read: it is {_FOREIGN[kind]}",
            hint="save the sheet as .xlsx or as CSV",
        )
    if kind not in {"xls", "xlsx", "xlsb", "ods"}:
        raise unreadable("it begins as no workbook does; its name may be wrong")
    with closing(xlsx.XlsxWorkbook(content) if kind == "xlsx" else calamine.Workbook(content, kind)) as workbook:
        index = _chosen(workbook, options)
        name = workbook.sheets[index].name
        read_sheet = sheet(
            name,
            workbook.cells(index),
            header=options.header,
            skip_rows=options.skip_rows,
            names=options.columns,
        )
    frame = read_sheet.frame
    dialect: dict[str, object] = {"sheet": name, "header_row": read_sheet.header if options.header else None}
    dialect |= {"renamed": read_sheet.renamed} if read_sheet.renamed else {}
    return Table(frame.lazy(), kind + content.packing, frame, dialect=dialect)


def _chosen(workbook: xlsx.XlsxWorkbook | calamine.Workbook, options: Excel) -> int:
    """The index of the sheet to read, from 0."""
    names, chosen = [sheet.name for sheet in workbook.sheets], options.sheet
    if isinstance(chosen, int):
        if chosen > len(names):
            raise _missing(f"number {chosen}", names)
        return chosen - 1
    if chosen is not None:
        if chosen not in names:
            raise _missing(f'called "{shorten(chosen)}"', names)
        return names.index(chosen)
    filled = [
        index for index, sheet in enumerate(workbook.sheets) if sheet.visible and not is_empty(workbook.cells(index))
    ]
    if len(filled) > 1:
        raise DataError(
            "SeveralSheets",
            f"the workbook has {len(filled)} sheets with something in them: {_listed([names[at] for at in filled])}",
            hint=f"say which one to read: Excel(sheet={names[filled[0]]!r})",
        )
    if not filled:
        raise DataError(
            "EmptyFile",
            f"no sheet that is shown has anything in it; the workbook has: {_listed(names) or 'no sheets'}",
            hint="put it again with data, or choose a hidden sheet: Excel(sheet=…)",
        )
    return filled[0]


def _missing(what: str, names: list[str]) -> DataError:
    return DataError(
        "MissingSheet",
        f"the workbook has no sheet {what}; it has: {_listed(names)}",
        hint="look at the reader's sheet: Excel(sheet=…)",
    )


def _listed(names: list[str]) -> str:
    return ", ".join(f'"{shorten(name)}"' for name in names[:12])
