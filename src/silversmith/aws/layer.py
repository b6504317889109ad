"""The template with its packages in a layer: the one thing that deploying adds to what was compiled.

docs/decisions/0023-packages-are-a-layer.md
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from silversmith.aws.install import Runtime
from silversmith.template.plan import physical

#: The logical id of the layer, and the parameter with its zip's key.
LAYER = "PackagesLayer"
KEY = "LayerKey"


def with_layer(template: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A copy of the template in which every function has the layer. ``name`` is the stack's."""
    functions = _functions(template)
    runtimes = sorted({resource["Properties"]["Runtime"] for resource in functions.values()})
    architectures = sorted(
        {each for resource in functions.values() for each in resource["Properties"]["Architectures"]}
    )
    layer = {
        "Type": "AWS::Lambda::LayerVersion",
        "Properties": {
            "LayerName": physical(name, kind="Packages"),
            "Description": "What the handler and the pipeline import",
            "CompatibleRuntimes": runtimes,
            "CompatibleArchitectures": architectures,
            "Content": {"S3Bucket": {"Ref": "CodeBucket"}, "S3Key": {"Ref": KEY}},
        },
    }
    layered = {
        name: {**resource, "Properties": {**resource["Properties"], "Layers": [{"Ref": LAYER}]}}
        for name, resource in functions.items()
    }
    parameter = {"Type": "String", "Description": "The key of the zip file with the packages"}
    return {
        **template,
        "Parameters": {**template.get("Parameters", {}), KEY: parameter},
        "Resources": {**template["Resources"], **layered, LAYER: layer},
    }


def runtime(template: Mapping[str, Any]) -> Runtime:
    """What the functions of a template run on."""
    first = next(iter(_functions(template).values()))["Properties"]
    return Runtime(first["Architectures"][0], first["Runtime"].removeprefix("python"))


def _functions(template: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        name: resource
        for name, resource in template["Resources"].items()
        if resource["Type"] == "AWS::Lambda::Function"
    }
