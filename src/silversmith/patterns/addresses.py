"""IP addresses as EventBridge reads them: strictly, so that no host name is ever taken for one."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address

_FOUR = re.compile(r"([0-9]+)\.([0-9]+)\.([0-9]+)\.([0-9]+)")
_SIX = re.compile(r"[0-9a-fA-F:]*:[0-9a-fA-F:]*")


def address(text: str) -> IPv4Address | IPv6Address | None:
    """The address that a text is, or None. ``010.0.0.1`` is 10.0.0.1, ``::ffff:a00:1`` is 10.0.0.1 too."""
    if four := _FOUR.fullmatch(text):
        numbers = [int(part) for part in four.groups()] if len(text) <= 15 else [256]
        return IPv4Address(bytes(numbers)) if max(numbers) <= 255 else None
    if not _SIX.fullmatch(text):
        return None
    try:
        six = IPv6Address(text)
    except ValueError:
        return None
    return six.ipv4_mapped or six
