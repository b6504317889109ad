"""``silversmith trace``: where one file is."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from silversmith.cli.failures import show_document, show_rows
from silversmith.cli.opened import opened
from silversmith.cli.options import PIPELINE, JsonOption, PipelineOption
from silversmith.cli.screen import say, say_json, say_lines, warn
from silversmith.cli.text import aligned
from silversmith.cli.where import HERE, Where
from silversmith.operations.text import count, shown, size

if TYPE_CHECKING:
    from silversmith.operations.trace import OfTransform, Silver, Step, Trace, Version

#: What each state of a transform means to a person.
_STATES = {
    "current": "silver is up to date",
    "stale": "silver is of an older version: the newest one is on its way, or failed",
    "outdated": "silver was made by other code than the pipeline's",
    "missing": "there is no silver object",
    "quarantined": "this version cannot become silver",
    "foreign": "another pipeline made silver, and it is left as it is",
    "orphaned": "silver is of a bronze object that is gone",
    "gone": "there is neither bronze nor silver",
}


def trace(
    key: Annotated[str, Parameter(name="KEY", help="The key in bronze, as in flights/2026-01.csv.")],
    /,
    *,
    pipeline: PipelineOption = PIPELINE,
    where: Where = HERE,
    json: JsonOption = False,
) -> int:
    """Show where one file is: each hop of each version, and what became of it. Exit code 1 if the key is unknown."""
    from silversmith.operations.trace import trace as look
    from silversmith.stores.keys import check

    check(key)
    with opened(pipeline, where) as (definition, target):
        found = look(key, definition, target)
    if json:
        say_json(found.to_dict())
    elif found.known:
        _show(found, target.no_history)
    if not found.known:
        _tell_unknown(found, target.no_history)
    return 0 if found.known else 1


def _tell_unknown(found: Trace, no_history: str) -> None:
    text = f"nothing is known of the key {shown(found.key)}"
    if not found.remembers:
        text += f"; {no_history}"
    if found.near:
        text += "\nnear it are: " + ", ".join(map(shown, found.near))
    warn(text)


def _show(found: Trace, no_history: str) -> None:
    say(found.key, style="bold")
    if found.bronze is None:
        say("  bronze  gone")
    else:
        say(f"  bronze  {size(found.bronze.size)}, etag {found.bronze.etag}, modified {found.bronze.modified}")
    if not found.versions:
        say(f"  no history: {_why_no_history(found, no_history)}")
    if found.older:
        say("  … and older hops, which are not shown")
    for version in found.versions:
        _show_version(version)
    for transform in found.transforms:
        _show_transform(transform)
    if not any(transform.matches for transform in found.transforms):
        say("  no transform's pattern matches this key")


def _why_no_history(found: Trace, no_history: str) -> str:
    from silversmith.local.landing import is_temporary

    if is_temporary(found.key):
        return "it is named like a file that is not finished, so the engine leaves it alone"
    return "the engine has not noticed it yet" if found.remembers else no_history


def _show_version(version: Version) -> None:
    say()
    say(f"  version {version.version or '-'}", style="bold")
    rows = [_step(step) for step in version.steps]
    for step, line in zip(version.steps, aligned(rows, right=[1]), strict=True):
        say("    " + line)
        error = step.detail.get("error")
        if isinstance(error, dict):
            _show_error(error)


def _step(step: Step) -> tuple[str, ...]:
    return step.at, f"+{step.elapsed_ms:,.1f} ms", step.room, step.name, step.what, _remark(step)


def _remark(step: Step) -> str:
    """What is worth saying of a hop in a few words."""
    detail = step.detail
    parts = [f"attempt {step.attempt}"] if step.attempt else []
    if "rows_written" in detail and step.what in {"committed", "duplicate"}:
        parts.append(f"{detail['rows_written']:,} of {detail['rows_read']:,} rows")
    if step.room == "bucket" and "size" in detail:
        parts.append(size(detail["size"]))
    if step.what in {"dead", "dropped"}:
        parts.append(str(detail.get("reason", "")))
    return ", ".join(parts)


def _show_error(error: dict[str, Any]) -> None:
    say(f"      {error.get('code', '')}", style="red")
    say_lines(str(error.get("message", "")), indent="        ")


def _show_transform(found: OfTransform) -> None:
    say()
    say(f"  transform {found.transform}: {found.state}, {_STATES.get(found.state, '')}", style="bold")
    if not found.matches:
        say("    its pattern does not match this key (any more)")
    if found.owner:
        say(f"    the silver of this transform is {found.owner}'s; see `silversmith take-over --help`", style="red")
    if found.silver is not None:
        _show_silver(found.silver)
    if found.rejected is not None:
        say(f"    rejected  {count(found.rejected.rows, 'row')}, in quarantine: {found.rejected.document}")
        show_rows(found.rejected, indent="      ")
    if found.error is not None:
        say(f"    error     in quarantine: {found.error.document}")
        show_document(found.error, time.time(), indent="      ")
    if found.silver is None and found.error is None and found.last is not None:
        say(f"    last      {found.last.verdict}, attempt {found.last.detail.get('attempt', '-')}")


def _show_silver(silver: Silver) -> None:
    say(f"    silver    {silver.key}, {size(silver.size)}")
    lineage = silver.lineage
    if lineage is None:
        say("      it does not say where it came from")
        return
    say(
        f"      {lineage.rows_read:,} rows read, {lineage.rows_written:,} written, {lineage.rows_rejected:,} rejected; "
        f"format {lineage.format or '-'}{f' {lineage.dialect}' if lineage.dialect else ''}"
    )
    say(f"      from etag {lineage.bronze_etag}, version {lineage.bronze_version or '-'}, {size(lineage.bronze_size)}")
    whose = f" of {lineage.owner}" if lineage.owner else ""
    say(f"      committed {lineage.committed_at}, attempt {lineage.attempt}, by code {lineage.fingerprint}{whose}")
