"""Send many files at a rate, stop when too many of them fail, and know the place to go on from."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple, Protocol, TypeVar

from silversmith.errors import SilversmithError
from silversmith.lineage import error_key, failed_key, silver_key
from silversmith.operations import WrongCall
from silversmith.operations.target import Target
from silversmith.operations.text import count
from silversmith.pipeline import Transform
from silversmith.stores import Lake, map_in_threads

#: The share of files that may fail before the brake stops the sending; of files that failed before, more may.
MOST_FAILURES, MOST_FAILURES_AGAIN = 0.1, 0.5

#: The outcomes of so many files must be known before their share counts, and so many of the last ones count.
LEAST_KNOWN, LAST_KNOWN = 20, 200

#: So many files are watched at once, for so many seconds; then another one is.
WATCHED, WATCHED_FOR = 30, 120.0

#: Seconds from one look at the watched files to the next, and from one look at queues that are too full to the next.
LOOK_EVERY, WAIT_FOR_QUEUE = 5.0, 2.0

#: So many messages may wait in the queues, before and after enough outcomes are known. So what fails can still be
#: stopped; and functions are kept busy: Lambda runs up to 1,000 batches of a queue at once.
FIRST_AHEAD, MOST_AHEAD = 1_000, 10_000


class Place(NamedTuple):
    """A transform and a key: all keys of earlier transforms are done, and this one's up to the key."""

    transform: str
    key: str

    def __str__(self) -> str:
        return f"{self.transform}/{self.key}"

    @staticmethod
    def parse(text: str, transform: str | None = None) -> Place | None:
        """The place that a text says; None for an empty one.

        Raises:
            WrongCall: it is not a place, or not one in this ``transform``.
        """
        if not text:
            return None
        name, slash, key = text.partition("/")
        if not slash or not key:
            raise WrongCall(
                f"--after {text!r} is no place to go on from: write TRANSFORM/KEY, as the command printed it"
            )
        if transform not in {None, name}:
            raise WrongCall(f"--after {text!r} is a place in the transform {name}, and --transform names another one")
        return Place(name, key)


def from_place(transforms: Sequence[Transform], after: Place | None) -> Iterator[tuple[Transform, str]]:
    """The transforms from a place on, each with the key after which it begins; empty: at its first.

    Raises:
        WrongCall: none of them is the place's.
    """
    names = [transform.name for transform in transforms]
    if after is not None and after.transform not in names:
        raise WrongCall(
            f"--after {str(after)!r} is a place in the transform {after.transform}, which the pipeline has not"
        )
    start = names.index(after.transform) if after is not None else 0
    for transform in transforms[start:]:
        yield transform, after.key if after is not None and transform.name == after.transform else ""


class SentFile(NamedTuple):
    """A bronze object that was sent to a transform; an empty one: to all that match. ``size`` in bytes."""

    transform: str
    key: str
    size: int


class SentBatch(Protocol):
    """Some files that were sent. ``place``: all up to there is done; empty: as before."""

    @property
    def files(self) -> Sequence[SentFile]: ...
    @property
    def place(self) -> str: ...


def batch_of(rate: float | None, most: int) -> int:
    """So many files are sent at once: at most those of one second."""
    return most if rate is None else max(1, min(most, int(rate)))


class Limiter:
    """Keeps to a rate, in files a second; None: to none. In any ``t`` seconds at most ``rate * t`` files and one batch
    are sent.

    ``clock`` in seconds, only rising.
    """

    def __init__(
        self,
        rate: float | None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._rate = rate
        self._clock = clock
        self._sleep = sleep
        self._due = -math.inf

    def add(self, files: int) -> None:
        """So many files were sent."""
        if self._rate is not None:
            self._due = max(self._due, self._clock()) + files / self._rate

    def wait(self) -> None:
        """Wait until the next batch may be sent."""
        while (seconds := self._due - self._clock()) > 0:
            self._sleep(seconds)


class TooManyFailures(SilversmithError):
    """More of the files that were sent failed than ``--max-failures`` allows."""


class Watched(Protocol):
    """What a brake watches."""

    def outcome(self, file: SentFile, since: float) -> bool | None:
        """Whether a file became silver since a time (Unix seconds); False: it failed, None: it is not known."""

    def backlog(self) -> int:
        """About how many messages wait in the queues, or are being worked on."""


@dataclass(frozen=True)
class WatchedTarget:
    """The transforms' queues, and what silver and quarantine have of single files: three HEADs for each look at one."""

    target: Target

    def outcome(self, file: SentFile, since: float) -> bool | None:
        lake: Lake = self.target.lake
        whole = int(since)  # S3 dates to the second
        for bucket, key, outcome in (
            (lake.quarantine, error_key(file.transform, file.key), False),
            (lake.quarantine, failed_key(file.transform, file.key), False),
            (lake.silver, silver_key(file.transform, file.key), True),
        ):
            head = bucket.head(key)
            if head is not None and head.modified.timestamp() >= whole:
                return outcome
        return None

    def backlog(self) -> int:
        return sum(queues.queue.total for queues in self.target.queues())


class Brake:
    """Stops the sending when too many files fail, and keeps it from running far ahead of the functions.

    It looks at a sample of the files that were sent. One that the same code has made silver of already says nothing.

    Args:
        limit: the share of files that may fail, from 0 to 1.
        watched: where outcomes are seen.
        clock: Unix seconds.
        sleep: waits for so many seconds.
        tell: gets a note when the sending waits for the functions.
        workers: so many files are looked at side by side.
    """

    def __init__(
        self,
        limit: float,
        watched: Watched,
        *,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], object] = time.sleep,
        tell: Callable[[str], None] = lambda _: None,
        workers: int = 1,
    ) -> None:
        self._limit = limit
        self._watched = watched
        self._clock = clock
        self._sleep = sleep
        self._tell = tell
        self._workers = workers
        self._pending: deque[tuple[SentFile, float]] = deque()
        self._known: deque[bool] = deque(maxlen=LAST_KNOWN)
        self._looked_at = clock()
        self._since_backlog = 0
        self._has_told = False

    def add(self, files: Sequence[SentFile]) -> None:
        """These files were sent."""
        now = self._clock()
        room = WATCHED - len(self._pending)
        own = [file for file in files if file.transform]  # a rule's message goes to whichever transforms match
        if room > 0 and own:
            step = max(1, len(own) // room)
            self._pending += ((file, now) for file in islice(own[::step], room))
        self._since_backlog += len(files)

    def check(self) -> None:
        """Look, where it is time to. While too many messages wait for the functions, wait.

        Raises:
            TooManyFailures: more of the files failed than may.
        """
        while True:
            if self._clock() - self._looked_at >= LOOK_EVERY:
                self._look()
            if self._since_backlog < FIRST_AHEAD:
                return
            ahead = MOST_AHEAD if len(self._known) >= LEAST_KNOWN else FIRST_AHEAD
            backlog = self._watched.backlog()
            if backlog <= ahead:
                self._since_backlog = 0
                return
            if not self._has_told:
                self._tell(
                    f"{count(backlog, 'message')} wait for the functions: the next files are sent when fewer than "
                    f"{ahead:,} do, so that they can be stopped if these fail"
                )
                self._has_told = True
            self._sleep(WAIT_FOR_QUEUE)

    def _look(self) -> None:
        pending = list(self._pending)
        outcomes = map_in_threads(lambda each: self._watched.outcome(*each), pending, self._workers)
        left = deque[tuple[SentFile, float]]()
        for each, outcome in zip(pending, outcomes, strict=True):
            if outcome is not None:
                self._known.append(outcome)
            elif self._clock() - each[1] < WATCHED_FOR:
                left.append(each)
        self._pending = left
        self._looked_at = self._clock()
        failed = self._known.count(False)
        if len(self._known) >= LEAST_KNOWN and failed > self._limit * len(self._known):
            raise TooManyFailures(
                f"{failed:,} of the last {count(len(self._known), 'file')} whose outcome is known failed, more than "
                f"--max-failures {self._limit:g} allows: see `silversmith failures`"
            )


_Batch = TypeVar("_Batch", bound=SentBatch)


def paced(batches: Iterable[_Batch], limiter: Limiter, brake: Brake | None) -> Iterator[_Batch]:
    """The batches, each of which is sent when it is asked for; between them the limiter waits, and the brake looks.

    Raises:
        TooManyFailures: see :class:`Brake`. All batches before were returned.
    """
    for batch in batches:
        files = batch.files
        limiter.add(len(files))
        yield batch
        if brake is not None:
            brake.add(files)
            brake.check()
        limiter.wait()
