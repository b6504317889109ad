"""What S3 and its SDK say when something fails, in words that a person can act on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException

from botocore.exceptions import BotoCoreError, ClientError, EndpointConnectionError, NoCredentialsError
from botocore.parsers import ResponseParserError
from urllib3.exceptions import HTTPError

from silversmith.errors import AccessDenied, SilversmithError

#: HEAD answers have no body, so that their code is the status.
MISSING = frozenset({"NoSuchKey", "NotFound", "404"})

#: Somebody else was first. https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
CONFLICT = frozenset({"PreconditionFailed", "412", "ConditionalRequestConflict"})

_DENIED = frozenset({"AccessDenied", "403", "AllAccessDisabled"})

#: What S3 says of a denial when it does not say why. HEAD answers have no body, so that the SDK puts in the status.
_SAYS_NOTHING = frozenset({"Access Denied", "Forbidden"})

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
    "InvalidObjectState": "the object is archived: restore it (`aws s3api restore-object`), then `silversmith redrive`",
    "KMS.DisabledException": "the KMS key that the object is encrypted with is disabled: enable it, then redrive",
    "KeyTooLongError": "S3 takes keys of 1,024 bytes at most",
}


#: All that comes out of the SDK beside S3's own errors, the particular before the general, and the text for it.
#: Errors of urllib3 and of http.client come out of it while a body is read.
_SDK_ERRORS: dict[type[Exception], str] = {
    NoCredentialsError: "there are no AWS credentials here: set AWS_PROFILE, or run `aws sso login`",
    EndpointConnectionError: "{error}. Is the region right, and the network up?",
    BotoCoreError: "{error}",
    ResponseParserError: "the answer could not be understood, perhaps it was cut off: {error}",
    HTTPError: "the connection broke: {error!r}",
    HTTPException: "the connection broke: {error!r}",
}


class S3Failed(SilversmithError, OSError):
    """S3 did not do what was asked, for all the SDK's own retries. The system is at fault: try again later."""


def code(error: ClientError) -> str:
    """S3's word for what went wrong, or the HTTP status where the answer had no body.

    https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
    """
    return str(error.response.get("Error", {}).get("Code", ""))


@contextmanager
def translate_aws_errors(place: str) -> Iterator[None]:
    """Raise what the SDK raises as our own errors. ``place`` is which object, bucket or queue, for the text.

    Raises:
        AccessDenied: no policy allows it.
        S3Failed: anything else.
    """
    try:
        yield
    except ClientError as error:
        raise _explained(error, place) from error
    except tuple(_SDK_ERRORS) as error:
        text = next(text for kind, text in _SDK_ERRORS.items() if isinstance(error, kind))
        raise S3Failed(f"{place}: {text.format(error=error)}") from error


def _explained(error: ClientError, place: str) -> Exception:
    word, said = code(error), error.response.get("Error", {}).get("Message", "")
    if word in _DENIED:
        reason = f": {said}" if said and said not in _SAYS_NOTHING else ""
        return AccessDenied(
            f"S3 denied {error.operation_name} on {place}: look at the policy of the role, and of the bucket{reason}"
        )
    meta = error.response.get("ResponseMetadata", {})
    retries = meta.get("RetryAttempts", 0)
    after = f" after {retries} retries" if retries else ""
    request = f" (request {meta['RequestId']})" if meta.get("RequestId") else ""
    hint = _HINTS.get(word)
    return S3Failed(f"{place}: {error.operation_name} failed{after}: {word}: {hint or said}{request}")
