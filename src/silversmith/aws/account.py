"""An AWS account in one region, by boto3's normal chain of credentials, and the clients for it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from boto3.exceptions import Boto3Error
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, NoRegionError, ProfileNotFound
from botocore.parsers import ResponseParserError

from silversmith.aws.errors import DeployError, NoAccount
from silversmith.stores.s3 import aws_client


@dataclass(frozen=True)
class Account:
    """``client`` makes a boto3 client of a service: for this account, region and endpoint. ``partition`` is how ARNs
    begin there: ``aws``, ``aws-cn`` …"""

    id: str
    region: str
    client: Callable[[str], Any]
    endpoint_url: str | None = None
    partition: str = "aws"


def open_account(session: Any = None, *, endpoint_url: str | None = None) -> Account:
    """Find out which account the credentials are for.

    Args:
        session: a boto3 session, by default one that looks where boto3 always does.
            https://boto3.amazonaws.com/v1/documentation/api/latest/guide/credentials.html
            ``AWS_REGION`` counts, too.
        endpoint_url: another place than AWS: a stand-in's.

    Raises:
        NoAccount: there are no credentials or no region, or AWS does not take them.
    """
    try:
        found = _session(session)

        def client(service: str) -> Any:
            return aws_client(service, found, endpoint_url=endpoint_url)

        identity = client("sts").get_caller_identity()
    except ProfileNotFound as error:
        raise NoAccount(f"{error}: look at AWS_PROFILE, and at `aws configure list-profiles`") from error
    except NoRegionError as error:
        raise NoAccount("there is no AWS region: set AWS_REGION=eu-central-1, or the profile's region") from error
    except NoCredentialsError as error:
        raise NoAccount("there are no AWS credentials: set AWS_PROFILE, or run `aws sso login`") from error
    except ClientError as error:
        said = error.response.get("Error", {}).get("Message", error)
        raise NoAccount(f"AWS does not take these credentials: {said}. Sign in again, or set AWS_PROFILE.") from error
    except BotoCoreError as error:
        raise NoAccount(f"AWS cannot be asked: {error}") from error
    partition = identity["Arn"].split(":")[1]
    return Account(identity["Account"], found.region_name, client, endpoint_url, partition)


def _session(session: Any) -> Any:
    if session is None:
        import boto3

        # AWS's other tools read AWS_REGION, boto3 does not.
        # https://docs.aws.amazon.com/sdkref/latest/guide/feature-region.html
        session = boto3.session.Session(region_name=os.environ.get("AWS_REGION") or None)
    if not session.region_name:
        raise NoRegionError
    return session


@contextmanager
def told(what: str) -> Iterator[None]:
    """Raise what the SDK raises as a :class:`DeployError` that says ``what`` was being done."""
    try:
        yield
    except ClientError as error:
        details = error.response.get("Error", {})
        code, said = details.get("Code", ""), details.get("Message", str(error))
        hint = " The policy of who deploys must allow it." if code in {"AccessDenied", "AccessDeniedException"} else ""
        raise DeployError(f"{what}: {error.operation_name}: {said}{hint}") from error
    except (BotoCoreError, Boto3Error, ResponseParserError) as error:
        raise DeployError(f"{what}: {error}") from error
