"""Amounts of memory, as a person writes them."""

import re

from bedside.errors import UsageError

_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def parse_bytes(text: str) -> int:
    """Read an amount of memory.

    Raises:
        UsageError: If it is none.

    Example:
        >>> parse_bytes("1.5GB"), parse_bytes("800 MiB"), parse_bytes("4096")
        (1610612736, 838860800, 4096)
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?\s*", text, re.IGNORECASE)
    amount = int(float(found[1]) * _UNITS[found[2].upper()]) if found else 0
    if amount <= 0:
        raise UsageError(f'"{text}" is no amount of memory; write one like 800MB or 1.5GB.')
    return amount
