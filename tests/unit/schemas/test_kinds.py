"""Types as text and back."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from silversmith.schemas import document as kinds
from tests.examples import examples

PLAIN = st.sampled_from(
    [
        *(pl.Int8(), pl.Int64(), pl.Int128(), pl.UInt64(), pl.Float32(), pl.Float64(), pl.Boolean(), pl.String()),
        *(pl.Binary(), pl.Date(), pl.Time(), pl.Null(), pl.Categorical(), pl.Duration("ns"), pl.Decimal(10, 2)),
        *(pl.Datetime("us"), pl.Datetime("ms", "Europe/Berlin"), pl.Enum(["a", "it's", '"'])),
    ]
)
KINDS = st.recursive(
    PLAIN,
    lambda inner: st.one_of(
        inner.map(pl.List),
        inner.map(lambda kind: pl.Array(kind, 2)),
        st.dictionaries(st.text(max_size=4), inner, min_size=1, max_size=3).map(pl.Struct),
    ),
    max_leaves=5,
)


@given(KINDS)
@settings(max_examples=examples(100), deadline=None)
def test_there_and_back(kind: pl.DataType) -> None:
    assert kinds.parse_dtype(kinds.dtype_text(kind)) == kind


@given(KINDS)
@settings(max_examples=examples(50), deadline=None)
def test_as_python_it_is_the_same_type(kind: pl.DataType) -> None:
    created = eval(kinds.dtype_code(kind), {"pl": pl})
    assert (created() if isinstance(created, type) else created) == kind


@pytest.mark.parametrize(
    "text",
    ["", "Int65", "int", "__import__('os')", "Int64()", "List(3)", "(" * 300, "5", "Object", "x.y"],
)
def test_texts_that_are_no_type(text: str) -> None:
    with pytest.raises(ValueError, match="no type of a column"):
        kinds.parse_dtype(text)
