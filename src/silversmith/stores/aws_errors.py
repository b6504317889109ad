"""The errors of the AWS SDK as our own: one translation for every service."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException

from boto3.exceptions import Boto3Error
from botocore.exceptions import BotoCoreError, ClientError, EndpointConnectionError, NoCredentialsError
from botocore.parsers import ResponseParserError
from urllib3.exceptions import HTTPError

from silversmith.errors import AccessDenied, Archived, AwsFailed

#: HEAD answers have no body, so that their code is the status.
MISSING = frozenset({"NoSuchKey", "NotFound", "404"})

#: Somebody else was first. https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
CONFLICT = frozenset({"PreconditionFailed", "412", "ConditionalRequestConflict"})

#: A denial, after the last dot of the code: SQS puts its name before it.
DENIED = frozenset({"AccessDenied", "AccessDeniedException", "AuthorizationError", "403", "AllAccessDisabled"})

#: The messages of a denial that give no reason. HEAD answers have no body, so that the SDK puts in the status.
_NO_REASON = frozenset({"Access Denied", "Forbidden"})

#: What AWS calls the tiers from which an object must be restored before it can be read.
#: https://docs.aws.amazon.com/AmazonS3/latest/userguide/archived-objects.html
TIERS = {
    "GLACIER": "S3 Glacier Flexible Retrieval (GLACIER)",
    "DEEP_ARCHIVE": "S3 Glacier Deep Archive (DEEP_ARCHIVE)",
    "ARCHIVE_ACCESS": "the Archive Access tier of S3 Intelligent-Tiering (ARCHIVE_ACCESS)",
    "DEEP_ARCHIVE_ACCESS": "the Deep Archive Access tier of S3 Intelligent-Tiering (DEEP_ARCHIVE_ACCESS)",
}

_HINTS = {
    "NoSuchBucket": "there is no such bucket: was the pipeline deployed, to this account and region?",
    "PermanentRedirect": "the bucket is in another region: set AWS_REGION, or the profile's region, to the bucket's",
    "301": "the bucket is in another region: set AWS_REGION, or the profile's region, to the bucket's",
    "AuthorizationHeaderMalformed": "the bucket is in another region: set AWS_REGION to the bucket's",
    "ExpiredToken": "the credentials have expired: sign in again",
    "InvalidAccessKeyId": "these credentials are not known to AWS: look at AWS_PROFILE and the profile's keys",
    "SignatureDoesNotMatch": "the secret key is not that of the access key: look at AWS_PROFILE and the profile's keys",
    "RequestTimeTooSkewed": "this machine's clock is wrong: set it",
    "SlowDown": "S3 asks for fewer requests: fewer workers, or keys with more different beginnings",
    "KMS.DisabledException": "the KMS key that the object is encrypted with is disabled: enable it, then redrive",
    "KMS.NotFoundException": "the KMS key that the object is encrypted with is gone: write the object again",
    "KMS.KMSInvalidStateException": "the KMS key that the object is encrypted with is to be deleted, or out of use: "
    "correct that, then redrive",
    "KeyTooLongError": "S3 takes keys of 1,024 bytes at most",
}

#: The SDK's errors beside the answers of services, the particular before the general, and the text for each. Errors of
#: urllib3 and of http.client come out of it while a body is read.
_SDK_ERRORS: dict[type[Exception], str] = {
    NoCredentialsError: "there are no AWS credentials here: set AWS_PROFILE, or run `aws sso login`",
    EndpointConnectionError: "{error}. Is the region right, and the network up?",
    BotoCoreError: "{error}",
    Boto3Error: "{error}",
    ResponseParserError: "the answer could not be understood, perhaps it was cut off: {error}",
    HTTPError: "the connection broke: {error!r}",
    HTTPException: "the connection broke: {error!r}",
}


def error_code(error: ClientError) -> str:
    """The service's code of an error, or the HTTP status where the answer had no body.

    https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
    """
    return str(error.response.get("Error", {}).get("Code", ""))


def is_denied(error: ClientError) -> bool:
    """Whether the service refused the request because no policy allows it, or one denies it."""
    return error_code(error).rpartition(".")[2] in DENIED


#: Of a denial: who asked, for the key policy. ``aws:sts::1:assumed-role/name/session`` is a session of a role.
_CALLER = re.compile(r"User: arn:(aws[\w-]*):(?:sts|iam)::(\d+):(?:assumed-role|role)/(\S+)")


def denied_by_kms(error: ClientError, subject: str, key: str) -> AccessDenied:
    """The denial of an object that S3 would hand out, and KMS does not decrypt for the caller. It names what to allow:
    in the role's policy, and, where the policy of the ``key`` does not leave that to IAM, there, too.

    https://docs.aws.amazon.com/kms/latest/developerguide/key-policy-modifying-external-accounts.html
    """
    message = error.response.get("Error", {}).get("Message", "")
    caller = _CALLER.search(message)
    principal = "the function's role"
    if caller is not None:
        partition, account, name = caller.groups()
        principal = f"arn:{partition}:iam::{account}:role/{name.partition('/')[0]}"
    statement = {"Effect": "Allow", "Principal": {"AWS": principal}, "Action": "kms:Decrypt", "Resource": "*"}
    reason = f": {message}" if message and message not in _NO_REASON else ""
    return AccessDenied(
        f"{subject} is encrypted with the KMS key {key}, and KMS does not let {principal} use it (kms:Decrypt). Allow "
        f'the role: Deployment(existing_keys=["{key}"]). A key of another account, or one whose policy leaves nothing '
        f"to IAM, must have this statement in its own policy, too: {json.dumps(statement)}{reason}"
    )


@contextmanager
def translate_aws_errors(subject: str) -> Iterator[None]:
    """Raise the SDK's errors as our own. ``subject`` names the object, bucket, queue, topic or stack, for the text.

    Raises:
        AccessDenied: no policy allows it.
        AwsFailed: anything else.
    """
    try:
        yield
    except ClientError as error:
        raise _translated(error, subject) from error
    except tuple(_SDK_ERRORS) as error:
        text = next(text for kind, text in _SDK_ERRORS.items() if isinstance(error, kind))
        raise AwsFailed(f"{subject}: {text.format(error=error)}") from error


def _translated(error: ClientError, subject: str) -> Exception:
    code, message = error_code(error), error.response.get("Error", {}).get("Message", "")
    if is_denied(error):
        reason = f": {message}" if message and message not in _NO_REASON else ""
        return AccessDenied(
            f"AWS denied {error.operation_name} on {subject}: look at the policy of the role or user, and of what it "
            f"asks for; docs/deploy.md and docs/operations.md list the rights{reason}"
        )
    if code == "InvalidObjectState":
        tier = str(error.response.get("AccessTier") or error.response.get("StorageClass") or "")
        return Archived(
            f"{subject} is archived in {TIERS.get(tier, tier or 'an archive tier')}: restore it (`aws s3api "
            "restore-object`); S3's event that it is restored has it read"
        )
    metadata = error.response.get("ResponseMetadata", {})
    retries = metadata.get("RetryAttempts", 0)
    after = f" after {retries} retries" if retries else ""
    request = f" (request {metadata['RequestId']})" if metadata.get("RequestId") else ""
    explained = _HINTS.get(code) or message or str(error)
    return AwsFailed(f"{subject}: {error.operation_name} failed{after}: {code}: {explained}{request}")
