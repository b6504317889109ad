"""What was made of what, as OpenLineage events: a run for each file in a transform, and for each batch in a table.

The package ``openlineage-python`` is imported when the first event is sent. Where events go is its own configuration.
https://openlineage.io/docs/spec/object-model
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from openlineage.client.event_v2 import InputDataset, OutputDataset, RunEvent

#: The namespace of jobs, unless ``OPENLINEAGE_NAMESPACE`` says otherwise.
NAMESPACE = "silversmith"

#: The URI of what made an event.
PRODUCER = "https://pypi.org/project/silversmith"

#: An error message is cut after so many characters.
MOST_TEXT = 2000

#: After a failure nothing is sent for so many seconds: a server that does not answer costs its timeout, not more.
REST = 60.0

#: One flush takes so many seconds at the most; what is under way then goes on beside the next work.
PATIENCE = 10.0

#: So many seconds before the end of an invocation nothing more is waited for.
SPARE = 2.0

#: The columns of a schema, by name, each with its type.
Columns = Callable[[str], Mapping[str, str]]

_log = logging.getLogger("silversmith")


@dataclass(frozen=True)
class Place:
    """A bucket as OpenLineage names it. https://openlineage.io/docs/spec/naming"""

    namespace: str
    prefix: str = ""

    def name(self, key: str) -> str:
        """A key or a folder in it."""
        return f"{self.prefix}{key}"


@dataclass(frozen=True)
class Places:
    """The buckets of a pipeline."""

    bronze: Place
    silver: Place
    gold: Place

    @classmethod
    def on_s3(cls, bronze: str, silver: str, gold: str) -> Places:
        """Buckets of S3, by their names."""
        return cls(*(Place(f"s3://{bucket}") for bucket in (bronze, silver, gold)))


class LineageEvents:
    """Gathers what became of files, and sends it as events. To be called by one thread; never raises.

    Args:
        pipeline: the name of the pipeline, with which those of its jobs begin.
        places: where its data is.
        columns: gives the columns of a transform's silver.
        emit: sends an event; None: the client of ``openlineage-python``, as it is configured.
        namespace: of the jobs.
        clock: seconds since whenever.
    """

    def __init__(
        self,
        pipeline: str,
        places: Places,
        columns: Columns = lambda _: {},
        *,
        emit: Callable[[RunEvent], object] | None = None,
        namespace: str = NAMESPACE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pipeline = pipeline
        self._places = places
        self._columns = columns
        self._emit = emit
        self._namespace = namespace or NAMESPACE
        self._clock = clock
        self._resting = float("-inf")
        self._thread: threading.Thread | None = None
        self._lines: list[tuple[Mapping[str, Any], float]] = []
        self.dropped = 0

    def add(self, line: Mapping[str, Any], at: float) -> None:
        """Add what became of a file in a function, as its log line has it. ``at``: when, in Unix seconds."""
        if line.get("key") and line.get("verdict") in {"committed", "quarantined", "failed", "in tables"}:
            self._lines.append((line, at))

    def flush(self, budget: float = PATIENCE) -> None:
        """Send what was added, within so many seconds. What cannot be sent is dropped, counted and logged: files do not
        wait for it."""
        lines, self._lines = self._lines, []
        if not lines:
            return
        is_busy = self._thread is not None and self._thread.is_alive()
        if is_busy or self._clock() < self._resting or budget <= 0:
            self.dropped += len(lines)
            return
        thread = self._thread = threading.Thread(target=self._send_all, args=(lines,), name="openlineage", daemon=True)
        thread.start()
        thread.join(min(budget, PATIENCE))
        if thread.is_alive():
            self._rest("no answer in time")

    def _send_all(self, lines: Sequence[tuple[Mapping[str, Any], float]]) -> None:
        sent = 0
        try:
            for run in self._runs(lines):
                for event in run:
                    self._send(event)
                sent += 1
        except Exception as error:  # noqa: BLE001 -- whatever a transport raises, the files are done
            self.dropped += max(1, len(lines) - sent)
            self._rest(type(error).__name__)

    def _rest(self, why: str) -> None:
        self._resting = self._clock() + REST
        _log.warning(
            "for %g seconds no OpenLineage events are sent: %s; %d runs were not sent so far", REST, why, self.dropped
        )

    def _send(self, event: RunEvent) -> None:
        if self._emit is None:
            from openlineage.client import OpenLineageClient

            self._emit = OpenLineageClient().emit
        self._emit(event)

    def _runs(self, lines: Sequence[tuple[Mapping[str, Any], float]]) -> list[list[RunEvent]]:
        """The events of each run: a file in a transform, and all files of a batch that came into one table."""
        files = [self._file(line, at) for line, at in lines if "tables" not in line]
        tables: dict[tuple[str, str], tuple[int, float]] = {}
        for line, at in lines:
            for table, version in line.get("tables", {}).items():
                if line.get("transform") and line["verdict"] == "in tables":
                    name = table, str(line["transform"])
                    before = tables.get(name, (0, 0.0))
                    tables[name] = max(before[0], version or 0), max(before[1], at)
        return files + [self._table(*name, *state) for name, state in tables.items()]

    def _file(self, line: Mapping[str, Any], at: float) -> list[RunEvent]:
        from openlineage.client.event_v2 import InputDataset, OutputDataset
        from openlineage.client.facet_v2 import input_statistics_input_dataset, output_statistics_output_dataset

        transform, key, version = str(line["transform"]), str(line["key"]), str(line.get("version") or "")
        bronze, silver = self._places.bronze, self._places.silver
        source = InputDataset(bronze.namespace, bronze.name(_text(key)), facets=_version(version) if version else {})
        outputs = []
        if line["verdict"] == "committed":
            rows, size = line.get("rows_read"), line.get("size")
            read = input_statistics_input_dataset.InputStatisticsInputDatasetFacet(rows, size)
            source.inputFacets = {"inputStatistics": read}
            rows = line.get("rows_written")
            written = output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(rows, fileCount=1)
            facets: Any = {"outputStatistics": written}
            outputs = [OutputDataset(silver.namespace, silver.name(transform), facets, facets=self._schema(transform))]
        stages = line.get("stages") or {}
        began = at - sum(float(seconds) for name, seconds in stages.items() if name != "batch")
        return self._run(transform, [transform, key, version], (began, at), [source], outputs, error=line.get("error"))

    def _table(self, table: str, transform: str, version: int, at: float) -> list[RunEvent]:
        from openlineage.client.event_v2 import InputDataset, OutputDataset

        silver, gold = self._places.silver, self._places.gold
        source = InputDataset(silver.namespace, silver.name(transform), facets=self._schema(transform))
        output = OutputDataset(gold.namespace, gold.name(table), facets=_version(str(version)))
        return self._run(table, [table, transform, str(version)], (at, at), [source], [output])

    def _schema(self, transform: str) -> Any:
        from openlineage.client.facet_v2 import schema_dataset

        columns = self._columns(transform)
        fields = [schema_dataset.SchemaDatasetFacetFields(_text(name), kind) for name, kind in columns.items()]
        return {"schema": schema_dataset.SchemaDatasetFacet(fields)} if fields else {}

    def _run(
        self,
        job: str,
        identity: Sequence[str],
        times: tuple[float, float],
        inputs: list[InputDataset],
        outputs: list[OutputDataset],
        *,
        error: Mapping[str, Any] | None = None,
    ) -> list[RunEvent]:
        """How it began and how it ended: one id for both, whoever sends them."""
        from openlineage.client.event_v2 import Job, Run, RunEvent, RunState
        from openlineage.client.facet_v2 import error_message_run, job_type_job
        from openlineage.client.uuid import generate_static_uuid

        start, end = (datetime.fromtimestamp(seconds, UTC) for seconds in (min(times), times[1]))
        name = "\0".join((*identity, repr(times[1])))
        run_id = str(generate_static_uuid(end, name.encode("utf-8", "surrogatepass")))
        facets: Any = {"jobType": job_type_job.JobTypeJobFacet("BATCH", "SILVERSMITH", "JOB", producer=PRODUCER)}
        named = Job(self._namespace, f"{self._pipeline}.{job}", facets)
        failure: Any = {}
        if error is not None:
            text = _text(f"{error.get('code')}: {error.get('message')}")[:MOST_TEXT]
            failure = {"errorMessage": error_message_run.ErrorMessageRunFacet(text, "python", producer=PRODUCER)}
        state = RunState.COMPLETE if error is None else RunState.FAIL
        return [
            RunEvent(
                eventType=kind, eventTime=when.isoformat(), run=Run(run_id, run_facets), job=named,
                inputs=inputs, outputs=outputs, producer=PRODUCER,
            )
            for kind, when, run_facets in ((RunState.START, start, {}), (state, end, failure))
        ]  # fmt: skip


def _version(version: str) -> Any:
    from openlineage.client.facet_v2 import dataset_version_dataset

    return {"version": dataset_version_dataset.DatasetVersionDatasetFacet(version)}


def _text(text: str) -> str:
    """A text that is UTF-8, whatever bytes a file's name has."""
    return text.encode("utf-8", "backslashreplace").decode()


def of_environment(
    environment: Mapping[str, str], pipeline: str, places: Places, columns: Columns = lambda _: {}
) -> LineageEvents | None:
    """The events of a function on Lambda; None where ``SILVERSMITH_OPENLINEAGE`` is not ``on``."""
    if environment.get("SILVERSMITH_OPENLINEAGE", "").lower() != "on":
        return None
    return LineageEvents(pipeline, places, columns, namespace=environment.get("OPENLINEAGE_NAMESPACE", ""))
