"""Lambda as far as a bundle sees it: its Python, its official runtime client, a Runtime API, and AWS by moto."""

from __future__ import annotations

import copy
import fcntl
import importlib.metadata
import json
import os
import platform
import queue
import shutil
import subprocess
import sys
import threading
import urllib.request
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import boto3
import pytest
from moto import mock_aws
from moto.cloudformation.parsing import resource_class_from_type
from moto.server import ThreadedMotoServer

from silversmith import Pipeline
from silversmith.aws.account import Account, open_account
from silversmith.aws.artefacts import Artefacts
from silversmith.aws.bundle import Bundle, build
from silversmith.aws.deploy import LAYER_KEY, Release, owner, with_layers
from silversmith.aws.packages import Runtime, find_uv
from silversmith.pipeline import locate
from silversmith.pipeline.deployment import Deployment
from silversmith.template import compile as compile_template

PIPELINE = """
import polars as pl
from silversmith import Contract, Pipeline

pipeline = Pipeline("sales")

@pipeline.transform("sales/*", contract=Contract(
    schema={"item": pl.String, "price": pl.Int64},
    rules={"price is positive": pl.col("price") > 0},
))
def sales(rows: pl.LazyFrame) -> pl.LazyFrame:
    return rows.with_columns(cents=pl.col("price") * 100)
"""

#: Seconds for whatever a test waits for.
PATIENCE = 120


@dataclass(frozen=True)
class Unpacked:
    """A bundle as Lambda has it: the function in ``task``, the layer in ``opt``, the runtime's own in ``runtime``."""

    python: str
    task: Path
    opt: Path
    runtime: Path
    target: Runtime

    @property
    def project(self) -> Path:
        """The pipeline's folder, as its user has it."""
        return self.task.parent / "project"

    @property
    def environment(self) -> dict[str, str]:
        """An environment of no variables of this process; with ``-S`` Python finds no package of this machine."""
        layer = next(self.opt.glob("python/lib/*/site-packages"))
        path = os.pathsep.join(map(str, (self.task, layer, self.runtime)))
        # As on Lambda, where neither folder can be written to.
        unwritten = {"PYTHONDONTWRITEBYTECODE": "1"}
        return {"PYTHONPATH": path, "PATH": os.defpath, "LAMBDA_TASK_ROOT": str(self.task), **unwritten}

    def run(self, *arguments: str, **more: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [self.python, "-S", "-s", *arguments],
            env={**self.environment, **more},
            cwd=self.task,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )


def lambdas_python() -> tuple[str, str]:
    """Python 3.13 if this machine has it, else the one that runs here, without its virtual environment; and which."""
    version = Runtime().python
    for name in (f"python{version}", sys.executable):
        result = shutil.which(name)
        if result is None:
            continue
        script = "import sys; print(sys._base_executable, '%d.%d' % sys.version_info[:2])"
        done = subprocess.run(
            [result, "-c", script],
            env={**os.environ, "PYENV_VERSION": version},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        if done.returncode == 0:
            path, _, found_version = done.stdout.strip().rpartition(" ")
            return path, found_version
    raise AssertionError("no Python runs here")


def _unpack(folder: Path) -> Unpacked:
    """Once for all test processes: the lock is free when the first has it done, whose last step is ``done``."""
    python, version = lambdas_python()
    machine = "arm64" if platform.machine().lower() in {"arm64", "aarch64"} else "x86_64"
    result = Unpacked(python, folder / "task", folder / "opt", folder / "runtime", Runtime(machine, version))
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "done").exists():
            result.project.mkdir()
            (result.project / "pipeline.py").write_text(PIPELINE)
            located = locate(str(result.project / "pipeline.py"))
            bundle = build(located, folder / "packages", runtime=result.target)
            for file, target in zip(bundle.write(folder / "zips"), (result.task, result.opt), strict=True):
                with zipfile.ZipFile(file) as archive:
                    archive.extractall(target)
            expected = [f"{name}=={importlib.metadata.version(name)}" for name in ("awslambdaric", "boto3")]
            uv = find_uv()
            assert uv is not None, "uv is among the development tools"
            install = [uv, "pip", "install", "--quiet", "--python", python, "--target", str(result.runtime), *expected]
            subprocess.run(install, check=True, timeout=PATIENCE)
            (folder / "done").touch()
    return result


@pytest.fixture(scope="session")
def unpacked(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Unpacked:
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "lambda"
    folder.mkdir(exist_ok=True)
    return _unpack(folder)


@pytest.fixture(scope="session")
def worker_id(request: pytest.FixtureRequest) -> str:
    """Which of xdist's processes this is; ``master`` without it."""
    return str(getattr(request.config, "workerinput", {}).get("workerid", "master"))


@dataclass
class RuntimeApi:
    """Hands out invocations and takes their results. https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html"""

    invocations: queue.Queue[tuple[str, dict[str, Any]]] = field(default_factory=queue.Queue)
    results: queue.Queue[tuple[str, Any]] = field(default_factory=queue.Queue)
    address: str = ""

    def invoke(self, event: dict[str, Any]) -> tuple[str, Any]:
        """The function's answer: ``("response", value)``, or ``("error", what)``."""
        self.invocations.put((f"request-{id(event)}", event))
        return self.results.get(timeout=PATIENCE)


def _handler(api: RuntimeApi) -> type[BaseHTTPRequestHandler]:
    class Requests(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            request, event = api.invocations.get()
            body = json.dumps(event).encode()
            self.send_response(200)
            self.send_header("Lambda-Runtime-Aws-Request-Id", request)
            self.send_header("Lambda-Runtime-Deadline-Ms", "99999999999999")
            self.send_header("Lambda-Runtime-Invoked-Function-Arn", "arn:aws:lambda:us-east-1:123456789012:function:f")
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            api.results.put((self.path.rpartition("/")[2], json.loads(body or b"null")))
            self.send_response(202)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- as its base names it
            """Say nothing."""

    return Requests


@pytest.fixture
def runtime_api() -> Iterator[RuntimeApi]:
    api = RuntimeApi()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(api))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    api.address = f"127.0.0.1:{server.server_address[1]}"
    yield api
    server.shutdown()
    server.server_close()


@dataclass(frozen=True)
class Aws:
    """Moto, served on this machine."""

    endpoint: str

    @property
    def environment(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
        }

    def client(self, service: str) -> Any:
        session = boto3.session.Session("test", "test", region_name="us-east-1")
        return session.client(service, endpoint_url=self.endpoint)


@pytest.fixture
def aws() -> Iterator[Aws]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    result = Aws(f"http://{host}:{port}")
    # What an earlier test left: all servers of one process share it.
    with urllib.request.urlopen(f"{result.endpoint}/moto-api/reset", data=b"", timeout=PATIENCE):
        pass
    yield result
    server.stop()


#: One for all tests: each would read the SDK's descriptions of AWS anew.
SESSION = boto3.session.Session("some", "thing", region_name="eu-central-1")


class _Http(NamedTuple):
    """As much of an HTTP response as the SDK's client looks at."""

    status_code: int


@pytest.fixture(scope="session")
def sales() -> Pipeline:
    pipeline = Pipeline("sales")

    pipeline.sql("sales/*.csv", "SELECT * FROM rows", name="sales")
    return pipeline


def moto_template(template: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a compiled template that moto knows, without event source mappings, which would need Docker."""
    result = copy.deepcopy({**template})
    known = {
        name: each
        for name, each in result["Resources"].items()
        if resource_class_from_type(each["Type"]) and each["Type"] != "AWS::Lambda::EventSourceMapping"
    }
    for each in known.values():
        each["Properties"].pop("Layers", None)  # moto stumbles over them when it updates a function
        each["DependsOn"] = [name for name in each.get("DependsOn", ()) if name in known]
    outputs = {name: each for name, each in result["Outputs"].items() if name.endswith(("Name", "TopicArn"))}
    return {**result, "Resources": known, "Outputs": outputs}


@dataclass
class Notifications:
    """A bucket's notification configuration. Moto does not give back that EventBridge is on, and its CloudFormation
    does not switch it on."""

    configuration: dict[str, Any] = field(default_factory=lambda: {"EventBridgeConfiguration": {}})
    puts: list[dict[str, Any]] = field(default_factory=list)

    def watch(self, client: Any) -> None:
        events = client.meta.events
        events.register("after-call.s3.GetBucketNotificationConfiguration", self._get)
        events.register("provide-client-params.s3.PutBucketNotificationConfiguration", self._put)

    def _get(self, parsed: dict[str, Any], **_: Any) -> None:
        parsed.update(self.configuration)

    def _put(self, params: dict[str, Any], **_: Any) -> None:
        self.configuration = params["NotificationConfiguration"]
        self.puts.append(self.configuration)


@pytest.fixture
def notifications() -> Notifications:
    return Notifications()


@pytest.fixture
def account(notifications: Notifications) -> Iterator[Account]:
    """An account on moto, in this process."""
    with mock_aws():
        result = open_account(SESSION)
        yield replace(result, client=lambda service: _client(result, service, notifications))


def _client(account: Account, service: str, notifications: Notifications) -> Any:
    """Moto denies all that a bucket's policy denies on a condition, whether that holds or not: so it gets no policy."""
    client = account.client(service)
    done = _Http(204), {"ResponseMetadata": {"HTTPStatusCode": 204}}
    client.meta.events.register("before-call.s3.PutBucketPolicy", lambda **_: done)
    notifications.watch(client)
    client.meta.events.register("after-call.cloudformation.DescribeStacks", _with_outputs)
    return client


#: Moto's change sets make stacks without outputs.
OUTPUTS = {"BronzeBucketName": "dl-bronze-layer", "ReconcilerName": "sales_Reconciler"}


def _with_outputs(parsed: dict[str, Any], **_: Any) -> None:
    for stack in parsed.get("Stacks", ()):
        if stack["StackStatus"] in {"CREATE_COMPLETE", "UPDATE_COMPLETE"} and not stack.get("Outputs"):
            stack["Outputs"] = [{"OutputKey": key, "OutputValue": value} for key, value in OUTPUTS.items()]


@pytest.fixture
def small_release(account: Account, sales: Pipeline, tmp_path: Path) -> Release:
    """A release with hardly any code."""
    (tmp_path / "pipeline.py").write_text("")
    (tmp_path / "package.py").write_text("")
    bundle = Bundle({"pipeline.py": tmp_path / "pipeline.py"}, {"p.py": tmp_path / "package.py"}, Runtime(), "a test")
    return Release(
        "sales",
        moto_template(with_layers(compile_template(sales), "sales")),
        bundle,
        {"CodeBucket": Artefacts(account).bucket, "CodeKey": "sales/1.zip", LAYER_KEY: "layers/1.zip"},
        owner(sales, Deployment()),
        sales.transforms,
    )
