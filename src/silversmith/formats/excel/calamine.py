"""Workbooks of .xls, .xlsb and .ods, read by calamine in a process of its own, which has a limit of memory.

docs/decisions/0114-workbooks-by-calamine.md
"""

from __future__ import annotations

import io
import json
import os
import pickle
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import polars as pl

from silversmith.errors import DataError
from silversmith.formats.archives.content import Content
from silversmith.formats.excel import calamine_process, opendocument
from silversmith.formats.excel.sheets import CELLS, CellKind, SheetInfo, encrypted, unreadable
from silversmith.formats.table import function_memory

#: Memory for the process where no function's memory is known, in bytes, and the least that it gets.
MEMORY = 1024 * 1024 * 1024
LEAST_MEMORY = 192 * 1024 * 1024

#: A reply may have so many bytes; it ends after far fewer.
_MOST_REPLY = 256 * 1024 * 1024


class Workbook:
    """The worksheets of a workbook; ``close`` ends its process.

    Args:
        content: the file.
        kind: ``xls``, ``xlsb`` or ``ods``.
        memory: for the process, in bytes; None: what is left of the function's.

    Raises:
        DataError: ``UnreadableExcel``, ``TooLarge``.
    """

    def __init__(self, content: Content, kind: str, memory: int | None = None) -> None:
        path = opendocument.prepare(content, kind)
        self._memory = memory or memory_left()
        self._complaints: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 -- closed by close()
        self.process = subprocess.Popen(  # noqa: S603 -- our own script
            [sys.executable, "-I", "-S", calamine_process.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._complaints,
        )
        try:
            request = {"path": str(path), "kind": kind, "modules": sys.path, "memory": self._memory}
            sheets = self._ask(request)
        except BaseException:
            self.close()
            raise
        self._indexes = [index for index, _, _ in sheets]
        self.sheets = [SheetInfo(name, visible) for _, name, visible in sheets]

    def cells(self, index: int) -> Iterator[pl.DataFrame]:
        """The cells of a sheet, some rows at a time.

        Raises:
            DataError: ``UnreadableExcel``, ``TooLarge``.
        """
        number = 0
        while chunk := self._ask({"sheet": self._indexes[index], "chunk": number}):
            yield _cells_of(chunk)
            number += 1

    def close(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.communicate()
        self._complaints.close()

    def _ask(self, request: dict[str, Any]) -> Any:
        process = self.process
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.flush()
        except BrokenPipeError:
            raise self._death() from None
        head = process.stdout.read(8)
        length = int.from_bytes(head, "little")
        if length > _MOST_REPLY:
            raise self._too_large()
        reply = process.stdout.read(length)
        if len(head) < 8 or len(reply) < length:
            raise self._death()
        answer = _ListsOnly(io.BytesIO(reply)).load()
        if isinstance(answer, str):
            raise self._error(*answer.partition(":")[::2])
        return answer

    def _error(self, kind: str, why: str) -> Exception:
        if kind == "broken":
            return RuntimeError(f"a package of Silversmith cannot be imported: {why}")
        if kind == "encrypted":
            return encrypted()
        return self._too_large() if kind == "memory" else unreadable(why)

    def _death(self) -> Exception:
        """The process ended by itself: its allocator aborts where there is no memory left."""
        code = self.process.wait()
        self._complaints.seek(0)
        if code == -signal.SIGKILL or b"memory allocation" in self._complaints.read(65_536):
            return self._too_large()
        return unreadable("it takes too long" if code == -signal.SIGXCPU else "a part of it is damaged")

    def _too_large(self) -> DataError:
        return DataError(
            "TooLarge",
            f"the workbook takes more than {self._memory // 1024 // 1024:,} MB of memory to read",
            hint="save it as CSV, or give the transform more memory: memory=…",
        )


def _cells_of(chunk: dict[str, Any]) -> pl.DataFrame:
    """A chunk of the process as a frame of cells, with the cells that are not empty."""
    errors = [(row, column, CellKind.TEXT, None, text) for row, column, text in chunk["errors"]]
    frames = [pl.DataFrame(errors, schema=CELLS, orient="row")]
    if chunk["rows"]:
        rows, kinds = pl.Series(chunk["rows"], dtype=pl.UInt32), pl.Series(chunk["kinds"], dtype=pl.UInt8)
        width = kinds.len() // rows.len()
        columns = pl.int_range(chunk["left"], chunk["left"] + width, dtype=pl.UInt16, eager=True)
        nothing = pl.Series([None], dtype=pl.String).new_from_index(0, kinds.len())
        cells = {
            "row": rows.gather(pl.int_range(kinds.len(), dtype=pl.UInt32, eager=True) // width),
            "column": pl.concat([columns] * rows.len()),
            "kind": kinds,
            "number": pl.Series(chunk["numbers"], dtype=pl.Float64),
            "text": nothing.scatter((kinds == CellKind.TEXT).arg_true(), chunk["texts"]),
        }
        frames.append(pl.DataFrame(cells).filter((pl.col("text") != "").fill_null(True)))
    return pl.concat(frames)


class _ListsOnly(pickle.Unpickler):
    """Reads numbers, texts and lists of them, and refuses everything else."""

    def find_class(self, _module: str, _name: str) -> Any:
        raise unreadable("a part of it is damaged")


def memory_left() -> int:
    """Memory of this function that is not in use, in bytes; where there is no function, :data:`MEMORY`."""
    whole = function_memory()
    if whole is None:
        return MEMORY
    used = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return max(LEAST_MEMORY, whole - used)
