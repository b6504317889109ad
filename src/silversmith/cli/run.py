"""``silversmith run`` and ``silversmith page``."""

from __future__ import annotations

import os
import sys
import time
import webbrowser
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, nullcontext
from dataclasses import asdict, astuple, dataclass
from importlib.util import find_spec
from itertools import groupby
from json import loads
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

from cyclopts import Parameter

from silversmith.cli.inspect import by_cause
from silversmith.cli.options import (
    HERE,
    LAKE,
    PIPELINE,
    DeploymentOption,
    JsonOption,
    LakeOption,
    PipelineArgument,
    QuietOption,
    Where,
    flag,
    locate_pipeline,
    number,
)
from silversmith.cli.screen import RunDisplay, Stop, log_to_stderr, say, say_json, say_table, set_quiet, summary, warn
from silversmith.operations import WrongCall
from silversmith.operations.text import count, headline, shown

if TYPE_CHECKING:
    from silversmith.local.engine import Progress
    from silversmith.local.journal import Journal
    from silversmith.local.lake import LakeFolder
    from silversmith.operations.alarms import Channel
    from silversmith.operations.profile import Profile, StageTimes
    from silversmith.operations.reports import Status
    from silversmith.operations.target import Lately
    from silversmith.page.backend import Backend
    from silversmith.page.process import PageProcess
    from silversmith.pipeline import Located, Pipeline
    from silversmith.runtime.openlineage import LineageEvents


#: The summary groups at most so many failures by their causes, and names so many causes.
MOST_GROUPED, MOST_NAMED = 1000, 10

PortOption = Annotated[
    int | None, number("The port of the page on this machine; else 8320, or any that is free.", 0, 65535)
]


@dataclass(frozen=True)
class RunResult:
    """The end of a run. ``signal``: the number of the signal that ended it; ``failed``: how many files failed;
    ``profile``: where their time went, if the option asks for it."""

    progress: Progress
    failed: int
    failures: Sequence[Lately]
    seconds: float
    signal: int | None
    profile: Sequence[StageTimes] | None = None


def run(
    pipeline: PipelineArgument = PIPELINE,
    *,
    lake: LakeOption = LAKE,
    until_idle: Annotated[bool, flag("End when nothing is left to do; exit 1 if a file failed.")] = False,
    strict: Annotated[bool, flag("With --until-idle, exit 1 also if any row was rejected.")] = False,
    changed: Annotated[bool, flag("Make silver again that older code or other lookups made.")] = False,
    workers: Annotated[int | None, number("Worker processes; else one for each CPU.", 1, 512)] = None,
    metrics: Annotated[
        int | None, number("Serve metrics for Prometheus on this port of 127.0.0.1; 0: any that is free.", 0, 65535)
    ] = None,
    otel: Annotated[bool, flag("Send OpenTelemetry spans to OTEL_EXPORTER_OTLP_ENDPOINT.")] = False,
    openlineage: Annotated[bool, flag("Send OpenLineage events, as OPENLINEAGE_URL or openlineage.yml says.")] = False,
    profile: Annotated[bool, flag("Tell at the end where the time went, by stage.")] = False,
    deployment: DeploymentOption = "",
    page: PortOption = None,
    no_page: Annotated[bool, flag("No page; with --until-idle there is none unless asked.")] = False,
    opens: Annotated[Callable[[str], bool] | None, Parameter(parse=False)] = None,
    quiet: QuietOption = False,
    json: JsonOption = False,
) -> int:
    """Run the pipeline on this machine: what lands in bronze comes out in silver.

    Ctrl-C ends it; the next run does what is not finished then. A second Ctrl-C ends it at once.
    """
    set_quiet(quiet)
    serves = not no_page and (page is not None or not until_idle)
    from silversmith.local.processes import PrewarmedWorkers, importing, usable_cpus

    processes = workers or len(usable_cpus())
    with PrewarmedWorkers(processes) as prewarmed:  # they import Polars while this process does
        with importing():
            from silversmith.local.engine import Engine
            from silversmith.local.journal import Journal
            from silversmith.local.lake import LakeFolder
            from silversmith.operations.profile import Profile

        require_packages(metrics=metrics, otel=otel, openlineage=openlineage)
        stages = Profile() if profile else None
        located = locate_pipeline(pipeline)
        definition = located.pipeline
        conditions, channels = alarms_of(located, deployment)
        folder = LakeFolder(lake)
        title = f"{definition.name}: {folder.bucket(definition.bronze)} → {folder.bucket(definition.silver)}"
        display = RunDisplay(title, silent=json or quiet)
        began, since = time.monotonic(), time.time()
        with log_to_stderr(), Stop(lambda number: _end_at_once(display, number)) as stop:
            engine = Engine(
                folder,
                definition,
                target=pipeline,
                workers=processes,
                prewarmed=prewarmed,
                changed=changed,
            )
            try:
                with (
                    exporting(folder, definition, metrics=metrics, otel=otel, openlineage=openlineage, profile=stages),
                    _alarms(folder, definition, conditions, channels),
                    _page(folder, pipeline, page, to_stderr=json) if serves else nullcontext() as served,
                    display,
                    closing(Journal(folder.journal, readonly=True)) as journal,
                ):
                    if served is not None and opens is not None and not opens(served.url):
                        say("there is no browser with a window here: open the page yourself")
                    news = FailureNews(journal, definition.name)

                    def tick(progress: Progress) -> None:
                        display.tick(progress)
                        display.note(news.look(progress))

                    progress = engine.run(until_idle=until_idle, stopped=stop, tick=tick)
                failed = engine.failed_files()
            finally:
                engine.close()
    failures = _failures(folder, definition, since) if failed else []
    seconds = time.monotonic() - began
    result = RunResult(progress, failed, failures, seconds, stop.asked, stages.stages() if stages else None)
    if json:
        say_json(_document(result))
    else:
        _show(result, definition)
        if result.profile is not None:
            _show_profile(result.profile)
    return _exit_code(result, until_idle=until_idle, strict=strict)


def dev(
    pipeline: PipelineArgument = PIPELINE,
    *,
    lake: LakeOption = LAKE,
    workers: Annotated[int | None, number("Worker processes; else one for each CPU.", 1, 512)] = None,
    page: PortOption = None,
    no_browser: Annotated[bool, flag("Only say where the page is.")] = False,
) -> int:
    """Run while you edit: `silversmith run --changed`, and the page in a browser.

    Files that land and code that changes are noticed, and what older code made is made again. Ctrl-C ends it.
    """
    opens = None if no_browser else open_browser
    return run(pipeline, lake=lake, changed=True, workers=workers, page=page, opens=opens)


def open_browser(
    url: str,
    environment: Mapping[str, str] = os.environ,
    *,
    platform: str = sys.platform,
    opens: Callable[[str], bool] = webbrowser.open,
) -> bool:
    """Open a page in a browser with a window, and say whether; never in one that would take over this terminal."""
    names = ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")
    return (platform == "darwin" or any(environment.get(name) for name in names)) and opens(url)


class FailureNews:
    """Tells of each cause for which files fail, when the first one does.

    Args:
        journal: the engine's, opened read-only.
        pipeline: its name, with which the names of its functions begin.
    """

    def __init__(self, journal: Journal, pipeline: str) -> None:
        self._journal = journal
        self._prefix = f"{pipeline}_"
        self._failed = 0
        self._after = self._newest()
        self._causes: set[object] = set()

    def _newest(self) -> int:
        ((newest,),) = self._journal.rows("newest_hop")
        return newest or 0

    def look(self, progress: Progress) -> list[str]:
        """The causes that are new. The journal is read only where a number of the progress says that something failed.

        A file that a worker works on at this moment may be told of in the next call.
        """
        failed = progress.retries + progress.quarantined
        newest, texts = self._newest(), []
        if failed != self._failed and len(self._causes) < MOST_NAMED:
            for key, name, what, text in self._journal.rows("failures_after", after=self._after, most=MOST_GROUPED):
                detail = loads(text)
                error = detail.get("error") or {}
                cause = name, error.get("code"), headline(str(error.get("message", "")))
                if cause not in self._causes and len(self._causes) < MOST_NAMED:
                    self._causes.add(cause)
                    again = "; it will be tried again" if what == "failed" and not detail.get("dead") else ""
                    transform = detail.get("transform") or name.removeprefix(self._prefix)
                    texts.append(f"{shown(key)}  ({transform}) failed{again}\n  {cause[1]}: {shown(cause[2])}")
        self._failed, self._after = failed, newest
        return texts


def _page(
    folder: LakeFolder, pipeline: str, port: int | None, *, to_stderr: bool
) -> AbstractContextManager[PageProcess | None]:
    """The page beside the engine. Without one that an option asks for, the run goes on."""
    from silversmith.page.auth import new_token
    from silversmith.page.process import NoPort, PageProcess, listen

    try:
        process = PageProcess(folder, pipeline, listen(port), new_token())
    except (NoPort, OSError) as error:
        if port is not None:
            raise
        warn(f"there is no page: {error}")
        return nullcontext()
    (warn if to_stderr else say)(f"the page: {process.url}")
    return process


def _end_at_once(display: RunDisplay, number: int) -> NoReturn:
    """Nothing is lost: journal and buckets survive ``kill -9`` at any instruction. The terminal is restored first."""
    display.__exit__()
    os._exit(128 + number)


def _failures(folder: LakeFolder, pipeline: Pipeline, since: float) -> list[Lately]:
    from silversmith.operations.local import open_lake

    with open_lake(folder, pipeline) as target:
        return target.lately(since, MOST_GROUPED)


def _exit_code(result: RunResult, *, until_idle: bool, strict: bool) -> int:
    """Ctrl-C is the good end of a run without an end; one that should have become idle did not."""
    if not until_idle:
        return 0
    if result.signal is not None:
        return 128 + result.signal
    return 1 if result.failed or (strict and result.progress.rejected) else 0


def _document(result: RunResult) -> dict[str, Any]:
    profile = [
        {name: round(value, 6) if isinstance(value, float) else value for name, value in asdict(stage).items()}
        for stage in result.profile or ()
    ]
    return {
        **asdict(result.progress),
        "failed_files": result.failed,
        "failures": [asdict(failure) for failure in result.failures[:MOST_NAMED]],
        "seconds": round(result.seconds, 3),
        "signal": result.signal,
        **({} if result.profile is None else {"profile": profile}),
    }


def _show(result: RunResult, pipeline: Pipeline) -> None:
    progress = result.progress
    say(summary(progress, result.seconds), style="yellow" if progress.partial else "")
    if not any(astuple(progress)):
        say(f"nothing new was found in {pipeline.bronze}; put files there with `silversmith put FILE`")
    for name, state in progress.tables.items():
        say(f"  {name}: {count(state.rows, 'row')}, version {state.version}")
    if progress.rejected:
        say("rows that broke the contract, and why: silversmith failures --rejected")
    if progress.outdated:
        outdated = f"{count(progress.outdated, 'silver file was', 'silver files were')} made by older code"
        say(f"{outdated}: silversmith run --changed", style="yellow")
    if not result.failed:
        return
    say()
    say(f"{count(result.failed, 'file')} failed", style="bold red")
    causes = by_cause(result.failures, lambda each: (each.transform, each.code, headline(each.message)))
    for failures in causes[:MOST_NAMED]:
        first, files = failures[0], len(failures)
        more = f" and {count(files - 1, 'other file')}" if files > 1 else ""
        say(f"  {shown(first.key)}{more}  ({first.transform or 'every transform that matches'})")
        say(f"    {first.code}: {shown(headline(first.message))}", style="red")
    if len(causes) > MOST_NAMED or result.failed > len(result.failures):
        say("  … and more")
    say("what to do about each: silversmith failures")


_PROFILE_COLUMNS = ("stage", "share", "total s", "p50 ms", "p99 ms", "most ms", "slowest")


def _show_profile(profile: Sequence[StageTimes]) -> None:
    """One table for each transform."""
    if not profile:
        say("no file was worked on: there is nothing to profile")
    for transform, group in groupby(profile, key=lambda stage: stage.transform):
        stages = list(group)
        say()
        say(f"where the time of {transform} went: {count(max(stage.files for stage in stages), 'file')}", style="bold")
        rows = [
            (
                stage.stage,
                f"{stage.share:.0%}",
                f"{stage.total:,.2f}",
                *(f"{seconds * 1000:,.1f}" for seconds in (stage.p50, stage.p99, stage.most)),
                stage.slowest,
            )
            for stage in stages
        ]
        say_table(rows, header=_PROFILE_COLUMNS, right=range(1, 6))


def require_packages(*, metrics: int | None, otel: bool, openlineage: bool) -> None:
    """Check the optional packages of the options, before the run begins.

    Raises:
        WrongCall: a package is missing.
    """
    if metrics is not None:
        _require("prometheus_client", extra="prometheus", option="--metrics")
    if otel:
        _require("opentelemetry.exporter.otlp.proto.http", extra="otel", option="--otel")
    if openlineage:
        _require("openlineage.client", extra="openlineage", option="--openlineage")


def _require(package: str, *, extra: str, option: str) -> None:
    try:
        is_installed = find_spec(package) is not None
    except ModuleNotFoundError:  # what it is in is not installed
        is_installed = False
    if not is_installed:
        raise WrongCall(f"{option} needs {package}, which is not installed: pip install 'silversmith[{extra}]'")


@contextmanager
def exporting(
    folder: LakeFolder,
    pipeline: Pipeline,
    *,
    metrics: int | None,
    otel: bool,
    openlineage: bool,
    profile: Profile | None,
) -> Iterator[None]:
    """Run the exporters of the options while the block lasts. The engine must have made its journal."""
    from silversmith.operations.profile import following

    with ExitStack() as stack:
        if metrics is not None:
            from silversmith.operations.local import open_lake
            from silversmith.operations.prometheus import serve
            from silversmith.operations.reports import status

            def look() -> Status:
                with open_lake(folder, pipeline) as target:
                    return status(pipeline, target, now=time.time())

            address = stack.enter_context(serve(metrics, look))
            warn(f"metrics for Prometheus: {address}")
        if otel:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.trace.export import BatchSpanProcessor

            from silversmith.operations.spans import Spans

            spans = Spans(pipeline.name, pipeline.bronze, BatchSpanProcessor(OTLPSpanExporter()))
            stack.callback(spans.close)
            stack.enter_context(following(folder.journal, spans.add_hop))
        if openlineage:
            events = _lineage_events(folder, pipeline)
            report = following(
                folder.journal, lambda key, hop: events.add({"key": key, **hop.detail}, hop.at), looked=events.flush
            )
            stack.enter_context(report)
        if profile is not None:
            stack.enter_context(following(folder.journal, profile.add_hop))
        yield


def alarms_of(located: Located, deployment: str) -> tuple[Sequence[str], Sequence[Channel]]:
    """The conditions of a run's alarms, and where these go.

    Raises:
        DefinitionError: there is no such deployment.
        WrongCall: the environment names a channel that cannot be.
    """
    from silversmith.operations.alarms import channels, local_conditions

    conditions, chosen = local_conditions(located.names, deployment), channels()
    if chosen and not conditions:
        warn(f"nothing is sent to the {chosen[0].name}: no condition is set. Deployment(alarm_on=…) has them")
    return conditions, chosen


def _alarms(
    folder: LakeFolder, pipeline: Pipeline, conditions: Sequence[str], channels: Sequence[Channel]
) -> AbstractContextManager[None]:
    from silversmith.operations.alarms import watching

    if not conditions:
        return nullcontext()
    return watching(folder, pipeline.name, [each.name for each in pipeline.transforms], conditions, channels)


def _lineage_events(folder: LakeFolder, pipeline: Pipeline) -> LineageEvents:
    """https://openlineage.io/docs/spec/naming: a file of this machine is none of a bucket's, whatever it is called."""
    from silversmith.runtime.openlineage import LineageEvents, Place, Places
    from silversmith.schemas import Schemas

    buckets = (pipeline.bronze, pipeline.silver, pipeline.gold)
    places = Places(*(Place("file", f"{folder.bucket(name).resolve()}/") for name in buckets))
    silver = folder.stores(pipeline).silver
    codes = {each.name: each.fingerprint for each in pipeline.transforms}

    def columns(transform: str) -> dict[str, str]:
        return Schemas(silver, transform).columns(codes[transform]) if transform in codes else {}

    return LineageEvents(pipeline.name, places, columns, namespace=os.environ.get("OPENLINEAGE_NAMESPACE", ""))


def page(pipeline: PipelineArgument = PIPELINE, *, port: PortOption = None, where: Where = HERE) -> int:
    """Serve a page that shows the pipeline in a browser on this machine. Ctrl-C ends it.

    `silversmith run` serves one by itself.
    """
    from silversmith.local.lake import LakeFolder
    from silversmith.page.application import serve
    from silversmith.page.auth import new_token
    from silversmith.page.backend import AwsBackend, LocalBackend
    from silversmith.page.process import listen, url

    backend: Backend = (
        AwsBackend(pipeline, where.deployment, where.endpoint_url)
        if where.on_aws
        else LocalBackend(LakeFolder(where.lake), pipeline)
    )
    with listen(port) as listening:
        token = new_token()
        say(f"the page: {url(listening, token)}")
        serve(backend, listening, token)
    return 0
