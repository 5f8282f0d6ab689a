"""Turns a frozen dataclass into a command: one field, one argument.

Imports nothing heavy, so that `bedside --help` is fast.
"""

import argparse
import dataclasses
import types
import typing
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from bedside.errors import UsageError

Run = Callable[[Any], int]

# Where a parsed namespace keeps what to run; no field can have this name.
_COMMAND = " command"


class Parser(argparse.ArgumentParser):
    """A parser that raises `UsageError` in one line, where argparse would print and exit."""

    def error(self, message: str) -> NoReturn:
        """Refuse the command line.

        Raises:
            UsageError: Always; it names the help to read.
        """
        raise UsageError(f"{message}. See: {self.prog} --help")


def positional(
    *,
    help: str,  # noqa: A002
    default: Any = dataclasses.MISSING,
    choices: Sequence[Any] | None = None,
) -> Any:
    """Return a dataclass field for a positional argument.

    Args:
        help: What it is, for `--help`.
        default: Its value when it is left out; without one it must be given.
        choices: The only values allowed.

    Returns:
        A `dataclasses.field`.
    """
    return _described(default, {"positional": True, "help": help, "choices": choices})


def option(
    *,
    help: str,  # noqa: A002
    default: Any = dataclasses.MISSING,
    short: str | None = None,
    choices: Sequence[Any] | None = None,
) -> Any:
    """Return a dataclass field for an option, `--field-name`.

    A `bool` field is a flag, and False unless given; its opposite needs no flag.

    Args:
        help: What it is, for `--help`.
        default: Its value when it is left out; without one it must be given.
        short: One-letter form, such as "-o".
        choices: The only values allowed.

    Returns:
        A `dataclasses.field`.
    """
    return _described(
        default, {"positional": False, "help": help, "short": short, "choices": choices}
    )


def add_command(
    subparsers: "argparse._SubParsersAction[Parser]", name: str, settings_type: type, run: Run
) -> None:
    """Add a command whose arguments are the fields of a dataclass.

    The dataclass's docstring is the help of the command. The parsed namespace keeps both; see
    `settings_from` and `run_from`.

    Args:
        subparsers: Where the command is added.
        name: The command.
        settings_type: A frozen dataclass made of `positional` and `option` fields, each
            a Path, int, float, str, bool, one of these or None, or `tuple[int, ...]` and
            the like, of at least one.
        run: Takes the settings and returns the exit code.

    Raises:
        TypeError: If a field has a type that no argument can have.

    Example:
        >>> import pathlib
        >>> @dataclasses.dataclass(frozen=True)
        ... class Copy:
        ...     '''Copy a file.'''
        ...     source: pathlib.Path = positional(help="what to copy")
        ...     times: int = option(help="how often", default=1, short="-n")
        >>> parser = Parser()
        >>> add_command(parser.add_subparsers(), "copy", Copy, lambda settings: 0)
        >>> settings_from(parser.parse_args(["copy", "a.txt", "-n", "2"])).times
        2
    """
    text = (settings_type.__doc__ or "").strip()
    parser = subparsers.add_parser(
        name,
        help=text.splitlines()[0] if text else None,
        description=text.split("\n\n")[0],
        allow_abbrev=False,
    )
    parser.set_defaults(**{_COMMAND: (settings_type, run)})
    # Absent unless given, so that it does not undo a --debug in front of the command.
    parser.add_argument(
        "--debug", action="store_true", default=argparse.SUPPRESS, help="show tracebacks"
    )
    hints = typing.get_type_hints(settings_type)
    for field in dataclasses.fields(settings_type):
        _add_argument(parser, field, hints[field.name])


def settings_from(parsed: argparse.Namespace) -> Any:
    """Return the settings of a command, from its parsed arguments."""
    settings_type, _ = getattr(parsed, _COMMAND)
    names = [field.name for field in dataclasses.fields(settings_type)]
    values = {name: getattr(parsed, name) for name in names}
    return settings_type(
        **{name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
    )


def run_from(parsed: argparse.Namespace) -> Run:
    """Return the function that runs the command."""
    run: Run = getattr(parsed, _COMMAND)[1]
    return run


def _described(default: Any, metadata: dict[str, Any]) -> Any:
    """Make a field; required ones may follow optional ones, as keywords."""
    return dataclasses.field(default=default, metadata=metadata, kw_only=True)


def _add_argument(
    parser: argparse.ArgumentParser, field: "dataclasses.Field[Any]", hint: Any
) -> None:
    """Add one field to a command's parser."""
    described = field.metadata
    required = field.default is dataclasses.MISSING
    default = None if required else field.default
    several = typing.get_origin(hint) is tuple
    kind = _plain_type(field.name, typing.get_args(hint)[0] if several else hint)
    text = _help(described["help"], default)
    if described["positional"]:
        count = ("+" if required else "*") if several else None if required else "?"
        parser.add_argument(
            field.name, metavar=field.name.upper(), type=kind, nargs=count, default=default,
            help=text, choices=described["choices"],
        )  # fmt: skip
        return
    flags = [flag for flag in (described["short"], "--" + field.name.replace("_", "-")) if flag]
    if kind is bool:
        parser.add_argument(
            *flags, dest=field.name, action="store_true", help=_help(described["help"], None)
        )
        return
    parser.add_argument(
        *flags, dest=field.name, type=kind, default=default, required=required,
        choices=described["choices"], help=text, nargs="+" if several else None,
        metavar=None if described["choices"] else field.name.upper(),
    )  # fmt: skip


def _plain_type(name: str, hint: Any) -> type:
    """Find the type that an argument's text is turned into; `X | None` counts as X."""
    choices: tuple[Any, ...] = (hint,)
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        choices = tuple(part for part in typing.get_args(hint) if part is not type(None))
    if len(choices) != 1 or not isinstance(choices[0], type):
        raise TypeError(f"{name}: no argument can be a {hint!r}; use Path, int, float, str, bool.")
    return choices[0]


def _help(text: str, default: Any) -> str:
    """Add the default to a help text, with `%` kept from argparse's formatting."""
    full = text if default in (None, ()) else f"{text} (default: {default})"
    return full.replace("%", "%%")
