"""Amounts of memory, as a person writes them."""

import re

from bedside.errors import UsageError

_POWERS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}


def parse_bytes(text: str) -> int:
    """Read an amount of memory.

    Raises:
        UsageError: If it is not an amount of memory.

    Example:
        >>> parse_bytes("1.5GB"), parse_bytes("800 MiB"), parse_bytes("4096")
        (1500000000, 838860800, 4096)
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B?\s*", text, re.IGNORECASE)
    amount = 0
    if found:
        base = 1024 if found[3] else 1000
        amount = int(float(found[1]) * base ** _POWERS[found[2].upper()])
    if amount <= 0:
        raise UsageError(f'"{text}" is no amount of memory; write one like 800MB or 1.5GB.')
    return amount
