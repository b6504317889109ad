"""An encoding is taken only where no other explains the file as well: no guess may damage data."""

# ruff: noqa: RUF001 -- letters and signs that look like others are what this is about

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Callable

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from silversmith.errors import DataError
from silversmith.formats import ROW, Csv, FixedWidth, Lines, read, unpacked
from silversmith.formats.archives.content import Content
from silversmith.formats.encoding import ENCODINGS, SURE, Guess, guess, weigh
from silversmith.stores import Source

Opener = Callable[..., Source]

#: Words of languages, by the encoding that their files were in.
TEXTS = {
    "German": ("cp1252", "Zürich Köln Straße Bäcker Öl Übergröße"),
    "French": ("cp1252", "été père français garçon où forêt hôtel cœur"),
    "Spanish": ("cp1252", "España año niño corazón café también ¿Dónde ¡Olé"),
    "Portuguese": ("cp1252", "São coração informações você não açúcar"),
    "Italian": ("cp1252", "città perché così più università"),
    "Swedish": ("cp1252", "Malmö Göteborg Västerås Åre Örebro"),
    "Danish": ("cp1252", "København Århus Ærø Nørrebro smørrebrød"),
    "English": ("cp1252", "it’s “fine” – don’t worry… café résumé"),
    "Czech": ("cp1250", "Dvořák Plzeň Přemysl České Budějovice žluťoučký"),
    "Polish": ("cp1250", "Łódź Gdańsk Wałęsa żaba świętość"),
    "Hungarian": ("cp1250", "Győr őszinte tűz árvíztűrő tükörfúrógép"),
    "Romanian": ("cp1250", "Braşov Iaşi Timişoara Bucureşti învăţ"),
    "Russian": ("cp1251", "Москва Да нет привет мир"),
    "Russian in KOI8": ("koi8-r", "Москва Да нет привет мир"),
    "Greek": ("cp1253", "Αθήνα καλημέρα κόσμε"),
    "Turkish": ("cp1254", "İstanbul Şişli Ağrı Kadıköy güneş"),
    "Lithuanian": ("cp1257", "Šiauliai ačiū žmogus gražus Kėdainiai"),
    "German in DOS": ("cp850", "Zürich Köln Straße Bäcker Öl"),
    "French on a Mac": ("mac_roman", "été père français garçon où"),
    "Hebrew": ("cp1255", "שלום עולם"),
    "Arabic": ("cp1256", "مرحبا بالعالم"),
    "Japanese": ("shift_jis", "日本語 テスト データ"),
    "Chinese": ("gbk", "中文 测试 数据 文件"),
    "Korean": ("euc_kr", "한국어 테스트 데이터"),
}


def content(data: bytes) -> Content:
    return Content("a.csv", data, None)


def weighed(text: str, encoding: str) -> Guess:
    return guess(content(text.replace(" ", "\n").encode(encoding)))


@pytest.mark.parametrize("name", TEXTS)
def test_the_words_of_a_language(name: str) -> None:
    encoding, text = TEXTS[name]
    answer = weighed(text, encoding)
    if encoding == "cp1252":
        assert answer.encoding == ("latin-1" if name != "English" and "œ" not in text else "cp1252")
        assert answer.is_sure
    else:
        assert not answer.is_sure, answer
        assert answer.why


@given(
    words=st.lists(st.sampled_from([(name, word) for name in TEXTS for word in TEXTS[name][1].split()]), max_size=6),
)
def test_no_mixture_of_words_is_ever_damaged(words: list[tuple[str, str]]) -> None:
    """Words of one encoding, whichever and however few: what is taken for sure reads them as they were written."""
    for encoding in {TEXTS[name][0] for name, _ in words}:
        text = "\n".join(word for name, word in words if TEXTS[name][0] == encoding)
        data = text.encode(encoding)
        if not data.isascii():
            answer = guess(content(data))
            assert not answer.is_sure or data.decode(answer.encoding) == text


@given(data=st.binary(max_size=200))
def test_any_bytes_give_a_guess(data: bytes) -> None:
    answer = guess(content(data))
    assert 0 <= answer.confidence <= 1
    assert answer.why
    if answer.is_sure:
        data.decode(answer.encoding)


def test_one_word_is_never_enough() -> None:
    for _, text in TEXTS.values():
        for word in text.split():
            try:
                data = word.encode("cp1252")
            except UnicodeEncodeError:
                continue
            assert data.isascii() or not guess(content(data)).is_sure


def test_more_words_are_surer() -> None:
    few, many = weighed("Zürich Köln", "cp1252"), weighed("Zürich Köln Straße Bäcker", "cp1252")
    assert SURE <= few.confidence < many.confidence < 1


def test_utf8_in_most_places_is_not_guessed_at() -> None:
    data = "Zürich\nKöln\nGenève\n".encode() + "Straße\nMünchen\n".encode("latin-1")
    answer = guess(content(data))
    assert not answer.is_sure
    assert "UTF-8 in most places" in answer.why


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8-sig"])
def test_unicode_of_other_widths(in_memory: Opener, in_file: Opener, encoding: str) -> None:
    data = "name,number\nZürich,1\n東京,2\n".encode(encoding)
    for opened in (in_memory, in_file):
        if encoding == "utf-16-be":
            data = "name,number\nZürich,1\nTokyo,2\n".encode(encoding)
        table = read(opened(data))
        assert table.rows.drop(ROW).collect()["number"].to_list() == [1, 2]
        if encoding != "utf-8-sig":
            assert table.dialect["encoding"] in {encoding, encoding[:6]}


def test_nul_bytes_in_other_text_are_no_utf16() -> None:
    assert not guess(content(b"a,b\n1,\0\n")).is_sure
    assert not guess(content(b"\0" * 100)).is_sure
    assert not guess(content("a,b\n".encode("utf-16-le") + b"\0")).is_sure


def test_the_inferred_encoding_is_reported(in_memory: Opener, in_file: Opener) -> None:
    data = "stadt\nZürich\nKöln\n".encode("latin-1")
    for opened in (in_memory, in_file):
        for reader in (None, Lines(), FixedWidth({"stadt": (1, 10)}, skip_lines=1, short_lines=True)):
            table = read(opened(data), reader)
            assert table.dialect["encoding"] == "latin-1"
            assert table.dialect["confidence"] == 0.9
            assert "Latin-1" in str(table.dialect["why"])
            assert table.rows.collect().to_series(0).to_list()[-2:] == ["Zürich", "Köln"]


def test_doubtful_encodings_are_refused_with_the_likeliest(in_memory: Opener) -> None:
    with pytest.raises(DataError) as caught:
        read(in_memory("name\nDvořák\nPřemysl\n".encode("cp1250")))
    error = caught.value
    assert error.code == "NotUtf8"
    assert "cp1250 (Czech)" in error.message
    assert "50%" in error.message
    assert "encoding=" in error.hint
    assert error.place.line == 2


def test_an_encoding_that_is_named_is_taken(in_memory: Opener) -> None:
    data = "name\nDvořák\n".encode("cp1250")
    for reader in (Csv(encoding="cp1250"), Lines(encoding="cp1250")):
        table = read(in_memory(data), reader)
        assert table.rows.collect().to_series(0).to_list()[-1] == "Dvořák"
        assert table.dialect["encoding"] == "cp1250"
    with pytest.raises(DataError) as caught:
        read(in_memory("a\nZürich\nKöln\n".encode("cp1252")), Csv(encoding="utf-8"))
    assert caught.value.code == "NotUtf8"


def test_every_encoding_is_one_of_python_s() -> None:
    for name in ENCODINGS:
        assert b"a".decode(name) == "a"


def test_weighing_is_bounded() -> None:
    words = Counter(f"w{'a' * (number % 7)}{chr(97 + number % 26)}é".encode("cp1252") for number in range(30_000))
    assert weigh(words, b"\xe9").is_sure


#: One table in each format of text.
FILES = {
    "a.csv": 'x,y\n"ä",2\n',
    "a.json": '[{"x": "ä", "y": 2}]',
    "a.ndjson": '{"x": "ä", "y": 2}\n',
    "a.xml": "<?xml version='1.0'?><l><r><x>ä</x><y>2</y></r></l>",
    "csv": 'x,y\n"ä",2\n',
    "json": '[{"x": "ä", "y": 2}]',
    "xml": "<?xml version='1.0'?><l><r><x>ä</x><y>2</y></r></l>",
}
MARKED = ["utf-8", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be", "utf-7", "gb18030"]


@pytest.mark.parametrize("encoding", MARKED)
@pytest.mark.parametrize("marks", [1, 2, 3])
@pytest.mark.parametrize("name", FILES)
def test_any_number_of_byte_order_marks(
    in_memory: Opener, in_file: Opener, name: str, marks: int, encoding: str
) -> None:
    data = (marks * "\ufeff" + FILES[name]).encode(encoding)
    for opened in (in_memory(data, name), in_file(data, name)):
        assert read(opened).rows.drop(ROW).collect().to_dicts() == [{"x": "ä", "y": 2}]


@pytest.mark.parametrize("encoding", MARKED)
@pytest.mark.parametrize("marks", [1, 2])
def test_byte_order_marks_before_lines(in_memory: Opener, marks: int, encoding: str) -> None:
    data = (marks * "\ufeff" + "ä1\n").encode(encoding)
    for reader, expected in ((Lines(), {"line": "ä1"}), (FixedWidth({"x": (1, 1), "y": (2, 2)}), {"x": "ä", "y": 1})):
        assert read(in_memory(data, "a"), reader).rows.drop(ROW).collect().to_dicts() == [expected]


@pytest.mark.parametrize("mark", [b"+/v8", b"+/v9", b"+/v+", b"+/v/"])
def test_the_mark_of_utf7_is_text_where_it_is_no_utf7(in_memory: Opener, mark: bytes) -> None:
    assert read(in_memory(mark + b"x,b\n1,2\n")).rows.drop(ROW).collect().to_dicts() == [
        {(mark + b"x").decode(): 1, "b": 2}
    ]


@pytest.mark.parametrize("first", ["a", "ä", "\u3fff", "\uffff"])
def test_each_of_the_four_marks_of_utf7(in_memory: Opener, first: str) -> None:
    """The mark's last character depends on the character after it."""
    whole = base64.b64encode(f"\ufeff{first}".encode("utf-16-be")).rstrip(b"=")
    table = read(in_memory(b"+" + whole + b"-,b\n1,2\n"))
    assert table.rows.drop(ROW).collect().to_dicts() == [{first: 1, "b": 2}]


@pytest.mark.parametrize(
    ("mark", "encoding"),
    [
        (b"\xf7\x64\x4c", "UTF-1"),
        (b"\xdd\x73\x66\x73", "UTF-EBCDIC"),
        (b"\x0e\xfe\xff", "SCSU"),
        (b"\xfb\xee\x28", "BOCU-1"),
    ],
)
@pytest.mark.parametrize("name", FILES)
def test_marks_of_encodings_that_nobody_reads_are_named(
    in_memory: Opener, name: str, mark: bytes, encoding: str
) -> None:
    with pytest.raises(DataError) as caught:
        read(in_memory(mark + FILES[name].encode("ascii", "replace"), name))
    assert caught.value.code == "NotUtf8"
    assert encoding in caught.value.message


def test_two_marks_where_the_encoding_is_said(in_memory: Opener) -> None:
    data = ("\ufeff\ufeff" + FILES["csv"]).encode()
    for options in (Csv(encoding="utf-8"), Csv(encoding="utf-8-sig")):
        assert read(in_memory(data), options).rows.drop(ROW).collect().to_dicts() == [{"x": "ä", "y": 2}]


def test_a_stream_after_two_marks(in_file: Opener) -> None:
    data = ("\ufeff\ufeff" + FILES["csv"]).encode()
    with unpacked(in_file(data, "a.csv")) as opened:
        stream = opened.stream({"x": pl.String(), "y": pl.Int64()})
    assert stream is None  # it is recoded first
