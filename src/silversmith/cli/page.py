"""``silversmith page``: the page of a lake without an engine, or of a deployed pipeline."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter, validators

from silversmith.cli.options import PIPELINE, PipelineArgument
from silversmith.cli.screen import say
from silversmith.cli.where import HERE, Where

if TYPE_CHECKING:
    from silversmith.page.places import Place


def page(
    pipeline: PipelineArgument = PIPELINE,
    *,
    port: Annotated[
        int | None,
        Parameter(
            validator=validators.Number(gte=0, lte=65535), show_default=False, help="Where; else 8320, or any free one."
        ),
    ] = None,
    where: Where = HERE,
) -> int:
    """Serve a page that shows the pipeline in a browser on this machine. Ctrl-C ends it.

    `silversmith run` serves one by itself.
    """
    from silversmith.page.address import listen, url
    from silversmith.page.gate import new_token
    from silversmith.page.server import serve

    place = _place(pipeline, where)
    token = new_token()
    with listen(port) as listening:
        say(f"the page: {url(listening, token)}")
        serve(place, listening, token, began=_no_more)
    return 0


def _place(pipeline: str, where: Where) -> Place:
    from silversmith.page.places import AwsPlace, LocalPlace

    if where.on_aws:
        return AwsPlace(pipeline, where.deployment, where.endpoint_url)
    from silversmith.local.lake import LakeFolder

    return LocalPlace(LakeFolder(where.lake), pipeline)


def _no_more(end: Callable[[], None]) -> None:
    """Nothing but a signal ends it."""
    del end
