"""``silversmith schema``: which columns silver has, and since when."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from silversmith.cli.opened import opened
from silversmith.cli.options import PIPELINE, JsonOption, PipelineOption
from silversmith.cli.screen import say, say_json, warn
from silversmith.cli.text import aligned
from silversmith.cli.where import HERE, Where
from silversmith.operations.text import shown

if TYPE_CHECKING:
    from silversmith.operations.schema import History

#: So many signs of a code's fingerprint tell it from others.
_SHORT = 12


def schema(
    transform: Annotated[str, Parameter(name="TRANSFORM", help="The name of the transform.")],
    *,
    pipeline: PipelineOption = PIPELINE,
    where: Where = HERE,
    json: JsonOption = False,
) -> int:
    """Show which columns a transform's silver has, and which file changed them when.

    Exit code 1: nothing was made yet, so nothing is recorded.
    """
    from silversmith.operations.schema import history

    with opened(pipeline, where) as (definition, target):
        found = history(definition.find(transform), target)
    if json:
        say_json(found.to_dict())
    elif found.version:
        _show(found)
    else:
        warn(f"nothing is recorded of {transform} in {found.lake}: no file of it has become silver yet")
    return 0 if found.version else 1


def _show(found: History) -> None:
    whose = f", of {found.owner}" if found.owner else ""
    say(f"{found.transform} over {found.lake}: version {found.version}{whose}", style="bold")
    for one in found.schemas:
        say()
        whose = "the code that there is now" if one.current else "other code"
        say(f"{whose} ({one.code[:_SHORT]}), since version {one.version}:")
        for line in aligned([(shown(name), kind) for name, kind in one.columns.items()]):
            say(f"  {line}")
    if not any(one.current for one in found.schemas):
        say()
        say("the code that there is now has made nothing yet; `silversmith reconcile --changed` makes silver anew")
    say()
    say("history:")
    for step in found.history:
        say(f"  {step.version}  {step.at}  {shown(step.key)}")
        for change in step.changes:
            say(f"       {change}")
