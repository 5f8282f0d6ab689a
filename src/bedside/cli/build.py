"""`bedside build`: a finished run in, one deployable bundle out."""

from dataclasses import dataclass
from pathlib import Path

from bedside.cli.arguments import option, positional
from bedside.cli.console import print_err, print_out
from bedside.cli.train import check_torch
from bedside.errors import UsageError
from bedside.system.regular_files import read_regular


@dataclass(frozen=True)
class Settings:
    """Turn a finished training run into a bundle, measured on the test patients.

    With --untrained, a recipe into a bundle with random weights, to measure what it costs.
    """

    run: Path = positional(help="folder of a finished `bedside train`; with --untrained, a recipe")
    output: Path = option(help="bundle to write, NAME.bedside", short="-o")
    data: Path | None = option(help="folder of the data set (default: the recipe's)", default=None)
    limits: Path | None = option(
        help="text file with known limits for the card, one sentence per line", default=None
    )
    no_int8: bool = option(
        help="omit the int8 graph, for a smaller bundle, whatever the recipe says",
        default=False,
    )
    accuracy_aware: bool = option(
        help="where 8 bits lose too much, keep the fewest layers in f32 that restore accuracy; "
        "takes about one validation per layer",
        default=False,
    )
    untrained: bool = option(
        help="use random weights, to measure cost; the bundle is marked as untrained",
        default=False,
    )


def run(settings: Settings) -> int:
    """Build, with progress on stderr.

    Raises:
        BackendError: If torch is not installed.
        UsageError: If the output is not a `.bedside` file that can be written.
        FormatError: If the run is not finished.
        ExportError: If a graph does not do what the model does.
    """
    from bedside.system.atomic import output_folder

    if settings.output.suffix != ".bedside":
        raise UsageError(f"{settings.output} must end in .bedside; name it so with -o.")
    limits = _read_limits(settings.limits)
    check_torch("build")
    with output_folder(settings.output.parent):
        if settings.untrained:
            return _build_untrained(settings)
        from bedside.build import build_bundle

        path = build_bundle(
            settings.run,
            settings.output,
            data=settings.data,
            limits=limits,
            int8=False if settings.no_int8 else None,
            accuracy_aware=settings.accuracy_aware or None,
            on_stage=lambda stage: print_err(f"{stage} ..."),
        )
        print_out(f"Built: {path}, {path.stat().st_size:,} bytes")
        print_out(f"Next: bedside inspect {path}")
        return 0


def _build_untrained(settings: Settings) -> int:
    """Build a recipe's network as it is before training.

    Raises:
        UsageError: If an option is given that is about a trained one.
    """
    if settings.data or settings.limits or settings.no_int8 or settings.accuracy_aware:
        raise UsageError(
            "--untrained goes without --data, --limits, --no-int8 and --accuracy-aware."
        )
    from bedside.build import build_untrained
    from bedside.spec import read_recipe

    recipe = read_recipe(settings.run)
    print_err("exporting and checking the f32 graph ...")
    path = build_untrained(recipe, settings.output)
    print_out(f"Built: {path}, {path.stat().st_size:,} bytes, RANDOM WEIGHTS: to measure cost only")
    return 0


def _read_limits(path: Path | None) -> list[str]:
    """Read sentences, one a line.

    Raises:
        UsageError: If the file cannot be read.
    """
    if path is None:
        return []
    try:
        lines = read_regular(path).decode("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {path}: {error}.") from error
    return [line.strip() for line in lines if line.strip()]
