"""How often a message that failed is tried again, and how soon: one budget for the user's code, one for the system.

docs/decisions/0107-two-budgets.md
"""

from __future__ import annotations

import zlib

from silversmith.errors import SystemFault

#: A queue lets a message be received so often more than the transform allows failures: with the waits below that takes
#: a day. So no outage of hours ends in the dead-letter queue.
SYSTEM_RECEIVES = 50

#: Seconds to wait after the first, second … fault of the system; after more of them as after the last.
SYSTEM_WAITS = (10, 60, 300, 900, 1800)

#: Up to this share of a wait is added to it, for each message another: else all that failed in an outage would come
#: back in the same second.
JITTER = 0.2

#: The longest wait after a failure of the user's code, in seconds.
LONGEST_USER_WAIT = 900


def is_system_fault(error: BaseException) -> bool:
    """Whether another try may succeed though nobody mends anything: S3, KMS, SQS, a disk, access rights, contention, a
    lookup that is not there yet. Everything else is charged to the user's code: what it raised, a bug of Silversmith's,
    memory that ran out, for each would be there at the next try, too.

    ``OSError`` is of the system because one that the user's code raises arrives as TransformError.
    """
    if isinstance(error, SystemFault | OSError):
        return True
    # By name, so that a worker of the local engine need not import botocore.
    return any(kind.__module__.partition(".")[0] == "botocore" for kind in type(error).__mro__)


def wait_for_system(receives: int, message_id: str) -> float:
    """Seconds until the next try of a message that the system failed at its n-th receive."""
    wait = SYSTEM_WAITS[min(receives, len(SYSTEM_WAITS)) - 1]
    spread = zlib.crc32(f"{receives} {message_id}".encode()) / 2**32
    return round(wait * (1 + JITTER * spread), 3)


def wait_for_user(tries: int) -> float:
    """Seconds until the next try of what the user's code failed for the n-th time: 1, 4, 16, 64 … up to 15 minutes.

    A worker that died waits as long: the local engine knows of it, AWS only by the visibility timeout.
    """
    return float(min(LONGEST_USER_WAIT, 4 ** (min(tries, 8) - 1)))


def queue_receives(max_receive_count: int) -> int:
    """A queue's ``maxReceiveCount``, by how often the transform may fail."""
    return max_receive_count + SYSTEM_RECEIVES


def transform_tries(queue_receives: int) -> int:
    """The inverse: how often the transform may fail, by its queue's ``maxReceiveCount``."""
    return max(1, queue_receives - SYSTEM_RECEIVES)
