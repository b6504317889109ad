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
        ("b.csv", b"PAR1,PAR2\n", "csv"),
        ("b.csv", b"PAR1\r\n7\r\n", "csv"),
        ("b.csv", b"Obj\x01\x04", "avro"),
        ("b", b"ARROW1\0\0\xff\xff", "arrow"),
        ("b", b"\xff\xff\xff\xff\x80", "arrow"),
        ("b.xlsx", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "excel"),
        ("b.csv", b"<?xml version='1.0'?>", "xml"),
        ("b", b"\xef\xbb\xbf <?xml", "xml"),
        ("b", b"\xff\xfe<\0?\0x\0m\0l\0", "xml"),
        ("b.log", b"", "lines"),
        ("b.log", b'{"a":1}', "ndjson"),
        ("b.log", b'\n{"a":1}\n\n{"a":{}}\n{"a":', "ndjson"),
        ("b.log", b'{"a":1}\n{"a"\n', "lines"),
        ("b.log", b'{"a":1}{"a":2}', "lines"),
        ("b.log", b"5\n6\n", "lines"),
        ("b.log", b"\n \n", "lines"),
        ("b", b' \n{"a":1}', "json"),
        ("b.dat", b'{"a":1}\n{"a":2}', "ndjson"),
        ("b.csv", b'[{"a":1},{"a":2}]', "json"),
        ("b.csv", b'{"a":1}\n{"a":2}', "ndjson"),
        ("b.csv", b"[a],[b]\n1,2\n", "csv"),
        ("b.csv", b'{"a",b\n1,2\n', "csv"),
        ("b.txt", b"id,name\n1,x\n2,y\n", "csv"),
        ("b", b'\xef\xbb\xbfid;"na;me"\r\n1;x\r\n', "csv"),
    ],
)
def test_without_a_reader(name: str, head: bytes, expected: str) -> None:
    assert detect(name, head) == expected


def test_the_reader_comes_first() -> None:
    assert detect("b.json", b"x,y", expected="csv") == "csv"
    assert detect("b.csv", b"[1]", expected="json") == "json"
    assert detect("b", b'{"a":1}\n{"a":2}', expected="json") == "ndjson"
    assert detect("b", b"[1]", expected="json", lines=True) == "ndjson"
    assert detect("b.ndjson", b"[1]", expected="json", lines=False) == "json"


@pytest.mark.parametrize(
    ("name", "head", "asked", "message"),
    [
        ("b", b"x,y\n", None, "name"),
        ("b.csv", b"%PDF-1.7", None, "PDF"),
        ("b.json", b"7z\xbc\xaf\x27\x1c", "json", "7-Zip"),
        ("b.csv", b"-----BEGIN PGP MESSAGE-----\n\nhQ", None, "encrypted by PGP"),
        ("b.csv", b"Salted__\x01\x02", None, "encrypted by OpenSSL"),
        ("b.csv", b"<!DOCTYPE html>\n", None, "HTML"),
        ("b.json", b"  <HTML>", None, "HTML"),
        ("b.csv", b"PAR1", "csv", "Parquet"),
        ("b.csv", b"Obj\x01\x04", "csv", "Avro"),
        ("b.parquet", b"ARROW1\0\0\xff", "parquet", "Arrow"),
        ("b.csv", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "csv", "Excel"),
        ("b.txt", b"Dear John,\nthanks, bye\n", None, "name"),
        ("b.txt", b"1,2\n3,4\n", None, "name"),
        ("b.txt", b"a,b\n1\n", None, "name"),
        ("b.txt", b"words and words\nand more\n", None, "name"),
    ],
)
def test_formats_that_are_not_read(name: str, head: bytes, asked: str | None, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        detect(name, head, expected=asked)
    assert caught.value.code == "UnknownFormat"
    assert caught.value.hint


def test_nothing_at_all_is_an_empty_file_whatever_its_name() -> None:
    with pytest.raises(DataError) as caught:
        detect("b", b"")
    assert caught.value.code == "EmptyFile"


def test_a_page_in_the_place_of_data_has_a_place() -> None:
    with pytest.raises(DataError, match="HTML") as caught:
        detect("b.json", b"<html><body>no such file")
    assert (caught.value.place.line, caught.value.place.column) == (1, 1)
