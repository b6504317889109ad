"""Workbooks that were read wrongly once, or that calamine alone would read wrongly; and hostile ones."""

from __future__ import annotations

import io
import os
import re
import struct
import subprocess
import sys
import time as clock
import zipfile
from collections.abc import Callable, Mapping
from datetime import date, time
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import xlsxwriter  # type: ignore[import-untyped]
import xlwt  # type: ignore[import-untyped]
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from silversmith.errors import DataError
from silversmith.formats import ROW, Excel, read
from silversmith.formats.archives.content import Content
from silversmith.formats.excel import calamine, calamine_process
from silversmith.formats.excel import xlsx as xlsx_reader
from silversmith.stores import Source
from tests.examples import examples

Opener = Callable[..., Source]

FAULTS = Path(__file__).parents[2] / "data" / "faults"

DAY = date(2009, 7, 6)

RIGHT: dict[str, dict[str, list[Any]]] = {
    # an element is what its namespace and its place say, never its local name alone
    "x1_1904_ext.xlsx": {"d": [date(2013, 7, 7)]},
    "x5_phonetic.xlsx": {"d": ["東京"]},
    # the workbook's own stream, not that of an object within it
    "s1_embedded.xls": {"a": [1]},
    # parts are found by relationships, names compare without case, a backslash counts as a slash
    "x6_styles_elsewhere.xlsx": {"d": [DAY]},
    "x7_SharedStrings_case.xlsx": {"d": [DAY]},
    "x9_backslash.xlsx": {"d": [DAY]},
    "x9b_workbook_elsewhere.xlsx": {"d": [DAY]},
    "o5_nomime.ods": {"a": ["x"]},
    # Excel itself opens these
    "x8_lower.xlsx": {"d": [1]},
    "x11_state_show.xlsx": {"d": [DAY]},
    # cells in any order, a style that is not there, a stream's name in capitals
    "s2_columnwise.xls": {"a": [1], "b": [2]},
    "s3_style_out_of_range.xls": {"a": [1]},
    "s4_capitals.xls": {"a": [1]},
}


def columns(source: Source, reader: Excel | None = None) -> dict[str, list[Any]]:
    return read(source, reader).rows.drop(ROW).collect().to_dict(as_series=False)


def refused(source: Source, reader: Excel | None = None) -> DataError:
    with pytest.raises(DataError) as caught:
        read(source, reader)
    assert caught.value.hint
    assert "panic" not in caught.value.message
    return caught.value


@pytest.mark.parametrize("name", RIGHT)
def test_valid_workbooks(in_memory: Opener, in_file: Opener, name: str) -> None:
    data = (FAULTS / name).read_bytes()
    assert columns(in_memory(data, name)) == RIGHT[name]
    assert columns(in_file(data, name)) == RIGHT[name]


@pytest.mark.parametrize("name", ["x10_encrypted.xlsx", "o7_encrypted.ods"])
def test_a_password_is_named_as_the_reason(in_memory: Opener, name: str) -> None:
    error = refused(in_memory((FAULTS / name).read_bytes(), name))
    assert error.code == "UnreadableExcel"
    assert "encrypted" in error.message
    assert "password" in error.hint


def test_the_encryption_of_a_whole_document_is_named(in_memory: Opener) -> None:
    """As LibreOffice writes it since 24.8: there is no content.xml to be seen."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
        archive.writestr("META-INF/manifest.xml", "<m:manifest xmlns:m='x'><m:encryption-data/></m:manifest>")
        archive.writestr("encrypted-package", b"\x01\x02")
    assert "encrypted" in refused(in_memory(buffer.getvalue(), "x.ods")).message


def test_many_sheets_cost_no_more_than_their_cells(in_memory: Opener) -> None:
    """Each sheet is asked whether it is empty; the document is unpacked and parsed once for all of them."""
    source = in_memory((FAULTS / "many_sheets.ods").read_bytes(), "many_sheets.ods")
    begun = clock.process_time() + os.times().children_user
    assert refused(source).code == "SeveralSheets"
    assert clock.process_time() + os.times().children_user - begun < 5
    assert columns(source, Excel(sheet="S7"))


def xlsx(sheet: str, **parts: str) -> bytes:
    """A workbook with one sheet, whose XML inside ``sheetData`` is given."""
    main = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
    kinds = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    related = "<Relationships xmlns='http://schemas.openxmlformats.org/package/2006/relationships'>{}</Relationships>"
    relationship = f"<Relationship Id='{{}}' Type='{kinds}/{{}}' Target='{{}}'/>"
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("_rels/.rels", related.format(relationship.format("a", "officeDocument", "xl/workbook.xml")))
        archive.writestr(
            "xl/_rels/workbook.xml.rels",
            related.format(
                relationship.format("s", "worksheet", "worksheets/sheet1.xml")
                + relationship.format("w", "sharedStrings", "words.xml")
            ),
        )
        archive.writestr(
            "xl/workbook.xml",
            f"<workbook {main} xmlns:r='{kinds}'><sheets><sheet name='S' r:id='s'/></sheets></workbook>",
        )
        archive.writestr("xl/worksheets/sheet1.xml", f"<worksheet {main}><sheetData>{sheet}</sheetData></worksheet>")
        for name, text in parts.items():
            archive.writestr(f"xl/{name}.xml", text.replace("MAIN", main))
    return buffer.getvalue()


HEAD = "<row><c t='inlineStr'><is><t>a</t></is></c></row>"


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ("<row><c><v>1</v></c></row>", [1]),
        ("<row>\n <c>\n  <f>0+1</f>\n  <v>1</v>\n </c>\n</row>", [1]),
        ("<row><c><v>1</v><e:v xmlns:e='other'>2</e:v></c></row>", [1]),
        ("<row><c><e:v xmlns:e='other'>2</e:v></c><c r='A2'><v>1</v></c></row>", [1]),
        ("<row><c><extLst><ext><v>2</v></ext></extLst><v>1</v></c></row>", [1]),
        ("<e:row xmlns:e='other'><c><v>2</v></c></e:row><row><c><v>1</v></c></row>", [1]),
        ("<row><c t='str'><v>x &amp; <![CDATA[<y>]]></v></c></row>", ["x & <y>"]),
        (
            "<row><c t='inlineStr'><is><r><t>x</t></r><r><t xml:space='preserve'> y</t></r></is></c></row>",
            ["x y"],
        ),
        ("<row><c t='inlineStr'><is><t>x</t><rPh sb='0' eb='1'><t>z</t></rPh></is></c></row>", ["x"]),
        ("<row><c t='e'><f>1/0</f><v>#DIV/0!</v></c></row>", ["#DIV/0!"]),
        ("<row><c s='99'><v>40000</v></c></row>", [40000]),
        ("<row r='2'><c r='A2'><v>1</v></c></row><row r='2'><c r='B2'><v>2</v></c></row>", [1]),
        ("<row><c t='str'><v>_xD801__xDC05__xC1EF_ _xDC05_</v></c></row>", ["\U00010405\uc1ef _xDC05_"]),
        ("<row><c t='inlineStr'><is><t> x </t></is></c></row>", ["x"]),
        ("<row><c t='inlineStr'><is><t xml:space='preserve'> x </t></is></c></row>", [" x "]),
        ('<row r="2"><c r="A2" t="inlineStr"><is><t> x </t></is></c></row>', ["x"]),
        ('<row r="2"><c r="A2" t="inlineStr"><is><t>  </t></is></c><c r="B2"/></row><row><c><v>1</v></c></row>', [1]),
        ("<row><c t='inlineStr'><is><t>x&#65;&#10;y</t></is></c></row>", ["xA\ny"]),
    ],
)
def test_the_place_of_an_element_counts(in_memory: Opener, row: str, expected: list[Any]) -> None:
    actual = columns(in_memory(xlsx(HEAD + row), "x.xlsx"))
    assert actual["a"] == expected
    assert actual == columns(in_memory(xlsx(f"{HEAD}<!-- -->{row}"), "x.xlsx")), "as the parser reads it"


#: Rows as programs write them, with the texts of their cells: Excel, LibreOffice, openpyxl, Google Sheets, ClosedXML.
WRITTEN = [
    (
        (
            '<row r="1" spans="1:3" ht="15.75" thickBot="1" x14ac:dyDescent="0.25"><c r="A1" s="1" t="s">'
            '<v>0</v></c><c r="B1" s="2"/><c r="C1" s="1" cm="1" vm="2"><f>SUM(A1:B1)</f><v>1.5</v></c></row>'
        ),
        ["0", "1.5"],
    ),
    (
        (
            '<row r="1"><c r="A1" t="str"><f t="shared" ref="A1:A9" si="0">A2</f><v xml:space="preserve"> x </v></c>'
            '<c r="B1" t="str"><f t="shared" si="0"/><v>y</v></c></row><row r="2" s="1" customFormat="1"/>'
        ),
        [" x ", "y"],
    ),
    (
        (
            '<row collapsed="false" customFormat="false" ht="15" outlineLevel="0" r="1"><c r="A1" s="0" t="n">'
            '<f aca="false">1+1</f><v>2</v></c></row>'
        ),
        ["2"],
    ),
    ('<row r="1"><c r="A1" t="inlineStr"><is><t>a &lt; b</t></is></c><c r="B1" t="n"><v /></c></row>', ["a < b"]),
    ('<row r="1">\n  <c r="A1" s="3" t="b">\n    <v>1</v>\n  </c>\n</row>\n<row r="2" ></row>', ["1"]),
]


@pytest.mark.parametrize(("rows", "texts"), WRITTEN)
def test_rows_as_programs_write_them_are_read_without_the_parser(rows: str, texts: list[str]) -> None:
    """The parser takes eight times as long."""
    cells = xlsx_reader._Sheet(iter(()), "sheet").plain(rows)
    assert cells is not None
    assert sorted(cells["text"]) == sorted(texts)


@pytest.mark.parametrize(
    ("items", "texts"),
    [
        ('<si><t>a</t></si><si><t xml:space="preserve"> b </t></si><si><t/></si>', None),
        ("<si><t>a &amp; b</t><phoneticPr fontId='1'/></si>", None),
        ('<si><t>a &amp; b</t><phoneticPr fontId="1" type="noConversion"/></si>', ["a & b"]),
        ('<si><t xml:space="preserve"> b </t></si><si><t> c </t></si>\n<si><t></t></si>', [" b ", "c", ""]),
    ],
)
def test_shared_strings_that_programs_write(items: str, texts: list[str] | None) -> None:
    """None: the parser reads them."""
    strings = xlsx_reader._Strings(iter(()), "strings").plain(items)
    assert (None if strings is None else strings.to_list()) == texts


CELLS = st.one_of(
    st.tuples(st.just(""), st.from_regex(r"<v>-?[0-9]{1,5}(\\.[0-9]{1,3})?</v>", fullmatch=True)),
    st.tuples(st.sampled_from([" t='b'", ' t="b"']), st.sampled_from(["<v>0</v>", "<v>1</v>", "<v> 1 </v>", "<v/>"])),
    st.tuples(
        st.sampled_from([' t="str"', ' t="e"', ' t="inlineStr"', ' s="0" t="str"']),
        st.builds(
            "".join,
            st.lists(
                st.sampled_from(
                    [
                        "<v>",
                        "</v>",
                        "<is><t>",
                        "</t></is>",
                        '<is><t xml:space="preserve">',
                        "<f>",
                        "</f>",
                        "x",
                        " ",
                        "&lt;",
                        "é",
                        "_x0041_",
                        "\n",
                        "\r",
                        "#N/A",
                        "]]",
                        "<row ",
                        "</row>",
                        "<e xmlns='o'/>",
                        "<v xmlns='o'>",
                    ]
                ),
                max_size=5,
            ),
        ),
    ),
)


@pytest.mark.full
@given(
    rows=st.lists(
        st.tuples(st.sampled_from(["", " spans='1:2'", " xmlns='o'", "/"]), st.lists(CELLS, max_size=3)), max_size=5
    ),
    around=st.sampled_from(["", "\n", "<x/>", "<x><row r='1'>", "</x>", "<row r='1'><c>"]),
)
@settings(max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_rows_read_without_the_parser_are_as_the_parser_reads_them(
    in_memory: Opener, rows: list[tuple[str, list[tuple[str, str]]]], around: str
) -> None:
    """A comment has the sheet read by the parser. Only then is XML that is not well-formed refused."""
    sheet = '<row r="1"><c r="A1" t="str"><v>a</v></c></row>'
    for number, (attributes, cells) in enumerate(rows, 2):
        inner = "".join(f'<c r="{"ABC"[i]}{number}"{kind}>{text}</c>' for i, (kind, text) in enumerate(cells))
        sheet += f'{around}<row r="{number}"{attributes}>{inner}</row>'

    def outcome(text: str) -> Any:
        try:
            return columns(in_memory(xlsx(text), "x.xlsx"))
        except DataError as error:
            return error.code

    assert outcome("<!-- -->" + sheet) in (outcome(sheet), "UnreadableExcel")


def test_rows_in_pieces_come_back(in_memory: Opener) -> None:
    """Pieces end within rows, and rows that are plain stand among others."""
    odd = ["<v>{0}</v>", "<v><![CDATA[{0}]]></v>", "<v>{0}&#x2e;5</v>", "<f>&lt;</f><v>{0}</v>"]
    for kinds in (odd[:1], odd):
        rows = "".join(
            f'<row r="{n}"><c r="A{n}">{kinds[n % len(kinds)].format(n)}</c></row>' for n in range(2, 60_000)
        )
        actual = columns(in_memory(xlsx(HEAD.replace("<row>", '<row r="1">') + rows), "x.xlsx"))["a"]
        assert actual == [n + 0.5 if "2e" in kinds[n % len(kinds)] else n for n in range(2, 60_000)]


@pytest.mark.parametrize("cut", [b"</row>", b"</sheetData>"])
def test_a_sheet_that_is_cut_off_is_refused(in_memory: Opener, cut: bytes) -> None:
    """calamine would read the rows that are there."""
    short = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(xlsx(HEAD + "<row><c><v>1</v></c></row>"))) as whole,
        zipfile.ZipFile(short, "w") as new,
    ):
        for part in whole.namelist():
            text = whole.read(part)
            new.writestr(part, text[: text.rindex(cut)] if "sheet1" in part else text)
    assert refused(in_memory(short.getvalue(), "x.xlsx")).code == "UnreadableExcel"


def test_a_prefix_of_the_main_namespace_changes_nothing(in_memory: Opener) -> None:
    """Programs with the Open XML SDK write one."""
    buffer = io.BytesIO()
    with xlsxwriter.Workbook(buffer) as workbook:
        clock = workbook.add_format({"num_format": "h:mm"})
        sheet = workbook.add_worksheet()
        sheet.write_column(0, 0, ["a", 0.5, -0.25], clock)
    prefixed = io.BytesIO()
    with zipfile.ZipFile(buffer) as plain, zipfile.ZipFile(prefixed, "w") as new:
        for part in plain.namelist():
            text = plain.read(part).decode()
            if "sheet1" in part or "sharedStrings" in part:
                text = re.sub(r"<(/?)([a-zA-Z])", r"<\1x:\2", text).replace("xmlns=", "xmlns:x=")
            new.writestr(part, text)
    expected = columns(in_memory(buffer.getvalue(), "x.xlsx"))
    assert expected == {"a": ["12:00:00", "-0.25"]}
    assert columns(in_memory(prefixed.getvalue(), "x.xlsx")) == expected


@pytest.mark.parametrize(("name", "target"), [("sheet 1.xml", "sheet%201.xml"), ("SHEET1.XML", "sheet1.xml")])
def test_names_of_parts_are_those_of_the_package(in_memory: Opener, name: str, target: str) -> None:
    book, renamed = xlsx(HEAD + "<row><c><v>1</v></c></row>"), io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(book)) as old, zipfile.ZipFile(renamed, "w") as new:
        for part in old.namelist():
            new.writestr(part.replace("sheet1.xml", name), old.read(part).replace(b"sheet1.xml", target.encode()))
    assert columns(in_memory(renamed.getvalue(), "x.xlsx")) == {"a": [1]}


def test_the_strict_form_is_read(in_memory: Opener) -> None:
    book, strict = xlsx(HEAD + "<row><c><v>1</v></c></row>"), io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(book)) as old, zipfile.ZipFile(strict, "w") as new:
        for part in old.namelist():
            text = old.read(part).replace(
                b"http://schemas.openxmlformats.org/spreadsheetml/2006/main",
                b"http://purl.oclc.org/ooxml/spreadsheetml/main",
            )
            new.writestr(
                part,
                text.replace(
                    b"http://schemas.openxmlformats.org/officeDocument/2006/relationships",
                    b"http://purl.oclc.org/ooxml/officeDocument/relationships",
                ),
            )
    assert columns(in_memory(strict.getvalue(), "x.xlsx")) == {"a": [1]}


SPACES = {
    "office": "urn:oasis:names:tc:opendocument:xmlns:office:1.0",
    "table": "urn:oasis:names:tc:opendocument:xmlns:table:1.0",
    "text": "urn:oasis:names:tc:opendocument:xmlns:text:1.0",
    "draw": "urn:oasis:names:tc:opendocument:xmlns:drawing:1.0",
    "style": "urn:oasis:names:tc:opendocument:xmlns:style:1.0",
    "calcext": "urn:org:documentfoundation:names:experimental:calc:xmlns:calcext:1.0",
}


def ods(tables: str, styles: str = "", spaces: Mapping[str, str] = SPACES) -> bytes:
    declared = " ".join(f'xmlns:{prefix}="{namespace}"' for prefix, namespace in spaces.items())
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
        archive.writestr(
            "content.xml",
            f"<office:document-content {declared}><office:automatic-styles>{styles}</office:automatic-styles>"
            f"<office:body><office:spreadsheet>{tables}</office:spreadsheet></office:body></office:document-content>",
        )
    return buffer.getvalue()


def ods_rows(*cells: str) -> str:
    rows = "".join(f"<table:table-row>{cell}</table:table-row>" for cell in cells)
    return f"<table:table table:name='S'>{rows}</table:table>"


def ods_text(inner: str) -> str:
    return f"<table:table-cell office:value-type='string'>{inner}</table:table-cell>"


ODS_HEAD = ods_text("<text:p>a</text:p>")


@pytest.mark.parametrize(
    ("inner", "expected"),
    [
        ("<text:p>x<text:s text:c='2'/>y</text:p>", "x  y"),
        ("<text:p>x<text:tab/>y<text:line-break/>z</text:p>", "x\ty\nz"),
        ("<text:p>x</text:p><text:p>y &amp; z</text:p>", "x\ny & z"),
        ("<text:p>x <text:span>y</text:span><text:a>z</text:a></text:p>", "x yz"),
        ("<office:annotation><text:p>note</text:p></office:annotation><text:p>x</text:p>", "x"),
        ("<draw:frame><draw:text-box><text:p>shape</text:p></draw:text-box></draw:frame><text:p>x</text:p>", "x"),
        (
            "<draw:frame><draw:image><text:p/></draw:image></draw:frame><text:p>x &lt; &#65;<text:tab/></text:p>",
            "x < A\t",
        ),
    ],
)
def test_the_text_of_an_ods_cell(in_memory: Opener, inner: str, expected: str) -> None:
    assert columns(in_memory(ods(ods_rows(ODS_HEAD, ods_text(inner))), "x.ods")) == {"a": [expected]}


def test_a_paragraph_may_go_on_in_another_piece(in_memory: Opener) -> None:
    """A document is rewritten piece by piece, and a piece may end anywhere."""
    texts = [f"PT{number}H0M0S" if number % 2 else "x" * (number % 50) + str(number) for number in range(25_000)]
    rows = [ods_text(f"<text:p>{text}</text:p>") for text in texts]
    assert columns(in_memory(ods(ods_rows(ODS_HEAD, *rows)), "x.ods")) == {"a": texts}


def test_an_ods_knows_its_elements_by_namespace(in_memory: Opener) -> None:
    plain = ods_rows(ODS_HEAD, ods_text("<text:p>x</text:p>"))
    renamed = plain.replace("table:", "t:").replace("text:", "x:")
    spaces = {"office": SPACES["office"], "t": SPACES["table"], "x": SPACES["text"]}
    assert columns(in_memory(ods(renamed, spaces=spaces), "x.ods")) == {"a": ["x"]}


def test_lengths_of_time_have_their_value(in_memory: Opener) -> None:
    def length(value: str) -> str:
        kind = f"office:value-type='time' office:time-value='{value}'"
        return f"<table:table-cell {kind}><text:p>?</text:p></table:table-cell>"

    short = ods(ods_rows(ODS_HEAD, length("PT05H06M00S"), length("PT23H59M59.5S")))
    assert columns(in_memory(short, "x.ods")) == {"a": [time(5, 6), time(23, 59, 59, 500_000)]}
    long = ods(ods_rows(ODS_HEAD, length("PT36H00M00S"), length("PT12H00M00S"), length("-PT06H00M00S")))
    assert columns(in_memory(long, "x.ods")) == {"a": [1.5, 0.5, -0.25]}
    days = ods(ods_rows(ODS_HEAD, length("P1DT12H"), length("PT90M"), length("-PT86400S"), length("P2D")))
    assert columns(in_memory(days, "x.ods")) == {"a": [1.5, 0.0625, -1, 2]}
    text = ods(ods_rows(ODS_HEAD, ods_text("<text:p>PT12H30M15S</text:p>"), ods_text("<text:p>-PT1H0M0S</text:p>")))
    assert columns(in_memory(text, "x.ods")) == {"a": ["PT12H30M15S", "-PT1H0M0S"]}
    mixed = ods(ods_rows(ODS_HEAD, length("PT36H00M01.25S"), ods_text("<text:p>x</text:p>")))
    assert columns(in_memory(mixed, "x.ods")) == {"a": ["36:00:01.25", "x"]}


def test_hidden_sheets_of_an_ods(in_memory: Opener) -> None:
    styles = (
        "<style:style style:name='h' style:family='table'><style:table-properties table:display='false'/></style:style>"
    )
    shown = ods_rows(ODS_HEAD, ods_text("<text:p>x</text:p>"))
    hidden = shown.replace("name='S'", "name='H' table:style-name='h'")
    assert columns(in_memory(ods(hidden + shown, styles), "x.ods")) == {"a": ["x"]}
    assert columns(in_memory(ods(hidden + shown, styles), "x.ods"), Excel(sheet="H")) == {"a": ["x"]}


def record(kind: int, data: bytes) -> bytes:
    """A record of an .xlsb."""
    size = len(data)
    return (bytes([kind]) if kind < 128 else bytes([kind & 0x7F | 0x80, kind >> 7])) + bytes([size]) + data


def wide(text: str) -> bytes:
    return struct.pack("<I", len(text)) + text.encode("utf-16-le")


def xlsb(*, only_errors: bool = False) -> bytes:
    """A binary workbook: ``a`` over the numbers 1 and 2.5, an error, and a formula with an error."""

    def cell(kind: int, data: bytes) -> bytes:
        return record(kind, struct.pack("<II", 0, 0) + data)

    rows = [cell(6, wide("a")), cell(5, struct.pack("<d", 1)), cell(5, struct.pack("<d", 2.5))]
    rows = [] if only_errors else rows
    rows += [cell(3, b"\x07"), cell(11, b"\x2a" + struct.pack("<HII", 0, 0, 0))]
    data = b"".join(record(0, struct.pack("<I", row) + bytes(21)) + cells for row, cells in enumerate(rows))
    sheet = record(129, b"") + record(148, struct.pack("<IIII", 0, 4, 0, 0)) + record(145, b"") + data
    book = record(131, b"") + record(143, b"") + record(156, struct.pack("<II", 0, 1) + wide("rId1") + wide("S"))
    kinds = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("xl/workbook.bin", book + record(144, b"") + record(132, b""))
        archive.writestr(
            "xl/_rels/workbook.bin.rels",
            "<Relationships xmlns='http://schemas.openxmlformats.org/package/2006/relationships'>"
            f"<Relationship Id='rId1' Type='{kinds}/worksheet' Target='worksheets/sheet1.bin'/></Relationships>",
        )
        archive.writestr("xl/worksheets/sheet1.bin", sheet + record(146, b"") + record(130, b""))
    return buffer.getvalue()


def test_a_binary_workbook_and_its_errors(in_memory: Opener) -> None:
    table = read(in_memory(xlsb(), "x.xlsb"))
    assert table.format == "xlsb"
    assert table.rows.drop(ROW).collect().to_dict(as_series=False) == {"a": ["1", "2.5", "#DIV/0!", "#N/A"]}
    assert columns(in_memory(xlsb(only_errors=True), "x.xlsb")) == {"#DIV/0!": ["#N/A"]}


def xls(*cells: tuple[int, int, Any]) -> bytes:
    workbook = xlwt.Workbook()
    sheet = workbook.add_sheet("S")
    for row, column, value in cells:
        sheet.write(row, column, value)
    buffer = io.BytesIO()
    workbook.save(buffer)
    return buffer.getvalue()


def test_cells_far_apart_end_in_an_answer() -> None:
    """calamine takes memory for all that lies between them: without a limit, a gigabyte."""
    content = Content("x.xls", xls((0, 0, "a"), (65_535, 255, 1)), None)
    with pytest.raises(DataError, match="memory") as caught:
        calamine.Workbook(content, "xls", memory=256 * 1024 * 1024)
    assert caught.value.code == "TooLarge"
    assert caught.value.hint


def test_a_bomb_of_repeated_cells_ends_in_an_answer(in_memory: Opener) -> None:
    row = "<table:table-row table:number-rows-repeated='6000'><table:table-cell office:value-type='float' "
    row += "office:value='1' table:number-columns-repeated='16000'/></table:table-row>"
    error = refused(in_memory(ods(f"<table:table table:name='S'>{row}</table:table>"), "x.ods"))
    assert error.code == "TooLarge"


def test_a_panic_is_said_to_be_damage_and_nothing_else() -> None:
    class PanicException(BaseException):
        pass

    failure = calamine_process.failure(PanicException("called `Result::unwrap()` on an `Err` value"))
    assert failure == "unreadable:a part of it is damaged"
    assert calamine_process.failure(MemoryError()) == "memory:"


def test_a_process_that_dies_is_an_answer() -> None:
    workbook = calamine.Workbook(Content("x.xls", xls((0, 0, "a"), (1, 0, 1.0)), None), "xls")
    try:
        assert [sheet.name for sheet in workbook.sheets] == ["S"]
        workbook.process.kill()
        workbook.process.wait()
        with pytest.raises(DataError, match="memory"):
            list(workbook.cells(0))
    finally:
        workbook.close()


def test_the_process_needs_no_polars() -> None:
    """It starts in a few hundredths of a second, and all its memory is for the workbook."""
    code = f"import runpy, sys; runpy.run_path({calamine_process.__file__!r}); "
    code += "print({'polars', 'silversmith'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_memory_is_what_the_function_has_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "4096")
    assert 2 * 1024**3 < calamine.memory_left() < 4 * 1024**3
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128")
    assert calamine.memory_left() == calamine.LEAST_MEMORY
    monkeypatch.delenv("AWS_LAMBDA_FUNCTION_MEMORY_SIZE")
    assert calamine.memory_left() == calamine.MEMORY


def test_numbers_of_an_xls_are_as_those_of_an_xlsx(in_memory: Opener) -> None:
    table = read(in_memory(xls((0, 0, "a"), (1, 0, 1), (2, 0, 2**40)), "x.xls"))
    assert table.rows.collect().schema["a"] == pl.Int64
