"""Ask a pipeline that runs somewhere, and act on it. Prints nothing: every answer is a dataclass.

Each operation works over :class:`~silversmith.stores.Store` and :class:`~silversmith.operations.target.Target`, so it
does not know whether the buckets are folders or S3.
"""

from __future__ import annotations

from silversmith.errors import SilversmithError


class WrongCall(SilversmithError):
    """The call must be changed, not the data. Exit code 2."""
