"""Hostile names and bytes in bronze: a clear error in quarantine, memory under the limit, nothing outside the lake."""

from __future__ import annotations

import contextlib
import gzip
import os
import socket
import stat
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import orjson
import polars as pl
import pytest

if TYPE_CHECKING:
    from tests.engine.conftest import Bench

EVERYTHING = """
pipeline = Pipeline("hostile")

@pipeline.transform("*", memory=512, timeout=60, max_receive_count=2)
def rows(rows):
    return rows
"""

ALL_CSV = EVERYTHING.replace('"*", ', '"*", reader=Csv(), ')

#: A line of so many bytes. Set the variable to 2000000000 to see what two gigabytes do.
LONG = int(os.environ.get("SILVERSMITH_HOSTILE_BYTES", str(80_000_000)))


def _gzip_bomb(path: Path) -> None:
    with gzip.open(path, "wb", compresslevel=9) as file:
        for _ in range(LONG // 1_000_000 * 30):
            file.write(b"0" * 1_000_000)


def _zip_bomb(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a.csv", "w") as file:
        for _ in range(LONG // 1_000_000 * 4):
            file.write(b"0" * 1_000_000)


def _one_long_line(path: Path) -> None:
    with path.open("wb") as file:
        file.write(b"a,b\n")
        for _ in range(LONG // 1_000_000):
            file.write(b"x" * 1_000_000)


def _lying_parquet(path: Path) -> None:
    pl.DataFrame({"x": list(range(1000))}).write_parquet(path)
    data = bytearray(path.read_bytes())
    length = struct.unpack("<I", data[-8:-4])[0]
    for at in range(len(data) - 8 - length, len(data) - 8, 3):
        data[at] ^= 0x55
    path.write_bytes(data)


def _huge_footer(path: Path) -> None:
    path.write_bytes(b"PAR1" + b"\0" * 100 + struct.pack("<I", 0x7FFFFFFF) + b"PAR1")


FILES: dict[str, Callable[[Path], object]] = {
    "bomb.csv.gz": _gzip_bomb,
    "bomb.zip": _zip_bomb,
    "long.csv": _one_long_line,
    "deep.json": lambda path: path.write_text("[" * 100_000 + "]" * 100_000),
    "deep-objects.json": lambda path: path.write_text('{"a":' * 100_000 + "1" + "}" * 100_000),
    "lying.parquet": _lying_parquet,
    "huge-footer.parquet": _huge_footer,
    "empty.csv": lambda path: path.write_bytes(b""),
    "empty.json": lambda path: path.write_bytes(b""),
    "empty.parquet": lambda path: path.write_bytes(b""),
    "nul.csv": lambda path: path.write_bytes(b"a,b\n1,\0\n"),
    "noise.csv": lambda path: path.write_bytes(bytes(range(256)) * 100),
    "noise.ndjson": lambda path: path.write_bytes(b'{"a": 1}\n{"a": \xff}\n'),
    "broken.json.gz": lambda path: path.write_bytes(gzip.compress(b'[{"a": 1}]')[:-9]),
    "nothing-known.bin": lambda path: path.write_bytes(b"\x7fELF" + b"\0" * 64),
}


def test_every_one_is_quarantined_with_a_reason(bench: Bench) -> None:
    bench.define(EVERYTHING)
    for name, make in FILES.items():
        make(bench.bronze / name)
    bench.drop("good.csv", "x\n1\n")
    progress, failed = bench.run(workers=2)
    documents = {path.name: orjson.loads(path.read_bytes()) for path in bench.quarantine.rglob("*.error.json")}
    assert {name for name in FILES if f"{name}.error.json" not in documents} == set()
    assert (progress.retries, failed, progress.done) == (0, len(FILES), 1), "none of it was the system's fault"
    for document in documents.values():
        assert document["error"]["code"]
        assert document["error"]["message"]
        assert len(orjson.dumps(document)) < 10_000


HOSTILE_NAMES = [
    "two  blanks.csv",
    "ünïcödé-日本語-🎶.csv",
    "u\u0301 decomposed.csv",
    "ú composed.csv",
    "new\nline.csv",
    "tab\tand\x1b[31mred.csv",
    "<script>alert(1)</script>.csv",
    "[bold red]markup[/].csv",
    "'; drop table objects; --.csv",
    "%2e%2e%2fescape.csv",
    "a+b%20c.csv",
    "CASE.csv",
    "case.csv",
    "-rf.csv",
    "$(touch owned).csv",
    "\u202egnp.csv",
    "x" * 240 + ".csv",
    "/".join(["deep"] * 100) + "/file.csv",
    "a",
]


def test_hostile_names_are_names(bench: Bench) -> None:
    bench.define(ALL_CSV)
    for name in HOSTILE_NAMES:
        bench.drop(name, "x\n1\n")
    before = {path for path in bench.folder.iterdir() if path != bench.lake.path}
    progress, failed = bench.run(workers=2)
    assert (progress.done, failed) == (len(HOSTILE_NAMES), 0)
    silver = bench.lake.store("dl-silver-layer", foreign_writers=False)
    assert sorted(head.key for head in silver.list("rows/")) == sorted(f"rows/{name}.parquet" for name in HOSTILE_NAMES)
    for name in HOSTILE_NAMES:
        assert bench.lineage("rows", name).bronze_key == name
    assert {path for path in bench.folder.iterdir() if path != bench.lake.path} == before


@pytest.mark.parametrize(
    "name", ["../escape.csv", "a//b.csv", "a/./b.csv", "a\0b.csv", "/etc/passwd.csv", "日" * 341 + "x"]
)
def test_keys_that_no_file_can_have_pass_by_the_store(bench: Bench, name: str) -> None:
    bench.define(ALL_CSV)
    store = bench.lake.store("dl-bronze-layer", foreign_writers=True)
    store.put(name, b"x\n1\n")
    progress, failed = bench.run()
    assert (progress.done, failed) == (1, 0)
    assert bench.lineage("rows", name).bronze_key == name
    assert sorted(path.name for path in bench.folder.iterdir()) == ["lake", "pipeline.py"]


def test_a_file_and_a_folder_of_one_name(bench: Bench) -> None:
    """Both are keys on S3; a folder can hold but one of them as a file, so the other lives under an escaped name."""
    bench.define(ALL_CSV)
    store = bench.lake.store("dl-bronze-layer", foreign_writers=True)
    store.put("a", b"x\n1\n")
    store.put("a/b", b"x\n2\n")
    progress, failed = bench.run()
    assert (progress.done, failed) == (2, 0)
    assert (bench.lineage("rows", "a").rows_read, bench.lineage("rows", "a/b").rows_read) == (1, 1)


def test_links_pipes_and_devices_are_not_taken(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.define(ALL_CSV)
    secret = bench.folder / "secret.csv"
    secret.write_text("x\n42\n")
    (bench.bronze / "link.csv").symlink_to(secret)
    (bench.bronze / "folder").symlink_to(bench.folder)
    os.mkfifo(bench.bronze / "pipe.csv")
    with contextlib.suppress(PermissionError):  # only root may make devices
        os.mknod(bench.bronze / "zeros.csv", stat.S_IFCHR | 0o600, os.makedev(1, 5))
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as listener, monkeypatch.context() as inside:
        inside.chdir(bench.bronze)  # a socket's path may have 107 bytes, and temporary folders may lie deep
        listener.bind("socket.csv")
    os.link(secret, bench.bronze / "hard.csv")
    bench.drop("good.csv", "x\n1\n")
    progress, failed = bench.run()
    assert failed == 0
    assert sorted(path.name for path in bench.silver.rglob("*.parquet")) == ["good.csv.parquet", "hard.csv.parquet"]
    assert progress.found == 2, "a hard link is a file like any other"
