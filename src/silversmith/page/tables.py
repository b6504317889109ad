"""The tables and views of gold: how much each holds, and the first rows of one, linked to the files they came from."""

from __future__ import annotations

from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from silversmith.operations import WrongCall
from silversmith.operations.preview import COLUMNS, Preview, cell
from silversmith.operations.tables import TableReport, find, plain, query, reports
from silversmith.operations.target import Target
from silversmith.page.context import ViewContext
from silversmith.pipeline import Pipeline
from silversmith.tables.spec import FILE, ViewSpec

#: So many rows are shown of a table.
ROWS = 50


async def tables(request: Request) -> Response:
    """``/tables``: gold alone is read, for comparing it with silver lists all of silver's keys."""
    context = _context(request)
    listed = await context.ask_gold(_listed)
    return context.answer(request, "tables.html", {"title": "Tables", "reports": listed})


async def table(request: Request) -> Response:
    """``/tables/{name}``"""
    context = _context(request)
    name = request.path_params["name"]
    try:
        spec = find(name, context.backend.pipeline)
    except WrongCall:
        raise HTTPException(404) from None
    report, first = await context.ask_gold(_look, name)
    sql = spec.sql if isinstance(spec, ViewSpec) else ""
    values = {"title": name, "report": report, "first": first, "sql": sql, "file_column": FILE}
    return context.answer(request, "table.html", values)


def _context(request: Request) -> ViewContext:
    context = ViewContext.of(request)
    if not context.backend.pipeline.tables:
        raise HTTPException(404)
    return context


def _listed(pipeline: Pipeline, target: Target) -> list[TableReport]:
    return list(reports(pipeline, target, compare=False))


def _look(name: str, pipeline: Pipeline, target: Target) -> tuple[TableReport, Preview | None]:
    report = next(report for report in reports(pipeline, target, compare=False) if report.name == name)
    return report, preview(report, pipeline, target) if report.version is not None else None


def preview(report: TableReport, pipeline: Pipeline, target: Target) -> Preview:
    """The first rows of a table or view, as a query gives them; first of all the file that a row came from."""
    sql = f'select * from "{report.name}" limit {ROWS}'  # noqa: S608 -- names of tables are plain words
    answer = query(sql, pipeline, target, limit=ROWS)
    names = [column.name for column in answer.columns]
    order = sorted(range(len(names)), key=lambda at: names[at] != FILE)[:COLUMNS]
    return Preview(
        columns=[names[at] for at in order],
        kinds=[answer.columns[at].type for at in order],
        rows=[[_cell(names[at], row[at]) for at in order] for row in answer.rows],
        columns_in_all=len(names),
        rows_in_all=report.rows,
    )


def _cell(column: str, value: Any) -> str | None:
    """A key stays whole, for it is a link."""
    return value if column == FILE and isinstance(value, str) else cell(plain(value))
