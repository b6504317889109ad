"""XML: flat records in any well-formed document, and nothing left out unnoticed."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from encodings.aliases import aliases
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from silversmith.errors import DataError, DefinitionError
from silversmith.formats import ROW, Xml, read, xml
from silversmith.formats.text import encoding_problem
from silversmith.stores import Source
from tests.examples import examples

Opener = Callable[..., Source]


def rows(source: Source, reader: Xml | None = None) -> list[dict[str, Any]]:
    return read(source, reader).rows.drop(ROW).collect().to_dicts()


def refused(source: Source, reader: Xml | None = None) -> DataError:
    with pytest.raises(DataError) as caught:
        read(source, reader)
    assert caught.value.hint
    return caught.value


NAME = st.sampled_from(["a", "b", "long-name", "ns:c", "_d", "é"])
TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs"), exclude_characters="\ufffe\uffff"))


@given(
    records=st.lists(
        st.tuples(st.dictionaries(NAME.map("@".__add__), TEXT), st.dictionaries(NAME, TEXT)), min_size=1, max_size=8
    ),
)
@settings(max_examples=examples(200), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_written_documents_come_back(in_memory: Opener, records: list[tuple[dict[str, str], dict[str, str]]]) -> None:
    text = "<list xmlns:ns='urn:x'>"
    expected: list[dict[str, str | None]] = []
    for attributes, elements in records:
        named = {f"x{key[1:].replace(':', '')}": value for key, value in attributes.items()}
        text += "<r" + "".join(f" {key}={quoteattr(value)}" for key, value in named.items()) + ">"
        text += "".join(f"<{key}>{escape(value)}</{key}>" for key, value in elements.items()) + "</r>\n"
        expected.append({key: value or None for key, value in {**named, **elements}.items()})
    names = dict.fromkeys(name for record in expected for name in record) or {"r": None}
    table = read(
        in_memory((text + "</list>").encode(), "x.xml"),
        Xml(record="/list/r"),
        declared=dict.fromkeys(names, pl.String()),
    )
    actual = table.rows.drop(ROW).collect().to_dicts()
    assert actual == [{name: record.get(name) for name in names} for record in expected]


@pytest.mark.parametrize(
    ("text", "record", "expected"),
    [
        ("<l><r><a>1</a></r><r><a>2</a></r></l>", "/l/r", [{"a": 1}, {"a": 2}]),
        ("<l><r><a>1</a></r></l>", "/l/r", [{"a": 1}]),
        ("<x><l><r><a>1</a></r><r><b>x</b></r></l></x>", "/x/l/r", [{"a": 1, "b": None}, {"a": None, "b": "x"}]),
        ("<l><r a='1'/><r a='2'/></l>", "/l/r", [{"a": 1}, {"a": 2}]),
        ("<r><a>1</a><b>2</b></r>", "/r", [{"a": 1, "b": 2}]),
        ("<r>1</r>", "/r", [{"r": 1}]),
        ("<r/>", "/r", [{"r": None}]),
        ("<l><r a='1'>x</r></l>", "/l/r", [{"a": 1, "r": "x"}]),
        ("<l v='3'><r><a>1</a></r></l>", "/l/r", [{"a": 1}]),
        ("<l><r><a u='m'>1</a></r></l>", "/l/r", [{"a@u": "m", "a": 1}]),
        ("<l><r><a>1</a><b/></r></l>", "/l/r", [{"a": 1, "b": None}]),
        ("<l xmlns:xsi='urn:i'><r><a xsi:nil='true'/></r><r><a>5</a></r></l>", "/l/r", [{"a": None}, {"a": 5}]),
        ("<l><!-- c --><r><a><![CDATA[<&>]]></a></r><?pi x?></l>", "/l/r", [{"a": "<&>"}]),
        ("<l><r><a>&#8364;&lt;&amp;</a></r></l>", "/l/r", [{"a": "€<&"}]),
        ("<l>\n <r>\n  <a> 1 </a>\n </r>\n</l>", "/l/r", [{"a": " 1 "}]),
    ],
)
def test_records_are_found(in_memory: Opener, in_file: Opener, text: str, record: str, expected: Any) -> None:
    for opened in (in_memory, in_file):
        table = read(opened(text.encode(), "x.xml"))
        assert table.rows.drop(ROW).collect().to_dicts() == expected
        assert table.dialect == {"record": record}
        assert table.format == "xml"


def test_records_by_name(in_memory: Opener) -> None:
    text = b"<x><head>h</head><l><r><a>1</a></r></l><m><r><a>2</a></r></m></x>"
    assert rows(in_memory(text, "x.xml"), Xml(record="r")) == [{"a": 1}, {"a": 2}]
    assert rows(in_memory(text, "x.xml"), Xml(record="/x/m/r")) == [{"a": 2}]
    assert refused(in_memory(text, "x.xml"), Xml(record="q")).code == "MissingRecord"
    assert refused(in_memory(text, "x.xml"), Xml(record="/r")).code == "MissingRecord"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("<l><r><a>1</a></r><s><a>1</a></s></l>", "<s>"),
        ("<l><r><a>1</a></r>stray</l>", "stray"),
        ("<x><l n='1'><r><a>1</a></r></l></x>", "<l>"),
    ],
)
def test_data_beside_records_is_not_left_out(in_memory: Opener, text: str, said: str) -> None:
    error = refused(in_memory(text.encode(), "x.xml"))
    assert error.code == "OtherData"
    assert said in error.message
    assert error.place.line == 1


def test_records_that_are_not_flat_are_rejected(in_memory: Opener, in_file: Opener) -> None:
    data = b"""<l>
<r><a>1</a></r>
<r><a>1</a><a>2</a></r>
<r><a><b>1</b></a></r>
<r>x<a>1</a></r>
<r><a>1</a>x</r>
<r a="1"><a>1</a></r>
<r><a>2</a></r>
</l>"""
    for opened in (in_memory, in_file):
        table = read(opened(data, "x.xml"))
        assert table.rows.collect().to_dict(as_series=False) == {"a": [1, 2], ROW: [1, 7]}
        assert table.malformed is not None
        assert table.malformed.rows() == [
            (2, "<r><a>1</a><a>2</a></r>", "line 3: has <a> twice"),
            (3, "<r><a><b>1</b></a></r>", "line 4: has elements within <a>"),
            (4, "<r>x<a>1</a></r>", "line 5: has text between its elements"),
            (5, "<r><a>1</a>x</r>", "line 6: has text between its elements"),
            (6, '<r a="1"><a>1</a></r>', "line 7: has <a> twice"),
        ]


def test_none_is_flat(in_memory: Opener) -> None:
    error = refused(in_memory(b"<l><m>1</m><r><a>1</a></r></l>", "x.xml"))
    assert error.code == "NotFlat"
    assert "/l" in error.hint


@pytest.mark.parametrize(
    ("text", "code", "line"),
    [
        (b"", "EmptyFile", None),
        (b"<l><r>", "UnreadableXml", 1),
        (b"<l>\n<r></l>", "UnreadableXml", 2),
        (b"<l>&nbsp;</l>", "UnreadableXml", 1),
        (b"<l>\xff</l>", "UnreadableXml", 1),
        (b"<?xml version='1.0' encoding='klingon'?><l/>", "UnreadableXml", None),
        (b"<?xml version='1.0' encoding='rot13'?><l/>", "UnreadableXml", None),
        (b"<?xml version='1.0' encoding='shift_jis'?><l>\x81</l>", "UnreadableXml", None),
        (b"<l/><l/>", "UnreadableXml", 1),
        (b"text", "UnreadableXml", 1),
        (b"<!DOCTYPE l><l/>", "DtdRefused", 1),
        (b"<?xml version='1.0'?>\n<!DOCTYPE l [<!ENTITY a 'aa'><!ENTITY b '&a;&a;'>]><l>&b;</l>", "DtdRefused", 2),
        (b"<!DOCTYPE l SYSTEM 'file:///etc/passwd'><l/>", "DtdRefused", 1),
        (b"<a>" * 100_000, "TooDeep", 1),
        (b"<l><r><a>" + b"x" * (xml.LONGEST_RECORD + 1) + b"</a></r></l>", "TooLarge", 1),
        (b"<l><r a='" + b"x" * (2 * xml.LONGEST_RECORD) + b"'/></l>", "TooLarge", 1),
        (b"<l><!--" + b"x" * (2 * xml.LONGEST_RECORD) + b"--></l>", "TooLarge", 1),
    ],
)
def test_unreadable_documents(in_memory: Opener, text: bytes, code: str, line: int | None) -> None:
    error = refused(in_memory(text, "x.xml"), Xml(record="r") if code == "TooLarge" else None)
    assert error.code == code
    if line is not None:
        assert error.place.line == line


@given(data=st.binary(max_size=60), at=st.integers(0, 60))
@settings(max_examples=examples(200), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_give_rows_or_an_error(in_memory: Opener, data: bytes, at: int) -> None:
    whole = b"<l><r><a>1</a></r><r><a>2</a><b c='d'/></r></l>"
    try:
        table = read(in_memory(whole[:at] + data + whole[at:], "x.xml"))
    except DataError as error:
        assert error.hint  # noqa: PT017 -- either is right
    else:
        assert table.records >= 1


WORDS = {"latin-1": "Zürich", "shift_jis": "東京", "euc-jp": "東京", "big5": "台北", "euc-kr": "서울"}


@pytest.mark.parametrize(
    "encoding",
    [
        "utf-16",
        "utf-32",
        "latin-1",
        "windows-1251",
        "utf-8-sig",
        "shift_jis",
        "euc-jp",
        "gb18030",
        "gbk",
        "big5",
        "euc-kr",
    ],
)
def test_encodings_are_as_declared(in_memory: Opener, encoding: str) -> None:
    word = WORDS.get(encoding, "Москва")
    text = f"<?xml version='1.0' encoding='{encoding.removesuffix('-sig')}'?><l><r><a>{word}</a></r></l>"
    assert rows(in_memory(text.encode(encoding), "x")) == [{"a": word}]


#: Encodings in which a document begins as in ASCII or in EBCDIC, or with NUL bytes.
TEXT_ENCODINGS = sorted(
    name for name in set(aliases.values()) if not encoding_problem(name) and name not in {"mbcs", "oem", "undefined"}
)


@pytest.mark.parametrize("encoding", TEXT_ENCODINGS)
def test_every_encoding_that_python_knows(in_memory: Opener, encoding: str) -> None:
    for letter in "é東Яא1":
        with suppress(UnicodeEncodeError):
            data = f'<?xml version="1.0" encoding="{encoding}"?><l><r><a>x{letter}</a></r></l>'.encode(encoding)
            assert rows(in_memory(data, "x.xml")) == [{"a": f"x{letter}"}]


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("Windows-31J", "cp932"),
        ("x-sjis", "shift_jis"),
        ("x-euc-jp", "euc-jp"),
        ("windows-949", "cp949"),
        ("windows-874", "cp874"),
        ("ISO-8859-8-I", "iso-8859-8"),
        ("cn-big5", "big5"),
        ("IBM037", "cp037"),
    ],
)
def test_the_names_that_other_programs_have_for_encodings(in_memory: Opener, name: str, codec: str) -> None:
    data = f"<?xml version='1.0' encoding='{name}'?><l><r><a>x</a></r></l>".encode(codec)
    assert rows(in_memory(data, "x")) == [{"a": "x"}]


@pytest.mark.parametrize("name", ["utf-16", "UTF-16LE", "utf-32", "UCS-2", "cp037"])
def test_a_declaration_that_denies_itself_is_a_slip(in_memory: Opener, name: str) -> None:
    data = f"<?xml version='1.0' encoding='{name}'?><l><r><a>é</a></r></l>".encode()
    assert rows(in_memory(data, "x.xml")) == [{"a": "é"}]


@pytest.mark.parametrize("mark", ["\ufeff", "\ufeff\ufeff"])
def test_a_byte_order_mark_counts_more_than_the_declaration(in_memory: Opener, mark: str) -> None:
    data = f"{mark}<?xml version='1.0' encoding='windows-1252'?><l><r><a>é</a></r></l>".encode()
    assert rows(in_memory(data, "x.xml")) == [{"a": "é"}]


def test_an_encoding_that_nobody_knows_is_named(in_memory: Opener) -> None:
    error = refused(in_memory(b"<?xml version='1.0' encoding='klingon'?><l/>", "x.xml"))
    assert "klingon" in error.message
    assert error.hint == "write it as UTF-8"


@pytest.mark.full
def test_large_documents_stream(in_file: Opener) -> None:
    data = b"<l>" + b"".join(b"<r><a>%d</a><b>x%d</b></r>\n" % (n, n) for n in range(200_000)) + b"<r><c>1</c></r></l>"
    table = read(in_file(data, "x.xml"))
    assert not table.in_memory
    assert table.height == 200_001
    sums = table.rows.select(pl.col("a").sum(), pl.col("b").count(), pl.col("c").sum(), pl.col(ROW).max()).collect()
    assert sums.row(0) == (199_999 * 100_000, 200_000, 1, 200_001)


def test_names_that_are_data_are_refused(in_memory: Opener) -> None:
    data = b"<l>" + b"".join(b"<r><k%d>1</k%d></r>" % (n, n) for n in range(30_000)) + b"</l>"
    assert refused(in_memory(data, "x.xml")).code == "TooManyColumns"


@pytest.mark.parametrize("record", ["", "/", "a/b", "/a//b", 5])
def test_invalid_options_are_refused(record: str) -> None:
    with pytest.raises(DefinitionError, match="Xml"):
        Xml(record=record)


def test_a_rejected_record_is_shown_in_letters_whatever_its_encoding(in_file: Opener) -> None:
    text = "<?xml version='1.0' encoding='shift_jis'?>\n<l><r><a>東京</a></r>\n<r><a>東</a><a>京</a></r></l>"
    table = read(in_file(text.encode("shift_jis"), "x.xml"))
    assert table.malformed is not None
    assert table.malformed.rows() == [(2, "<r><a>東</a><a>京</a></r>", "line 3: has <a> twice")]
