"""What Silversmith logs while a command runs, told as the command tells everything else: escaped, to stderr."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from silversmith.cli.screen import warn


class _Told(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        warn(record.getMessage())


@contextmanager
def told() -> Iterator[None]:
    """While the block lasts, warnings of the logger ``silversmith`` go to stderr, and nowhere else."""
    logger = logging.getLogger("silversmith")
    handler, before = _Told(logging.WARNING), logger.propagate
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = before
