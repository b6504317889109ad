"""Ask a pipeline that runs somewhere, and act on it. Prints nothing: every answer is a dataclass.

Each operation works over :class:`~silversmith.stores.Store` and :class:`~silversmith.operations.target.Target`, so it
does not know whether the buckets are folders or S3.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any, cast

from silversmith.errors import SilversmithError


class Record:
    """A dataclass with a form in JSON."""

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(cast(Any, self))


class WrongCall(SilversmithError):
    """The call must be changed, not the data. Exit code 2."""


@contextmanager
def tables_installed() -> Iterator[None]:
    """Import the packages of tables, which do not come with Silversmith itself.

    Raises:
        WrongCall: they are not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in {"arro3", "deltalake", "sqlglot"}:
            raise
        raise WrongCall(
            f"tables need {error.name}, which is not installed: pip install 'silversmith[tables]'"
        ) from None
