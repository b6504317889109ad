"""The needs of a transform beside its files: environment variables, secrets, and rights of its own. docs/settings.md"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from silversmith.errors import DefinitionError, SystemFault, keep_secret

#: The values of secrets on one machine: in this file beside the pipeline, or in variables that begin so.
LOCAL_FILE, LOCAL_VARIABLE = ".secrets.env", "SILVERSMITH_SECRET_"

#: The variables of Silversmith itself that a transform may set; they change nothing in silver.
OF_SILVERSMITH = frozenset({"SILVERSMITH_LOG_LEVEL", "SILVERSMITH_METRICS"})

#: The longest time for which a value is kept, in seconds.
LONGEST_TTL = 86_400

#: The name of a secret in the code of a transform.
SECRET_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")


class SecretMissing(SystemFault):
    """A secret that a transform asks for is not where it is declared to be. No fault of the file's: it is tried
    again."""


@dataclass(frozen=True, kw_only=True)
class Secret:
    """The place of a secret that a transform may ask its context for: ``context.secret("token")``. docs/settings.md

    Give ``parameter`` or ``secret``; in both, ``{stack}`` stands for the name of the stack, so that stages differ.

    Args:
        parameter: the name or ARN of a parameter of Systems Manager's Parameter Store: ``"/shop/token"``.
        secret: the name or ARN of a secret of Secrets Manager: ``"shop/api"``.
        field: where the value is a JSON object, its field; empty: the whole value.
        key: the ARN of the KMS key that it is encrypted with, if that is a key of yours.
        ttl_seconds: how long a worker keeps the value before it asks for it again, 0 to 86,400.

    Raises:
        DefinitionError: something of it is not what AWS takes.
            https://docs.aws.amazon.com/systems-manager/latest/userguide/sysman-paramstore-su-create.html
            https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_CreateSecret.html
    """

    parameter: str = ""
    secret: str = ""
    field: str = ""
    key: str = ""
    ttl_seconds: int = 300

    def __post_init__(self) -> None:
        if problem := self._problem():
            raise DefinitionError(f"the secret is not valid: {problem}")

    def _problem(self) -> str:
        if bool(self.parameter) == bool(self.secret):
            return 'give one of parameter="/shop/token" (Parameter Store) and secret="shop/api" (Secrets Manager)'
        if problem := self._place_problem():
            return problem
        if self.key and not re.fullmatch(r"arn:[a-z-]+:kms:[a-z0-9-]+:\d{12}:key/[\w-]+", self.key):
            return f"key={self.key!r} is no ARN of a key: IAM takes no alias here"
        ttl = self.ttl_seconds
        if not isinstance(ttl, int) or isinstance(ttl, bool) or not 0 <= ttl <= LONGEST_TTL:
            return f"ttl_seconds={ttl!r} must be 0 to {LONGEST_TTL:,} seconds"
        return ""

    def _place_problem(self) -> str:
        place, option = self.parameter or self.secret, "parameter" if self.parameter else "secret"
        kind = "parameter/" if self.parameter else "secret:"
        if place.startswith("arn:"):
            arn = rf"arn:[a-z-]+:{self.service}:[a-z0-9-]+:\d{{12}}:{kind}[a-zA-Z0-9_/+=.@-]+"
            known = re.fullmatch(arn, place) is not None
            return "" if known else f"{option}={place!r} is no ARN of that kind: arn:aws:{self.service}:…:{kind}…"
        characters = r"[a-zA-Z0-9_/.-]+" if self.parameter else r"[a-zA-Z0-9_/+=.@-]+"
        if not re.fullmatch(characters, place.replace("{stack}", "stack")):
            return f"{option}={place!r} must be letters, digits and / . _ -; {{stack}} stands for the stack's name"
        if self.parameter and "/" in place and not place.startswith("/"):
            return f"parameter={place!r} has levels, so its name begins with a slash: {'/' + place!r}"
        return ""

    def place(self, stack: str) -> str:
        """Its name or ARN in this stack."""
        return (self.parameter or self.secret).replace("{stack}", stack)

    @property
    def service(self) -> str:
        """AWS's name of the service that keeps it."""
        return "ssm" if self.parameter else "secretsmanager"

    @property
    def action(self) -> str:
        """The right to read it."""
        return "ssm:GetParameter" if self.parameter else "secretsmanager:GetSecretValue"

    @property
    def context_key(self) -> str:
        """The condition key by which KMS knows for which secret its key is used.

        https://docs.aws.amazon.com/kms/latest/developerguide/services-parameter-store.html
        https://docs.aws.amazon.com/secretsmanager/latest/userguide/security-encryption.html
        """
        return f"kms:EncryptionContext:{'PARAMETER_ARN' if self.parameter else 'SecretARN'}"

    def resource(self, stack: str, suffix: str) -> str:
        """The last part of its ARN; that of a secret ends in ``suffix``, six characters that AWS chooses."""
        place = self.place(stack)
        return f"parameter/{place.removeprefix('/')}" if self.parameter else f"secret:{place}-{suffix}"


#: Gives the text that lies in a place: the arguments are the secret's name in the transform, and the secret.
Fetch = Callable[[str, Secret], str]


def no_secrets(name: str, secret: Secret) -> str:
    """Where nobody has said how secrets are read.

    Raises:
        SecretMissing: always.
    """
    raise SecretMissing(f"there is no secret {name!r} here ({secret.service})")


class Secrets:
    """The secrets of one transform in a worker: fetched at their first use, kept for a while.

    Args:
        declared: by the name that the transform's code uses.
        fetch: reads one where it lies.
        name: the transform's, for errors.
        now: seconds of a clock that only goes forward.
    """

    def __init__(
        self, declared: Mapping[str, Secret], fetch: Fetch, *, name: str = "", now: Callable[[], float] = time.monotonic
    ) -> None:
        self._declared = declared
        self._fetch = fetch
        self._name = name
        self._now = now
        self._values: dict[str, tuple[float, str]] = {}

    def __call__(self, name: str) -> str:
        """The value of a secret.

        Raises:
            DefinitionError: the transform does not declare it.
            SecretMissing: it is not there, or has no such field.
            AccessDenied, AwsFailed: AWS did not give it.
        """
        secret = self._declared.get(name)
        if secret is None:
            raise DefinitionError(
                f"the transform {self._name!r} asks for the secret {name!r} and does not declare it, so that its role "
                f"may not read it; it declares: {', '.join(self._declared) or 'none'}"
            )
        known = self._values.get(name)
        if known is not None and self._now() < known[0]:
            return known[1]
        value = _field(name, secret, self._fetch(name, secret))
        keep_secret(value)
        self._values[name] = self._now() + secret.ttl_seconds, value
        return value


def _field(name: str, secret: Secret, text: str) -> str:
    keep_secret(text)
    if not secret.field:
        return text
    try:
        value = json.loads(text)[secret.field]
    except (ValueError, TypeError, KeyError, IndexError):
        raise SecretMissing(
            f"the secret {name!r} must be a JSON object with the field {secret.field!r}, and is none"
        ) from None
    return value if isinstance(value, str) else json.dumps(value)


def from_aws(client: Callable[[str], Any], stack: str, *, values: bool = True) -> Fetch:
    """Reads secrets of AWS. ``client`` gives the boto3 client of a service. ``values`` False: no secret is decrypted,
    it is only seen whether it is there."""

    def fetch(name: str, secret: Secret) -> str:
        from botocore.exceptions import ClientError

        from silversmith.stores.aws_errors import error_code, translate_aws_errors

        place = secret.place(stack)
        with translate_aws_errors(f"the secret {name} ({secret.service}: {place})"):
            try:
                if secret.parameter:
                    return str(client("ssm").get_parameter(Name=place, WithDecryption=values)["Parameter"]["Value"])
                manager = client("secretsmanager")
                answer = (manager.get_secret_value if values else manager.describe_secret)(SecretId=place)
            except ClientError as error:
                if error_code(error) not in {"ParameterNotFound", "ResourceNotFoundException"}:
                    raise
                raise SecretMissing(_missing(name, secret, place)) from None
        if "DeletedDate" in answer:
            raise SecretMissing(
                f"the secret {name!r} ({place} in Secrets Manager) is marked for deletion. Take that back: aws "
                f"secretsmanager restore-secret --secret-id {place}"
            )
        if not values:
            return ""
        if "SecretString" not in answer:
            raise SecretMissing(f"the secret {name!r} ({place} in Secrets Manager) is binary, and must be a text")
        return str(answer["SecretString"])

    return fetch


def _missing(name: str, secret: Secret, place: str) -> str:
    put = (
        f"aws ssm put-parameter --type SecureString --name {place} --value …"
        if secret.parameter
        else f"aws secretsmanager create-secret --name {place} --secret-string …"
    )
    return f"the secret {name!r} is not there: {place} in {secret.service}. Put it, then redrive: {put}"


@contextmanager
def variables_set(variables: Mapping[str, str]) -> Iterator[None]:
    """While the block lasts, the process has these variables, and no others of a function."""
    if not variables:
        yield
        return
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def for_fingerprint(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that may change what silver is. docs/decisions/0160-needs-of-a-transform.md"""
    return {name: value for name, value in sorted(environment.items()) if name not in OF_SILVERSMITH}


def with_effects(statements: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Any], ...]:
    """The statements as IAM takes them: what says no Effect allows."""
    return tuple({"Effect": "Allow", **statement} for statement in statements)
