"""Log lines: by a regular expression, and by fields between blanks, in quotes and brackets."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from silversmith.errors import DataError, DefinitionError
from silversmith.formats import ROW, Csv, Fields, Regex, Table, read, regex
from silversmith.formats.archives.content import Content
from silversmith.stores import Source

Opener = Callable[..., Source]

# a file may begin with U+FEFF, which then is no text
BARE = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cc", "Zs", "Zl", "Zp"), exclude_characters="\ufeff"), min_size=1
)
WORD = BARE.filter(lambda word: word[0] not in '"[')
ANY = st.text(st.characters(codec="utf-8", exclude_characters="\0\r\n\ufeff"), min_size=1)
NAMES = ["a", "b c", "cs(User-Agent)", "d"]


def read_log(data: str, options: Fields | Regex, declared: object = (), *, block: int = 4096) -> Table:
    return regex.read(Content("a.log", data.encode(), None), options, declared, block=block)  # type: ignore[arg-type]


def cells(table: Table) -> list[tuple[Any, ...]]:
    return table.rows.drop(ROW).collect().rows()


def quote(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


@given(
    rows=st.lists(st.tuples(WORD, ANY, ANY.filter(lambda text: "]" not in text), WORD), min_size=1),
    block=st.integers(1, 200),
)
@example([("a\\", "\\", "[", "b\\\\"), ("x", '\\"" \\', '"', "y")], 7)
def test_a_line_written_from_fields_is_read_back(rows: list[tuple[str, str, str, str]], block: int) -> None:
    lines = "".join(f"{a} {quote(b)} [{c}] {d}\n" for a, b, c, d in rows)
    table = read_log(lines, Fields(NAMES, null_values=()), NAMES, block=block)
    assert table.malformed is None
    assert cells(table) == rows


@given(rows=st.lists(st.lists(ANY.filter(lambda text: "\t" not in text), min_size=4, max_size=4), min_size=1))
def test_without_quotes_all_is_text(rows: list[list[str]]) -> None:
    lines = "".join("\t".join(row) + "\n" for row in rows)
    options = Fields(NAMES, separator="\t", quoted=False, null_values=())
    table = read_log(lines, options, NAMES)
    assert cells(table) == [tuple(row) for row in rows if not "\t".join(row).isspace()]


@given(
    rows=st.lists(st.tuples(st.from_regex(r"[A-Z]{1,5}", fullmatch=True), ANY), min_size=1), block=st.integers(1, 99)
)
def test_groups_are_columns(rows: list[tuple[str, str]], block: int) -> None:
    lines = "".join(f"<{level}> {message}\n" for level, message in rows)
    table = read_log(lines, Regex("<(?<level>[A-Z]+)> (?P<message>.+)"), {"level", "message"}, block=block)
    assert cells(table) == rows


@given(data=st.text(st.characters(codec="utf-8", exclude_characters="\0\ufeff")), block=st.integers(1, 30))
@example('"\n[\n" "\n\\"\n', 1)
def test_every_record_is_a_row_or_malformed(data: str, block: int) -> None:
    """For any content of a file, wherever it is cut."""
    records = [line for line in re.split(r"\r\n|\r|\n", data) if line and not line.isspace()]
    for options in (Fields(["a", "b"], least=1, extra="more"), Regex("(?<a>[a-z ]+)|(?<b>[0-9]*)")):
        try:
            table = read_log(data, options, {"a", "b", "more"}, block=block)
        except DataError as error:
            assert not records, error  # noqa: PT017 -- nothing in it: EmptyFile
            continue
        numbers = table.rows.collect()[ROW].to_list()
        malformed = [] if table.malformed is None else table.malformed.rows()
        assert sorted([*numbers, *(number for number, _, _ in malformed)]) == list(range(1, len(records) + 1))
        assert [text for _, text, _ in malformed] == [records[number - 1] for number, _, _ in malformed]
        assert table.origins is not None
        origins = table.origins(range(1, len(records) + 1))
        assert [text for _, text in origins.values()] == records


def test_lines_that_are_no_rows(in_memory: Opener, in_file: Opener) -> None:
    data = b'# log\nx 1 "a b"\n\nx 2\nx "3" "c\nx 4 "d" e\nx y "f"\n'
    for opened in (in_memory, in_file):
        table = read(opened(data, "x.log"), Fields(["a", r'"?(?<b>\d+)"?', "c"], comment="#"))
        assert table.format == "fields"
        assert table.rows.collect().to_dict(as_series=False) == {"a": ["x"], "b": [1], "c": ["a b"], ROW: [1]}
        assert table.malformed is not None
        unclosed = "a quote or bracket in it is not closed, or a field does not match its pattern"
        assert table.malformed.rows() == [
            (2, "x 2", "line 4: has 2 fields, 3 are expected"),
            (3, 'x "3" "c', f"line 5: {unclosed}"),
            (4, 'x 4 "d" e', "line 6: has 4 fields, 3 are expected; to keep the others: extra='extra'"),
            (5, 'x y "f"', f"line 7: {unclosed}"),
        ]


def test_fields_that_may_be_missing_and_fields_that_are_new() -> None:
    options = Fields(["a", "b", "c"], least=1, extra="extra")
    assert cells(read_log('1\n1 2\n1 2 3\n1 2 3 4 "5 6"\n', options)) == [
        (1, None, None, None),
        (1, 2, None, None),
        (1, 2, 3, None),
        (1, 2, 3, '4 "5 6"'),
    ]


def test_a_list_of_quoted_texts_is_one_field() -> None:
    assert cells(read_log('a "h2","http/1.1" [::1]:443 ""\n', Fields(["a", "b", "c", "d"]))) == [
        ("a", '"h2","http/1.1"', "[::1]:443", None)
    ]


def test_without_an_escape_a_backslash_is_text() -> None:
    assert cells(read_log('"a\\" "b\\\\c"\n', Fields(["a", "b"], escape=None))) == [("a\\", "b\\\\c")]


def test_the_first_line_names_the_fields() -> None:
    table = read_log("\nversion account-id\n2 001\n2 -\n", Fields())
    assert table.rows.collect().to_dict(as_series=False) == {
        "version": [2, 2],
        "account-id": ["001", None],
        ROW: [1, 2],
    }
    assert table.origins is not None
    assert table.origins([1, 2]) == {1: (3, "2 001"), 2: (4, "2 -")}


def test_names_are_cleaned_of_what_nobody_sees() -> None:
    assert read_log("a\u200b b\n1 2\n", Fields()).rows.collect().columns == ["a", "b", ROW]


def test_lines_of_names_in_the_middle_of_a_file() -> None:
    data = "#Version: 1.0\n#Fields: a b\n1\t2\n#Date: x\n#Fields: b c\n3\t4\n"
    for block in (1, 4096):
        table = read_log(data, Fields(header="#Fields:", comment="#", separator="\t"), block=block)
        assert cells(table) == [(1, 2, None), (None, 3, 4)]


def test_a_file_of_nothing_but_names_has_columns() -> None:
    assert read_log("version account-id\n", Fields()).rows.collect().schema.names() == ["version", "account-id", ROW]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        ("1 2\n#Fields: a b\n", "MissingHeader"),
        ("#Fields:\n1\n", "UnreadableHeader"),
        ("#Fields: " + "".join(f"f{number} " for number in range(301)) + "\n1\n", "UnreadableHeader"),
        ("#Fields: a (?<b>x)\n1\n", "UnreadableHeader"),
        ("#Fields: a a\n1\n", "DuplicateColumns"),
        ("#Fields: __row__\n1\n", "ReservedColumn"),
        ("", "EmptyFile"),
        ("#x\n", "EmptyFile"),
    ],
)
def test_files_without_names(data: str, code: str) -> None:
    with pytest.raises(DataError) as caught:
        read_log(data, Fields(header="#Fields:", comment="#"))
    assert caught.value.code == code


def test_times_become_moments_and_others_stay_text() -> None:
    options = Fields(["at"], times={"at": "%d/%b/%Y:%H:%M:%S %z"})
    good = "[06/Feb/2019:00:00:38 +0130]\n"
    assert cells(read_log(good, options)) == [(datetime(2019, 2, 5, 22, 30, 38, tzinfo=UTC),)]
    assert cells(read_log(good + "[06/Foo/2019]\n-\n", options)) == [
        ("2019-02-05T22:30:38.000000Z",),
        ("06/Foo/2019",),
        (None,),
    ]
    naive = Regex("(?<at>.*)", times={"at": "%Y%m%d %H%M%S"})
    at = datetime(2019, 2, 6, 1, 2, 3, tzinfo=UTC).replace(tzinfo=None)
    assert cells(read_log("20190206 010203\n", naive)) == [(at,)]


def test_an_optional_group_is_null() -> None:
    assert cells(read_log("a\nab\n", Regex("(?<a>a)(?<b>b)?(c)?"))) == [("a", None), ("a", "b")]


def test_a_hostile_line_takes_linear_time() -> None:
    """A backtracking engine would need longer than the universe has."""
    table = read_log("a" * 20_000 + "!\n", Regex("(?<a>(?:a+)+)"))
    assert table.malformed is not None
    assert table.malformed["reason"].to_list() == ["line 1: does not match the pattern"]
    table = read_log(" [" * 1_000_000 + "\n" + "x\n" * 1_500, Fields(["a", "b"]))
    assert table.malformed is not None
    unexplained = "does not have the fields that are expected"
    reasons = [reason.partition(": ")[2] for reason in table.malformed["reason"]]
    assert reasons == [unexplained, *["has 1 fields, 2 are expected"] * 999, *[unexplained] * 501]


def test_the_most_fields() -> None:
    names = [f"f{number}" for number in range(regex.MOST_FIELDS)]
    table = read_log(" ".join(names) + "\n" + " ".join("1" for _ in names) + "\n", Fields())
    assert cells(table) == [(1,) * len(names)]


@pytest.mark.parametrize(
    "options",
    [
        {"pattern": "("},
        {"pattern": "a"},
        {"pattern": "(a)"},
        {"pattern": 5},
        {"pattern": "(?<__row__>a)"},
        {"pattern": "(?<a>a)(?<a>b)"},
        {"pattern": "(?<a>a)", "times": {"b": "%Y"}},
        {"pattern": "(?<a>a)", "times": ["a"]},
        {"pattern": "(?<a>a)", "comment": " "},
        {"pattern": "(?<a>a)", "skip_lines": -1},
        {"pattern": "(?<a>a)", "null_values": "-"},
        {"pattern": "(?<a>a)", "encoding": "klingon"},
    ],
)
def test_invalid_patterns_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(DefinitionError):
        Regex(**options)


@pytest.mark.parametrize(
    "options",
    [
        {"columns": []},
        {"columns": "a b"},
        {"columns": ["a", "a"]},
        {"columns": ["a", "(?<a>x)"]},
        {"columns": ["(?<a>x"]},
        {"columns": ["a", ""]},
        {"columns": ["__row__"]},
        {"columns": ["a"] * 301},
        {"columns": ["a"], "header": "#"},
        {"columns": ["a"], "extra": "a"},
        {"columns": ["a"], "extra": ""},
        {"columns": ["a"], "least": 2},
        {"columns": ["a"], "least": 0},
        {"columns": ["a"], "times": {"b": "%Y"}},
        {"separator": ","},
        {"quoted": None},
        {"escape": '"'},
        {"escape": "ab"},
        {"escape": " "},
        {"header": None},
        {"comment": ""},
        {"infer": None},
    ],
)
def test_invalid_fields_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(DefinitionError):
        Fields(**options)


def test_options_are_not_changed_from_outside() -> None:
    columns, times = ["a"], {"a": "%Y"}
    reader = Fields(columns, times=times)
    columns.append("b")
    times["a"] = "%H"
    assert (reader.columns, reader.times) == (("a",), {"a": "%Y"})


def test_declared_columns_stay_text() -> None:
    table = read_log("1 2\n", Fields(["a", "b"]), {"a": pl.Int64()})
    assert cells(table) == [("1", 2)]


def test_without_inference_all_is_text(in_memory: Opener) -> None:
    """Columns whose types would differ from file to file keep one."""
    fields = read(in_memory(b"a b\n1 2\n", "x.log"), Fields(infer=False), declared={"a": pl.Int64()})
    table = read(in_memory(b"a,b\n1,2\n", "x.csv"), Csv(infer=False), declared={"a": pl.Int64()})
    for each in (fields, table):
        assert cells(each) == [("1", "2")]
    with pytest.raises(DefinitionError, match="infer"):
        Csv(infer=1)  # type: ignore[arg-type]
