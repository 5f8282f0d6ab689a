"""Forms of MONAI Label's clients: JSON in a field, beside a file."""

import json
from collections.abc import Mapping
from typing import Any

from bedside.errors import MessageError


def read_object(fields: Mapping[str, str], name: str) -> dict[str, Any]:
    """Return the JSON object in a field of a form; an empty one if the field is missing.

    Raises:
        MessageError: If it is something else.
    """
    text = fields.get(name) or "{}"
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise MessageError(f'the field "{name}" is not JSON.') from error
    if not isinstance(value, dict):
        raise MessageError(f'the field "{name}" is not a JSON object.')
    return value
