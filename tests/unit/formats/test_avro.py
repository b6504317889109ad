"""Avro: whatever types it has become columns or are refused, and no length that a file tells is believed."""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import fastavro
import orjson
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from silversmith.errors import DataError
from silversmith.formats import ROW, Avro, avro, read
from silversmith.formats.archives.content import Content
from silversmith.stores import Source
from tests.examples import examples

Opener = Callable[..., Source]

ENUM = {"type": "enum", "name": "E", "symbols": ["A", "B", "C"]}


def written(fields: list[dict[str, Any]], records: list[dict[str, Any]], **options: Any) -> bytes:
    buffer = io.BytesIO()
    fastavro.writer(buffer, {"type": "record", "name": "r", "fields": fields}, records, **options)
    return buffer.getvalue()


def field(kind: Any, name: str = "f") -> dict[str, Any]:
    return {"name": name, "type": kind}


def refused(data: bytes, opened: Opener, key: str = "x.avro") -> DataError:
    with pytest.raises(DataError) as caught:
        read(opened(data, key))
    assert caught.value.hint
    return caught.value


@pytest.mark.parametrize(
    ("kind", "values", "expected", "column"),
    [
        ("boolean", [True, False], None, pl.Boolean()),
        ("int", [-1, 2**31 - 1], None, pl.Int32()),
        ("long", [-(2**63), 2**63 - 1], None, pl.Int64()),
        ("float", [1.5, -0.25], None, pl.Float32()),
        ("double", [1e300, 0.1], None, pl.Float64()),
        ("string", ["", "Zürich"], None, pl.String()),
        ("bytes", [b"", b"\0\xff"], None, pl.Binary()),
        ({"type": "fixed", "name": "F", "size": 2}, [b"ab", b"cd"], None, pl.Binary()),
        ("null", [None, None], None, pl.String()),
        (["null", "long"], [None, 5], None, pl.Int64()),
        (["string", "null"], ["a", None], None, pl.String()),
        ({"type": "int", "logicalType": "date"}, [date(2026, 1, 2), date(1969, 1, 1)], None, pl.Date()),
        ({"type": "int", "logicalType": "time-millis"}, [time(1, 2, 3)], None, pl.Time()),
        ({"type": "long", "logicalType": "time-micros"}, [time(1, 2, 3, 4)], None, pl.Time()),
        (
            {"type": "long", "logicalType": "timestamp-millis"},
            [datetime(2026, 1, 2, 3, 4, 5, 6000, UTC)],
            None,
            pl.Datetime("ms", "UTC"),
        ),
        (
            {"type": "long", "logicalType": "local-timestamp-micros"},
            [datetime(2026, 1, 2, 3, 4, 5, 6)],  # noqa: DTZ001 -- that it has no zone is the point
            None,
            pl.Datetime("us"),
        ),
        (
            {"type": "bytes", "logicalType": "decimal", "precision": 38, "scale": 2},
            [Decimal("-1.25"), Decimal("123456789012345678901234567890.01")],
            None,
            pl.Decimal(38, 2),
        ),
        (
            {"type": "fixed", "name": "D", "size": 8, "logicalType": "decimal", "precision": 10, "scale": 3},
            [Decimal("-1.250")],
            None,
            pl.Decimal(10, 3),
        ),
        (ENUM, ["A", "C", "B"], None, pl.String()),
        (["null", ENUM], ["A", None, "C"], None, pl.String()),
        ([ENUM, "null"], ["B", None], None, pl.String()),
        ({"type": "array", "items": "long"}, [[], [1, 2]], None, pl.List(pl.Int64())),
        ({"type": "array", "items": ["null", "string"]}, [["a", None]], None, pl.List(pl.String())),
        (["null", {"type": "array", "items": "long"}], [None, [1]], None, pl.List(pl.Int64())),
        (
            {"type": "map", "values": "long"},
            [{"a": 1, "b": 2}, {}],
            [[{"key": "a", "value": 1}, {"key": "b", "value": 2}], []],
            None,
        ),
        ({"type": "record", "name": "s", "fields": [field("long", "x")]}, [{"x": 1}, {"x": 2}], None, None),
        (
            ["null", {"type": "record", "name": "s", "fields": [field(["null", "string"], "x")]}],
            [None, {"x": "a"}, {"x": None}],
            None,
            None,
        ),
        ({"type": "string", "logicalType": "no-such"}, ["a"], None, pl.String()),
    ],
)
def test_types(in_memory: Opener, kind: Any, values: list[Any], expected: list[Any] | None, column: Any) -> None:
    data = written([field(kind), field("long", "n")], [{"f": value, "n": at} for at, value in enumerate(values)])
    rows = read(in_memory(data, "x.avro")).rows.collect()
    assert rows["f"].to_list() == (values if expected is None else expected)
    assert rows["n"].to_list() == list(range(len(values)))
    assert rows[ROW].to_list() == list(range(1, len(values) + 1))
    if column is not None:
        assert rows.schema["f"] == column


def test_types_by_name(in_memory: Opener) -> None:
    named = {"type": "record", "name": "space.Point", "fields": [field("int", "x"), field("string", "e")]}
    fields = [field(named, "a"), field("space.Point", "b"), field({"type": "array", "items": "space.Point"}, "c")]
    points = [{"x": 1, "e": "A"}, {"x": 2, "e": "B"}, [{"x": 3, "e": "C"}]]
    record = dict(zip("abc", points, strict=True))
    assert read(in_memory(written(fields, [record]), "x.avro")).rows.drop(ROW).collect().to_dicts() == [record]


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (["null", "int", "string"], "union of 3"),
        (["int"], "union of one"),
        ({"type": "fixed", "name": "D", "size": 12, "logicalType": "duration"}, "durations"),
        ({"type": "bytes", "logicalType": "decimal", "precision": 40, "scale": 2}, "40 digits"),
        ({"type": "array", "items": "null"}, "no bytes"),
        ({"type": "array", "items": ["null", ENUM]}, "enum within a list"),
        ({"type": "array", "items": ENUM}, "enum within a list"),
        ({"type": "map", "values": ENUM}, "enum within a list"),
        ({"type": "record", "name": "s", "fields": [field(ENUM, "e")]}, "enum within a list or a record"),
        ({"type": "record", "name": "s", "fields": [field(["null", "s"], "next")]}, "holds itself"),
    ],
)
def test_types_that_no_table_has(in_memory: Opener, kind: Any, said: str) -> None:
    error = refused(written([field(kind)], []), in_memory)
    assert error.code == "UnsupportedAvro"
    assert said in error.message


@pytest.mark.parametrize("codec", ["null", "deflate", "bzip2", "xz"])
def test_codecs_and_many_blocks(in_memory: Opener, in_file: Opener, codec: str) -> None:
    records = [{"f": f"text {number % 100}", "n": number} for number in range(50_000)]
    data = written([field("string"), field("long", "n")], records, codec=codec)
    for opened in (in_memory, in_file):
        table = read(opened(data, "x.avro"))
        assert (table.format, table.height) == ("avro", 50_000)
        assert table.rows.drop(ROW).collect().to_dicts() == records


def test_polars_own_codecs(in_memory: Opener) -> None:
    frame = pl.DataFrame({"a": [1, 2, None], "b": ["x", None, "z"]})
    for codec in ("uncompressed", "deflate", "snappy"):
        buffer = io.BytesIO()
        frame.write_avro(buffer, compression=codec)
        assert read(in_memory(buffer.getvalue(), "x")).rows.drop(ROW).collect().equals(frame)


def test_few_blocks_at_a_time_are_the_same(tmp_path: object) -> None:
    records = [{"f": "ABC"[number % 3], "n": number} for number in range(20_000)]
    data = written([field(ENUM), field("long", "n")], records)
    whole = avro.read(Content("x", data, None)).rows.collect()
    parts = avro.read(Content("x", data, None), block=1).rows.collect()
    assert parts.equals(whole)


def test_no_records(in_memory: Opener) -> None:
    table = read(in_memory(written([field("long")], []), "x.avro"))
    assert table.height == 0
    assert table.rows.collect_schema().names() == [ROW, "f"]


def test_avro_can_be_declared(in_memory: Opener) -> None:
    assert read(in_memory(written([field("long")], []), "x.dat"), Avro()).format == "avro"
    with pytest.raises(DataError) as caught:
        read(in_memory(b"a,b\n1,2\n", "x.avro"), Avro())
    assert caught.value.code == "UnreadableAvro"


SEED = written(
    [field("string"), field(["null", ENUM], "e"), field({"type": "map", "values": "double"}, "m"), field("long", "n")],
    [{"f": "some text", "e": "B", "m": {"k": 1.5}, "n": number} for number in range(20)],
)


@given(at=st.integers(0, len(SEED) - 1), new=st.binary(max_size=8), gone=st.integers(0, 8))
@settings(max_examples=examples(300), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damage_is_an_error_or_does_no_harm(in_memory: Opener, at: int, new: bytes, gone: int) -> None:
    data = SEED[:at] + new + SEED[at + gone :]
    with suppress(DataError):
        table = read(in_memory(data, "x.avro"))
        assert table.rows.collect().height == table.height


@pytest.mark.parametrize("cut", range(4, len(SEED), 7))
def test_truncated_files_are_refused(in_memory: Opener, cut: int) -> None:
    header = SEED.index(SEED[-16:]) + 16
    if cut != header:
        assert refused(SEED[:cut], in_memory).code == "UnreadableAvro"


def block(count: int, data: bytes) -> bytes:
    """A file of one block of longs that says it has so many records."""
    start = written([field("long")], [])
    return start + avro._long(count) + avro._long(len(data)) + data + start[-16:]


@pytest.mark.parametrize("count", [-1, 3, 2**40, 2**62])
def test_impossible_numbers_of_records_are_refused(in_memory: Opener, count: int) -> None:
    assert refused(block(count, b"\2\2"), in_memory).code == "UnreadableAvro"


def test_impossible_lengths_are_refused(in_memory: Opener) -> None:
    start = written([field("long")], [])
    for length in (-5, 2**50, 100):
        data = start + avro._long(1) + avro._long(length) + b"\2" + start[-16:]
        assert refused(data, in_memory).code in {"UnreadableAvro", "TooLarge"}


@pytest.mark.parametrize(
    "codec", ["deflate", pytest.param("bzip2", marks=pytest.mark.full), pytest.param("xz", marks=pytest.mark.full)]
)
def test_a_bomb_is_defused(in_memory: Opener, codec: str) -> None:
    text = "x" * (avro.LONGEST + 10)
    data = written([field("string")], [{"f": text}], codec=codec)
    assert len(data) < avro.LONGEST / 100
    assert refused(data, in_memory).code == "TooLarge"


def test_a_schema_without_end(in_memory: Opener) -> None:
    kind: Any = "long"
    for _ in range(100):
        kind = {"type": "array", "items": kind}
    assert refused(written([field(kind)], []), in_memory).code == "UnsupportedAvro"
    fields = [field({"type": "record", "name": "r0", "fields": [field("long", "x")]}, "f0")]
    for number in range(1, 40):  # each holds the one before twice: spelled out, 2 to the 40th
        inner = [field(f"r{number - 1}", "x"), field(f"r{number - 1}", "y")]
        fields.append(field({"type": "record", "name": f"r{number}", "fields": inner}, f"f{number}"))
    assert refused(written(fields, []), in_memory).code == "UnsupportedAvro"


def container(kind: Any, value: bytes, *, records: int = 1) -> bytes:
    """A file of one block, whose bytes are given, so that they may be what no library writes."""

    long = avro._long
    schema = orjson.dumps({"type": "record", "name": "r", "fields": [field(kind)]})
    entries = b"".join(long(len(text)) + text for text in (b"avro.schema", schema))
    return b"Obj\x01" + long(1) + entries + long(0) + bytes(16) + long(records) + long(len(value)) + value + bytes(16)


@pytest.mark.parametrize(("name", "unit"), [("time-millis", 10**6), ("time-micros", 10**3)])
def test_times_of_day_are_kept_or_refused(in_memory: Opener, name: str, unit: int) -> None:
    kind = {"type": "int" if name == "time-millis" else "long", "logicalType": name}
    day = 86_400 * 10**9 // unit
    for number in (0, 1, day - 1):
        cells = read(in_memory(container(["null", kind], b"\x02" + avro._long(number)), "x.avro")).rows.collect()["f"]
        assert cells.to_physical().to_list() == [number * unit]
    for number in (-1, day, day + 1):
        error = refused(container(kind, avro._long(number)), in_memory)
        assert error.code == "UnsupportedAvro"
        assert "24:00" in error.message
    nested = {"type": "array", "items": kind}
    assert "list" in refused(container(nested, b"\x02\x00\x00"), in_memory).message


@pytest.mark.parametrize("kind", ["long", "string", "boolean", ["null", "double"], {"type": "array", "items": "int"}])
def test_a_block_with_more_in_it_than_its_records_is_refused(in_memory: Opener, kind: Any) -> None:
    """Polars leaves the rest of a block unread."""
    values = {"long": 5, "string": "x", "boolean": False}
    value = values[kind] if isinstance(kind, str) else 1.5 if isinstance(kind, list) else [1, 2]
    whole = written([field(kind)], [{"f": value}] * 3)
    at = len(whole) - 16
    start = whole.index(whole[at:]) + 16
    assert whole[start] == 3 << 1
    assert read(in_memory(whole, "x.avro")).height == 3
    for count in (0, 1, 2):
        error = refused(whole[:start] + bytes([count << 1]) + whole[start + 1 :], in_memory)
        assert error.code == "UnreadableAvro"
        assert f"{count} records" in error.message
