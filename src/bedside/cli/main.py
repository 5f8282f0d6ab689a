"""The program `bedside`: runs a command, and turns errors into one line and an exit code."""

import errno
import importlib
import json
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from bedside.cli.arguments import Parser, add_command, run_from, settings_from
from bedside.cli.commands import COMMANDS
from bedside.errors import BedsideError, FormatError, UsageError
from bedside.version import __version__

_INTERRUPTED = 130
_CANNOT_WRITE = (errno.ENOSPC, errno.EROFS, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC))
_CANNOT_READ = (
    errno.EACCES, errno.EPERM, errno.EIO, errno.ELOOP, errno.ENAMETOOLONG, errno.ENOTDIR,
    getattr(errno, "ESTALE", errno.EIO),
)  # fmt: skip
_UNFORESEEN = (
    "unexpected {}: {}. This is a fault in bedside; please report it with the output of --debug."
)


def main(argv: Sequence[str]) -> int:
    """Run `bedside` with these arguments.

    An error that bedside raises on purpose becomes one line on stderr and the error's exit
    code; with `--json` also `{"error": ...}` on stdout. `--debug` adds the traceback.

    Args:
        argv: Arguments after the program's name.

    Returns:
        Exit code: 0 done, 2 wrong use or an output that cannot be written, 3 bad input, 4 a
        missing backend, 130 interrupted, 1 an unexpected error.
    """
    arguments = list(argv)
    try:
        _check_former(arguments)
        parsed = _parser(arguments).parse_args(arguments)
        return run_from(parsed)(settings_from(parsed))
    except SystemExit as leaving:  # --help and --version
        return leaving.code if isinstance(leaving.code, int) else 0
    except KeyboardInterrupt:
        sys.stderr.write("bedside: interrupted.\n")
        return _INTERRUPTED
    except BedsideError as error:
        return _report(str(error), error, error.exit_code, arguments)
    except OSError as error:
        return _report_system(error, arguments)
    except Exception as error:  # noqa: BLE001 - the last door before the user
        return _report(_UNFORESEEN.format(type(error).__name__, error), error, 1, arguments)


def _check_former(arguments: Sequence[str]) -> None:
    """Refuse an option that has another name now.

    Raises:
        UsageError: If there is one.
    """
    is_former = any(word.partition("=")[0] == "--deadline" for word in arguments)
    if is_former and "segment" in arguments[:2]:
        raise UsageError("--deadline of a case is --timeout now.")


def _report_system(error: OSError, arguments: Sequence[str]) -> int:
    """Report an error of the operating system that no command has handled, such as a full disk."""
    where = error.filename or "a file"
    if error.errno in _CANNOT_WRITE:
        from bedside.system.atomic import make_output_error

        found: BedsideError = make_output_error(error, Path(where))
    elif error.errno in _CANNOT_READ:
        found = FormatError(f"cannot open {where}: {error.strerror}.")
    else:
        return _report(_UNFORESEEN.format(type(error).__name__, error), error, 1, arguments)
    found.__cause__ = error
    return _report(str(found), found, found.exit_code, arguments)


def _parser(arguments: Sequence[str]) -> Parser:
    """Build the parser; the named command is the only one whose module is loaded."""
    parser = Parser(
        prog="bedside",
        description="Medical image segmentation with low latency on CPUs.",
        epilog="Research use only. Not a medical device.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"bedside {__version__}")
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    named = next((word for word in arguments if not word.startswith("-")), None)
    for name, line in COMMANDS.items():
        if name == named:
            module = importlib.import_module(f"bedside.cli.{name}")
            add_command(subparsers, name, module.Settings, module.run)
        else:
            subparsers.add_parser(name, help=line)
    return parser


def _report(message: str, error: Exception, exit_code: int, arguments: Sequence[str]) -> int:
    """Report an error: one line on stderr, with --json also an object on stdout."""
    if "--debug" in arguments:
        traceback.print_exception(error)
    line = " ".join(message.split())
    sys.stderr.write(f"bedside: error: {line}\n")
    if "--json" in arguments:
        found = {"type": type(error).__name__, "message": line, "exit_code": exit_code}
        sys.stdout.write(json.dumps({"error": found}) + "\n")
    return exit_code
