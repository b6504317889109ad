"""A small good file of every format, and how it is damaged."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import sys
import tarfile
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Literal

import polars as pl
from hypothesis import strategies as st

from tests.unit.formats.test_excel import WRITERS

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

FRAME = pl.DataFrame(
    {
        "id": range(40),
        "name": [f"näme {number}" if number % 5 else None for number in range(40)],
        "share": [number / 7 for number in range(40)],
        "at": [datetime(2026, 1, 1 + number % 28, tzinfo=UTC) for number in range(40)],
        "tags": [["x"] * (number % 3) for number in range(40)],
        "deep": [{"a": number, "b": [str(number)]} for number in range(40)],
    }
)
FLAT = FRAME.select("id", "name", "share")
RECORDS = FRAME.select("id", "name", "share", "tags", "deep").to_dicts()


def _bytes(write: Callable[[io.BytesIO], object]) -> bytes:
    write(buffer := io.BytesIO())
    return buffer.getvalue()


def _zip(members: dict[str, bytes]) -> bytes:
    def write(buffer: io.BytesIO) -> None:
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in members.items():
                archive.writestr(name, data)

    return _bytes(write)


def _tar(members: dict[str, bytes]) -> bytes:
    def write(buffer: io.BytesIO) -> None:
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            for name, data in members.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))

    return _bytes(write)


CSV = FLAT.write_csv().encode()
NDJSON = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in RECORDS).encode()
TABLE: list[list[object]] = [["id", "name"], *([number, f"n{number}"] for number in range(20))]

#: By the name of a file, which says its format, its bytes.
SEEDS: dict[str, bytes] = {
    "plain.csv": CSV,
    "quoted.csv": b'a;"b ""c"\r\n1;"x\r\ny"\r\n2;\r\n' + b'3;"z"\r\n' * 20,
    "utf-16.csv": CSV.decode().encode("utf-16"),
    "array.json": json.dumps(RECORDS, indent=1).encode(),
    "object.json": json.dumps({"meta": {"n": 40}, "rows": RECORDS}).encode(),
    "lines.ndjson": NDJSON,
    "rows.xml": b"<?xml version='1.0' encoding='utf-8'?><rows>"
    + b"".join(b"<row n='%d'><a>%d</a><b>x &amp; y</b></row>" % (number, number) for number in range(20))
    + b"</rows>",
    "messages.log": b"".join(b"2026-01-01T00:00:%02d INFO done\n" % number for number in range(40)),
    "snappy.parquet": _bytes(lambda buffer: FRAME.write_parquet(buffer, compression="snappy")),
    "zstd.parquet": _bytes(lambda buffer: FRAME.write_parquet(buffer, row_group_size=15)),
    "plain.parquet": _bytes(lambda buffer: FRAME.write_parquet(buffer, compression="uncompressed")),
    "rows.avro": _bytes(FLAT.write_avro),
    "packed.avro": _bytes(lambda buffer: FLAT.write_avro(buffer, compression="deflate")),
    "file.arrow": _bytes(FRAME.write_ipc),
    "packed.arrow": _bytes(lambda buffer: FRAME.write_ipc(buffer, compression="zstd")),
    "stream.arrow": _bytes(FRAME.write_ipc_stream),
    **{f"sheet.{name}": write({"S": TABLE}) for name, write in WRITERS.items()},
    "packed.csv.gz": gzip.compress(CSV),
    "packed.csv.bz2": bz2.compress(CSV),
    "packed.ndjson.zst": zstd.compress(NDJSON),
    "several.zip": _zip({"a.csv": CSV, "b/c.csv": CSV}),
    "several.tar": _tar({"a.csv": CSV, "b/c.csv": CSV}),
    "several.tar.gz": gzip.compress(_tar({"a.csv": CSV, "b/c.csv": CSV})),
}

#: Logs, each with the name that it has in silversmith.logs.
LOGS: dict[str, bytes] = {
    "alb": b"".join(
        b"h2 2026-01-31T12:00:%02d.250000Z app/shop/0a 198.51.100.7:50001 10.0.3.4:80 0.001 0.015 0.000 200 - 310 47 "
        b'"GET https://shop.example:443/?a=%%22 HTTP/2.0" "curl/8 [x]" - - arn:t "Root=1-67"\n' % second
        for second in range(20)
    ),
    "apache_combined": b'192.0.2.1 - "a \\" b" [31/Jan/2026:13:00:00 +0100] "GET / HTTP/1.1" 200 - "-" "x" 0.5 "y"\n'
    * 20,
    "cloudfront": b"#Version: 1.0\n#Fields: date time sc-bytes cs(Host)\n" + b"2026-01-31\t12:00:00\t512\td\n" * 20,
    "cloudtrail": json.dumps(
        {"Records": [{"eventTime": "2026-01-31T12:00:00Z", "userIdentity": {"x": 1}}] * 9}
    ).encode(),
    "cloudwatch_logs": json.dumps({"messageType": "x", "logEvents": [{"id": "1"}, {"id": "2"}, 3]}).encode() * 9,
    "syslog": b'<165>1 2026-01-31T13:00:00.5+01:00 host app 77 ID1 [a@1 x="y \\"] z"][b] \xef\xbb\xbfdone\n' * 20,
    "vpc_flow": b"version account-id start end\n" + b"5 000123456789 1769860800 -\n" * 20,
    "waf": b"".join(b'{"timestamp":%d,"httpRequest":{"clientIp":"::1","headers":[{}]}}\n' % at for at in range(20)),
}
SEEDS |= {f"{name}.log": data for name, data in LOGS.items()}

ORDERS: tuple[Literal["little"], Literal["big"]] = ("little", "big")

#: What has hurt readers before: numbers at the ends of their ranges, both ways round, and what formats begin with.
NASTY = [
    *(
        value.to_bytes(size, order)
        for size in (2, 4, 8)
        for value in (0, 1, (1 << 8 * size - 1) - 1, (1 << 8 * size) - 1)
        for order in ORDERS
    ),
    *(b"\0" * 16, b"\xff" * 16, b"PAR1", b"PK\3\4", b"\x1f\x8b", b"Obj\x01", b"ARROW1", b"\xef\xbb\xbf", b"\xff\xfe"),
    *(b'"', b"\n", b"\r", b",", b"[" * 300, b'{"a":' * 300, b"<" * 300, b"&a;"),
    *(b"1e999", b"-9223372036854775809", b"\\ud800"),
]

Damage = Callable[[bytes], bytes]


def _at(place: float, data: bytes) -> int:
    return int(place * len(data))


def written(place: float, new: bytes) -> Damage:
    return lambda data: data[: (at := _at(place, data))] + new + data[at + len(new) :]


def inserted(place: float, new: bytes) -> Damage:
    return lambda data: data[: (at := _at(place, data))] + new + data[at:]


def removed(place: float, length: int) -> Damage:
    return lambda data: data[: (at := _at(place, data))] + data[at + length :]


def repeated(place: float, length: int, times: int) -> Damage:
    return lambda data: data[: (at := _at(place, data))] + data[at : at + length] * times + data[at:]


def flipped(place: float, bit: int) -> Damage:
    def damage(data: bytes) -> bytes:
        at = _at(place, data)
        return data[:at] + bytes(byte ^ 1 << bit for byte in data[at : at + 1]) + data[at + 1 :]

    return damage


def spliced(place: float, name: str) -> Damage:
    return lambda data: data[: _at(place, data)] + SEEDS[name][_at(place, SEEDS[name]) :]


#: Anywhere in a file, but more often near its ends, where the formats keep what they say of themselves.
PLACES = st.floats(0, 1, exclude_max=True) | st.floats(0, 0.1) | st.floats(0.9, 1, exclude_max=True)
LENGTHS = st.integers(1, 8) | st.integers(1, 1000)

DAMAGES: st.SearchStrategy[list[Damage]] = st.lists(
    st.one_of(
        st.builds(flipped, PLACES, st.integers(0, 7)),
        st.builds(written, PLACES, st.sampled_from(NASTY) | st.binary(max_size=8)),
        st.builds(inserted, PLACES, st.sampled_from(NASTY) | st.binary(max_size=8)),
        st.builds(removed, PLACES, LENGTHS),
        st.builds(repeated, PLACES, LENGTHS, st.integers(1, 50)),
        st.builds(spliced, PLACES, st.sampled_from(sorted(SEEDS))),
    ),
    min_size=1,
    max_size=4,
)
