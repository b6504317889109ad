"""A bundle booted as Lambda boots it: unpacked where nothing else is, and run by AWS's own runtime client."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import platform
import queue
import shutil
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from bench.peers import NotAvailable
from silversmith.aws.bundle import build
from silversmith.aws.packages import Runtime, find_uv
from silversmith.pipeline import locate

#: Seconds for whatever is waited for.
PATIENCE = 120


@dataclass(frozen=True)
class Unpacked:
    """The function in ``task``, the layer in ``opt``, and in ``runtime`` what Lambda's own Python has. Sizes in bytes:
    ``unzipped`` of all that is deployed, ``zipped`` of its two zips."""

    python: str
    folder: Path
    unzipped: int
    zipped: int

    @property
    def task(self) -> Path:
        return self.folder / "task"

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """A Python that knows no other packages."""
        layer = next((self.folder / "opt").glob("python/lib/*/site-packages"))
        path = os.pathsep.join(map(str, (self.task, layer, self.folder / "runtime")))
        # On Lambda neither folder can be written to.
        variables = {
            "PYTHONPATH": path,
            "PATH": os.defpath,
            "PYTHONDONTWRITEBYTECODE": "1",
            "LAMBDA_TASK_ROOT": str(self.task),
        }
        return subprocess.Popen(
            [self.python, "-S", "-s", *arguments],
            env={**variables, **environment},
            cwd=self.task,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def import_seconds(self, modules: str) -> float:
        """Seconds of an import in a new process, by the process's own clock."""
        script = f"import time; began = time.perf_counter(); import {modules}; print(time.perf_counter() - began)"
        said, _ = self.start("-c", script).communicate(timeout=PATIENCE)
        return float(said.strip().splitlines()[-1])

    def compiled(self, folder: Path) -> Unpacked:
        """A copy with ``.pyc`` files."""
        shutil.copytree(self.folder, folder)
        subprocess.run([self.python, "-m", "compileall", "-q", str(folder)], check=False, timeout=PATIENCE)
        return Unpacked(self.python, folder, self.unzipped, self.zipped)


def unpack(folder: Path, pipeline: str) -> Unpacked:
    """Bundle a pipeline, given as code, for Lambda's Python if this machine has it, else for the one that runs here."""
    python, version = _lambdas_python()
    machine = "arm64" if platform.machine().lower() in {"arm64", "aarch64"} else "x86_64"
    project = folder / "project"
    project.mkdir()
    (project / "pipeline.py").write_text(pipeline)
    bundle = build(locate(str(project / "pipeline.py")), folder / "packages", runtime=Runtime(machine, version))
    zips = bundle.write(folder / "zips")
    for file, target in zip(zips, ("task", "opt"), strict=True):
        with zipfile.ZipFile(file) as archive:
            archive.extractall(folder / "boot" / target)
    requirements = [f"{name}=={importlib.metadata.version(name)}" for name in ("awslambdaric", "boto3")]
    uv = find_uv()
    if uv is None:
        raise NotAvailable("uv is not installed: `make setup` does it")
    install = [
        uv,
        "pip",
        "install",
        "--quiet",
        "--python",
        python,
        "--target",
        str(folder / "boot/runtime"),
        *requirements,
    ]
    subprocess.run(install, check=True, timeout=PATIENCE)
    return Unpacked(python, folder / "boot", bundle.size, sum(file.stat().st_size for file in zips))


def _lambdas_python() -> tuple[str, str]:
    """The program, without a virtual environment, and its version."""
    for name in (f"python{Runtime().python}", sys.executable):
        program = shutil.which(name)
        script = "import sys; print(sys._base_executable, '%d.%d' % sys.version_info[:2])"
        if program is not None:
            environment = {**os.environ, "PYENV_VERSION": Runtime().python}  # of those who use pyenv
            done = subprocess.run([program, "-c", script], env=environment, capture_output=True, text=True, check=False)
            if done.returncode == 0:
                path, _, version = done.stdout.strip().rpartition(" ")
                return path, version
    raise NotAvailable("no Python runs here")


@dataclass
class RuntimeApi:
    """Hands out invocations and takes their results. https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html"""

    address: str = ""
    invocations: queue.Queue[dict[str, Any]] = field(default_factory=queue.Queue)
    results: queue.Queue[tuple[str, str]] = field(default_factory=queue.Queue)
    ready: threading.Event = field(default_factory=threading.Event)

    def wait_until_ready(self) -> None:
        """Wait until the function asks for its first invocation: there Lambda would take a snapshot."""
        if not self.ready.wait(PATIENCE):
            raise NotAvailable(f"not ready within {PATIENCE} s")

    def invoke(self, event: Mapping[str, Any]) -> str:
        """The function's answer, as JSON. Raises NotAvailable when that is an error."""
        self.invocations.put(dict(event))
        try:
            kind, body = self.results.get(timeout=PATIENCE)
        except queue.Empty:
            raise NotAvailable(f"no answer within {PATIENCE} s") from None
        if kind != "response":
            raise NotAvailable(f"the function failed: {body[:200]}")
        return body


@contextlib.contextmanager
def runtime_api() -> Iterator[RuntimeApi]:
    """Serve it to one function until the block ends."""
    api = RuntimeApi()
    server = _Server(("127.0.0.1", 0), _requests(api))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    api.address = f"127.0.0.1:{server.server_address[1]}"
    try:
        yield api
    finally:
        server.shutdown()
        server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Functions are killed in the middle of their next request: that is no news."""


def _requests(api: RuntimeApi) -> type[BaseHTTPRequestHandler]:
    class Requests(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            api.ready.set()
            event = api.invocations.get()
            name = "arn:aws:lambda:us-east-1:123456789012:function:f"
            known = {
                "Aws-Request-Id": str(time.monotonic_ns()),
                "Deadline-Ms": "99999999999999",
                "Invoked-Function-Arn": name,
            }
            self._answer(200, json.dumps(event).encode(), known)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
            api.results.put((self.path.rpartition("/")[2], body))
            self._answer(202, b"", {})

        def _answer(self, status: int, body: bytes, known: Mapping[str, str]) -> None:
            self.send_response(status)
            for name, value in known.items():
                self.send_header(f"Lambda-Runtime-{name}", value)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- as its base names it
            """Say nothing."""

    return Requests
