"""A file that was dropped on the page: put in bronze, whole and durably, as ``silversmith put`` does."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from silversmith.operations.put import put_own
from silversmith.page.desk import Desk
from silversmith.stores.keys import InvalidKey, check

#: So much of a file is in memory at a time, in bytes.
PIECE = 1024 * 1024

#: So much room stays on the disk, in bytes.
SPARE = 256 * 1024 * 1024


async def upload(request: Request) -> Response:
    """``POST /upload?key=``, the file as the body. Answers as ``put --json`` does, or with an ``error``."""
    desk = Desk.of(request)
    desk.require(request.headers.get("x-csrf-token", ""))
    key = request.query_params.get("key", "")
    try:
        check(key)
        length = request.headers.get("content-length", "")
        size = int(length) if length.isascii() and length.isdigit() else None
        with desk.place.scratch() as folder:
            path = folder / "body"
            received = await receive(request.stream(), path, room(folder))
            if size is not None and received != size:
                return JSONResponse({"error": "the upload broke off"}, 400)
            found = await desk.ask(
                lambda pipeline, target: put_own(path, key, pipeline, target.lake.bronze), writable=False
            )
    except InvalidKey as error:
        return JSONResponse({"error": str(error)}, 400)
    except ClientDisconnect:
        return JSONResponse({"error": "the upload broke off"}, 400)
    except HTTPException as error:
        return JSONResponse({"error": error.detail}, error.status_code)
    return JSONResponse(found.to_dict())


def room(folder: Path) -> int:
    """How many bytes may still be written there."""
    return max(0, shutil.disk_usage(folder).free - SPARE)


async def receive(stream: AsyncIterator[bytes], path: Path, most: int) -> int:
    """Write what comes to a file, piece by piece. Returns how many bytes that were.

    Raises:
        HTTPException: 507: there are more than ``most``.
    """
    size, pending = 0, bytearray()
    with path.open("wb") as file:
        async for piece in stream:
            size += len(piece)
            if size > most:
                raise HTTPException(507, "there is no room on the disk for this file")
            pending += piece
            if len(pending) >= PIECE:
                await run_in_threadpool(file.write, pending)
                pending = bytearray()
        file.write(pending)
    return size
