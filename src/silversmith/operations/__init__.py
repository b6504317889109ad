"""What can be asked of a pipeline that runs somewhere, and done to it. Pure of printing: every answer is a dataclass.

Each operation works over :class:`~silversmith.stores.Store` and :class:`~silversmith.operations.target.Target`, so it
does not know whether the buckets are folders or S3.
"""

from __future__ import annotations

from silversmith.errors import SilversmithError


class WrongCall(SilversmithError):
    """What was asked cannot be done as it was asked: the call must be changed, not the data. Exit code 2."""
