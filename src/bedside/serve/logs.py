"""Logs of a server: lines of this program, and of libraries only that there was something."""

import logging
import sys
import threading


def configure_logs() -> None:
    """Log to stderr, without anything that may be in an image.

    Messages of libraries quote values, names and paths; so do tracebacks and warnings. Of these
    only where they come from is logged.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("bedside").setLevel(logging.INFO)
    logging.captureWarnings(capture=True)
    threading.excepthook = _note_thread


class _Formatter(logging.Formatter):
    """Writes messages of this program, without tracebacks; of others only their place."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        kind = record.exc_info[0].__name__ if record.exc_info and record.exc_info[0] else ""
        message, arguments = record.msg, record.args
        if record.name.partition(".")[0] != "bedside":
            message = f"a message of {record.module}, line {record.lineno}, which is not logged"
            arguments = ()
        told = logging.LogRecord(
            record.name, record.levelno, record.pathname, record.lineno,
            f"{message} ({kind})" if kind else message, arguments, None,
        )  # fmt: skip
        told.created = record.created
        return super().format(told)


def _note_thread(failed: threading.ExceptHookArgs) -> None:
    name = failed.thread.name if failed.thread is not None else "a thread"
    logging.getLogger("bedside.serve").error("%s ended: %s", name, failed.exc_type.__name__)
