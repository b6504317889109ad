"""Files that a browser puts in bronze, and how that is undone.

What an upload replaces is kept until the page ends, so that undoing it puts the very same bytes back.
"""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from silversmith.errors import PreconditionFailed
from silversmith.lineage import Lineage, error_key, failed_key, rejected_key, silver_key
from silversmith.operations.failures import failed_tries, read_error
from silversmith.operations.send import PutResult, put_own
from silversmith.operations.target import Target
from silversmith.operations.versions import UNDO_FOLDER, undo_name
from silversmith.page.context import ViewContext, natural
from silversmith.pipeline import Pipeline
from silversmith.stores import Store
from silversmith.stores.keys import InvalidKey, check

#: So many bytes of an upload are in memory at a time.
UPLOAD_CHUNK = 1024 * 1024

#: So many bytes of the disk stay free.
SPARE = 256 * 1024 * 1024


#: So many uploads can be undone, the newest; and what they replaced is kept up to so many bytes, in all.
MOST_UNDONE = 100
MOST_KEPT = 1024 * 1024 * 1024


@dataclass(frozen=True)
class Undo:
    """How one upload is undone: the bytes that it put, by their ETag, and what they replaced. ``replaced`` None: there
    was no such object. ``modified``: when bronze had them; the same bytes that somebody put later are not ours."""

    key: str
    etag: str
    replaced: Path | None
    modified: datetime | None = None


class Undos:
    """The newest uploads, by a number, and what they replaced, in a temporary folder that goes with the page."""

    def __init__(self) -> None:
        self._undos: OrderedDict[int, Undo] = OrderedDict()
        self._folder: Path | None = None
        self._numbers = count(1)

    def keep(self, bronze: Store, key: str) -> tuple[Path | None, bool]:
        """Keep what an upload of this key is about to replace. Returns where it is, and whether it can be put back."""
        with bronze.open(key) as source:
            if source is None:
                return None, True
            copies = [undo.replaced for undo in self._undos.values() if undo.replaced is not None]
            kept = sum(copy.stat().st_size for copy in copies if copy.is_file())  # `silversmith erase` takes some
            if kept + source.head.size > MOST_KEPT:
                return None, False
            if self._folder is None:
                self._folder = Path(tempfile.mkdtemp(prefix=UNDO_FOLDER))
                weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
            path = self._folder / undo_name(key, next(self._numbers))
            if source.data is not None:
                path.write_bytes(source.data)
            elif source.path is not None:
                shutil.copyfile(source.path, path)
            bronze.verify(source)
            return path, True

    def add(self, undo: Undo) -> int:
        """Remember how an upload is undone. Returns its number."""
        number = next(self._numbers)
        self._undos[number] = undo
        while len(self._undos) > MOST_UNDONE:
            _forget(self._undos.popitem(last=False)[1])
        return number

    def take(self, number: int) -> Undo | None:
        return self._undos.pop(number, None)


def _forget(undo: Undo) -> None:
    if undo.replaced is not None:
        undo.replaced.unlink(missing_ok=True)


async def upload(request: Request) -> Response:
    """``POST /upload?key=``, the file as the body. Answers as ``put --json`` does, with ``replaced`` and ``undo``, the
    number for :func:`undo` (None: there is no undoing it); or with an ``error``."""
    context = ViewContext.of(request)
    context.require(request.headers.get("x-csrf-token", ""))
    key, undos = request.query_params.get("key", ""), request.app.state.undos
    try:
        check(key)
        size = natural(request.headers.get("content-length", ""))
        with context.backend.scratch() as folder:
            path = Path(folder) / "body"
            received = await receive(request.stream(), path, room(path.parent))
            if size is not None and received != size:
                return JSONResponse({"error": "the upload broke off"}, 400)
            result, replaced, number = await context.ask(
                lambda pipeline, target: _put(path, key, pipeline, target, undos)
            )
    except InvalidKey as error:
        return JSONResponse({"error": str(error)}, 400)
    except ClientDisconnect:
        return JSONResponse({"error": "the upload broke off"}, 400)
    except HTTPException as error:
        return JSONResponse({"error": error.detail}, error.status_code)
    return JSONResponse({**result.to_dict(), "replaced": replaced, "undo": number})


def _put(path: Path, key: str, pipeline: Pipeline, target: Target, undos: Undos) -> tuple[PutResult, bool, int | None]:
    bronze = target.lake.bronze
    for last in (False, False, True):
        before = bronze.head(key)
        replaced, can_undo = undos.keep(bronze, key) if before is not None else (None, True)
        try:  # over what was kept, or over nothing: else an undo would lose what somebody put meanwhile
            condition = {"if_match": before.etag} if before is not None else {"if_none_match": True}
            result = put_own(path, key, pipeline, bronze, **condition)
            break
        except PreconditionFailed:
            if replaced is not None:
                replaced.unlink(missing_ok=True)
            if last:
                raise
    after = bronze.head(key)
    if not can_undo or after is None or after.etag != result.etag:  # too large, or somebody was here already
        return result, before is not None, None
    return result, before is not None, undos.add(Undo(key, result.etag, replaced, after.modified))


async def undo(request: Request) -> Response:
    """``POST /undo?number=``: undo an upload. Answers with what was done, or with an ``error``."""
    context = ViewContext.of(request)
    context.require(request.headers.get("x-csrf-token", ""))
    number = natural(request.query_params.get("number", ""))
    chosen = None if number is None else request.app.state.undos.take(number)
    if chosen is None:
        return JSONResponse({"error": "this upload is too old to be undone"}, 404)
    if chosen.replaced is not None and not chosen.replaced.is_file():
        return JSONResponse({"error": f"what this upload of {chosen.key} replaced was erased"}, 404)
    try:
        await context.ask(lambda pipeline, target: _take_back(chosen, pipeline, target), writable=True)
    except PreconditionFailed:
        return JSONResponse({"error": f"{chosen.key} has changed since, and was left as it is"}, 409)
    finally:
        _forget(chosen)
    return JSONResponse({"key": chosen.key, "restored": chosen.replaced is not None})


def _take_back(chosen: Undo, pipeline: Pipeline, target: Target) -> None:
    """Put back what the upload replaced; its event makes silver as it was. Or remove the object, and what was made of
    it: last silver, because ``reconcile`` finds by it what is left.

    Raises:
        PreconditionFailed: bronze has other bytes by now.
    """
    bronze = target.lake.bronze
    now = bronze.head(chosen.key)
    if now is None or now.modified != chosen.modified:
        raise PreconditionFailed(f"{chosen.key} was put again")
    if chosen.replaced is not None:
        bronze.put(chosen.key, chosen.replaced, if_match=chosen.etag)
        return
    bronze.delete(chosen.key, if_match=chosen.etag)
    for transform in pipeline.matching(chosen.key):
        for store, key in _made(chosen, transform.name, target):
            head = store.head(key)
            if head is not None:
                with suppress(PreconditionFailed):  # another version was made meanwhile
                    store.delete(key, if_match=head.etag)
        if pipeline.tables.of_transform(transform.name) and target.running():
            target.send_to_tables([silver_key(transform.name, chosen.key)], reason="replay")


def _made(chosen: Undo, transform: str, target: Target) -> Iterator[tuple[Store, str]]:
    """The result of these bytes in a transform."""
    lake = target.lake
    document = read_error(lake.quarantine, error_key(transform, chosen.key))
    if document is not None and document.etag == chosen.etag:
        yield lake.quarantine, document.document
    tries = failed_tries(lake.quarantine, transform, chosen.key)
    if tries is not None and tries["bronze"]["etag"] == chosen.etag:
        yield lake.quarantine, failed_key(transform, chosen.key)
    for store, key in (
        (lake.quarantine, rejected_key(transform, chosen.key)),
        (lake.silver, silver_key(transform, chosen.key)),
    ):
        head = store.head(key)
        lineage = Lineage.from_metadata(head.metadata) if head is not None else None
        if lineage is not None and (lineage.bronze_key, lineage.bronze_etag) == (chosen.key, chosen.etag):
            yield store, key


def room(folder: Path) -> int:
    return max(0, shutil.disk_usage(folder).free - SPARE)


async def receive(stream: AsyncIterator[bytes], path: Path, most: int) -> int:
    """Write a stream to a file, piece by piece. Returns its size in bytes.

    Raises:
        HTTPException: 507: it has more than ``most`` bytes.
    """
    size, pending = 0, bytearray()
    with path.open("wb") as file:
        async for piece in stream:
            size += len(piece)
            if size > most:
                raise HTTPException(507, "there is no room on the disk for this file")
            pending += piece
            if len(pending) >= UPLOAD_CHUNK:
                await run_in_threadpool(file.write, pending)
                pending = bytearray()
        file.write(pending)
    return size
