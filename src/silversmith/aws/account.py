"""An AWS account in one region, by boto3's normal chain of credentials; and the errors of deploying to it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, NoRegionError, ProfileNotFound

from silversmith.errors import SilversmithError
from silversmith.stores.s3 import aws_client

#: Takes progress, a line at a time.
Tell = Callable[[str], None]

#: Waits so many seconds.
Pause = Callable[[float], None]


class BundleError(SilversmithError):
    """The bundle for Lambda cannot be made as things are."""


class DeployError(SilversmithError):
    """The stack, its buckets or the account are in no state for it."""


class NoAccount(DeployError):
    """There are no credentials or no region, or AWS does not take them."""


class NoRegion(NoAccount):
    """Neither the environment nor the profile names a region."""


@dataclass(frozen=True)
class Account:
    """``client`` makes a boto3 client of a service, for this account, region and endpoint. ARNs begin with
    ``partition``: ``aws``, ``aws-cn`` … ``session`` is the boto3 session of the clients."""

    id: str
    region: str
    client: Callable[[str], Any]
    endpoint_url: str | None = None
    partition: str = "aws"
    session: Any = None


def open_account(session: Any = None, *, endpoint_url: str | None = None) -> Account:
    """Find out which account the credentials are for.

    Args:
        session: a boto3 session, by default one that looks where boto3 always does.
            https://boto3.amazonaws.com/v1/documentation/api/latest/guide/credentials.html
            ``AWS_REGION`` counts, too.
        endpoint_url: the address of a stand-in for AWS.

    Raises:
        NoAccount: there are no credentials or no region, or AWS does not take them.
    """
    try:
        session = session or _default_session()
        if not session.region_name:
            raise NoRegionError

        def client(service: str) -> Any:
            return aws_client(service, session, endpoint_url=endpoint_url)

        identity = client("sts").get_caller_identity()
    except ProfileNotFound as error:
        raise NoAccount(f"{error}: look at AWS_PROFILE, and at `aws configure list-profiles`") from error
    except NoRegionError as error:
        raise NoRegion("there is no AWS region: set AWS_REGION=eu-central-1, or the profile's region") from error
    except NoCredentialsError as error:
        raise NoAccount("there are no AWS credentials: set AWS_PROFILE, or run `aws sso login`") from error
    except ClientError as error:
        reason = error.response.get("Error", {}).get("Message", error)
        raise NoAccount(f"AWS does not take these credentials: {reason}. Sign in again, or set AWS_PROFILE.") from error
    except BotoCoreError as error:
        raise NoAccount(f"AWS cannot be asked: {error}") from error
    partition = identity["Arn"].split(":")[1]
    return Account(identity["Account"], session.region_name, client, endpoint_url, partition, session)


def _default_session() -> Any:
    import boto3

    # AWS's other tools read AWS_REGION, boto3 does not.
    # https://docs.aws.amazon.com/sdkref/latest/guide/feature-region.html
    return boto3.session.Session(region_name=os.environ.get("AWS_REGION") or None)
