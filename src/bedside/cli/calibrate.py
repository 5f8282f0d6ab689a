"""`bedside calibrate`: calibrates how sure a bundle's masks are, on its validation patients."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bedside.cli.arguments import option, positional
from bedside.cli.console import frame_progress, print_err, print_out, print_warning

if TYPE_CHECKING:
    from bedside.spec.confidence import Confidence


@dataclass(frozen=True)
class Settings:
    """Calibrate how sure a bundle's masks are, structure by structure.

    Validation images, as they are and with planted artefacts, are segmented; a predicted Dice
    with an interval, a flag and intervals of measurements follow. Training images help to tell
    what unsure masks look like, and count for nothing else. Bundles of fewer than 8 validation
    units are refused. The same data give the same bytes.
    """

    bundle: str = positional(help="bundle file, or the name of a shipped bundle")
    data: Path = option(help="folder of the data set that it was trained on")
    output: Path = option(help="bundle to write", short="-o")
    layout: str | None = option(help="layout of the folder (default: detected)", default=None)
    seed: int = option(help="seed of the planted artefacts", default=0)
    validation_only: bool = option(
        help="without training images: a network may know its own too well", default=False
    )


def run(settings: Settings) -> int:
    """Calibrate, write the bundle, and print what was found.

    Raises:
        InputError: If the bundle or the data are refused, or there are too few units.
        OutputError: If the bundle cannot be written.
        BackendError: If the runtime is not installed.
    """
    from bedside.bundle import find_bundle, read_bundle, write_with_confidence
    from bedside.evaluation.calibration import calibrate
    from bedside.evaluation.parts import list_training, list_validation
    from bedside.segment import open_segmenter
    from bedside.system.atomic import output_folder

    bundle = read_bundle(find_bundle(settings.bundle, on_notice=print_err))
    with output_folder(settings.output.parent):
        cases = list_validation(
            bundle, settings.data, layout=settings.layout, on_left_out=print_warning
        )
        training = (
            [] if settings.validation_only
            else list_training(bundle, settings.data, layout=settings.layout)
        )  # fmt: skip
        segmenter = open_segmenter(bundle, precision="f32", gate="off")
        count = len(cases) + len(training)
        with segmenter.session, frame_progress("Calibrating", count, "case") as advance:
            confidence = calibrate(
                segmenter, cases, training=training, seed=settings.seed, on_case=advance
            )
        write_with_confidence(settings.output, bundle, confidence)
        if bundle.signatures:
            print_err("The bundle is another, so the signatures are gone. Sign it: bedside sign.")
        print_out(f"Calibrated on {_describe(confidence)}; written to {settings.output}.")
        for model in (*confidence.frames, *confidence.scans):
            level = "scan" if model in confidence.scans else "frame"
            low, high = model.bound_dice(model.least_dice)
            print_out(
                f"{model.structure}, by {level}: not trusted below a predicted Dice of "
                f"{model.least_dice:.3f} ({low:.3f} to {high:.3f}); intervals of "
                f"{', '.join(model.measurement_tails) or 'no measurement'}"
            )
        return 0


def _describe(confidence: "Confidence") -> str:
    """What it was calibrated on, in words."""
    of = f"{confidence.images} images of {confidence.units} {confidence.unit}"
    helped = confidence.training_units
    return f"{of}, features weighed with {helped} training {confidence.unit}" if helped else of
