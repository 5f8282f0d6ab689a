"""`bedside demo`: the shipped bundle on the ultrasound cine that comes with pydicom."""

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from bedside.cli import segment, stream
from bedside.cli.arguments import option
from bedside.cli.console import print_out
from bedside.errors import BackendError

_LOOPS = 10
_CINE = "data/test_files/examples_ybr_color.dcm"


@dataclass(frozen=True)
class Settings:
    """Segment the ultrasound cine that comes with pydicom."""

    output: Path = option(help="folder to write to", default=Path("demo-output"), short="-o")
    model: str = option(
        help="a bundle file, or the name of a shipped bundle", default="camus-4ch", short="-m"
    )
    json: bool = option(help="print only the report, as JSON", default=False)
    live: bool = option(
        help="play the cine for ten seconds at its own rate, with the time of its masks",
        default=False,
    )


def run(settings: Settings) -> int:
    """Run the demo and print where to look next.

    Raises:
        BackendError: If pydicom was installed without its test files.
    """
    if settings.live:
        live = stream.Settings(
            source=str(find_cine()), model=settings.model, loops=_LOOPS, json=settings.json
        )
        return stream.run(live)
    chosen = segment.Settings(
        sources=(find_cine(),), output=settings.output, model=settings.model, json=settings.json
    )
    code = segment.run(chosen)
    if not settings.json:
        print_out()
        print_out("Where to look next:")
        print_out(f"  {settings.output / 'report.html'}  the report on one page, in a browser")
        print_out(f"  {settings.output / 'overlay.gif'}  contours over the film")
        print_out("  bedside segment IMAGE -o FOLDER  the same for an image of yours")
        print_out("  bedside models                  what else can be segmented, and how well")
    return code


def find_cine() -> Path:
    """Find the cine in the installed pydicom; nothing is loaded or downloaded.

    Raises:
        BackendError: If it is not there.
    """
    found = importlib.util.find_spec("pydicom")
    for folder in (found.submodule_search_locations or ()) if found else ():
        path = Path(folder, _CINE)
        if path.is_file():
            return path
    raise BackendError(
        f"pydicom's own file {_CINE} is not installed. Install pydicom again: "
        'pip install --force-reinstall "pydicom>=3.0.2".'
    )
