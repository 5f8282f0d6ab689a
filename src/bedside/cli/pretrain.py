"""`bedside pretrain`: images without labels in, a run for a training to start from out."""

from dataclasses import dataclass
from pathlib import Path

from bedside.cli.arguments import option, positional
from bedside.cli.console import print_err, print_out
from bedside.cli.train import check_torch, reports


@dataclass(frozen=True)
class Settings:
    """Train a network on images without labels, for a training to start from.

    It paints what is blank in the images of the recipe's training patients, labelled or not, and in
    those of --images. For few labels and many images.
    """

    recipe: Path = positional(help="the recipe, a TOML file or the name of a shipped one")
    output: Path = option(help="run folder for log, curves and weights", short="-o")
    images: tuple[Path, ...] = option(
        help="files or folders of further images, without labels", default=()
    )
    epochs: int = option(help="how often all images are gone through", default=12)
    data: Path | None = option(help="folder of the data set (default: the recipe's)", default=None)
    threads: int | None = option(help="threads of torch (default: torch's choice)", default=None)
    cache: Path | None = option(
        help="folder to cache preprocessed cases in (default: none)", default=None
    )


def run(settings: Settings) -> int:
    """Train, with a bar and a line an epoch on stderr.

    Raises:
        BackendError: If torch is not installed.
        SpecError: If the recipe is faulty, or the folder holds another run.
        DataError: If the data set is faulty or its split leaks.
        FormatError: If --images holds no image.
        OutputError: If the run folder cannot be written to.
    """
    check_torch("pretrain")
    from bedside.spec import read_recipe
    from bedside.training.checkpoint import read_json
    from bedside.training.folder import RUN
    from bedside.training.pretrain import pretrain

    with reports() as report:
        weights = pretrain(
            read_recipe(settings.recipe),
            settings.output,
            images=settings.images,
            epochs=settings.epochs,
            data=settings.data,
            cache=settings.cache,
            threads=settings.threads,
            on_progress=report(""),
        )
    known = read_json(settings.output / RUN)["unlabelled"]
    for text in known["left_out"]:
        print_err(text)
    print_out(f"Learned from {known['images']} images without labels: {weights}")
    print_out(f'Next: set start = "{settings.output}" in [training], and bedside train')
    return 0
