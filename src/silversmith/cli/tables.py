"""``silversmith query`` and ``silversmith tables``: what is in gold, and its upkeep."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from silversmith.cli.options import (
    HERE,
    PIPELINE,
    JsonOption,
    PipelineOption,
    QuietOption,
    Where,
    complete_tables,
    number,
    open_target,
)
from silversmith.cli.screen import say, say_json, say_table, set_quiet
from silversmith.operations import WrongCall
from silversmith.operations.text import count, length, size

if TYPE_CHECKING:
    from silversmith.operations.tables import Answer, TableReport, Upkeep


def query(
    sql: Annotated[str, Parameter(name="SQL", help="A SELECT in DataFusion's dialect, over tables and views.")],
    /,
    *,
    limit: Annotated[int, number("Show at most so many rows.", 1)] = 100,
    pipeline: PipelineOption = PIPELINE,
    where: Where = HERE,
    json: JsonOption = False,
) -> int:
    """Ask the newest versions of the tables and views. Each query sees one version of each, whole.

    In JSON exact numbers, times and bytes (hexadecimal) are texts.
    """
    from silversmith.operations.tables import query as operation

    with open_target(pipeline, where) as (definition, target):
        answer = operation(sql, definition, target, limit=limit)
    if json:
        say_json(answer.to_dict())
    else:
        _show_answer(answer, limit)
    return 0


def _show_answer(answer: Answer, limit: int) -> None:
    from silversmith.operations.tables import plain

    rows = [["null" if value is None else plain(value) for value in row] for row in answer.rows]
    right = [at for at, column in enumerate(answer.columns) if column.is_number]
    say_table(rows, header=[column.name for column in answer.columns], right=right)
    if answer.has_more:
        say(f"… and more than these {count(limit, 'row')}; see them with --limit")


def tables(
    action: Annotated[
        Literal["optimize", "vacuum", "rebuild"] | None,
        Parameter(
            name="ACTION",
            help="optimize: write small data files together. vacuum: delete data files that only old versions need. "
            "rebuild: write a table again from silver, or a view from its query. None: show all.",
        ),
    ] = None,
    name: Annotated[
        str | None, Parameter(name="NAME", completer=complete_tables, help="The table or view; else all.")
    ] = None,
    /,
    *,
    older_than: Annotated[
        str | None, Parameter(help="vacuum: only what versions need that were replaced so long ago; else 7d.")
    ] = None,
    pipeline: PipelineOption = PIPELINE,
    where: Where = HERE,
    quiet: QuietOption = False,
    json: JsonOption = False,
) -> int:
    """Show the tables and views: how much they hold, and whether silver, or a view's tables, have more.

    The table function compacts and vacuums by itself; optimize and vacuum do it now. Queries that run go on, unless
    vacuum takes versions that are younger than they are.
    """
    set_quiet(quiet)
    if older_than is not None and action != "vacuum":
        raise WrongCall("--older-than is for `silversmith tables vacuum`")
    from silversmith.operations import tables as operations

    with open_target(pipeline, where) as (definition, target):
        match action:
            case None:
                if name is not None:
                    raise WrongCall("name an action before the table: optimize, vacuum or rebuild")
                reports = list(operations.reports(definition, target))
                say_json({"tables": [report.to_dict() for report in reports]}) if json else _show(reports)
            case "optimize":
                _show_upkeep(operations.optimize(name, definition, target), json=json)
            case "vacuum":
                seconds = None if older_than is None else _age(older_than)
                done = operations.vacuum(name, definition, target, now=time.time(), older_than=seconds)
                _show_upkeep(done, json=json)
            case "rebuild":
                if name is None:
                    raise WrongCall("name the table: silversmith tables rebuild NAME")
                rebuilt = operations.rebuild(name, definition, target)
                if json:
                    say_json(rebuilt.to_dict())
                else:
                    say(f"{rebuilt.name}: {count(rebuilt.after.rows, 'row')} in version {rebuilt.version}")
    return 0


def _age(text: str) -> float:
    seconds = length(text)
    if seconds is None:
        raise WrongCall(f"--older-than {text!r} is no age: write a number and s, m, h, d or w, as in 12h or 30d")
    return seconds


_COLUMNS = ("name", "of", "state", "rows", "files", "size", "version", "committed")


def _show(reports: Iterable[TableReport]) -> None:
    reports = list(reports)
    rows = [
        (
            report.name,
            ", ".join(report.of),
            _state(report),
            *(f"{number:,}" for number in (report.rows, report.files)),
            size(report.bytes),
            "-" if report.version is None else report.version,
            report.committed or "-",
        )
        for report in reports
    ]
    say_table(rows, header=_COLUMNS, right=range(3, 7))
    if any(report.state == "behind" for report in reports):
        say()
        say("what is behind is on its way, or was missed: `silversmith reconcile` sends it again")


def _state(report: TableReport) -> str:
    return f"{count(report.lacking, 'file')} behind" if report.lacking else report.state


def _show_upkeep(done: Iterable[Upkeep], *, json: bool) -> None:
    documents: list[dict[str, Any]] = []
    for each in done:
        documents.append(each.to_dict())
        if not json:
            before, after = each.before, each.after
            say(f"{each.name}: {count(before.files, 'data file')} → {after.files:,}, {size(after.bytes)}")
    if json:
        say_json({"tables": documents})
    elif not documents:
        say("there is no table yet: nothing of its silver has come")
