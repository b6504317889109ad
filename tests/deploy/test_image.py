"""Functions that run from an image: what it is made of, which URIs there are, and how a stack gets one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from silversmith import Deployment, Pipeline
from silversmith.aws import bundle as bundles
from silversmith.aws.account import Account, BundleError, DeployError
from silversmith.aws.bundle import Bundle
from silversmith.aws.deploy import Build, Release, deploy, diff, gather_code, release
from silversmith.aws.image import MOST_BYTES, check_uri, dockerfile, push, with_uri, write_context
from silversmith.aws.packages import Runtime
from silversmith.cli.application import call
from silversmith.cli.deploy import bundle_document, show_bundle, write_image
from silversmith.pipeline import Located
from silversmith.template.functions import IMAGE, LONGEST_IMAGE
from silversmith.template.transform import HANDLER

Capture = pytest.CaptureFixture[str]

URI = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/sales:1"


def built(context: Path, target: Path) -> str:
    """Build the image's folder ``/var/task`` as a builder does, copy for copy; return its command."""
    command = ""
    for line in (context / "Dockerfile").read_text().splitlines():
        instruction, _, rest = line.partition(" ")
        if instruction == "COPY":
            source, destination = rest.split()
            assert (source[-1], destination) == ("/", "/var/task/"), "folders, or a builder would copy them otherwise"
            for name, path in bundles.files(context / source).items():
                (target / name).parent.mkdir(parents=True, exist_ok=True)
                (target / name).write_bytes(path.read_bytes())
        elif instruction == "CMD":
            (command,) = json.loads(rest)
        else:
            assert instruction in {"#", "FROM"}
    return command


@pytest.fixture
def tiny(tmp_path: Path) -> Bundle:
    sources = {
        "code.py": "import helper",
        "package.py": "value = 7",
        "helper.py": "ours = True",
        "other.py": "ours = False",
    }
    for name, text in sources.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o600)
    return Bundle(
        {"jobs/lake.py": tmp_path / "code.py", "helper.py": tmp_path / "helper.py"},
        {"things/__init__.py": tmp_path / "package.py", "helper.py": tmp_path / "other.py"},
        Runtime("x86_64"),
        "a test",
    )


def test_a_builder_gets_the_code_over_its_packages(tiny: Bundle, tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        write_context(tiny, tmp_path / "image")
    finally:
        os.umask(before)
    assert {path.name for path in (tmp_path / "image").iterdir()} == {"Dockerfile", "packages", "code"}
    modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "image").glob("*/**/*")}
    assert modes == {0o644, 0o755}, "Lambda runs as another user"
    assert built(tmp_path / "image", tmp_path / "task") == HANDLER
    program = "import jobs.lake, things, helper; print(things.value, helper.ours)"
    ran = subprocess.run(
        [sys.executable, "-S", "-c", program],
        env={"PYTHONPATH": str(tmp_path / "task")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.stdout, ran.stderr) == ("7 True\n", "")


@pytest.mark.parametrize("architecture", ["arm64", "x86_64"])
def test_the_image_stands_on_that_of_lambda_s_python(architecture: str) -> None:
    assert f"\nFROM public.ecr.aws/lambda/python:3.13-{architecture}\n" in dockerfile(Runtime(architecture))


@pytest.mark.full
@pytest.mark.timeout(600)
def test_the_handler_is_imported_from_the_image(unpacked: Any, tmp_path: Path) -> None:
    """The image holds all but what AWS's own has."""
    packages = next(unpacked.opt.glob("python/lib/*/site-packages"))
    bundle = Bundle(bundles.files(unpacked.task), bundles.files(packages), unpacked.target, "a test")
    write_context(bundle, tmp_path / "image")
    module, _, function = built(tmp_path / "image", tmp_path / "task").rpartition(".")
    for name in (module, "silversmith.reconcile.handler"):
        program = f"import {name} as module, polars, pipeline; print(module.__file__, callable(module.{function}))"
        path = os.pathsep.join(map(str, (tmp_path / "task", unpacked.runtime)))
        ran = subprocess.run(
            [unpacked.python, "-S", "-s", "-c", program],
            env={"PYTHONPATH": path, "PATH": os.defpath, "SILVERSMITH_PIPELINE": "pipeline:pipeline"},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert ran.stdout == f"{tmp_path / 'task' / name.replace('.', '/')}.py True\n", ran.stderr


def test_only_an_earlier_context_is_replaced(tiny: Bundle, tmp_path: Path) -> None:
    folder = tmp_path / "image"
    folder.mkdir()
    write_context(tiny, folder)
    (folder / "packages/left.py").write_text("")
    write_context(tiny, folder)
    assert not (folder / "packages/left.py").exists()
    for name in ("Dockerfile", "notes.txt"):
        other = tmp_path / f"with-{name}"
        other.mkdir()
        (other / name).write_text("FROM scratch\n")
        with pytest.raises(BundleError, match="no folder of an image"):
            write_context(tiny, other)
        assert [path.name for path in other.iterdir()] == [name]
    (tmp_path / "link").symlink_to(folder)
    with pytest.raises(BundleError, match="no folder of an image"):
        write_context(tiny, tmp_path / "link")
    assert not list(tmp_path.glob(".*"))


def test_an_image_may_be_of_ten_gigabytes(tmp_path: Path, sales: Pipeline, tiny: Bundle, capsys: Capture) -> None:
    limits = []

    def build(*_: Any, most_bytes: int, **__: Any) -> Bundle:
        limits.append(most_bytes)
        return tiny

    for image in (True, False):
        located = Located(sales, "pipeline:pipeline", tmp_path, {})
        gather_code(located, tmp_path, Deployment(image=image), Runtime(), build=build)
    assert limits == [MOST_BYTES, bundles.MOST_BYTES] == [10 * 2**30, 250 * 2**20]
    context = write_image(tiny, tmp_path / "image")
    show_bundle(tiny, [context], is_image=True)
    assert "of 10,240 that Lambda takes" in capsys.readouterr().out
    assert bundle_document(tiny, [context])["written"][0]["size"] > tiny.size


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        (URI, ""),
        (f"123456789012.dkr.ecr.eu-central-1.amazonaws.com/team/sales@sha256:{'0a' * 32}", ""),
        ("123456789012.dkr.ecr.eu-central-1.amazonaws.com/sales", "with its tag or digest"),
        ("123456789012.dkr.ecr-fips.eu-central-1.amazonaws.com/sales:1", "no image in ECR"),
        ("public.ecr.aws/lambda/python:3.13", "no image in ECR"),
        (f"{URI}\nx", "no image in ECR"),
        (f"123456789012.dkr.ecr.eu-central-1.amazonaws.com/{'a' * 200}:1", f"{LONGEST_IMAGE} are the most"),
        (URI.replace("eu-central-1", "eu-west-1"), "Lambda takes images of its own region"),
    ],
)
def test_lambda_takes_an_image_of_ecr_in_its_region(account: Account, uri: str, says: str) -> None:
    if not says:
        check_uri(uri, account)
        return
    with pytest.raises(DeployError, match=says):
        check_uri(uri, account)


def test_the_commands_name_the_content(account: Account, tiny: Bundle, tmp_path: Path) -> None:
    ours = push(account, "sales", tiny, tmp_path / "an image")
    check_uri(ours.uri, account)
    create, login, build = ours.commands
    registry = ours.uri.partition("/")[0]
    assert create == "aws ecr create-repository --region eu-central-1 --repository-name sales"
    assert login.endswith(f"| docker login --username AWS --password-stdin {registry}")
    assert f"--platform linux/amd64 --provenance=false --tag {ours.uri} --push '{tmp_path}/an image'" in build
    other = replace(tiny, function={"other.py": tiny.function["helper.py"]})
    assert push(account, "sales", other, tmp_path).uri != ours.uri


@pytest.fixture
def nothing_built() -> Build:
    def build(*_: Any, **__: Any) -> Bundle:
        raise AssertionError("the image has the code")

    return build


@pytest.fixture
def imaged(account: Account, sales: Pipeline, tmp_path: Path, nothing_built: Build) -> Release:
    located = Located(sales, "pipeline:pipeline", tmp_path, {})
    return release(located, account, tmp_path, deployment=Deployment(image=True), image=URI, build=nothing_built)


def test_a_release_names_the_image_and_gathers_no_code(imaged: Release) -> None:
    assert (imaged.bundle, imaged.parameters) == (None, {IMAGE: URI})
    functions = [
        each["Properties"] for each in imaged.template["Resources"].values() if "Lambda::Function" in each["Type"]
    ]
    assert {each["PackageType"] for each in functions} == {"Image"}
    assert not any({"Runtime", "Handler", "Layers"} & set(each) for each in functions)
    assert set(imaged.template["Parameters"]) == {IMAGE}


def template(*, image: bool) -> Mapping[str, Any]:
    return {"Parameters": {IMAGE: {}} if image else {"CodeBucket": {}, "CodeKey": {}}}


def test_a_stack_stays_of_its_kind(account: Account, small_release: Release, imaged: Release) -> None:
    deploy(small_release, account, confirm=lambda _: True, pause=lambda _: None)
    for attempt in (
        lambda: deploy(imaged, account, confirm=lambda _: True, pause=lambda _: None),
        lambda: diff(imaged, account, pause=lambda _: None),
    ):
        with pytest.raises(DeployError, match="run from zips, and would run from an image: AWS cannot change that"):
            attempt()


def test_the_deployed_image_stays_where_none_is_named(account: Account, small_release: Release) -> None:
    deploy(small_release, account, confirm=lambda _: True, pause=lambda _: None)
    from silversmith.aws.deploy import status

    state = status("sales", account)
    assert state is not None
    of_image = replace(state, parameters={IMAGE: URI})
    assert of_image.is_ours
    assert with_uri({}, "sales", template(image=True), of_image) == {IMAGE: URI}
    assert with_uri({IMAGE: "other"}, "sales", template(image=True), of_image) == {IMAGE: "other"}
    assert with_uri({"CodeKey": "a"}, "sales", template(image=False), state) == {"CodeKey": "a"}
    with pytest.raises(DeployError, match="run from an image, and would run from zips"):
        with_uri({"CodeKey": "a"}, "sales", template(image=False), of_image)
    for none in (None, replace(state, status="REVIEW_IN_PROGRESS")):
        with pytest.raises(DeployError, match="needs an image"):
            with_uri({}, "sales", template(image=True), none)
        assert with_uri({IMAGE: URI}, "sales", template(image=True), none) == {IMAGE: URI}


PIPELINE = """
from silversmith import Deployment, Pipeline
pipeline = Pipeline("sales")
pipeline.sql("sales/*.csv", "SELECT * FROM rows", name="sales")
zips = Deployment()
deployment = Deployment(image=True)
"""


def test_an_image_is_asked_for_where_there_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("pipeline.py").write_text(PIPELINE)
    assert call(("deploy", "--deployment", "zips", "--image", URI)) == 2
    assert "add Deployment(image=True)" in capsys.readouterr().err
    assert call(("bundle", "--split", "out")) == 2
    assert "--split is for zips" in capsys.readouterr().err


def test_deploy_says_how_the_image_is_made(
    account: Account, tiny: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sales: Pipeline, capsys: Capture
) -> None:
    from silversmith.cli.deploy import prepare_image

    monkeypatch.chdir(tmp_path)
    located = Located(sales, "pipeline:pipeline", tmp_path, {})
    command = ["silversmith", "deploy", "--deployment", "deployment"]

    def prepare(*, json: bool) -> int:
        return prepare_image(located, Deployment(image=True), account, command, json=json, build=lambda *_, **__: tiny)

    assert prepare(json=True) == 2
    document = json.loads(capsys.readouterr().out)
    assert Path(document["context"], "Dockerfile").is_file()
    assert document["commands"][-1] == f"silversmith deploy --deployment deployment --image {document['image']}"
    assert prepare(json=False) == 2
    out = capsys.readouterr().out
    assert "nothing is deployed" in out
    assert all(line in out.splitlines() for line in document["commands"])
