"""``silversmith page``: the page of a lake without an engine, or of a deployed pipeline."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter, validators

from silversmith.cli.options import PIPELINE, PipelineArgument
from silversmith.cli.screen import say
from silversmith.cli.where import HERE, Where

if TYPE_CHECKING:
    from silversmith.page.backend import Backend


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
    from silversmith.page.auth import new_token
    from silversmith.page.process import listen, url
    from silversmith.page.server import serve

    backend = _backend(pipeline, where)
    token = new_token()
    with listen(port) as listening:
        say(f"the page: {url(listening, token)}")
        serve(backend, listening, token, began=_no_more)
    return 0


def _backend(pipeline: str, where: Where) -> Backend:
    from silversmith.page.backend import AwsBackend, LocalBackend

    if where.on_aws:
        return AwsBackend(pipeline, where.deployment, where.endpoint_url)
    from silversmith.local.lake import LakeFolder

    return LocalBackend(LakeFolder(where.lake), pipeline)


def _no_more(end: Callable[[], None]) -> None:
    """Nothing but a signal ends it."""
    del end
