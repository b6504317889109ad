"""The format: the reader's word, then the bytes, then the name."""

from __future__ import annotations

import pytest

from silversmith.errors import DataError
from silversmith.formats.detect import detect


@pytest.mark.parametrize(
    ("name", "head", "expected"),
    [
        ("a/b.csv", b"x,y\n", "csv"),
        ("a/b.CSV", b"", "csv"),
        ("b.tsv", b"x\ty\n", "csv"),
        ("b.json", b"[1]", "json"),
        ("b.json", b'{"a":1}', "json"),
        ("b.json", b'{"a":1}\n', "json"),
        ("b.json", b'{"a":1}\n\n{"a":2}', "ndjson"),
        ("b.json", b'\xef\xbb\xbf{"a":1}\r\n{"a":2', "ndjson"),
        ("b.json", b'{\n"a":{\n}}', "json"),
        ("b.json", b'{"a":\n{"b":1}}', "json"),
        ("b.jsonl", b'{"a":1}', "ndjson"),
        ("b.ndjson", b"[1]", "ndjson"),
        ("b.parquet", b"PAR1", "parquet"),
        ("b.parquet", b"", "parquet"),
        ("b.csv", b"PAR1\x15\x04", "parquet"),
        ("b", b' \n{"a":1}', "json"),
        ("b.dat", b'{"a":1}\n{"a":2}', "ndjson"),
    ],
)
def test_without_a_reader(name: str, head: bytes, expected: str) -> None:
    assert detect(name, head) == expected


def test_the_reader_comes_first() -> None:
    assert detect("b.json", b"x,y", asked="csv") == "csv"
    assert detect("b.csv", b"[1]", asked="json") == "json"
    assert detect("b", b'{"a":1}\n{"a":2}', asked="json") == "ndjson"
    assert detect("b", b"[1]", asked="json", lines=True) == "ndjson"
    assert detect("b.ndjson", b"[1]", asked="json", lines=False) == "json"


@pytest.mark.parametrize(
    ("name", "head", "asked", "said"),
    [
        ("b", b"x,y\n", None, "name"),
        ("b.xlsx", b"PK\x03\x04", None, "Excel"),
        ("b.csv", b"PK\x03\x04", "csv", "Excel"),
        ("b.csv.zst", b"\x28\xb5\x2f\xfd", None, "Zstandard"),
        ("b.csv", b"PAR1", "csv", "Parquet"),
        ("b", b"", None, "name"),
    ],
)
def test_what_is_not_read(name: str, head: bytes, asked: str | None, said: str) -> None:
    with pytest.raises(DataError, match=said) as caught:
        detect(name, head, asked=asked)
    assert caught.value.code == "UnknownFormat"
    assert caught.value.hint
