"""Readers that others write: an object with a name and a ``read``, or the entry point of an installed package."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
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
    """How a format is read that Silversmith does not know. Its options, if it has any, are best a frozen dataclass's.

    Attributes:
        name: what the format is called in the lineage, in ``trace`` and in errors: lower-case letters, digits, ``-``.
    """

    @property
    def name(self) -> str: ...

    def read(self, file: BinaryIO) -> Iterable[pl.DataFrame]:
        """The rows of a file, in frames that have all the same columns: at least one frame, of no rows if need be.

        Frames are taken one at a time, and what is too much for memory goes to disk: who yields a frame for every few
        megabytes reads files of any size.

        Args:
            file: the bytes from the beginning, unpacked where they were compressed. It can seek.

        Raises:
            DataError: the file is at fault. It goes to quarantine, with this error, and is not tried again. Whatever
                else is raised counts as a bug of the reader's, or of the system's: the file is tried again.
        """


def named(name: str) -> CustomReader:
    """The reader that an installed package offers under a name.

    Raises:
        DefinitionError: there is none, there are two, or what is there is none.
    """
    reader: CustomReader = load_plugin(GROUP, name, problem_of)
    return reader


def problem_of(value: object) -> str:
    """What keeps an object from being a custom reader, or nothing."""
    return plugin_problem(value, "read", "read(file), which yields Polars DataFrames")


def read(content: Content, reader: CustomReader) -> Table:
    """The rows of a file as a reader of the user's has them.

    Raises:
        DataError: the reader's word that the file is at fault; or its columns have names that none can have.
        TransformError: the reader failed, or gave what it must not.
    """
    with content.open() as file:
        frames = _checked(_frames(reader, file), reader)
        return table_of(frames, reader.name + content.packing, content.scratch, typed=True)


def _frames(reader: CustomReader, file: BinaryIO) -> Iterator[object]:
    """What the reader yields; what it raises is told as its own."""
    who = f"the reader {reader.name!r}"
    try:
        frames = reader.read(file)
        if isinstance(frames, pl.DataFrame | pl.LazyFrame) or not isinstance(frames, Iterable):
            raise TransformError(
                f"{who} returned {type(frames).__name__}; it must yield DataFrames: `yield frame` in place of `return`"
            )
        yield from frames
    except (DataError, TransformError):
        raise
    except BaseException as error:  # sys.exit() and Polars' panics are bugs of theirs, too
        if isinstance(error, GeneratorExit):
            raise
        raise TransformError(user_traceback(who, error)) from error


def _checked(frames: Iterator[object], reader: CustomReader) -> Iterator[pl.DataFrame]:
    first: dict[str, pl.DataType] | None = None
    for number, frame in enumerate(frames, 1):
        if not isinstance(frame, pl.DataFrame):
            raise TransformError(
                f"the reader {reader.name!r} yielded {type(frame).__name__}, as number {number}; it must yield "
                "DataFrames"
            )
        schema = dict(frame.schema)
        if first is None:
            first = schema
            _check_schema(schema, reader)
        elif schema != first:
            raise TransformError(
                f"the reader {reader.name!r} yielded frames of different columns: number {number} has "
                f"{_shown(schema)}, the first has {_shown(first)}. Give the frames a schema: "
                "pl.DataFrame(rows, schema={…})"
            )
        yield frame
    if first is None:
        raise TransformError(
            f"the reader {reader.name!r} yielded nothing. For a file without rows it must yield an empty frame that "
            "has the columns, pl.DataFrame(schema={…}); a file that should have rows is at fault: raise DataError"
        )


def _check_schema(schema: dict[str, pl.DataType], reader: CustomReader) -> None:
    checked_names(list(schema))
    objects = [name for name, kind in schema.items() if kind in (pl.Object, pl.Unknown)]
    if objects or not schema:
        what = f"a column of Python objects, {objects[0]!r}" if objects else "a frame without columns"
        raise TransformError(f"the reader {reader.name!r} yielded {what}, which no Parquet file can hold")


def _shown(schema: dict[str, pl.DataType]) -> str:
    shown = ", ".join(f"{name}: {kind}" for name, kind in list(schema.items())[:8])
    return "{" + shown + (", …}" if len(schema) > 8 else "}")
