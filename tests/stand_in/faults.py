"""Faults of a request on its way to S3 and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Request:
    """A request as the server has read it. Of a listing ``key`` is the prefix; ``range`` is the header's text.

    ``nth`` counts from 1 the requests of this operation for this bucket, key and range, by this client where the header
    ``x-client`` names one. A plan that looks only at these decides the same however threads take turns.
    """

    operation: str
    bucket: str
    key: str
    range: str
    nth: int
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes

    @property
    def which(self) -> tuple[str, ...]:
        """Requests that are counted together: a request's number is among these."""
        return self.operation, self.bucket, self.key, self.range, self.headers.get("x-client", "")


@dataclass(frozen=True)
class Refuse:
    """An error is the answer: of a request that had no effect, or (``applied``) of one that had."""

    status: int
    code: str
    message: str = "injected"
    applied: bool = False


@dataclass(frozen=True)
class Drop:
    """The connection is closed and nothing answered, before or after (``applied``) the request had its effect."""

    applied: bool


@dataclass(frozen=True)
class Hang:
    """Nothing is answered for as long as the client waits."""

    applied: bool


@dataclass(frozen=True)
class Tear:
    """The body of the answer ends after so many bytes: by a close (over TLS without a close_notify) or a TCP reset."""

    after: int
    reset: bool = False


@dataclass(frozen=True)
class Flip:
    """A byte of the body is another, its place taken modulo the body's length."""

    at: int


@dataclass(frozen=True)
class Delay:
    """The answer comes so many seconds later."""

    seconds: float


@dataclass(frozen=True)
class Lag:
    """A listing is as it was so many writes ago. S3 does not do this; other stores with its interface do."""

    writes: int


Fault = Refuse | Drop | Hang | Tear | Flip | Delay | Lag

#: Decides what happens to a request; None: nothing. It is called under a lock, in the order in which requests arrive.
Plan = Callable[[Request], Fault | None]

#: https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html#ErrorCodeList
INTERNAL_ERROR = Refuse(500, "InternalError", "We encountered an internal error. Please try again.")
SLOW_DOWN = Refuse(503, "SlowDown", "Please reduce your request rate.")
ACCESS_DENIED = Refuse(403, "AccessDenied", "Access Denied")
#: https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
CONFLICT = Refuse(409, "ConditionalRequestConflict", "The conditional request cannot succeed due to a conflict.")
PRECONDITION_FAILED = Refuse(412, "PreconditionFailed", "At least one of the pre-conditions you specified did not hold")
#: https://docs.aws.amazon.com/kms/latest/developerguide/key-state.html
KMS_DISABLED = Refuse(400, "KMS.DisabledException", "arn:aws:kms:us-east-1:123456789012:key/1 is disabled.")
KMS_THROTTLED = Refuse(400, "ThrottlingException", "Rate exceeded")
