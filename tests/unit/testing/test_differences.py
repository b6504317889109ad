"""Frames that differ: the message names the rows and cells, and only those."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from silversmith.testing import assert_same
from silversmith.testing.result import MOST_SHOWN, Terms, differences

FRAME = pl.DataFrame({"id": [1, 2, 3], "name": ["a", "b", "c"], "total": [1.0, 2.0, 3.0]})
ANY_ORDER = Terms(row_order=False)


def report(actual: pl.DataFrame, expected: pl.DataFrame, terms: Terms | None = None) -> list[str]:
    with pytest.raises(AssertionError) as error:
        assert_same(actual, expected, terms, what="silver")
    first, *rest = str(error.value).splitlines()
    assert first == "silver is not as expected:"
    return [line.strip() for line in rest]


def test_the_same() -> None:
    assert_same(FRAME, FRAME)
    assert_same(FRAME.with_columns(pl.col("total") + 1e-9), FRAME)
    assert_same(FRAME.reverse(), FRAME, ANY_ORDER)
    assert_same(FRAME.select("total", "id", "name"), FRAME, Terms(column_order=False))
    assert_same(FRAME.cast({"id": pl.Int8}), FRAME, Terms(types=False))


def test_cells() -> None:
    changed = FRAME.with_columns(total=pl.Series([1.0, 2.5, 3.0]), name=pl.Series(["a", "b", None]))
    assert report(changed, FRAME) == ["""row 2, "total": 2.5, expected 2.0""", """row 3, "name": None, expected 'c'"""]


def test_nothing_is_nearly_infinite() -> None:
    zero, infinite = (pl.DataFrame({"x": [value]}) for value in (0.0, float("inf")))
    assert_same(infinite, infinite)
    assert report(zero, infinite) == ['row 1, "x": 0.0, expected inf']
    assert report(infinite, zero) == ['row 1, "x": inf, expected 0.0']
    negative = pl.DataFrame({"x": [float("-inf")]})
    assert report(infinite, negative) == ['row 1, "x": inf, expected -inf']


def test_columns() -> None:
    assert report(FRAME.rename({"id": "key"}), FRAME) == ['column "id" is missing', 'column "key" is not expected']
    assert report(FRAME.cast({"id": pl.Int8}), FRAME) == ['column "id" is Int8, expected Int64']
    assert report(FRAME.select("name", "id", "total"), FRAME) == [
        "the columns are in the order name, id, total; expected id, name, total"
    ]


def test_a_row_too_many_or_too_few_does_not_make_the_others_differ() -> None:
    assert report(FRAME, FRAME.filter(pl.col("id") != 2)) == [
        "3 rows, expected 2",
        "row 2 is not expected: id=2, name='b', total=2.0",
    ]
    assert report(FRAME.filter(pl.col("id") != 1), FRAME) == [
        "2 rows, expected 3",
        "expected row 1 is missing: id=1, name='a', total=1.0",
    ]


def test_in_any_order() -> None:
    shuffled = pl.concat([FRAME.filter(pl.col("id") == 3), FRAME.filter(pl.col("id") == 1), FRAME.head(1)])
    assert report(shuffled, FRAME, ANY_ORDER) == [
        "a row is not expected: id=1, name='a', total=1.0",
        "a row is missing: id=2, name='b', total=2.0",
    ]


def test_nested_cells() -> None:
    frame = pl.DataFrame({"tags": [[1.0, 2.0], [3.0]], "by": [{"n": "x"}, {"n": "y"}]})
    assert_same(frame, frame)
    changed = pl.DataFrame({"tags": [[1.0, 2.0 + 1e-9], [4.0]], "by": [{"n": "x"}, {"n": "z"}]})
    assert report(changed, frame) == [
        """row 2, "tags": [4.0], expected [3.0]""",
        """row 2, "by": {'n': 'z'}, expected {'n': 'y'}""",
    ]


def test_many_differences_are_cut_short() -> None:
    many = pl.DataFrame({"x": range(5_000)})
    lines = report(many.with_columns(pl.col("x") + 1), many)
    assert len(lines) == MOST_SHOWN + 1
    assert lines[-1] == f"… and {5_000 - MOST_SHOWN:,} more"
    assert report(many, many.head(4_999)) == ["5,000 rows, expected 4,999", "row 5000 is not expected: x=4999"]


#: Without infinities: Polars takes everything for as good as one.
FRAMES = st.lists(st.tuples(st.integers(0, 2), st.floats(allow_infinity=False) | st.none()), max_size=5).map(
    lambda rows: pl.DataFrame(rows, schema={"a": pl.Int64, "b": pl.Float64}, orient="row")
)


@given(FRAMES, FRAMES)
def test_frames_that_polars_calls_equal_have_no_differences(one: pl.DataFrame, other: pl.DataFrame) -> None:
    """And of what it does not, there is at least one."""
    try:
        assert_frame_equal(one, other, check_exact=False)
        same = True
    except AssertionError:
        same = False
    assert same == (differences(one, other, Terms()) == [])
