"""Which rules judge each row by itself."""

from __future__ import annotations

import polars as pl
import pytest

from silversmith.contract.streaming import is_of_single_rows

A, B, S, D = pl.col("a"), pl.col("b"), pl.col("s"), pl.col("d")


@pytest.mark.parametrize(
    "rule",
    [
        A > 0,
        A.is_between(0, 0.1),
        A <= B,
        ~A.is_null() | (B.abs() * 2 > A),
        A.is_in([1, 2]),
        S.str.contains("x") & S.str.to_lowercase().str.starts_with("y"),
        S.str.len_chars() == 3,
        D.dt.year() > 2000,
        pl.when(A > 0).then(B > 0).otherwise(B < 0),
        pl.all_horizontal(A > 0, B > 0),
        A.cast(pl.Int32).fill_null(0) % 2 == 0,
        A.round(2) == A,
        A.replace_strict({1: 2}, default=0) > 1,
        A.is_between(B, 5),
        pl.coalesce(A, B) > 1,
    ],
    ids=str,
)
def test_a_rule_of_single_rows(rule: pl.Expr) -> None:
    assert is_of_single_rows(rule)


@pytest.mark.parametrize(
    "rule",
    [
        A.mean() < A,
        A.max().over("b") == A,
        A.shift() < A,
        A.is_unique(),
        A.is_first_distinct(),
        A.rank() > 1,
        A.cum_sum() > 0,
        pl.len() > 3,
        pl.int_range(pl.len()) > A,
        A.forward_fill() > 0,
        A.fill_null(strategy="mean") > 0,
        A.sort() > 0,
        A.reverse() > 0,
        A.is_in(B.implode()),
        pl.when(A.sum() > 0).then(B > 0).otherwise(B < 0),
        (A > 0).any(),
        S.str.join("") != "x",
        pl.lit(pl.Series([1, 2])) > A,
        pl.lit(value=True),
        pl.col("^a.*$") > 0,
        A.filter(B > 1) < A,
        A.unique() > B,
        A.diff() > 0,
        pl.when(A > 0).then(B > 0).otherwise(A.filter(A > 1) > 1),
        S.str.split(",").list.explode() != "x",
    ],
    ids=str,
)
def test_a_rule_that_may_look_at_other_rows(rule: pl.Expr) -> None:
    assert not is_of_single_rows(rule)
