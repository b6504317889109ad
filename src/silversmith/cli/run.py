"""``silversmith run`` and ``silversmith page``."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import asdict, astuple, dataclass
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

from cyclopts import Parameter, validators

from silversmith.cli.options import (
    HERE,
    LAKE,
    PIPELINE,
    JsonOption,
    LakeOption,
    PipelineArgument,
    QuietOption,
    Where,
    load_pipeline,
)
from silversmith.cli.progress import View, documents, show_profile, summary, view
from silversmith.cli.screen import Stop, hush, say, say_json, told, warn
from silversmith.local.chaos import Rates
from silversmith.operations.text import count, shown

if TYPE_CHECKING:
    from silversmith.local.lake import LakeFolder
    from silversmith.local.progress import Measured, Progress
    from silversmith.operations.reports import Status
    from silversmith.operations.target import Lately
    from silversmith.page.backend import Backend
    from silversmith.pipeline import Pipeline


#: How many failures the summary names.
NAMED = 10

#: With ``--chaos``, the longest that a message is late at one hop, in seconds.
LONGEST_DELAY = 1.0

#: How often something happens to a message: not shown, for it is for tests only (docs/operations.md).
Share = Annotated[float, Parameter(show=False, validator=validators.Number(gte=0, lte=1))]


@dataclass(frozen=True)
class Result:
    """How a run ended. ``signal``: the number of the signal that ended it, or None; ``failed``: files that failed;
    ``profile``: where their time went, if somebody asked."""

    progress: Progress
    failed: int
    failures: Sequence[Lately]
    seconds: float
    signal: int | None
    profile: Sequence[Measured] | None = None


def run(
    pipeline: PipelineArgument = PIPELINE,
    *,
    lake: LakeOption = LAKE,
    until_idle: Annotated[
        bool,
        Parameter(negative=(), show_default=False, help="End when nothing is left to do; exit 1 if a file failed."),
    ] = False,
    workers: Annotated[
        int | None,
        Parameter(validator=validators.Number(gte=1, lte=512), help="Worker processes; else one for each CPU."),
    ] = None,
    metrics: Annotated[
        int | None,
        Parameter(
            validator=validators.Number(gte=0, lte=65535),
            help="Serve metrics for Prometheus on this port of 127.0.0.1; 0: any that is free.",
        ),
    ] = None,
    otel: Annotated[
        bool,
        Parameter(negative=(), show_default=False, help="Send OpenTelemetry spans to OTEL_EXPORTER_OTLP_ENDPOINT."),
    ] = False,
    profile: Annotated[
        bool, Parameter(negative=(), show_default=False, help="Tell at the end where the time went, by stage.")
    ] = False,
    page: Annotated[
        int | None,
        Parameter(
            validator=validators.Number(gte=0, lte=65535),
            show_default=False,
            help="The port of the page that shows the run in a browser; else 8320, or any that is free.",
        ),
    ] = None,
    no_page: Annotated[
        bool, Parameter(negative=(), show_default=False, help="No page; with --until-idle there is none unless asked.")
    ] = False,
    chaos: Annotated[int | None, Parameter(show=False, validator=validators.Number(gte=0))] = None,
    chaos_loss: Share = Rates.loss,
    chaos_duplicates: Share = Rates.duplicates,
    chaos_delays: Share = Rates.delays,
    quiet: QuietOption = False,
    json: JsonOption = False,
) -> int:
    """Run the pipeline on this machine: what lands in bronze comes out in silver.

    Ctrl-C ends it; what is not finished then is finished by the next run. A second Ctrl-C ends it at once.
    """
    hush(quiet)
    from silversmith.local.spawning import Spares, usable_cpus

    number = workers or len(usable_cpus())
    rates = Rates(chaos_loss, chaos_duplicates, chaos_delays, LONGEST_DELAY)
    serves = not no_page and (page is not None or not until_idle)
    with Spares(number) as spares:  # they load what takes long while the same is loaded here
        from silversmith.cli.run import exporting, require
        from silversmith.local.chaos import Chaos
        from silversmith.local.engine import Engine
        from silversmith.local.lake import LakeFolder
        from silversmith.local.progress import Profile

        require(metrics=metrics, otel=otel)
        stages = Profile() if profile else None
        definition = load_pipeline(pipeline)
        folder = LakeFolder(lake)
        shows = view(
            f"{definition.name}: {folder.bucket(definition.bronze)} → {folder.bucket(definition.silver)}",
            json=json or quiet,
        )
        began, since = time.monotonic(), time.time()
        with told(), Stop(lambda number: _end_at_once(shows, number)) as stop:
            engine = Engine(
                folder,
                definition,
                target=pipeline,
                workers=number,
                chaos=None if chaos is None else Chaos(chaos, rates),
                profile=stages,
                spares=spares,
            )
            try:
                with (
                    exporting(folder, definition, metrics=metrics, otel=otel),
                    _page(folder, pipeline, page, quiet=json) if serves else nullcontext(),
                    shows,
                ):
                    progress = engine.run(until_idle=until_idle, stopped=stop, tick=shows.tick)
                failed = engine.failed_files()
            finally:
                engine.close()
    named = _name_failures(folder, definition, since) if failed else []
    result = Result(progress, failed, named, time.monotonic() - began, stop.asked, stages.stages() if stages else None)
    if json:
        say_json(_document(result))
    else:
        _show(result, definition)
        if result.profile is not None:
            show_profile(result.profile)
    return _exit_code(result, until_idle=until_idle)


def _page(folder: LakeFolder, pipeline: str, port: int | None, *, quiet: bool) -> AbstractContextManager[object]:
    """The page beside the engine. A run does not fail for want of one that nobody asked for."""
    from silversmith.page.auth import new_token
    from silversmith.page.process import NoPort, PageProcess, listen

    try:
        beside = PageProcess(folder, pipeline, listen(port), new_token())
    except (NoPort, OSError) as error:
        if port is not None:
            raise
        warn(f"there is no page: {error}")
        return nullcontext()
    (warn if quiet else say)(f"the page: {beside.url}")
    return beside


def _end_at_once(shows: View, number: int) -> NoReturn:
    """Journal and buckets survive ``kill -9`` at any instruction, so nothing is lost. The terminal is mended first."""
    shows.__exit__()
    os._exit(128 + number)


def _name_failures(folder: LakeFolder, pipeline: Pipeline, since: float) -> list[Lately]:
    from silversmith.operations.local import open_lake

    with open_lake(folder, pipeline) as target:
        return target.lately(since, NAMED)


def _exit_code(result: Result, *, until_idle: bool) -> int:
    """Ctrl-C is how a run without an end ends well; one that should have become idle did not."""
    if not until_idle:
        return 0
    if result.signal is not None:
        return 128 + result.signal
    return 1 if result.failed else 0


def _document(result: Result) -> dict[str, Any]:
    return {
        **asdict(result.progress),
        "failed_files": result.failed,
        "failures": [asdict(found) for found in result.failures],
        "seconds": round(result.seconds, 3),
        "signal": result.signal,
        **({} if result.profile is None else {"profile": documents(result.profile)}),
    }


def _show(result: Result, pipeline: Pipeline) -> None:
    progress = result.progress
    say(summary(progress, result.seconds))
    if not any(astuple(progress)):
        say(f"nothing new was found in {pipeline.bronze}; put files there with `silversmith put FILE`")
    if progress.rejected:
        say("rows that broke the contract, and why: silversmith failures --rejected")
    if not result.failed:
        return
    say()
    say(f"{count(result.failed, 'file')} failed", style="bold red")
    for found in result.failures:
        say(f"  {shown(found.key)}  ({found.transform or 'every transform that matches'})")
        say(f"    {found.code}: {_last_line(found.message)}", style="red")
    if result.failed > len(result.failures):
        say(f"  … and {result.failed - len(result.failures):,} more")
    say("what to do about each: silversmith failures")


def _last_line(message: str) -> str:
    """Of a traceback, what was raised."""
    return message.rstrip().rpartition("\n")[2]


def require(*, metrics: int | None, otel: bool) -> None:
    """Have what the options need, before anything is begun.

    Raises:
        NotInstalled: an optional package is missing.
    """
    from silversmith import exporters

    if metrics is not None:
        exporters.require("prometheus_client", extra="prometheus", option="--metrics")
    if otel:
        exporters.require("opentelemetry.exporter.otlp.proto.http", extra="otel", option="--otel")


@contextmanager
def exporting(folder: LakeFolder, pipeline: Pipeline, *, metrics: int | None, otel: bool) -> Iterator[None]:
    """While the block lasts, whatever the options ask for. The engine must have made its journal."""
    with ExitStack() as stack:
        if metrics is not None:
            _metrics(stack, folder, pipeline, metrics)
        if otel:
            _spans(stack, folder, pipeline)
        yield


def _metrics(stack: ExitStack, folder: LakeFolder, pipeline: Pipeline, port: int) -> None:
    import time

    from silversmith.exporters.prometheus import serve
    from silversmith.operations.local import open_lake
    from silversmith.operations.reports import status

    def look() -> Status:
        with open_lake(folder, pipeline) as target:
            return status(pipeline, target, now=time.time())

    address = stack.enter_context(serve(port, look))
    warn(f"metrics for Prometheus: {address}")


def _spans(stack: ExitStack, folder: LakeFolder, pipeline: Pipeline) -> None:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    from silversmith.exporters.spans import Spans, following

    spans = Spans(pipeline.name, pipeline.bronze, BatchSpanProcessor(OTLPSpanExporter()))
    stack.callback(spans.close)
    stack.enter_context(following(folder.journal, spans.tell))


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
    from silversmith.page.application import serve
    from silversmith.page.auth import new_token
    from silversmith.page.process import listen, url

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
