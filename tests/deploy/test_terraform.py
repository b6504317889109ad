"""The Terraform module: its syntax by a parser of the language, its arguments by the documents of the provider.

No Terraform runs here, and none was applied against AWS.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from silversmith.aws.stack import LARGEST_BODY
from silversmith.cli.application import call
from silversmith.pipeline import load

hcl2 = pytest.importorskip("hcl2", reason="python-hcl2 is not installed")

PIPELINE = """
from silversmith import Deployment, Pipeline

pipeline = Pipeline("shop")
pipeline.sql("orders/*.csv", "SELECT * FROM rows", name="orders")
deployment = Deployment(tags={"team": "lake"}, service_role="arn:aws:iam::123456789012:role/deployer")
"""

#: What the provider takes, and of it what it must have.
#: https://registry.terraform.io/providers/hashicorp/aws/latest/docs
ARGUMENTS = {
    "aws_s3_object": ({"bucket", "key", "source"}, {"bucket", "key"}),
    "aws_cloudformation_stack": (
        {"name", "template_body", "template_url", "parameters", "capabilities", "tags", "iam_role_arn"},
        {"name"},
    ),
    "aws_s3_bucket": ({"bucket"}, {"bucket"}),
}

#: Of Terraform itself: of any resource.
META = {"lifecycle", "depends_on", "count", "for_each", "provider"}


def module(folder: Path, monkeypatch: pytest.MonkeyPatch, more: str = "") -> dict[str, Any]:
    (folder / "pipeline.py").write_text(PIPELINE + more)
    monkeypatch.chdir(folder)
    assert call(("template", "--format", "terraform", "--output", "module")) == 0
    parsed: dict[str, Any] = json.loads((folder / "module/main.tf.json").read_text())
    return parsed


def blocks(document: dict[str, Any]) -> Iterator[tuple[str, str, str, dict[str, Any]]]:
    for section in ("resource", "data"):
        for kind, named in document.get(section, {}).items():
            for name, block in named.items():
                yield section, kind, name, block


def texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    else:
        for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            yield from texts(inner)


WIDE = '\nfor n in range(12):\n    pipeline.sql(f"{n}/*.csv", "SELECT * FROM rows", name=f"t{n}")\n'
IMAGE = "\ndeployment = Deployment(image=True)\n"
TABLES = '\npipeline.table("all_orders", of="orders")\n'


@pytest.mark.parametrize("more", ["", WIDE, TABLES])
def test_every_argument_is_one_of_the_provider_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: str) -> None:
    seen = 0
    for _, kind, _, block in blocks(module(tmp_path, monkeypatch, more)):
        known, required = ARGUMENTS[kind]
        assert required <= set(block) <= known | META
        seen += 1
    assert seen >= 3


@pytest.mark.parametrize("more", ["", WIDE, TABLES])
def test_every_text_is_a_template_of_the_language(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: str) -> None:
    """Terraform reads each text of a JSON file as a template: what is in ``${…}`` must be an expression."""
    document = module(tmp_path, monkeypatch, more)
    expressions = [text for text in texts(document["resource"]) if "${" in text]
    assert expressions
    for text in expressions:
        assert hcl2.loads(f'x = "{text}"\n')
    with pytest.raises(Exception, match=r"."):
        hcl2.loads('x = "${file(}"\n')


@pytest.mark.parametrize("more", ["", WIDE, TABLES, IMAGE, WIDE + IMAGE])
def test_every_reference_is_to_something_that_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: str
) -> None:
    document = module(tmp_path, monkeypatch, more)
    there = {f"{'data.' if section == 'data' else ''}{kind}.{name}" for section, kind, name, _ in blocks(document)}
    there |= {f"var.{name}" for name in document["variable"]}
    whole = json.dumps({**document, "terraform": None})
    references = set(re.findall(r"\b((?:data\.)?aws_\w+\.\w+|var\.\w+)", whole))
    assert references
    assert references <= there


def test_the_stack_is_that_of_the_pipeline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    document = module(tmp_path, monkeypatch)
    stack = document["resource"]["aws_cloudformation_stack"]["pipeline"]
    template = json.loads((tmp_path / "module/shop.template.json").read_text())
    assert stack["name"] == "shop"
    assert stack["iam_role_arn"] == "arn:aws:iam::123456789012:role/deployer"
    assert set(stack["parameters"]) == set(template["Parameters"])
    assert template["Resources"]["OrdersFunction"]["Properties"]["Layers"] == [{"Ref": "PackagesLayer"}]
    assert document["variable"]["tags"]["default"] == {"team": "lake"}
    assert load(str(tmp_path / "pipeline.py")).name == "shop"


def test_code_that_changes_gets_another_key_and_the_old_one_goes_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects = module(tmp_path, monkeypatch, TABLES)["resource"]["aws_s3_object"]
    assert {each["source"].removeprefix("${path.module}/") for each in objects.values()} == {
        *("function.zip", "layer.zip", "tables/function.zip", "tables/layer.zip"),
    }
    for each in objects.values():
        assert f'filesha256("{each["source"]}")' in each["key"]
        assert each["lifecycle"] == {"create_before_destroy": True}


def test_a_template_that_no_request_takes_is_uploaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    document = module(tmp_path, monkeypatch, WIDE)
    assert (tmp_path / "module/shop.template.json").stat().st_size > LARGEST_BODY
    stack = document["resource"]["aws_cloudformation_stack"]["pipeline"]
    assert "template_body" not in stack
    assert stack["template_url"].endswith("${aws_s3_object.template.key}")
    assert document["resource"]["aws_s3_object"]["template"]["source"] == "${path.module}/shop.template.json"


@pytest.mark.parametrize(("more", "needs_code"), [("", False), (WIDE, True), (TABLES, True)])
def test_of_an_image_a_bucket_is_asked_for_only_where_something_is_uploaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: str, needs_code: bool
) -> None:
    document = module(tmp_path, monkeypatch, more + IMAGE)
    assert ("code_bucket" in document["variable"]) == ("aws_s3_object" in document["resource"]) == needs_code
    assert document["variable"]["image"]["type"] == "string"
    parameters = document["resource"]["aws_cloudformation_stack"]["pipeline"]["parameters"]
    template = json.loads((tmp_path / "module/shop.template.json").read_text())
    assert set(parameters) == set(template["Parameters"])
    assert parameters["SilversmithImage"] == "${var.image}"


def test_a_module_is_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "pipeline.py").write_text(PIPELINE)
    monkeypatch.chdir(tmp_path)
    assert call(("template", "--format", "terraform")) == 2
    assert "--output" in capsys.readouterr().err
    assert call(("template", "--format", "terraform", "--output", "module")) == 0
    out = capsys.readouterr().out
    assert "silversmith bundle --split module" in out
