"""Parquet: rows as they are; damage is the data's fault, wherever it shows."""

from __future__ import annotations

import io
import random
from collections.abc import Callable
from contextlib import suppress
from datetime import date
from pathlib import Path

import duckdb
import polars as pl
import pyarrow as pa
import pytest
from pyarrow import parquet as pq

from silversmith.errors import DataError, DefinitionError
from silversmith.formats import ROW, Parquet, Table, read, reading_errors
from silversmith.formats.archives.content import Content
from silversmith.formats.parquet import BESIDE, check_memory, read_footer
from silversmith.formats.writer import parquet_sink
from silversmith.stores import Source

Opener = Callable[..., Source]

FRAME = pl.DataFrame(
    {
        "id": range(2000),
        "*": [f"name {number}" for number in range(2000)],
        "day": [date(2013, 1, 1)] * 2000,
        "tags": [[{"k": number}] for number in range(2000)],
    }
)


def written(frame: pl.DataFrame, *, row_group_size: int | None = None) -> bytes:
    out = io.BytesIO()
    frame.write_parquet(out, row_group_size=row_group_size)
    return out.getvalue()


def test_rows_come_as_they_are_with_numbers(in_memory: Opener, in_file: Opener) -> None:
    for opened in (in_memory, in_file):
        table = read(opened(written(FRAME), "x.parquet"))
        frame = table.rows.collect()
        assert frame.drop(ROW).equals(FRAME)
        assert frame[ROW].to_list() == list(range(1, 2001))
        assert frame.schema[ROW] == pl.UInt64
        assert table.format == "parquet"
        assert table.height == table.records == 2000
        assert table.in_memory is (opened is in_memory)


@pytest.mark.parametrize(
    ("values", "match"), [("INTERVAL 1 DAY", '"i" has the type INTERVAL'), (None, "precision must be between 1 and 38")]
)
def test_types_that_are_not_read_are_not_called_damage(
    values: str | None, match: str, tmp_path: Path, in_memory: Opener
) -> None:
    path = tmp_path / "x.parquet"
    if values:
        duckdb.connect().execute(f"COPY (SELECT {values} AS i) TO '{path}'")
    else:
        pq.write_table(pa.table({"i": pa.array([1], pa.decimal256(50, 0))}), path)
    with pytest.raises(DataError, match=match) as caught:
        read(in_memory(path.read_bytes(), "x.parquet"))
    assert caught.value.code == "UnsupportedParquet"


def test_texts_that_mean_null(in_memory: Opener, in_file: Opener) -> None:
    frame = pl.DataFrame({"a": ["-", "x", None], "b": [["-"], [], None], "c": [1, 2, 3]})
    for opened in (in_memory, in_file):
        rows = read(opened(written(frame), "x.parquet"), Parquet(null_values=["-"])).rows.drop(ROW).collect()
        assert rows.equals(frame.with_columns(a=pl.Series([None, "x", None])))
    with pytest.raises(DefinitionError, match="null_values"):
        Parquet(null_values="-")


def test_few_bytes_that_stand_for_many_rows_are_not_unpacked_in_memory(in_memory: Opener) -> None:
    data = written(pl.DataFrame({"a": pl.repeat(1, 5_000_000, eager=True)}))
    assert len(data) < 100_000
    assert not read(in_memory(data, "x.parquet")).in_memory


def test_a_column_with_the_reserved_name(in_memory: Opener) -> None:
    with pytest.raises(DataError) as caught:
        read(in_memory(written(pl.DataFrame({ROW: [1]})), "x.parquet"))
    assert caught.value.code == "ReservedColumn"


@pytest.mark.parametrize("data", [b"", b"PAR1", b"PAR1" * 3, b"PAR1" + b"\xff" * 50 + b"PAR1", b"a,b\n1,2\n"])
def test_files_that_are_no_parquet(in_memory: Opener, in_file: Opener, data: bytes) -> None:
    for opened in (in_memory, in_file):
        with pytest.raises(DataError) as caught:
            read(opened(data, "x.parquet"))
        assert caught.value.code == ("UnreadableParquet" if data else "EmptyFile")


def collected(table: Table) -> pl.DataFrame:
    with reading_errors(table):
        return table.rows.collect(engine="streaming")


def test_no_damage_crashes_it(in_memory: Opener, in_file: Opener) -> None:
    chance = random.Random(2013)
    whole = written(FRAME)
    outcomes = set()
    for turn in range(150):
        data = bytearray(whole)
        for _ in range(chance.randint(1, 4)):
            start = 0 if turn % 2 else len(data) - 1000
            data[chance.randrange(start, len(data))] = chance.randrange(256)
        for opened in (in_memory, in_file):
            outcomes.add("refused")
            with suppress(DataError):
                collected(
                    read(opened(bytes(data[: chance.randrange(len(data))] if turn % 5 == 0 else data), "x.parquet"))
                )
                outcomes.add("read")
    assert outcomes == {"refused", "read"}


def damaged_within(whole: bytes) -> bytes:
    """A file whose footer is whole, and whose pages are not."""
    return whole[:4] + b"\xff" * 2000 + whole[2004:]


def test_late_damage_is_distinguished_from_the_users_mistakes(in_file: Opener) -> None:
    table = read(in_file(damaged_within(written(FRAME)), "x.parquet"))
    with pytest.raises(DataError) as caught:
        collected(table)
    assert caught.value.code == "UnreadableParquet"

    sound = read(in_file(written(FRAME), "x.parquet"))
    with pytest.raises(pl.exceptions.InvalidOperationError), reading_errors(sound):
        sound.rows.select(pl.col("day").cast(pl.Int8).cast(pl.List(pl.Int8)).list.eval(pl.element())).collect()


def test_a_row_group_that_no_function_of_this_size_holds_is_too_large() -> None:
    """A million equal numbers take some bytes of a file, and 8 MB of memory for each column."""
    wide = pl.DataFrame({f"c{place}": pl.repeat(place, 1_000_000, dtype=pl.Int64, eager=True) for place in range(4)})
    footer = read_footer(Content("x", written(wide, row_group_size=1_000_000), None))
    assert footer is not None
    assert footer.unpacked < 1_000_000
    assert footer.largest == 32_000_000
    check_memory(footer, BESIDE + 32_000_000)
    check_memory(footer, None)
    with pytest.raises(DataError, match="row group") as caught:
        check_memory(footer, BESIDE + 31_999_999)
    assert (caught.value.code, "memory=" in caught.value.hint) == ("TooLarge", True)


def test_rows_that_are_wide_are_written_few_at_a_time(in_file: Opener, tmp_path: Path) -> None:
    frame = pl.DataFrame({"s": ["x" * 20_000 + str(number) for number in range(4_000)]})
    table = read(in_file(written(frame, row_group_size=500), "x.parquet"))
    assert 18_000 < table.row_bytes < 22_000
    parquet_sink(table.rows, tmp_path / "wide.parquet", "{}", table.row_bytes).collect(engine="streaming")
    assert pq.ParquetFile(tmp_path / "wide.parquet").metadata.num_row_groups > 1
    parquet_sink(table.rows, tmp_path / "plain.parquet", "{}").collect(engine="streaming")
    assert pq.ParquetFile(tmp_path / "plain.parquet").metadata.num_row_groups == 1


@pytest.mark.parametrize("plaintext_footer", [False, True])
def test_encrypted_files_are_not_called_damaged(in_memory: Opener, in_file: Opener, plaintext_footer: bool) -> None:
    """The last bytes say so, or the eighth field of the metadata: here it is put into a footer that has none."""
    data = written(FRAME)
    length = int.from_bytes(data[-8:-4], "little")
    if plaintext_footer:
        inserted = b"\x0c\x10\x1c\x00\x00"  # field 8, a union whose first member is a struct
        data = data[:-9] + inserted + b"\x00" + (length + len(inserted)).to_bytes(4, "little") + b"PAR1"
    else:
        data = b"PARE" + data[4:-4] + b"PARE"
    for opened in (in_memory, in_file):
        with pytest.raises(DataError, match="encrypted") as caught:
            read(opened(data, "x.parquet"))
        assert caught.value.code == "UnsupportedParquet"
