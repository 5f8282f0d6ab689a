"""Settings to and from plain mappings; unknown keys are errors."""

import dataclasses
import difflib
import tomllib
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from bedside.errors import SpecError
from bedside.spec.former import FORMER_VALUES, REMOVED_STEPS, to_present
from bedside.system.regular_files import open_regular
from bedside.version import __version__

Settings = TypeVar("Settings")

UNLESS_EMPTY = types.MappingProxyType({"unless_empty": True})
"""Metadata of a field that is only written if it holds something: files from before it had a
name stay what they were, to the byte."""


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file as a mapping.

    Raises:
        SpecError: If the file is missing or is not TOML.
    """
    try:
        with open_regular(Path(path)) as file:
            return tomllib.load(file)
    except OSError as error:
        raise SpecError(f"cannot read {path}: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SpecError(f"{path} is not TOML: {error}.") from error


def from_mapping(kind: type[Settings], mapping: Any, where: str = "") -> Settings:
    """Return a settings dataclass built from a mapping, with every key and type checked.

    A union of dataclasses is told apart by their `step` field. Lists become tuples.

    Args:
        kind: The frozen dataclass to build.
        mapping: Keys and values, as TOML or JSON gives them.
        where: Place of the mapping in its file, for the error.

    Raises:
        SpecError: If a key is unknown (the nearest one is named), missing, or of the
            wrong type, or if the dataclass refuses its values.

    Example:
        >>> from bedside.spec.deployment import Code
        >>> from_mapping(Code, {"value": "1", "scheme": "SCT", "meening": "x"})
        Traceback (most recent call last):
        bedside.errors.SpecError: unknown key "meening". Did you mean "meaning"?
    """
    if not isinstance(mapping, Mapping):
        expected = f"{where} must be a table" if where else "expected a table"
        raise SpecError(f"{expected}, not {mapping!r}.")
    mapping = to_present(kind, mapping)
    hints = typing.get_type_hints(kind)
    fields = {field.name: field for field in dataclasses.fields(kind) if field.init}  # type: ignore[arg-type]
    for key in mapping:
        if key not in fields:
            near = difflib.get_close_matches(str(key), fields, n=1, cutoff=0.0)
            raise SpecError(f'unknown key "{_join(where, key)}". Did you mean "{near[0]}"?')
    values = {}
    for name, field in fields.items():
        if name in mapping:
            values[name] = _convert(hints[name], mapping[name], _join(where, name))
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise SpecError(f'missing key "{_join(where, name)}" ({_show(hints[name])}).')
    try:
        return kind(**values)
    except SpecError as error:
        raise SpecError(f"{where}: {error}" if where else str(error)) from error


def to_mapping(settings: Any) -> Any:
    """Return settings as mappings, lists and plain values: the inverse of `from_mapping`.

    Args:
        settings: A settings dataclass, or anything in one.
    """
    if dataclasses.is_dataclass(settings) and not isinstance(settings, type):
        return {
            field.name: to_mapping(getattr(settings, field.name))
            for field in dataclasses.fields(settings)
            if getattr(settings, field.name) or not field.metadata.get("unless_empty")
        }
    if isinstance(settings, tuple | list):
        return [to_mapping(item) for item in settings]
    if isinstance(settings, Mapping):
        return {str(key): to_mapping(value) for key, value in settings.items()}
    return settings


def _convert(hint: Any, value: Any, where: str) -> Any:
    """Return `value` converted to a type hint."""
    step = str(value.get("step")) if isinstance(value, Mapping) else ""
    if step in REMOVED_STEPS:
        raise SpecError(
            f'{where}.step is "{step}", which bedside no longer has (this is {__version__}): '
            f"{REMOVED_STEPS[step]}"
        )
    origin = typing.get_origin(hint)
    if origin is typing.Literal:
        if value not in typing.get_args(hint):
            choices = ", ".join(repr(choice) for choice in typing.get_args(hint))
            raise SpecError(f"{where} is {value!r}; choose one of {choices}.")
        return value
    if origin in (typing.Union, types.UnionType):
        return _convert_union(typing.get_args(hint), value, where)
    if origin is tuple:
        return _convert_tuple(typing.get_args(hint), value, where)
    if origin in (dict, Mapping):
        return _convert_mapping(typing.get_args(hint), value, where)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return from_mapping(hint, value, where)
    if hint is Any:
        return value
    return _convert_plain(hint, value, where)


def _convert_plain(hint: Any, value: Any, where: str) -> Any:
    """Check a number, a string or a truth value.

    An int may stand for a float, and a string is a path where one is expected.
    """
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is Path and isinstance(value, str):
        return Path(value)
    if isinstance(value, bool) != (hint is bool) or not isinstance(value, hint):
        raise SpecError(f"{where} is {value!r}; expected {_show(hint)}.")
    return value


def _convert_union(choices: tuple[Any, ...], value: Any, where: str) -> Any:
    """Convert to the one member that fits: None, a dataclass by its step, or a plain type."""
    if value is None and type(None) in choices:
        return None
    stepped = {choice.step: choice for choice in choices if hasattr(choice, "step")}
    if stepped:
        step = value.get("step") if isinstance(value, Mapping) else None
        for name, choice in list(stepped.items()):
            former = FORMER_VALUES.get(choice.__name__, {}).get("step", {})
            step = name if isinstance(step, str) and step in former else step
        if step not in stepped:
            raise SpecError(f"{where}.step is {step!r}; choose one of {', '.join(stepped)}.")
        return from_mapping(stepped[step], value, where)
    remaining = [choice for choice in choices if choice is not type(None)]
    if len(remaining) == 1:
        return _convert(remaining[0], value, where)
    for choice in remaining:
        try:
            return _convert(choice, value, where)
        except SpecError:
            continue
    raise SpecError(f"{where} is {value!r}; expected {' or '.join(map(_show, remaining))}.")


def _convert_tuple(items: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    """Convert a list, of any length where the hint ends in an ellipsis."""
    if not isinstance(value, list | tuple):
        raise SpecError(f"{where} is {value!r}; expected a list.")
    if len(items) == 2 and items[1] is Ellipsis:
        items = (items[0],) * len(value)
    if len(items) != len(value):
        raise SpecError(f"{where} has {len(value)} entries; expected {len(items)}.")
    pairs = enumerate(zip(items, value, strict=True))
    return tuple(_convert(item, entry, f"{where}[{i}]") for i, (item, entry) in pairs)


def _convert_mapping(kinds: tuple[Any, ...], value: Any, where: str) -> dict[str, Any]:
    """Convert a table of entries that all are of one type."""
    if not isinstance(value, Mapping):
        raise SpecError(f"{where} is {value!r}; expected a table.")
    return {str(key): _convert(kinds[1], item, _join(where, key)) for key, item in value.items()}


def _join(where: str, name: str) -> str:
    return f"{where}.{name}" if where else str(name)


def _show(hint: Any) -> str:
    return getattr(hint, "__name__", str(hint))
