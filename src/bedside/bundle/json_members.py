"""The JSON members of a bundle: written the same each time, read strictly."""

import json
from pathlib import Path
from typing import Any, TypeVar

from bedside.errors import BundleError, SpecError
from bedside.spec import from_mapping
from bedside.system.strict_json import read_json

# Inflated; the largest shipped manifest has 12 kB. Parsed, JSON takes many times its size.
_MAX_JSON_BYTES = 4 * 2**20

Settings = TypeVar("Settings")


def read_settings(kind: type[Settings], mapping: Any, where: str) -> Settings:
    """Read a dataclass strictly; every fault of the mapping becomes a BundleError."""
    try:
        return from_mapping(kind, mapping)
    except (SpecError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise BundleError(f"{where}: {error}") from error


def to_json(value: Any, path: Path) -> bytes:
    """Return a member's bytes; the same value gives the same.

    Raises:
        BundleError: If a number is not finite.
    """
    try:
        text = json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False)
        return text.encode()
    except ValueError as error:
        raise BundleError(f"{path}: {error}; use None for a number that is not known.") from error


def from_json(content: bytes, where: str) -> Any:
    """Read the JSON of a member strictly."""
    if len(content) > _MAX_JSON_BYTES:
        raise BundleError(f"{where} has {len(content)} bytes; at most {_MAX_JSON_BYTES}.")
    try:
        return read_json(content)
    except ValueError as error:
        raise BundleError(f"{where} is not the JSON of a bundle: {error}.") from error
