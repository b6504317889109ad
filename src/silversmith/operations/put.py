"""Puts files in bronze: which file becomes which key, and the putting itself."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from silversmith.operations import WrongCall
from silversmith.pipeline import Pipeline
from silversmith.stores import IN_MEMORY, Store
from silversmith.stores.keys import InvalidKey, check, printable


@dataclass(frozen=True)
class Upload:
    """A file, and the key that it shall have in bronze."""

    path: Path
    key: str


@dataclass(frozen=True)
class Put:
    """A file that is in bronze. ``size`` in bytes; ``transforms`` are the names of those that will take it,
    ``lookup_of`` of those that read it beside their files."""

    key: str
    size: int
    etag: str
    transforms: Sequence[str]
    lookup_of: Sequence[str] = ()

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


def plan(paths: Sequence[Path], *, key: str | None = None, prefix: str = "") -> list[Upload]:
    """Which file becomes which key. Looks at names only; nothing is put yet.

    Args:
        paths: files, and folders, of which every file below counts (links to folders are not followed).
        key: the key of the one file that is named.
        prefix: goes before every key, with one ``/`` between.

    Raises:
        WrongCall: a path is neither file nor folder, a key cannot be one, or two files would have the same.
    """
    if key is not None:
        return [_checked(Upload(_only_file(paths), key))]
    uploads = [_checked(Upload(path, _prefixed(prefix, name))) for path, name in files_of(paths)]
    seen: dict[str, Path] = {}
    for upload in uploads:
        other = seen.setdefault(upload.key, upload.path)
        if other is not upload.path:
            raise WrongCall(
                f"{printable(str(other))} and {printable(str(upload.path))} would both have the key {upload.key}, and "
                "the second would replace the first. Put them one by one, with --prefix or --key."
            )
    return uploads


def _only_file(paths: Sequence[Path]) -> Path:
    if len(paths) != 1:
        raise WrongCall(f"--key names the key of one file, but there are {len(paths)} files; use --prefix instead")
    if paths[0].is_dir():
        raise WrongCall(
            f"--key names the key of one file, but {printable(str(paths[0]))} is a folder; use --prefix instead"
        )
    _require_file(paths[0])
    return paths[0]


def files_of(paths: Sequence[Path]) -> Iterator[tuple[Path, str]]:
    """Every file with the key that its name gives it: below a folder that is its path from there.

    Raises:
        WrongCall: a path is neither file nor folder.
    """
    for path in paths:
        if not path.is_dir():
            _require_file(path)
            yield path, path.name
            continue
        for folder, folders, names in os.walk(path):
            folders.sort()
            for name in sorted(names):
                file = Path(folder, name)
                if file.is_file():  # not a pipe, a socket, or a link to nowhere
                    yield file, file.relative_to(path).as_posix()


def _require_file(path: Path) -> None:
    if path.is_file():
        return
    what = "is neither a file nor a folder" if path.exists() else "does not exist"
    raise WrongCall(f"{printable(str(path))} {what}")


def _prefixed(prefix: str, name: str) -> str:
    return f"{prefix.removesuffix('/')}/{name}" if prefix else name


def _checked(upload: Upload) -> Upload:
    try:
        check(upload.key)
    except InvalidKey as error:
        raise WrongCall(f"{printable(str(upload.path))} cannot be put: {error}") from None
    return upload


def put(uploads: Sequence[Upload], pipeline: Pipeline, bronze: Store, *, scratch: Path | None) -> Iterator[Put]:
    """Put them, one after the other. Each is durable when it is returned.

    Args:
        uploads: see :func:`plan`.
        pipeline: whose transforms may take them.
        bronze: the bucket.
        scratch: a folder for copies of large files, on the bucket's file system, where the bucket is a folder too,
            which takes the files that it is given; None: it leaves them.
    """
    for upload in uploads:
        size, etag = _put(upload, bronze, scratch)
        takers = [transform.name for transform in pipeline.matching(upload.key)]
        readers = [transform.name for transform in pipeline.transforms if upload.key in transform.lookups]
        yield Put(upload.key, size, etag, takers, readers)


def put_own(path: Path, key: str, pipeline: Pipeline, bronze: Store) -> Put:
    """Put one file that nobody else needs: the store may move it. Durable when it returns.

    Raises:
        InvalidKey: the key can be none.
    """
    size = path.stat().st_size
    etag = bronze.put(key, path.read_bytes() if size <= IN_MEMORY else path)
    return Put(key, size, etag, [transform.name for transform in pipeline.matching(key)])


def _put(upload: Upload, bronze: Store, scratch: Path | None) -> tuple[int, str]:
    """A store may move a file that it is given, and this one is the user's: so it gets a copy."""
    size = upload.path.stat().st_size
    if size <= IN_MEMORY:
        data = upload.path.read_bytes()
        return len(data), bronze.put(upload.key, data)
    if scratch is None:
        return size, bronze.put(upload.key, upload.path)
    with tempfile.TemporaryDirectory(dir=scratch, prefix="put-") as folder:
        copy = Path(folder, "body")
        shutil.copyfile(upload.path, copy)
        return copy.stat().st_size, bronze.put(upload.key, copy)
