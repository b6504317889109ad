"""Silver under a transform's former name (``was=``) is taken over as it is, where it was made of the same bytes.

docs/decisions/0158-a-former-name.md
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from silversmith.formats.archives.content import Scratch
from silversmith.function.convert import Converted
from silversmith.function.task import Task
from silversmith.lineage import Lineage, rejected_key, silver_key
from silversmith.schemas import Document
from silversmith.schemas.recorded import Recorded
from silversmith.stores import Head, Store


def carried_over(task: Task, document: Document) -> Document:
    """The transform's schema document, or if it has no schema yet, that of its former name under its own."""
    if document.schemas or not task.transform.was:
        return document
    former = Recorded.read(task.lake.silver, task.transform.was).document
    return replace(document, schemas=former.schemas, history=former.history)


def taken_over(task: Task, bronze: Head, document: Document | None) -> Converted | None:
    """The silver object of the former name, to be committed under the new one; None: there is none of these bytes that
    may be taken.

    Args:
        task: whose silver is missing.
        bronze: the object that silver must be made of.
        document: see :func:`carried_over`; None: nobody records schemas.

    Raises:
        SourceChanged: the object changed while it was read.
    """
    was = task.transform.was
    head = task.lake.silver.head(silver_key(was, task.key)) if was else None
    lineage = Lineage.from_metadata(head.metadata) if head is not None else None
    if head is None or lineage is None or lineage.bronze_etag != bronze.etag or lineage.bronze_key != task.key:
        return None
    if lineage.committed_at < task.event.made_after or not task.is_ours(lineage.owner):
        return None
    if document is not None and lineage.schema:
        former = Recorded.read(task.lake.silver, was).document
        if document.history[: len(former.history)] != former.history:
            return None  # the number of its schema means another one here
    scratch = Scratch(task.scratch)
    silver = _copied(task.lake.silver, head.key, head.etag, scratch.file(".parquet"))
    rejected = None
    if lineage.rows_rejected:
        rejected = _copied(task.lake.quarantine, rejected_key(was, task.key), None, scratch.file(".rejected.parquet"))
        if rejected is None:
            return None
    if silver is None:
        return None
    return Converted(silver, rejected, lineage, scratches=(scratch,))


def _copied(store: Store, key: str, etag: str | None, path: Path) -> Path | None:
    """The whole object in a file; None: there is none, or another one by now."""
    with store.open(key) as source:
        if source is None or (etag is not None and source.head.etag != etag):
            return None
        if source.data is not None:
            path.write_bytes(source.data)
        elif source.path is not None:
            shutil.copyfile(source.path, path)
        store.verify(source)
    return path
