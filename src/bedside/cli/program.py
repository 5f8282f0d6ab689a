"""The command as a process: signals, streams and temporary files.

`bedside.cli.main.main` does the rest; tests call it in their own process.
"""

import atexit
import os
import signal
import sys
from typing import NoReturn

# Nothing else is imported before Ctrl-C is caught.


def run_program() -> NoReturn:
    """Run `bedside` with the process's own arguments, and end the process.

    The exit code is that of `main`, or that of an output error if stdout could not take it all.
    A signal ends the process within: see `bedside.system.signals`.
    """
    if signal.getsignal(signal.SIGINT) == signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave)
    _reserve_streams()
    from bedside.system import signals

    signals.arm()
    from bedside.cli.main import main
    from bedside.cli.streams import take_over_streams, temporary_files

    streams = take_over_streams()
    with temporary_files():
        code = main(sys.argv[1:])
    code = streams.finish(code)
    # Taking the libraries down one by one would take a tenth of a short command's time.
    atexit._run_exitfuncs()
    os._exit(code)


def _leave(number: int, _frame: object) -> None:
    """End the process on Ctrl-C, before there is anything to clean up."""
    os.write(2, b"bedside: interrupted.\n")
    os._exit(128 + number)


def _reserve_streams() -> None:
    """Open /dev/null in place of a closed stdin, stdout or stderr.

    Or the next file that is opened would have that number, and get whatever is printed.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
