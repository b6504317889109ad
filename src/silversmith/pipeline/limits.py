"""The names and numbers that AWS takes. Each function returns the problem, and an empty text if there is none. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from silversmith.pipeline.needs import OF_SILVERSMITH, SECRET_NAME, Secret

#: Lambda's limit for a function's name, in characters. https://docs.aws.amazon.com/lambda/latest/api/API_CreateFunction.html
FUNCTION_NAME = 64


def pipeline_name(name: object) -> str:
    """It becomes the stack's name, which takes no underscore. https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/cfn-using-console-create-stack-parameters.html"""
    if isinstance(name, str) and re.fullmatch(r"[a-z][a-z0-9-]{0,39}", name):
        return ""
    if isinstance(name, str) and "_" in name:
        return f"CloudFormation's stack names have no underscore; call it {name.replace('_', '-')!r}"
    return "its name must be lower-case letters, digits and '-', at most 40, a letter first"


def transform_name(pipeline: str, name: object) -> str:
    """It becomes a prefix of keys and a part of names such as ``{pipeline}_{transform}``."""
    if name == "<lambda>":
        return "a lambda has no name: add name=…"
    if not isinstance(name, str) or not re.fullmatch(r"[a-z][a-z0-9_-]{0,39}", name):
        return (
            "its name must be lower-case letters, digits, '_' and '-', at most 40, a letter first; set it with name=…"
        )
    length = len(f"{pipeline}_{name}")
    if length > FUNCTION_NAME:
        return (
            f"its function's name {pipeline}_{name} would have {length} characters, and Lambda takes {FUNCTION_NAME}: "
            "shorten the name of the pipeline or of the transform"
        )
    return ""


def buckets(names: Mapping[str, str]) -> str:
    """The names of a pipeline's buckets, by role."""
    for role, name in names.items():
        problem = bucket_name(name)
        if problem:
            return f"the {role} bucket's name {name!r} {problem}"
    roles: dict[str, str] = {}
    for role, name in names.items():
        if name in roles:
            return f"{roles[name]} and {role} are both {name!r}: each result would land as new input, again and again"
        roles[name] = role
    return ""


_RESERVED_PREFIXES = ("xn--", "sthree-", "amzn-s3-demo-")
_RESERVED_SUFFIXES = ("-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3")


def bucket_name(name: object) -> str:
    """https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html"""
    if not isinstance(name, str) or not 3 <= len(name) <= 63:
        return "must have 3 to 63 characters"
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]*[a-z0-9]", name):
        return "must be lower-case letters, digits, '-' and '.', a letter or digit first and last"
    if ".." in name:
        return "must not have two dots in a row"
    if re.fullmatch(r"\d+\.\d+\.\d+\.\d+", name):
        return "must not look like an IP address"
    if name.startswith(_RESERVED_PREFIXES) or name.endswith(_RESERVED_SUFFIXES):
        return "begins or ends with what S3 reserves for itself"
    return ""


#: Name of an option: least, most, unit.
#: https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-parameters.html
#: https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
_RANGES = {
    "batch_size": (1, 10_000, "messages"),
    "batch_window": (0, 300, "seconds"),
    "memory": (128, 10_240, "MB"),
    "timeout": (1, 900, "seconds"),
    "maximum_concurrency": (2, 1_000, "invocations"),
    "max_receive_count": (1, 950, "tries"),  # SQS takes 1,000 receives, and 50 are the system's: retries.py
}


def options(values: Mapping[str, Any]) -> str:
    """The options of a transform."""
    for name, (least, most, unit) in _RANGES.items():
        value = values[name]
        if value is None and name == "maximum_concurrency":
            continue
        if not isinstance(value, int) or isinstance(value, bool):
            return f"{name}={value!r} is no whole number of {unit}"
        if not least <= value <= most:
            return f"{name}={value} is out of range: AWS takes {least:,} to {most:,} {unit}"
    if values["batch_size"] > 10 and values["batch_window"] < 1:
        return (
            f"batch_size={values['batch_size']} needs batch_window=1 or more: without a window Lambda takes "
            "at most 10 messages at once"
        )
    return ""


#: The columns that silver may have of its origin.
METADATA_COLUMNS = ("_file", "_row", "_loaded_at")


def metadata_columns(names: object) -> str:
    """The columns of its origin that silver is to have."""
    if isinstance(names, str) or not isinstance(names, Collection) or not set(names) <= set(METADATA_COLUMNS):
        return f"metadata_columns={names!r} must be some of {', '.join(map(repr, METADATA_COLUMNS))}"
    return ""


#: The most lookups of one transform, and the bytes of their keys together: they must fit into its role's policy, which
#: takes 10,240 characters. https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html
LOOKUPS, LOOKUP_BYTES = 20, 2_000


def lookups(keys: object, *, takes_context: bool) -> str:
    """The keys in bronze that a transform may ask for, and whether its function can."""
    if isinstance(keys, str) or not isinstance(keys, Sequence) or not all(isinstance(key, str) for key in keys):
        return f'lookups={keys!r} must be a list of keys in bronze, such as lookups=["lookup/countries.csv"]'
    for key in keys:
        if not key or key.startswith("/") or "*" in key or not key.isprintable():
            return f"lookups: {key!r} must be one whole key in bronze, with no * and no / at its beginning"
    if len(keys) > LOOKUPS or sum(len(key.encode()) for key in keys) > LOOKUP_BYTES:
        return (
            f"lookups: {len(keys)} are too many, or their keys too long, for a role's policy: at most {LOOKUPS}, with "
            f"{LOOKUP_BYTES:,} bytes together. Put some of them in one file"
        )
    if keys and not takes_context:
        return (
            "it declares lookups, and its function has no second parameter to read them by: "
            'def orders(rows, context): … context.read("lookup/countries.csv")'
        )
    return ""


#: The names that Lambda keeps for itself, and the most bytes of all variables, of which Silversmith needs a part.
#: https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html
_RESERVED = re.compile(
    r"AWS_(REGION|DEFAULT_REGION|EXECUTION_ENV|ACCESS_KEY|ACCESS_KEY_ID|SECRET_ACCESS_KEY|SESSION_TOKEN"
    r"|LAMBDA_(?!EXEC_WRAPPER$)\w+)|LAMBDA_(TASK_ROOT|RUNTIME_DIR)|PYTHONPATH|TZ"
)
MOST_BYTES = 3_000

#: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements.html
_STATEMENT = {"Sid", "Effect", "Action", "NotAction", "Resource", "NotResource", "Condition"}


def environment(variables: object) -> str:
    """The variables of a function."""
    if not isinstance(variables, Mapping) or not all(
        isinstance(text, str) and "\0" not in text for pair in variables.items() for text in pair
    ):
        return 'environment must be a dictionary of texts without NUL: environment={"COUNTRY": "CH"}'
    for name in variables:
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]+", name):
            return f"environment: {name!r} must be two or more letters, digits and '_', a letter first"
        if _RESERVED.fullmatch(name):
            return f"environment: Lambda keeps the name {name} for itself"
        if name.startswith("SILVERSMITH_") and name not in OF_SILVERSMITH:
            return f"environment: {name} is Silversmith's own; yours are {' and '.join(sorted(OF_SILVERSMITH))}"
    size = sum(len(text.encode()) for pair in variables.items() for text in pair)
    if size > MOST_BYTES:
        return (
            f"environment has {size:,} bytes, and Lambda takes 4 KB with Silversmith's own: at most {MOST_BYTES:,}. "
            "Put larger values into a lookup"
        )
    return ""


def secrets(declared: object, *, takes_context: bool) -> str:
    """The secrets that a transform may ask for, and whether its function can."""
    if not isinstance(declared, Mapping) or not all(isinstance(secret, Secret) for secret in declared.values()):
        return 'secrets must be a dictionary of secrets: secrets={"token": Secret(parameter="/shop/token")}'
    for name in declared:
        if not isinstance(name, str) or not SECRET_NAME.fullmatch(name):
            return f"secrets: {name!r} must be lower-case letters, digits and '_', at most 40, a letter first"
    if declared and not takes_context:
        name = next(iter(declared))
        return (
            "it declares secrets, and its function has no second parameter to read them by: "
            f'def orders(rows, context): … context.secret("{name}")'
        )
    return ""


def permissions(statements: object) -> str:
    """The statements that a user adds to a role's policies."""
    if (
        isinstance(statements, str)
        or not isinstance(statements, Sequence)
        or not all(isinstance(statement, Mapping) for statement in statements)
    ):
        return 'permissions must be a list of IAM statements: permissions=[{"Action": "…", "Resource": "arn:…"}]'
    return next(filter(None, map(_statement_problem, statements)), "")


def _statement_problem(statement: Mapping[str, Any]) -> str:
    unknown = ", ".join(sorted(map(str, set(statement) - _STATEMENT)))
    if unknown:
        return f"permissions: a role's statement has no {unknown}; it has: {', '.join(sorted(_STATEMENT))}"
    if statement.get("Effect", "Allow") not in {"Allow", "Deny"}:
        return f"permissions: Effect is {statement['Effect']!r}, neither Allow nor Deny"
    for element in ("Action", "Resource"):
        if (element in statement) == (f"Not{element}" in statement):
            return f"permissions: a statement has one of {element} and Not{element}: {dict(statement)!r}"
    if not re.fullmatch(r"[A-Za-z0-9]*", str(statement.get("Sid", ""))):
        return f"permissions: the Sid {statement['Sid']!r} must be letters and digits"
    try:
        json.dumps(dict(statement))
    except (TypeError, ValueError) as error:
        return f"permissions: a statement is no JSON: {error}"
    return ""
