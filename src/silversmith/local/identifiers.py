"""Random identifiers, many at a time: to ask the system for random bytes costs more than to format them."""

from __future__ import annotations

import os

#: The digit that says of which layout a UUID is, by a random one.
#: https://www.rfc-editor.org/rfc/rfc9562#section-5.4
_VARIANT = {digit: "89ab"[int(digit, 16) % 4] for digit in "0123456789abcdef"}


def uuids(number: int) -> list[str]:
    """So many random UUIDs (version 4), in their usual spelling."""
    return [
        f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{_VARIANT[digits[16]]}{digits[17:20]}-{digits[20:]}"
        for digits in tokens(number, 16)
    ]


def tokens(number: int, size: int) -> list[str]:
    """So many random texts of ``size`` bytes each, in hexadecimal digits."""
    digits = os.urandom(number * size).hex()
    return [digits[start : start + 2 * size] for start in range(0, 2 * size * number, 2 * size)]
