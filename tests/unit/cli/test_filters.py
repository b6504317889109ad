from __future__ import annotations

import pytest

from silversmith.cli.options import key_pattern, point
from silversmith.operations import WrongCall

NOON = 1_767_355_200.0


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (None, None),
        ("2h", NOON - 7200),
        ("2026-01-02", NOON - 43_200),
        ("2026-01-02T12:00", NOON),
        ("2026-01-02T13:00+01:00", NOON),
    ],
)
def test_a_time_is_a_date_or_an_age(text: str | None, seconds: float | None) -> None:
    assert point(text, "--since", NOON) == seconds


def test_an_error_about_a_time_says_how_to_write_one() -> None:
    with pytest.raises(WrongCall, match=r"--since 'noon' is no time.*2026-01-31"):
        point("noon", "--since", NOON)


def test_a_key_pattern() -> None:
    pattern = key_pattern("a/*.csv", "--key")
    assert pattern is not None
    assert pattern.matches("a/1.csv")
    assert key_pattern(None, "--key") is None
    with pytest.raises(WrongCall, match=r"--key.*only \* is special"):
        key_pattern("a?", "--key")
