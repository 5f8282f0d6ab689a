"""`bedside audit verify`: whether an audit log is what was written."""

from dataclasses import dataclass
from pathlib import Path

from bedside.cli.arguments import option, positional
from bedside.cli.console import print_out
from bedside.errors import FormatError


@dataclass(frozen=True)
class Settings:
    """Check the hashes that chain the lines of a server's audit log.

    A line that was changed, added or removed between others is found. That lines are missing at
    the end is found with --expect, the last hash of an earlier check, kept elsewhere.
    """

    action: str = positional(help="what to do", choices=("verify",))
    file: Path = positional(help="the audit log")
    expect: str | None = option(help="a hash that must be that of one of its lines", default=None)


def run(settings: Settings) -> int:
    """Check a log.

    Raises:
        FormatError: If it is not what was written.
    """
    from bedside.service.audit import verify_audit

    found = verify_audit(settings.file, expected=settings.expect)
    if settings.expect is not None and not found.has_expected:
        raise FormatError(
            f"{settings.file} has no line with the expected hash: lines are missing at its end, "
            "or it is another file."
        )
    print_out(f"{settings.file}: {found.lines} lines, unchanged. Last hash: {found.last_hash}")
    return 0
