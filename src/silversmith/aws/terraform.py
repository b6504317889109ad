"""A Terraform module that deploys the compiled template: the code as objects, the stack as one resource.

docs/decisions/0166-terraform-deploys-the-template.md
https://registry.terraform.io/providers/hashicorp/aws/latest/docs/resources/cloudformation_stack
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from silversmith.aws.deploy import LAYER_KEY, LAYER_KEYS, TABLES_LAYER_KEY, with_layers
from silversmith.aws.stack import LARGEST_BODY
from silversmith.pipeline import Located
from silversmith.pipeline.deployment import Deployment
from silversmith.template import compile as compile_template
from silversmith.template.functions import IMAGE
from silversmith.template.tables import CODE_KEY as TABLES_CODE_KEY

#: The files that `silversmith bundle --split` writes, by the parameter with their key; those of tables in a folder.
_ZIPS = {"CodeKey": "function.zip", LAYER_KEY: "layer.zip"}
_TABLES_ZIPS = {TABLES_CODE_KEY: "tables/function.zip", TABLES_LAYER_KEY: "tables/layer.zip"}

#: The name of an object with code, of the module's resource.
_OBJECTS = {
    "CodeKey": "code",
    LAYER_KEY: "packages",
    TABLES_CODE_KEY: "code_of_tables",
    TABLES_LAYER_KEY: "packages_of_tables",
}


def write_module(located: Located, options: Deployment, folder: Path) -> tuple[Path, ...]:
    """Write the module into a folder: ``main.tf.json`` and the template. It needs the zips of the code beside them.

    Raises:
        DefinitionError: the definition cannot be deployed.
    """
    name = options.name(located.pipeline.name)
    template = with_layers(compile_template(located.pipeline, located.reference, deployment=options), name)
    zips = {**({} if options.image else _ZIPS), **(_TABLES_ZIPS if located.pipeline.tables else {})}
    body = json.dumps(template, separators=(",", ":"))
    folder.mkdir(parents=True, exist_ok=True)
    main, document = folder / "main.tf.json", folder / f"{name}.template.json"
    main.write_text(json.dumps(module(name, options, zips, large=len(body) > LARGEST_BODY), indent=2) + "\n", "ascii")
    document.write_text(body + "\n", "ascii")
    return main, document


def module(name: str, options: Deployment, zips: Mapping[str, str], *, large: bool) -> dict[str, Any]:
    """The module, as Terraform's JSON. ``zips`` are the files with code by the parameter with their key; a ``large``
    template is uploaded, because a request does not take it.

    https://developer.hashicorp.com/terraform/language/syntax/json
    """
    objects = {
        _OBJECTS[key]: _uploaded(name, path, zips.get(LAYER_KEYS.get(key, ""), "")) for key, path in zips.items()
    }
    document = f"{name}.template.json"
    source = {"template_body": f'${{file("${{path.module}}/{document}")}}'}
    data: dict[str, Any] = {}
    if large:
        data = {"data": {"aws_s3_bucket": {"code": {"bucket": "${var.code_bucket}"}}}}
        objects["template"] = _uploaded(name, document)
        host = "${data.aws_s3_bucket.code.bucket_regional_domain_name}"
        source = {"template_url": f"https://{host}/${{aws_s3_object.template.key}}"}
    stack = {
        "name": name,
        **source,
        "parameters": {
            **({"CodeBucket": "${var.code_bucket}"} if zips else {}),
            **({IMAGE: "${var.image}"} if options.image else {}),
            **{key: f"${{aws_s3_object.{_OBJECTS[key]}.key}}" for key in zips},
        },
        "capabilities": ["CAPABILITY_IAM", "CAPABILITY_NAMED_IAM"],
        "tags": "${var.tags}",
        **({"iam_role_arn": options.service_role} if options.service_role else {}),
    }
    return {
        "terraform": {
            "required_version": ">= 1.3",
            "required_providers": {"aws": {"source": "hashicorp/aws", "version": ">= 5.0"}},
        },
        "variable": {
            **({"code_bucket": _text("The bucket for the code, in the stack's region")} if objects else {}),
            **({"image": _text("The URI of the image, in ECR")} if options.image else {}),
            "tags": {"type": "map(string)", "description": "Tags of the stack", "default": dict(options.tags)},
        },
        **data,
        "resource": {
            **({"aws_s3_object": objects} if objects else {}),
            "aws_cloudformation_stack": {"pipeline": stack},
        },
        "output": {
            "stack_id": {"value": "${aws_cloudformation_stack.pipeline.id}"},
            "outputs": {
                "description": "Names and addresses of what the stack has: TopicArn, BronzeBucketName and so on",
                "value": "${aws_cloudformation_stack.pipeline.outputs}",
            },
        },
    }


def _text(description: str) -> dict[str, str]:
    return {"type": "string", "description": description}


def _uploaded(name: str, path: str, layer: str = "") -> dict[str, Any]:
    """An object whose key is made of its content; that of code also of its ``layer``, so that a version of the function
    is published for other packages, too. The object before it stays until the stack no longer refers to it."""
    file = f"${{path.module}}/{path}"
    ending = path.rpartition("/")[2].partition(".")[2]
    digests = ", ".join(f'filesha256("${{path.module}}/{each}")' for each in (path, layer) if each)
    return {
        "bucket": "${var.code_bucket}",
        "key": f'{name}/${{sha256(join("", [{digests}]))}}.{ending}',
        "source": file,
        "lifecycle": {"create_before_destroy": True},
    }
