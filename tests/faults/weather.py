"""Which fault a request meets: by a seed, and by nothing else than the request itself, however threads take turns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from tests.stand_in import Drop, Fault, Flip, Hang, Lag, Refuse, Request, Tear
from tests.stand_in.faults import (
    ACCESS_DENIED,
    CONFLICT,
    INTERNAL_ERROR,
    KMS_DISABLED,
    KMS_THROTTLED,
    PRECONDITION_FAILED,
    SLOW_DOWN,
)

#: The share of requests that meet a fault.
RATE = 0.12

#: What any request may meet, and how often compared with the others.
ANY: dict[Fault, float] = {
    INTERNAL_ERROR: 3,
    SLOW_DOWN: 3,
    Refuse(500, "InternalError", "it was done all the same", applied=True): 2,
    Drop(applied=False): 2,
    Drop(applied=True): 3,
    Hang(applied=False): 0.2,
    Hang(applied=True): 0.2,
    ACCESS_DENIED: 1,
    KMS_DISABLED: 1,
    KMS_THROTTLED: 1,
}

#: What only a conditional write may meet.
WRITE: dict[Fault, float] = {CONFLICT: 4, PRECONDITION_FAILED: 2}

#: A key, an endpoint or a role that is not to be had for hours.
OUTAGES = (KMS_DISABLED, ACCESS_DENIED, SLOW_DOWN, Refuse(503, "ServiceUnavailable"), Drop(applied=False))


@dataclass(frozen=True)
class Outage:
    """For a while, in seconds of the simulation, each request to some buckets meets the same fault."""

    begins: float
    ends: float
    fault: Fault
    buckets: frozenset[str]


class Weather:
    """A plan for the stand-in S3.

    Args:
        seed: decides everything.
        clock: the time of the simulation.
        buckets: of which some are out for some hours.
    """

    def __init__(self, seed: int, clock: Callable[[], float], buckets: list[str]) -> None:
        random = Random(f"outage {seed}")
        begins = random.uniform(0, 3600)
        out = frozenset(random.sample(buckets, random.randint(1, len(buckets))))
        self.outage = Outage(begins, begins + random.uniform(600, 6 * 3600), random.choice(OUTAGES), out)
        self.is_over = False
        self._seed = seed
        self._clock = clock

    def __call__(self, request: Request) -> Fault | None:
        if self.is_over:
            return None
        outage = self.outage
        if request.bucket in outage.buckets and outage.begins <= self._clock() < outage.ends:
            return outage.fault
        which = (self._seed, *request.which, request.nth)
        random = Random(repr(which))
        return _fault(random, request) if random.random() < RATE else None


def _fault(random: Random, request: Request) -> Fault:
    choices = dict(ANY)
    if request.headers.keys() & {"if-match", "if-none-match"} and request.operation != "GetObject":
        choices |= WRITE
    if request.operation == "GetObject":
        at = int(10 ** random.uniform(0, 7))
        # No TCP reset: it is chance whether the client still gets the headers.
        choices |= {Tear(at): 7, Flip(at): 4}
    if request.operation == "ListObjectsV2":
        choices |= {Lag(random.randrange(1, 50)): 5, Tear(random.randrange(500)): 2}
    return random.choices(list(choices), list(choices.values()))[0]
