"""A large object as a file: its ranges fetched side by side, all of one version.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/optimizing-performance-guidelines.html
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, TypeVar

from botocore.exceptions import (
    ClientError,
    FlexibleChecksumError,
    IncompleteReadError,
    ReadTimeoutError,
    ResponseStreamingError,
)

from silversmith.errors import SourceChanged
from silversmith.stores import Head
from silversmith.stores.s3_errors import CONFLICT, MISSING, code

#: One request asks for so many bytes; so many are under way at once.
RANGE = 8 * 1024 * 1024
THREADS = 8

#: A body goes to the file in pieces of this size: what fetching takes in memory is THREADS of them.
_PIECE = 256 * 1024

#: How often a body is asked for again that broke off. The SDK retries requests, but not what it has begun to hand out.
TRIES = 4

_TORN = (IncompleteReadError, ReadTimeoutError, ResponseStreamingError, FlexibleChecksumError)

#: Asks for a range of the version: first byte, last byte → the response of GetObject.
Get = Callable[[int, int], Any]

_T = TypeVar("_T")


def persistent(attempt: Callable[[], _T]) -> _T:
    """What ``attempt`` returns, which gets a body and reads it; it is called anew when the body breaks off.

    Raises:
        Exception: what ``attempt`` raised the last time.
    """
    for _ in range(TRIES - 1):
        try:
            return attempt()
        except _TORN:
            continue
    return attempt()


def fetch(get: Get, head: Head, file: int, start: int) -> None:
    """Write the bytes from ``start`` to the end of an object into an open file, at their places.

    Raises:
        SourceChanged: the version that ``head`` tells of is not there any more.
        OSError: the disk is full.
    """
    pool = ThreadPoolExecutor(THREADS, thread_name_prefix="s3-range")
    try:
        ranges = [pool.submit(_range, get, head, file, first) for first in range(start, head.size, RANGE)]
        finished, _ = wait(ranges, return_when=FIRST_EXCEPTION)
        for each in finished:
            each.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _range(get: Get, head: Head, file: int, first: int) -> None:
    last = min(first + RANGE, head.size) - 1

    def attempt() -> None:
        at = first
        with get(first, last)["Body"] as body:
            while piece := body.read(_PIECE):
                os.pwrite(file, piece, at)
                at += len(piece)

    try:
        persistent(attempt)
    except ClientError as error:
        if code(error) in CONFLICT | MISSING | {"NoSuchVersion", "InvalidRange", "416"}:
            raise SourceChanged(f"{head.key} was replaced or deleted while it was read") from error
        raise


def check_room(scratch: Path, head: Head) -> None:
    """Raise ``OSError`` if an object is larger than what is free where it would go."""
    free = shutil.disk_usage(scratch).free
    if head.size > free:
        raise OSError(
            errno.ENOSPC,
            f"{head.key} has {head.size:,} bytes, and {scratch} has room for {free:,}: give the function more "
            "ephemeral storage, or the folder a larger disk",
        )
