"""`bedside serve`: segmentation as a service."""

from dataclasses import dataclass
from pathlib import Path

from bedside.cli.arguments import option
from bedside.cli.console import print_err, print_out


@dataclass(frozen=True)
class Settings:
    """Serve segmentation to other programs: HTTP, live frames, DICOM, a web page.

    Without a configuration every shipped bundle is served on http://127.0.0.1:8077. SIGTERM and
    Ctrl-C take no new work and finish what was taken.
    """

    config: Path | None = option(help="configuration, a TOML file: see docs/serve.md", default=None)
    new_key: str | None = option(
        help="print a new key for a client of this name, and the table for the configuration",
        default=None,
    )
    check: bool = option(
        help="print what would be served and what is missing, and end", default=False
    )


def run(settings: Settings) -> int:
    """Serve, or check.

    Raises:
        SpecError: If the configuration is refused.
        UsageError: If an address cannot be listened on.
        BundleError: If a model has no bundle.
        BackendError: If a package is missing.
    """
    if settings.new_key is not None:
        return _print_key(settings.new_key)
    from bedside.serve.config import read_settings

    served = read_settings(settings.config)
    if settings.check:
        from bedside.serve.check import check_settings

        lines, is_sound = check_settings(served)
        for line in lines:
            print_out(line)
        return 0 if is_sound else 3
    from bedside.serve.run import serve

    serve(served, on_notice=print_err)
    return 0


def _print_key(name: str) -> int:
    from bedside.service.keys import make_key

    secret, key = make_key(name)
    print_out("# For the client, shown only now: Authorization: Bearer " + secret)
    print_out(f'[[key]]\nname = "{key.name}"\nsha256 = "{key.sha256}"')
    return 0
