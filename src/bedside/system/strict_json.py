"""JSON that others wrote, read strictly."""

import json
from typing import Any, NoReturn


def read_json(content: bytes) -> Any:
    """Value of JSON that has no number such as NaN, no key twice, and no endless depth.

    Raises:
        ValueError: If it is anything else.

    Example:
        >>> read_json(b'{"a": [1]}')
        {'a': [1]}
    """
    try:
        return json.loads(content, parse_constant=_refuse_constant, object_pairs_hook=_unique)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"it has the number {name}")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) != len(pairs):
        raise ValueError("it has a key twice")
    return dict(pairs)
