"""The command `bedside`: finds the verb, runs it, and turns errors into one line and a code."""

import errno
import importlib
import json
import sys
import traceback
from collections.abc import Sequence

from bedside import __version__
from bedside.cli.arguments import Parser, add_verb, run_from, settings_from
from bedside.cli.program import run_program
from bedside.errors import BedsideError, FormatError, OutputError

# Verb -> module with `Settings` (a frozen dataclass) and `run(settings) -> exit code`.
# These modules import nothing heavy before `run`.
VERBS = {
    "demo": "bedside.cli.demo",
    "segment": "bedside.cli.segment",
    "models": "bedside.cli.models",
    "inspect": "bedside.cli.inspect",
    "evaluate": "bedside.cli.evaluate",
    "recipe": "bedside.cli.recipe",
    "train": "bedside.cli.train",
    "build": "bedside.cli.build",
    "certify": "bedside.cli.certify",
    "compress": "bedside.cli.compress",
    "search": "bedside.cli.search",
    "export": "bedside.cli.export",
    "bench": "bedside.cli.bench",
    "sign": "bedside.cli.sign",
    "verify": "bedside.cli.verify",
    "keygen": "bedside.cli.keygen",
}

_INTERRUPTED = 130
_CANNOT_WRITE = (errno.ENOSPC, errno.EROFS, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC))
_CANNOT_READ = (
    errno.EACCES, errno.EPERM, errno.EIO, errno.ELOOP, errno.ENAMETOOLONG, errno.ENOTDIR,
    getattr(errno, "ESTALE", errno.EIO),
)  # fmt: skip
_UNFORESEEN = (
    "unexpected {}: {}. This is a fault in bedside; please report it with the output of --debug."
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run `bedside` with these arguments.

    An error that bedside raises on purpose becomes one line on stderr and the error's exit
    code; with `--json` also `{"error": ...}` on stdout. `--debug` adds the traceback.

    Args:
        argv: Arguments after the command's name. If None, the process is the command: its own
            arguments, signals and streams; see `bedside.cli.program`.

    Returns:
        Exit code: 0 done, 2 wrong use or an output that cannot be written, 3 bad input, 4 a
        missing backend, 130 interrupted, 1 anything that nobody foresaw.
    """
    if argv is None:
        return run_program()
    arguments = list(argv)
    try:
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


def _report_system(error: OSError, arguments: Sequence[str]) -> int:
    """Report what the system refused where nobody foresaw it: a full disk above all."""
    where = error.filename or "a file"
    if error.errno in _CANNOT_WRITE:
        advice = "Free some space, or choose another place"
        found: BedsideError = OutputError(f"cannot write {where}: {error.strerror}. {advice}.")
    elif error.errno in _CANNOT_READ:
        found = FormatError(f"cannot open {where}: {error.strerror}.")
    else:
        return _report(_UNFORESEEN.format(type(error).__name__, error), error, 1, arguments)
    found.__cause__ = error
    return _report(str(found), found, found.exit_code, arguments)


def _parser(arguments: Sequence[str]) -> Parser:
    """Build the parser; a named verb is the only one whose module is loaded."""
    parser = Parser(
        prog="bedside",
        description="Medical image segmentation that runs where the patient is.",
        epilog="Research use only. Not a medical device.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"bedside {__version__}")
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    subparsers = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    first = next((word for word in arguments if not word.startswith("-")), None)
    for verb in [first] if first in VERBS else VERBS:
        module = importlib.import_module(VERBS[verb])
        add_verb(subparsers, verb, module.Settings, module.run)
    return parser


def _report(message: str, error: Exception, exit_code: int, arguments: Sequence[str]) -> int:
    """Tell of an error: one line on stderr, JSON on stdout where that was asked for."""
    if "--debug" in arguments:
        traceback.print_exception(error)
    line = " ".join(message.split())
    sys.stderr.write(f"bedside: error: {line}\n")
    if "--json" in arguments:
        found = {"type": type(error).__name__, "message": line, "exit_code": exit_code}
        sys.stdout.write(json.dumps({"error": found}) + "\n")
    return exit_code


if __name__ == "__main__":
    sys.exit(main())
