"""The needs of a transform beside its files: variables, secrets, rights: declared, granted, and nobody else's."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from ctypes import c_int
from multiprocessing import Pipe
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import boto3
import orjson
import polars as pl
import pytest
from botocore.stub import Stubber
from hypothesis import given
from hypothesis import strategies as st

from silversmith import Context, DefinitionError, Pipeline, Secret
from silversmith.errors import AccessDenied, AwsFailed, describe, keep_secret, masked
from silversmith.local.invocation import WorkerConfig
from silversmith.local.lake import LakeFolder
from silversmith.local.stack import read
from silversmith.local.wiring import worker_functions
from silversmith.local.worker import _Handlers, from_machine, local_values
from silversmith.pipeline import load
from silversmith.pipeline.needs import SECRET_NAME, SecretMissing, Secrets, from_aws, variables_set
from silversmith.runtime.telemetry import JsonLines
from silversmith.template import compile as compile_template
from silversmith.testing import context, run
from silversmith.testing.events import eventbridge, sqs

ROWS = {"orders/1.csv": "id\n1\n"}
TOKEN = Secret(parameter="/shop/token")


def with_token(rows: pl.LazyFrame, context: Context) -> pl.LazyFrame:
    return rows.with_columns(token=pl.lit(context.secret("token")))


def declared(function: Any = with_token, **options: Any) -> Pipeline:
    pipeline = Pipeline("shop")
    pipeline.transform("orders/*.csv", name="orders", **options)(function)
    return pipeline


def fingerprint(**options: Any) -> str:
    return declared(**options).find("orders").fingerprint


def test_a_value_that_may_change_silver_is_in_the_fingerprint_and_a_secret_is_not() -> None:
    plain = fingerprint()
    assert fingerprint(environment={}, secrets={}, permissions=[]) == plain
    assert fingerprint(secrets={"token": TOKEN}) == plain
    assert fingerprint(permissions=[{"Action": "dynamodb:GetItem", "Resource": "*"}]) == plain
    assert fingerprint(environment={"SILVERSMITH_LOG_LEVEL": "DEBUG"}) == plain
    swiss = fingerprint(environment={"COUNTRY": "CH", "RATE": "2"})
    assert len({plain, swiss, fingerprint(environment={"COUNTRY": "CH"})}) == 3
    assert fingerprint(environment={"RATE": "2", "COUNTRY": "CH"}) == swiss


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"environment": ["A"]}, "dictionary of texts"),
        ({"environment": {"RATE": 1.5}}, "dictionary of texts"),
        ({"environment": {"1A": "x"}}, "a letter first"),
        ({"environment": {"AWS_REGION": "x"}}, "Lambda keeps the name"),
        ({"environment": {"AWS_LAMBDA_FUNCTION_NAME": "x"}}, "Lambda keeps the name"),
        ({"environment": {"SILVERSMITH_BRONZE": "x"}}, "Silversmith's own"),
        ({"environment": {"LONG": "x" * 3_000}}, "3,004 bytes"),
        ({"secrets": {"token": "/shop/token"}}, "dictionary of secrets"),
        ({"secrets": {"Token": TOKEN}}, "lower-case letters"),
        ({"permissions": {"Action": "*"}}, "list of IAM statements"),
        ({"permissions": [{"Action": "a:B"}]}, "one of Resource and NotResource"),
        ({"permissions": [{"Action": "a:B", "NotAction": "a:C", "Resource": "*"}]}, "one of Action and NotAction"),
        ({"permissions": [{"Action": "a:B", "Resource": "*", "Principal": "*"}]}, "no Principal"),
        ({"permissions": [{"Action": "a:B", "Resource": "*", "Effect": "allow"}]}, "neither Allow nor Deny"),
        ({"permissions": [{"Action": "a:B", "Resource": {"x"}}]}, "no JSON"),
    ],
)
def test_what_aws_would_refuse_is_refused_at_the_declaration(options: dict[str, Any], why: str) -> None:
    with pytest.raises(DefinitionError, match=why):
        declared(**options)


def test_a_variable_that_a_layer_needs_is_allowed() -> None:
    assert declared(environment={"AWS_LAMBDA_EXEC_WRAPPER": "/opt/instrument"})


def test_secrets_need_a_function_that_can_ask_for_them() -> None:
    with pytest.raises(DefinitionError, match=r'no second parameter .* context\.secret\("token"\)'):
        declared(lambda rows: rows, secrets={"token": TOKEN})


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({}, "give one of"),
        ({"parameter": "/a", "secret": "b"}, "give one of"),
        ({"parameter": "a b"}, "must be letters"),
        ({"parameter": "/a*"}, "must be letters"),
        ({"secret": "a?"}, "must be letters"),
        ({"parameter": "shop/token"}, "begins with a slash"),
        ({"secret": "arn:aws:ssm:eu-central-1:123456789012:parameter/a"}, "no ARN of that kind"),
        ({"parameter": "/a", "key": "alias/mine"}, "takes no alias"),
        ({"parameter": "/a", "ttl_seconds": -1}, "0 to 86,400"),
        ({"parameter": "/a", "ttl_seconds": 1.5}, "0 to 86,400"),
    ],
)
def test_the_place_of_a_secret_is_one_that_aws_takes(options: dict[str, Any], why: str) -> None:
    with pytest.raises(DefinitionError, match=why):
        Secret(**options)


class Place:
    """Counts how often it is asked, and gives another value each time."""

    def __init__(self, *values: str) -> None:
        self.values = [*values]

    def __call__(self, name: str, secret: Secret) -> str:
        del name, secret
        return self.values.pop(0)


def test_a_secret_is_read_once_in_its_time_to_live() -> None:
    now = 100.0
    place = Place("q7z-first", "q7z-second")
    secrets = Secrets({"token": Secret(parameter="/t", ttl_seconds=300)}, place, now=lambda: now)
    assert [secrets("token"), secrets("token")] == ["q7z-first", "q7z-first"]
    now += 299.9
    assert secrets("token") == "q7z-first"
    now += 0.2
    assert secrets("token") == "q7z-second"
    with pytest.raises(DefinitionError, match="does not declare it"):
        secrets("password")


def test_a_field_of_a_secret() -> None:
    secret = Secret(secret="shop/api", field="password", ttl_seconds=0)
    place = Place('{"password": "q7z-abc"}', '{"password": 12345}', "no json", "[1]")
    secrets = Secrets({"password": secret}, place)
    assert [secrets("password"), secrets("password")] == ["q7z-abc", "12345"]
    for _ in range(2):
        with pytest.raises(SecretMissing, match="the field 'password'"):
            secrets("password")


class Aws:
    """AWS's clients with answers that are prepared: what is asked is compared by botocore's stubs."""

    def __init__(self) -> None:
        session = boto3.Session("a", "b", region_name="eu-central-1")
        self.clients = {name: session.client(name) for name in ("ssm", "secretsmanager")}
        self.stubs = {name: Stubber(client) for name, client in self.clients.items()}
        for stub in self.stubs.values():
            stub.activate()

    def client(self, service: str) -> Any:
        return self.clients[service]


def test_secrets_of_aws() -> None:
    aws = Aws()
    fetch = from_aws(aws.client, "test-shop")
    parameter, secret = Secret(parameter="/{stack}/token"), Secret(secret="{stack}/api")
    aws.stubs["ssm"].add_response(
        "get_parameter", {"Parameter": {"Value": "q7z-abc"}}, {"Name": "/test-shop/token", "WithDecryption": True}
    )
    aws.stubs["secretsmanager"].add_response(
        "get_secret_value", {"SecretString": "q7z-ghi"}, {"SecretId": "test-shop/api"}
    )
    aws.stubs["secretsmanager"].add_response("get_secret_value", {"SecretBinary": b"x"})
    assert [fetch("token", parameter), fetch("api", secret)] == ["q7z-abc", "q7z-ghi"]
    with pytest.raises(SecretMissing, match="is binary"):
        fetch("api", secret)


def test_what_aws_does_not_give_says_what_to_do() -> None:
    aws = Aws()
    fetch = from_aws(aws.client, "shop")
    aws.stubs["ssm"].add_client_error("get_parameter", "ParameterNotFound")
    aws.stubs["ssm"].add_client_error("get_parameter", "AccessDeniedException")
    aws.stubs["ssm"].add_client_error("get_parameter", "ThrottlingException")
    aws.stubs["secretsmanager"].add_client_error("get_secret_value", "ResourceNotFoundException")
    with pytest.raises(SecretMissing, match="aws ssm put-parameter --type SecureString --name /shop/token"):
        fetch("token", TOKEN)
    with pytest.raises(AccessDenied, match="the secret token"):
        fetch("token", TOKEN)
    with pytest.raises(AwsFailed, match="the secret token"):
        fetch("token", TOKEN)
    with pytest.raises(SecretMissing, match="aws secretsmanager create-secret --name shop/api"):
        fetch("api", Secret(secret="shop/api"))


def test_stand_ins_on_one_machine(tmp_path: Path) -> None:
    (tmp_path / ".secrets.env").write_text("# of the test\n\ntoken=q7z-file\nexport API = 'quoted'\n")
    fetch = from_machine(tmp_path, {"SILVERSMITH_SECRET_API": "q7z-environment"})
    assert fetch("token", TOKEN) == "q7z-file"
    assert fetch("api", TOKEN) == "q7z-environment"
    assert local_values(tmp_path) == {"token": "q7z-file", "api": "quoted"}
    with pytest.raises(SecretMissing, match="SILVERSMITH_SECRET_PASSWORD"):
        fetch("password", TOKEN)


@given(st.text(max_size=30))
def test_any_file_of_secrets_is_read_or_refused(text: str) -> None:
    with TemporaryDirectory() as folder:
        (Path(folder) / ".secrets.env").write_bytes(text.encode("utf-8", "surrogatepass"))
        try:
            values = local_values(Path(folder))
        except DefinitionError:
            return
        assert all(SECRET_NAME.fullmatch(name) for name in values)


def test_a_line_that_is_none_is_named_without_its_text(tmp_path: Path) -> None:
    (tmp_path / ".secrets.env").write_text("token=abc\nq7zs3cr3t\n")
    with pytest.raises(DefinitionError, match=r"\.secrets\.env:2: a line must be name=value") as refused:
        local_values(tmp_path)
    assert "q7zs3cr3t" not in str(refused.value)


def test_a_secret_is_masked_in_errors_and_log_lines() -> None:
    keep_secret('sesame"street')
    keep_secret("yes")
    assert masked('yes, open sesame"street') == "yes, open ***"
    assert describe(RuntimeError('401 for sesame"street'))["message"] == "RuntimeError: 401 for ***"
    record = logging.makeLogRecord({"msg": 'called with sesame"street', "levelname": "INFO"})
    assert json.loads(JsonLines().format(record))["message"] == "called with ***"


def test_the_test_kit_gives_variables_and_secrets() -> None:
    def orders(rows: pl.LazyFrame, context: Context) -> pl.LazyFrame:
        return rows.with_columns(token=pl.lit(context.secret("token")), country=pl.lit(os.environ["COUNTRY_OF_TEST"]))

    pipeline = declared(orders, environment={"COUNTRY_OF_TEST": "CH"}, secrets={"token": TOKEN})
    result = run(pipeline, ROWS, secrets={"token": "q7z-test"})
    assert result.silver["orders", "orders/1.csv"].rows() == [(1, "q7z-test", "CH")]
    assert "COUNTRY_OF_TEST" not in os.environ
    assert "no secret 'token'" in run(pipeline, ROWS).failures["orders", "orders/1.csv"]["message"]
    rows = with_token(pl.LazyFrame({"id": [1]}), context(secrets={"token": "q7z"})).collect()
    assert rows["token"].to_list() == ["q7z"]
    with pytest.raises(SecretMissing, match="this test has no secret 'token'"):
        with_token(pl.LazyFrame({"id": [1]}), context())


def test_variables_are_put_back() -> None:
    before = dict(os.environ)
    with variables_set({"HOME": "/elsewhere", "COUNTRY_OF_TEST": "CH"}):
        assert (os.environ["HOME"], os.environ["COUNTRY_OF_TEST"]) == ("/elsewhere", "CH")
    assert dict(os.environ) == before


DEFINITION = """
import os
import polars as pl
from silversmith import Pipeline, Secret

pipeline = Pipeline("shop")

@pipeline.transform(
    "orders/*.csv",
    environment={"COUNTRY_OF_TEST": "CH"},
    secrets={"token": Secret(parameter="/shop/token", key="arn:aws:kms:eu-central-1:123456789012:key/01234567"),
             "api": Secret(secret="{stack}/api")},
    permissions=[{"Action": "x:Y", "Resource": "*", "Condition": {"NumericLessThan": {"x:z": "1"}}}],
)
def orders(rows, context):
    texts = [context.secret("token"), context.secret("api"), os.environ.get("COUNTRY_OF_TEST")]
    return rows.with_columns(seen=pl.lit("|".join(map(str, texts))))

@pipeline.transform("others/*.csv", secrets={"api": Secret(secret="shop/other")})
def others(rows, context):
    texts = [context.secret("api"), os.environ.get("COUNTRY_OF_TEST")]
    if "token" in rows.collect().columns:
        texts.append(context.secret("token"))
    return rows.with_columns(seen=pl.lit("|".join(map(str, texts))))
"""


class Worker:
    """A worker's handlers over a template, in this process."""

    def __init__(self, folder: Path, template: Mapping[str, Any]) -> None:
        self.pipeline = load(str(folder / "pipeline.py"))
        lake = LakeFolder(folder / "lake")
        lake.create(self.pipeline.bronze, self.pipeline.silver, self.pipeline.quarantine)
        self.bronze = lake.store(self.pipeline.bronze, foreign_writers=True)
        self.lake = lake.stores(self.pipeline)
        config = WorkerConfig(str(folder / "pipeline.py"), lake.path, worker_functions(read(template)))
        self.answers, connection = Pipe()
        self.handlers = _Handlers(connection, c_int(), config)

    def work(self, transform: str, key: str, text: str) -> dict[str, Any]:
        """What became of one file."""
        self.bronze.put(key, text.encode())
        event = sqs(eventbridge(self.pipeline.bronze, key))
        function = {"function": f"shop_{transform}", "events": [event], "timeout": 60, "memory": 512, "careful": True}
        self.handlers.invoke(function)
        answer = orjson.loads(self.answers.recv_bytes())
        (outcome,) = answer["ended"].values()
        return dict(outcome)

    def seen(self, transform: str, key: str) -> str:
        body = self.lake.silver.read(f"{transform}/{key}.parquet")
        assert body is not None
        return str(pl.read_parquet(body)["seen"][0])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "pipeline.py").write_text(DEFINITION)
    (tmp_path / ".secrets.env").write_text("token=q7z-token\napi=q7z-api\n")
    return tmp_path


def compiled(folder: Path) -> dict[str, Any]:
    return compile_template(load(str(folder / "pipeline.py")))


def test_each_transform_of_a_worker_has_its_own_variables_and_secrets(folder: Path) -> None:
    worker = Worker(folder, compiled(folder))
    assert worker.work("orders", "orders/1.csv", "id\n1\n")["verdict"] == "committed"
    assert worker.work("others", "others/1.csv", "id\n1\n")["verdict"] == "committed"
    assert worker.seen("orders", "orders/1.csv") == "q7z-token|q7z-api|CH"
    assert worker.seen("others", "others/1.csv") == "q7z-api|None"
    refused = worker.work("others", "others/2.csv", "token\n1\n")
    assert "does not declare it" in refused["error"]["message"]
    assert "q7z-token" not in json.dumps(refused)


@pytest.mark.parametrize("sid", ["ReadParameters", "ReadSecrets", "UseKeyOfSecret1"])
def test_what_the_template_does_not_grant_is_refused_here(folder: Path, sid: str) -> None:
    template = compiled(folder)
    needs = template["Resources"]["OrdersRole"]["Properties"]["Policies"][0]["PolicyDocument"]
    kept = [statement for statement in needs["Statement"] if statement["Sid"] != sid]
    assert len(kept) == len(needs["Statement"]) - 1
    needs["Statement"] = kept
    refused = Worker(folder, template).work("orders", "orders/1.csv", "id\n1\n")
    assert refused["error"]["code"] == "AccessDenied"
    assert refused["system"]


def test_a_statement_of_ones_own_that_is_not_understood_here_keeps_nobody_from_running(folder: Path) -> None:
    template = compiled(folder)
    needs, own = template["Resources"]["OrdersRole"]["Properties"]["Policies"]
    assert [statement["Effect"] for statement in own["PolicyDocument"]["Statement"]] == ["Allow"]
    own["PolicyDocument"]["Statement"].append({"Effect": "Deny", "Action": "s3:PutObject", "Resource": "*"})
    refused = Worker(folder, template).work("orders", "orders/1.csv", "id\n1\n")
    assert "a Deny statement of OrdersRole" in refused["error"]["message"]
    needs["PolicyDocument"]["Statement"].append(own["PolicyDocument"]["Statement"][0])
    with pytest.raises(Exception, match="NumericLessThan is not understood"):
        read(template)


def test_too_many_rights_for_one_role_are_refused() -> None:
    statements = [
        {"Action": "dynamodb:GetItem", "Resource": f"arn:aws:dynamodb:::table/{'x' * 200}{n}"} for n in range(50)
    ]
    with pytest.raises(DefinitionError, match="IAM takes 9,500"):
        compile_template(declared(permissions=statements))


def test_the_values_of_secrets_are_nowhere_in_a_template(folder: Path) -> None:
    text = json.dumps(compiled(folder))
    assert "q7z-token" not in text
    variables = compiled(folder)["Resources"]["OrdersFunction"]["Properties"]["Environment"]["Variables"]
    assert variables["COUNTRY_OF_TEST"] == "CH"
