"""`bedside unpack`: a bundle in, a finished run out, to train further or to teach."""

from dataclasses import dataclass
from pathlib import Path

from bedside.cli.arguments import option, positional
from bedside.cli.console import print_err, print_out
from bedside.cli.train import check_torch


@dataclass(frozen=True)
class Settings:
    """Write the network of a bundle as a finished run.

    A recipe may start from it (`training.start`) or learn from it (`[distill]`).
    """

    bundle: str = positional(help="bundle file, or the name of a shipped bundle")
    recipe: Path = option(help="recipe that it was trained by, or the name of a shipped one")
    output: Path = option(help="run folder to write", short="-o")
    data: Path | None = option(help="folder of the data set (default: the recipe's)", default=None)


def run(settings: Settings) -> int:
    """Rebuild the network, check it against the graph, and write the run.

    Raises:
        BackendError: If torch is not installed.
        SpecError: If the recipe is not the bundle's.
        ExportError: If the bundle's graph is not of the network that its spec describes.
        OutputError: If the folder is there already, or cannot be written.
    """
    check_torch("unpack")
    from bedside.bundle import find_bundle, read_bundle
    from bedside.export.run_folder import unpack_bundle
    from bedside.spec import read_recipe

    bundle = read_bundle(find_bundle(settings.bundle, on_notice=print_err))
    recipe = read_recipe(settings.recipe)
    weights = unpack_bundle(bundle, recipe, settings.output, data=settings.data)
    print_out(f"Unpacked: {weights}")
    return 0
