"""Arrow: file and stream, and no length that a file tells is believed."""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import suppress
from datetime import date
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from silversmith.errors import DataError
from silversmith.formats import ROW, Arrow, arrow, read
from silversmith.formats.archives.content import Content
from silversmith.stores import Source
from tests.examples import examples

Opener = Callable[..., Source]

FRAME = pl.DataFrame(
    {
        "a": [1, 2, None],
        "text": ["x", None, "a text of more than twelve bytes"],
        "day": [date(2026, 1, 2)] * 3,
        "list": [[1], None, []],
        "struct": [{"x": 1, "y": "q"}] * 3,
        "category": pl.Series(["u", "v", "u"], dtype=pl.Categorical),
        "flag": [True, None, False],
    }
)
COMPRESSIONS: tuple[Any, ...] = ("uncompressed", "lz4", "zstd")


def filed(frame: pl.DataFrame = FRAME, compression: Any = "uncompressed") -> bytes:
    buffer = io.BytesIO()
    frame.write_ipc(buffer, compression=compression)
    return buffer.getvalue()


def streamed(frame: pl.DataFrame = FRAME, compression: Any = "uncompressed") -> bytes:
    buffer = io.BytesIO()
    frame.write_ipc_stream(buffer, compression=compression)
    return buffer.getvalue()


def refused(data: bytes, opened: Opener, key: str = "x.arrow") -> DataError:
    with pytest.raises(DataError) as caught:
        table = read(opened(data, key))
        table.rows.collect()
    assert caught.value.hint
    return caught.value


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("write", [filed, streamed])
def test_it_comes_back(in_memory: Opener, in_file: Opener, write: Callable[..., bytes], compression: str) -> None:
    data = write(FRAME, compression)
    for opened in (in_memory, in_file):
        for key in ("x.arrow", "x.arrows", "x.feather", "x"):
            table = read(opened(data, key))
            assert table.format == ("arrow" if write is filed else "arrow-stream")
            assert table.height == 3
            assert table.rows.drop(ROW).collect().equals(FRAME)
            assert table.rows.collect()[ROW].to_list() == [1, 2, 3]


def test_many_batches_at_a_time_and_few(in_file: Opener) -> None:
    frames = [FRAME.with_columns(a=pl.lit(number)) for number in range(300)]
    whole = pl.concat(frames, rechunk=False)
    data = streamed(whole)
    content = in_file(data, "x")
    table = arrow.read(Content("x", None, content.path), block=1)
    assert table.rows.drop(ROW).collect().equals(whole)
    assert table.height == 900


def test_no_rows(in_memory: Opener) -> None:
    for data in (filed(FRAME.head(0)), streamed(FRAME.head(0))):
        table = read(in_memory(data, "x"))
        assert table.height == 0
        assert set(table.rows.collect_schema().names()) == {ROW, *FRAME.columns}


def test_a_stream_may_do_without_its_end(in_memory: Opener) -> None:
    data = streamed()
    assert data.endswith(b"\xff\xff\xff\xff\0\0\0\0")
    assert read(in_memory(data[:-8], "x")).height == 3


def test_invalid_names_are_refused(in_memory: Opener) -> None:
    assert refused(filed(pl.DataFrame({ROW: [1]})), in_memory).code == "ReservedColumn"
    assert refused(streamed(pl.DataFrame({ROW: [1]})), in_memory).code == "ReservedColumn"


def test_nothing_and_other_bytes(in_memory: Opener) -> None:
    assert refused(b"", in_memory).code == "EmptyFile"
    for data in (b"ARROW1\0\0", b"ARROW1\0\0" + b"\xff" * 30, b"\xff\xff\xff\xff", b"\xff" * 40, b"text", bytes(100)):
        assert refused(data, in_memory).code == "UnreadableArrow"
    with pytest.raises(DataError) as caught:
        read(in_memory(b"a,b\n", "x"), Arrow())
    assert caught.value.code == "UnreadableArrow"


@pytest.mark.parametrize("write", [filed, streamed])
def test_truncated_files_are_refused(in_memory: Opener, write: Callable[..., bytes]) -> None:
    data = write()
    for cut in range(9, len(data) - 9, 37):
        assert refused(data[:cut], in_memory).code == "UnreadableArrow"


SEEDS = [write(FRAME, compression) for write in (filed, streamed) for compression in COMPRESSIONS]


@given(
    seed=st.sampled_from(SEEDS),
    at=st.floats(0, 1, exclude_max=True),
    new=st.binary(max_size=8) | st.sampled_from([b"\xff\xff\xff\x7f", b"\0\0\0\x80", b"\xff" * 8]),
    same=st.booleans(),
)
@settings(max_examples=examples(500), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damage_is_an_error_or_does_no_harm(in_memory: Opener, seed: bytes, at: float, new: bytes, same: bool) -> None:
    place = int(at * len(seed))
    data = seed[:place] + new + seed[place + (len(new) if same else 4) :]
    with suppress(DataError):
        table = read(in_memory(data, "x"))
        assert table.rows.collect().height == table.height


@pytest.mark.full
def test_a_bomb_is_defused(in_memory: Opener) -> None:
    """A batch whose buffers say that they unpack to far more than memory holds."""
    zeros = pl.DataFrame({"a": pl.Series([0] * (arrow.LONGEST_BODY // 8 + 1), dtype=pl.Int64)})
    data = streamed(zeros, "zstd")
    assert len(data) * 100 < arrow.LONGEST_BODY
    lengths = [len(batch) for batch in (zeros,)]
    assert lengths
    with suppress(DataError):  # Polars may have written it in several batches, each within the limit
        table = read(in_memory(data, "x"))
        assert table.height == zeros.height
    lying = bytearray(streamed(pl.DataFrame({"a": list(range(1000))}), "lz4"))
    body = bytes(lying).index((8000).to_bytes(8, "little"))
    lying[body : body + 8] = (2**40).to_bytes(8, "little")
    assert refused(bytes(lying), in_memory).code == "TooLarge"


def test_rows_that_no_bytes_could_hold(in_memory: Opener) -> None:
    data = streamed(pl.DataFrame({"a": [7] * 1000}))
    number = (1000).to_bytes(8, "little")
    for rows in (2**40, -1):
        lying = data.replace(number, rows.to_bytes(8, "little", signed=True))
        assert refused(lying, in_memory).code == "UnreadableArrow"


@pytest.mark.parametrize("kind", [pl.Struct([]), pl.List(pl.Struct([])), pl.Struct({"b": pl.Struct([])})], ids=str)
def test_a_struct_without_fields_is_refused_because_parquet_has_none(in_memory: Opener, kind: pl.DataType) -> None:
    buffer = io.BytesIO()
    pl.DataFrame({"id": [1], "a": pl.Series([None], dtype=kind)}).write_ipc(buffer)
    error = refused(buffer.getvalue(), in_memory)
    assert (error.code, error.place.column) == ("EmptyStruct", "a")


def test_a_place_where_no_file_ends_is_damage(in_file: Opener) -> None:
    """As found by tests/fuzz: the system refuses to go there, and that is not the system's fault."""
    buffer = io.BytesIO()
    pl.DataFrame({"a": range(3)}).write_ipc(buffer)
    data = buffer.getvalue()
    length = int.from_bytes(data[-10:-6], "little")
    footer = data[-10 - length : -10]
    blocks = [at for at in range(length - 8) if 0 < int.from_bytes(footer[at : at + 8], "little") < len(data)]
    for at in blocks:
        damaged = footer[:at] + (1 << 63 - 8).to_bytes(8, "little") + footer[at + 8 :]
        with suppress(DataError):
            read(in_file(data[: -10 - length] + damaged + data[-10:], "x.arrow"))
