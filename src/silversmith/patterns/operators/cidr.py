"""``{"cidr": "10.0.0.0/24"}``: a string that is an IP address, of version 4 or 6, in a block.

https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-create-pattern-operators.html#eb-filtering-ip-matching
"""

from __future__ import annotations

import re
from ipaddress import ip_network
from typing import Any

from silversmith.patterns.addresses import address
from silversmith.patterns.conditions import Condition
from silversmith.patterns.dialects import Rules
from silversmith.patterns.errors import Where

_HOW = 'Write an address, a slash and the number of leading bits: "10.0.0.0/24" or "2001:db8::/32".'


def parse(operand: Any, where: Where, _rules: Rules) -> Condition:
    """The condition for a block. Bits of the address behind the mask do not matter."""
    if not isinstance(operand, str):
        raise where.refuse("cidr match pattern must be a string", _HOW)
    base, slash, bits = operand.partition("/")
    if not slash or "/" in bits:
        raise where.refuse("Malformed CIDR, one '/' required", _HOW)
    if not re.fullmatch(r"[+-]?[0-9]{1,9}", bits):
        raise where.refuse("Malformed CIDR, mask bits must be an integer", _HOW)
    first = address(base)
    if first is None:
        raise where.refuse(f"Nonstandard IP address: {base}", _HOW)
    if not 0 <= int(bits) < first.max_prefixlen:
        problem = f"IPv{first.version} mask bits must be from 0 to {first.max_prefixlen - 1}: {bits}"
        raise where.refuse(problem, f'For one address write it without the operator: "{first}".')
    block = ip_network((first, int(bits)), strict=False)
    low, high, version = int(block[0]), int(block[-1]), first.version

    def test(found: Any) -> bool:
        if not isinstance(found, str):
            return False
        there = address(found)
        return there is not None and there.version == version and low <= int(there) <= high

    return Condition(test)
