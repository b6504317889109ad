"""``silversmith run --metrics --otel``: a real run tells a real scraper and a real collector what it does."""

from __future__ import annotations

import gzip
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.request import urlopen

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from prometheus_client.parser import text_string_to_metric_families

PIPELINE = """
import polars as pl
from silversmith import Contract, Pipeline

pipeline = Pipeline("shop")

@pipeline.transform("*.csv", contract=Contract(schema={"a": pl.Int64}))
def orders(rows):
    return rows
"""


ROWS, QUARANTINED = "silversmith_rows_total,,", "silversmith_quarantined_files,,"


class Collector(ThreadingHTTPServer):
    """Takes spans as an OpenTelemetry collector does."""

    def __init__(self) -> None:
        self.spans: list[tuple[bytes, str, str]] = []
        super().__init__(("127.0.0.1", 0), _Receiver)


class _Receiver(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers["Content-Encoding"] == "gzip":
            body = gzip.decompress(body)
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            named = {each.key: each.value.string_value for each in resource.resource.attributes}
            for scope in resource.scope_spans:
                self.server.spans += [(span.trace_id, span.name, named["service.name"]) for span in scope.spans]
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def scrape(address: str) -> dict[str, float]:
    with urlopen(address, timeout=10) as response:
        families = text_string_to_metric_families(response.read().decode())
    return {
        ",".join([sample.name, *(sample.labels.get(name, "") for name in ("outcome", "state"))]): sample.value
        for family in families
        for sample in family.samples
    }


def test_a_run_is_scraped_and_traced(tmp_path: Path, collector: Collector) -> None:
    (tmp_path / "pipeline.py").write_text(PIPELINE)
    bronze = tmp_path / "lake/dl-bronze-layer"
    bronze.mkdir(parents=True)
    for number in range(3):
        (bronze / f"{number}.csv").write_text("a\n1\n2\n")
    (bronze / "broken.csv").write_text("b\n1\n")
    engine = subprocess.Popen(
        [sys.executable, "-m", "silversmith.cli", "run", "--metrics", "0", "--otel", "--workers", "1"],
        cwd=tmp_path,
        env={**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.server_port}"},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    assert engine.stderr is not None
    try:
        match = re.search(r"http://127\.0\.0\.1:\d+/metrics", engine.stderr.readline())
        assert match is not None
        threading.Thread(target=engine.stderr.read, daemon=True).start()  # so that its pipe never fills
        until = time.monotonic() + 60
        while (result := scrape(match[0]))[ROWS] < 6 or not result[QUARANTINED]:
            assert time.monotonic() < until, result
            time.sleep(0.1)
    finally:
        engine.terminate()
        engine.wait(30)
        engine.stderr.close()
    assert result["silversmith_objects_created_total,,"] == 4
    assert result["silversmith_files_total,committed,"] == 3
    assert result["silversmith_queue_messages,,waiting"] == 0
    traces: dict[bytes, set[str]] = {}
    for trace, name, service in collector.spans:
        assert service == "shop"
        traces.setdefault(trace, set()).add(name.partition(" ")[0])
    assert len(traces) == 4
    assert all({"bucket", "rule", "topic", "queue", "function"} <= names for names in traces.values())


def test_a_missing_package_is_named_with_the_way_to_get_it(tmp_path: Path) -> None:
    (tmp_path / "pipeline.py").write_text(PIPELINE)
    hidden = "import sys; sys.modules['prometheus_client'] = None; from silversmith.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", hidden, "run", "--metrics", "0"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 2
    assert "pip install 'silversmith[prometheus]'" in done.stderr
    assert not (tmp_path / "lake").exists()
