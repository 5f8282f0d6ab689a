"""A recipe as TOML that `read_recipe` reads back as the same recipe."""

import dataclasses
import json
import re
from collections.abc import Mapping
from typing import Any

from bedside.spec.recipe import Recipe

# Tables that stand on one line, and lists of tables of which each does, as in recipes by hand.
_ON_A_LINE, _A_LINE_EACH = ("relabel",), ("levels",)
_BARE = re.compile(r"[A-Za-z0-9_-]+")


def to_toml(recipe: Recipe, *, comment: str = "") -> str:
    """Return a recipe as TOML, without defaults.

    Args:
        recipe: What to write.
        comment: Lines that stand above it, without their #.

    Returns:
        TOML that extends nothing.
    """
    lines = [f"# {line}".rstrip() for line in comment.splitlines()]
    return "\n".join([*lines, *_table("", strip_defaults(recipe))]) + "\n"


def strip_defaults(settings: Any) -> Any:
    """Return settings as mappings, like `to_mapping`, without defaults.

    The `step` that tells a union's members apart stays.
    """
    if dataclasses.is_dataclass(settings) and not isinstance(settings, type):
        return {
            field.name: strip_defaults(getattr(settings, field.name))
            for field in dataclasses.fields(settings)
            if field.name == "step" or getattr(settings, field.name) != _default(field)
        }
    if isinstance(settings, tuple | list):
        return [strip_defaults(item) for item in settings]
    if isinstance(settings, Mapping):
        return {str(key): strip_defaults(value) for key, value in settings.items()}
    return settings


def to_value(value: Any) -> str:
    """Write a value; JSON's strings, numbers, booleans and lists are TOML's too.

    Example:
        >>> to_value({"255": 1, "levels.1.0": [0.7, True]})
        '{ 255 = 1, "levels.1.0" = [0.7, true] }'
    """
    if isinstance(value, Mapping):
        items = (f"{_key(key)} = {to_value(item)}" for key, item in value.items())
        return "{ " + ", ".join(items) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(to_value, value)) + "]"
    # JSON leaves the character DEL as it is, which TOML does not allow.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _default(field: "dataclasses.Field[Any]") -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def _table(name: str, mapping: Mapping[str, Any]) -> list[str]:
    """Write what a table holds, and then the tables below it."""
    lines: list[str] = []
    tables: list[str] = []
    for key, value in mapping.items():
        path = f"{name}.{_key(key)}" if name else _key(key)
        if isinstance(value, Mapping) and key not in _ON_A_LINE:
            tables += ["", f"[{path}]", *_table(path, value)]
        elif _is_list_of_tables(value) and key not in _A_LINE_EACH:
            for item in value:
                tables += ["", f"[[{path}]]", *_inline(item)]
        elif _is_list_of_tables(value):
            lines += [f"{_key(key)} = [", *(f"    {to_value(item)}," for item in value), "]"]
        else:
            lines.append(f"{_key(key)} = {to_value(value)}")
    return lines + tables


def _inline(mapping: Mapping[str, Any]) -> list[str]:
    return [f"{_key(key)} = {to_value(value)}" for key, value in mapping.items()]


def _is_list_of_tables(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], Mapping)


def _key(key: str) -> str:
    return key if _BARE.fullmatch(key) else json.dumps(key, ensure_ascii=False)
