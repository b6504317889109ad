"""Readers of users: an object with a name and a ``read``, or the entry point of an installed package."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import BinaryIO, Protocol, runtime_checkable

import polars as pl

from silversmith.errors import DataError, TransformError
from silversmith.formats.archives.content import Content
from silversmith.formats.spill import table_of
from silversmith.formats.table import Table, checked_names
from silversmith.usercode.loading import load_plugin, plugin_problem, user_traceback

#: The group of entry points under which packages offer readers.
GROUP = "silversmith.readers"


@runtime_checkable
class CustomReader(Protocol):
    """How to read a format that Silversmith does not know. A frozen dataclass serves best, if it has options.

    Attributes:
        name: the name of the format in the lineage, in ``trace`` and in errors: lower-case letters, digits, ``-``.
    """

    @property
    def name(self) -> str: ...

    def read(self, file: BinaryIO) -> Iterable[pl.DataFrame]:
        """The rows of a file, in frames that have all the same columns: at least one frame, of no rows if need be.

        Frames are read one at a time, and spill to disk if they are too many for memory: a reader that yields a frame
        for every few megabytes reads files of any size.

        Args:
            file: the bytes from the beginning, unpacked if they were compressed. It can seek.

        Raises:
            DataError: the file is at fault. It goes to quarantine, with this error, and is not tried again. Any other
                exception counts as a bug of the reader, or a fault of the system: the file is tried again.
        """


def named(name: str) -> CustomReader:
    """The reader that an installed package offers under a name.

    Raises:
        DefinitionError: there is none, there are two, or the object is no reader.
    """
    reader: CustomReader = load_plugin(GROUP, name, problem_of)
    return reader


def problem_of(value: object) -> str:
    """Why an object is no custom reader; empty if it is one."""
    return plugin_problem(value, "read", "read(file), which yields Polars DataFrames")


def read(content: Content, reader: CustomReader) -> Table:
    """The rows of a file as a reader of the user's yields them.

    Raises:
        DataError: the reader says that the file is at fault; or columns have impossible names.
        TransformError: the reader failed, or yielded anything but frames of the same columns.
    """
    with content.open() as file:
        frames = _checked(_frames(reader, file), f"the reader {reader.name!r}")
        return table_of(frames, reader.name + content.packing, content.scratch, typed=True)


def _frames(reader: CustomReader, file: BinaryIO) -> Iterator[object]:
    """The objects that the reader yields; its exceptions become TransformError."""
    label = f"the reader {reader.name!r}"
    try:
        frames = reader.read(file)
        if isinstance(frames, pl.DataFrame | pl.LazyFrame) or not isinstance(frames, Iterable):
            raise TransformError(
                f"{label} returned {type(frames).__name__}; it must yield DataFrames: `yield frame` in place of "
                "`return`"
            )
        yield from frames
    except (DataError, TransformError, GeneratorExit):
        raise
    except BaseException as error:  # sys.exit() and Polars' panics are bugs of the reader, too
        raise TransformError(user_traceback(label, error)) from error


def _checked(frames: Iterator[object], label: str) -> Iterator[pl.DataFrame]:
    first: pl.Schema | None = None
    for number, frame in enumerate(frames, 1):
        if not isinstance(frame, pl.DataFrame):
            raise TransformError(
                f"{label} yielded {type(frame).__name__}, as number {number}; it must yield DataFrames"
            )
        if first is None:
            first = frame.schema
            _check_schema(first, label)
        elif frame.schema != first:
            raise TransformError(
                f"{label} yielded frames of different columns: number {number} has {_shown(frame.schema)}, the first "
                f"has {_shown(first)}. Give the frames a schema: pl.DataFrame(rows, schema={{…}})"
            )
        yield frame
    if first is None:
        raise TransformError(
            f"{label} yielded nothing. For a file without rows it must yield an empty frame that has the columns, "
            "pl.DataFrame(schema={…}); a file that should have rows is at fault: raise DataError"
        )


def _check_schema(schema: Mapping[str, pl.DataType], label: str) -> None:
    checked_names(list(schema))
    objects = [name for name, dtype in schema.items() if dtype in (pl.Object, pl.Unknown)]
    if objects or not schema:
        fault = f"a column of Python objects, {objects[0]!r}" if objects else "a frame without columns"
        raise TransformError(f"{label} yielded {fault}, which no Parquet file can hold")


def _shown(schema: Mapping[str, pl.DataType]) -> str:
    shown = ", ".join(f"{name}: {dtype}" for name, dtype in list(schema.items())[:8])
    return "{" + shown + (", …}" if len(schema) > 8 else "}")
