"""Fixed width: cells by their place, and lines that are not as they should be rejected one by one."""

from __future__ import annotations

from collections.abc import Callable

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from silversmith.errors import DataError, DefinitionError
from silversmith.formats import ROW, FixedWidth, lines, read
from silversmith.formats.archives.content import Content
from silversmith.stores import Source

Opener = Callable[..., Source]

PLACES = FixedWidth({"name": (1, 5), "number": (7, 10)})
CELL = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Zs", "Zl", "Zp")), max_size=5)


@given(cells=st.lists(st.tuples(CELL, st.integers(-999, 9999)), min_size=1), block=st.integers(1, 100))
def test_fields_are_read_from_their_places(cells: list[tuple[str, int]], block: int) -> None:
    text = "".join(f"{name:<5}~{number:>4}\n" for name, number in cells)
    rows = lines.read_fixed_width(Content("a", text.encode(), None), PLACES, {"name"}, block=block).rows.collect()
    assert rows["name"].to_list() == [name or None for name, _ in cells]
    assert rows["number"].to_list() == [number for _, number in cells]
    assert rows[ROW].to_list() == list(range(1, len(cells) + 1))


def test_lines_that_are_no_rows(in_memory: Opener, in_file: Opener) -> None:
    data = b"head\nann    1234\n\nbob    12\ncat    1234 x\nd\te    1234\neve    4321   \n"
    for opened in (in_memory, in_file):
        table = read(opened(data), FixedWidth({"name": (1, 5), "number": (8, 11)}, skip_lines=1))
        assert table.format == "fixed-width"
        assert table.rows.collect().to_dict(as_series=False) == {
            "name": ["ann", "eve"],
            "number": [1234, 4321],
            ROW: [1, 5],
        }
        assert table.malformed is not None
        assert table.malformed.rows() == [
            (
                2,
                "bob    12",
                "line 4: has 9 characters, the columns take 11; if lines may be short: FixedWidth(short_lines=True)",
            ),
            (3, "cat    1234 x", "line 5: has text after character 11, where the columns end"),
            (4, "d\te    1234", "line 6: has a tab, which may stand for any number of characters"),
        ]


def test_short_lines(in_memory: Opener) -> None:
    reader = FixedWidth({"a": (1, 3), "b": (4, 6)}, short_lines=True)
    rows = read(in_memory(b"one two\n".replace(b" ", b"") + b"x\n", "x"), reader).rows.drop(ROW).collect()
    assert rows.rows() == [("one", "two"), ("x", None)]


def test_null_values_and_types(in_memory: Opener) -> None:
    reader = FixedWidth({"a": (1, 5), "b": (6, 10)}, null_values=["-9999", "NA"])
    table = read(in_memory(b"-9999   NA\n    1  007\n", "x"), reader, declared={"a": pl.Int64()})
    assert table.rows.drop(ROW).collect().to_dict(as_series=False) == {"a": [None, "1"], "b": [None, "007"]}


def test_places_are_characters(in_memory: Opener) -> None:
    rows = read(in_memory("Köln 1\nNüß€ 2\n".encode(), "x"), FixedWidth({"a": (1, 4), "b": (6, 6)})).rows.collect()
    assert rows["a"].to_list() == ["Köln", "Nüß€"]
    assert rows["b"].to_list() == [1, 2]


@pytest.mark.parametrize("data", [b"", b" \n\n", b"title\n"])
def test_nothing_in_it(in_memory: Opener, data: bytes) -> None:
    with pytest.raises(DataError) as caught:
        read(in_memory(data, "x"), FixedWidth({"a": (1, 2)}, skip_lines=1))
    assert caught.value.code == "EmptyFile"


@pytest.mark.parametrize(
    "options",
    [
        {"columns": {}},
        {"columns": None},
        {"columns": ["a"]},
        {"columns": {"": (1, 2)}},
        {"columns": {"__row__": (1, 2)}},
        {"columns": {"a\0": (1, 2)}},
        {"columns": {"a": (0, 2)}},
        {"columns": {"a": (3, 2)}},
        {"columns": {"a": (1, 2, 3)}},
        {"columns": {"a": 3}},
        {"columns": {"a": (1.0, 2)}},
        {"columns": {"a": (1, 4), "b": (4, 6)}},
        {"columns": {"a": (1, 4)}, "skip_lines": -1},
        {"columns": {"a": (1, 4)}, "skip_lines": True},
        {"columns": {"a": (1, 4)}, "null_values": "NA"},
        {"columns": {"a": (1, 4)}, "encoding": "klingon"},
    ],
)
def test_invalid_options_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(DefinitionError, match="FixedWidth"):
        FixedWidth(**options)  # type: ignore[arg-type]


def test_options_are_not_changed_from_outside() -> None:
    columns = {"a": (1, 2)}
    reader = FixedWidth(columns)
    columns["b"] = (2, 3)
    assert reader.columns == {"a": (1, 2)}
