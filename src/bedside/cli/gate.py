"""`bedside gate`: fits the input gate of a bundle, and counts what it accepts and refuses."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bedside.cli.arguments import option, positional
from bedside.cli.console import frame_progress, print_err, print_out, print_warning

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bedside.spec.gate import Gate


@dataclass(frozen=True)
class Settings:
    """Fit a bundle's gate: what its training images look like, so that others are noticed.

    Fitted to the training images; the validation images set its threshold. --contrast names data
    sets of other images to fit it against, with half of their patients; of the other half, and of
    the data sets of --foreign, what it refuses is counted.
    """

    bundle: str = positional(help="bundle file, or the name of a shipped bundle")
    data: Path = positional(help="folder of the data set that it was trained on")
    output: Path = option(help="bundle to write", short="-o")
    contrast: tuple[Path, ...] = option(
        help="folders of data sets of other images, to fit the gate against", default=()
    )
    foreign: tuple[Path, ...] = option(
        help="folders of data sets of other images, to count how many are refused", default=()
    )
    layout: str | None = option(help="layout of the folder (default: detected)", default=None)


def run(settings: Settings) -> int:
    """Fit the gate, write the bundle, and print what is accepted and refused.

    Raises:
        InputError: If the bundle or the data are refused.
        OutputError: If the bundle cannot be written.
        BackendError: If the runtime is not installed.
    """
    from bedside.bundle import find_bundle, read_bundle, write_with_gate
    from bedside.datasets import list_cases
    from bedside.evaluation.gate_contrast import is_fitted_to
    from bedside.evaluation.gating import fit_gate, measure_cases
    from bedside.evaluation.parts import leave_out_own, list_part
    from bedside.segment import open_segmenter
    from bedside.system.atomic import output_folder

    bundle = read_bundle(find_bundle(settings.bundle, on_notice=print_err))
    with output_folder(settings.output.parent):
        data, layout = settings.data, settings.layout
        train, val = (
            list_part(bundle, data, part, layout=layout, on_left_out=print_warning)
            for part in ("train", "val")
        )
        fitted = {str(folder): folder.name for folder in settings.contrast}
        others = {folder: list_cases(Path(folder)) for folder in map(str, settings.foreign)}
        others |= {folder: list_cases(Path(folder)) for folder in fitted}
        if others:
            others = leave_out_own(
                list_cases(data, layout),
                others,
                is_fitted_to=lambda folder, case: folder in fitted and is_fitted_to(case),
                on_left_out=print_warning,
            )
        contrast = {name: others[folder] for folder, name in fitted.items()}
        segmenter = open_segmenter(bundle, precision="f32", gate="off")
        with frame_progress("Fitting", len(train), "case") as advance:
            gate = fit_gate(segmenter, train, val, foreign=contrast, on_case=advance)
        write_with_gate(settings.output, bundle, gate)
        if bundle.signatures:
            print_err("The bundle is another, so the signatures are gone. Sign it: bedside sign.")
        print_out(f"Gate of {gate.images} training images written to {settings.output}.")
        print_out(f"accepted: {gate.accepted} of {gate.checked} validation cases")
        for folder, cases in others.items():
            left = [case for case in cases if folder not in fitted or not is_fitted_to(case)]
            print_out(_count(gate, measure_cases(segmenter, gate, left), folder))
        return 0


def _count(gate: "Gate", distances: "Sequence[float]", folder: str) -> str:
    """How many cases of a folder are refused, in words."""
    refused = sum(distance > gate.threshold for distance in distances)
    return f"refused: {refused} of {len(distances)} cases of {folder}"
