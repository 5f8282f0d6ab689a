"""Export of a bundle to another runtime's format, validated on images."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
import torch

from bedside.bundle import Bundle
from bedside.chips import Chip
from bedside.compression.quantize import quantize_int8
from bedside.errors import UsageError
from bedside.evaluation.certification import DEFAULT_MAX_DROP
from bedside.evaluation.comparison import Sample, read_samples
from bedside.evaluation.generated import make_samples
from bedside.evaluation.parts import list_part
from bedside.export.certificate import Certificate, bound_of
from bedside.export.certified import Material, export_certified
from bedside.export.chip import REPORT, ChipReport, prepare_graph
from bedside.export.formats.format import Options
from bedside.export.formats.table import find_format
from bedside.export.metadata import with_metadata
from bedside.export.mixed import leave_in_f32
from bedside.export.parity import make_inputs
from bedside.export.programs import GraphProgram, ProgramMaker, TorchProgram, in_bf16, to_inference
from bedside.export.rebuild import rebuild_network
from bedside.training.calibration import draw_calibration, spread_evenly

_CALIBRATION_IMAGES = 100


@dataclass(frozen=True)
class ValidationData:
    """Images that an export is validated on.

    Attributes:
        data: Folder of a data set; None for generated images.
        split: Part of the bundle's split whose patients are taken.
        most: Cases at most, taken evenly.
        max_drop: Dice that an export in int8 may lose in any structure.
    """

    data: Path | None = None
    split: str = "val"
    most: int = 40
    max_drop: float = DEFAULT_MAX_DROP


def export_bundle(
    bundle: Bundle,
    output: Path,
    *,
    to: str,
    options: Options,
    validation: ValidationData,
    chip: ChipReport | None = None,
    on_stage: Callable[[str], None] = lambda stage: None,
) -> Certificate:
    """Export a bundle, validate the export, and write it with its certificate.

    Args:
        bundle: What to export.
        output: Folder to write.
        to: Name of a format.
        options: Precision, threads, and where other environments are.
        validation: Images to validate the export on.
        chip: What `check_bundle` says of the chip that it is for; None for no chip.
        on_stage: Called with what is being done.

    Raises:
        UsageError: If the format cannot hold the network or the precision.
        BackendError: If its converter is not installed.
        DataError: If the data have none of the patients that are needed.
        ExportError: If the export is out of bounds and cannot be repaired.
        OutputError: If the folder cannot be written.
    """
    target = find_format(to)
    target.check(spatial_dims=bundle.spec.model.spatial_dims, precision=options.precision)
    converter = target.make_converter(options)
    samples, data = choose_samples(bundle, validation)
    graph = target.kind == "graph"
    reference, make = (_of_graph if graph else _of_torch)(
        bundle, options.precision, validation.data
    )
    if chip is not None and graph:
        make = partial(_make_for_chip, make=make, chip=chip.chip, precision=options.precision)
    material = Material(
        bundle=bundle,
        precision=options.precision,
        reference=reference,
        make=make,
        repairable=options.precision == ("int8" if graph else "bf16"),
        bound=bound_of(options.precision, max_drop=validation.max_drop),
        samples=samples,
        data=data,
        threads=options.threads,
        beside={} if chip is None else {REPORT: chip.to_json()},
    )
    return export_certified(material, target, converter, output, on_stage=on_stage)


def _make_for_chip(
    kept: tuple[str, ...], *, make: ProgramMaker, chip: Chip, precision: str
) -> GraphProgram:
    """The program to export, rewritten for a chip."""
    program = cast(GraphProgram, make(kept))
    content, _ = prepare_graph(program.content, chip, precision=precision)
    return GraphProgram(content, names=program.names)


def choose_samples(
    bundle: Bundle, validation: ValidationData
) -> tuple[Callable[[], Iterable[Sample]], str]:
    """Images to validate an export on.

    Returns:
        A function that iterates over the images, and a description of them.

    Raises:
        DataError: If the data have none of the patients.
    """
    if validation.data is None:
        return partial(make_samples, bundle.spec), "generated images, no data was named"
    left_out: list[str] = []
    chosen = list_part(bundle, validation.data, validation.split, on_left_out=left_out.append)
    cases = spread_evenly(chosen, validation.most)
    patients = len({case.patient_id for case in cases})
    said = {"val": "validation", "test": "test", "train": "training"}[validation.split]
    words = f"{len(cases)} images of {patients} {said} patients of {bundle.card.data}"
    if left_out:
        words += f"; {len(left_out)} left out, as training or validation has the same image"
    return partial(read_samples, cases, bundle.spec), words


def _of_graph(
    bundle: Bundle, precision: str, data: Path | None
) -> tuple[GraphProgram, ProgramMaker]:
    """The bundle's f32 graph, and a function that makes the graph to export, in f32 or int8."""
    reference = GraphProgram(with_metadata(bundle.read_graph("f32"), bundle.spec))
    if precision != "int8":
        return reference, lambda kept: reference
    if "int8" in bundle.precisions:
        quantized = bundle.read_graph("int8")
    else:
        images = _calibrate(bundle, data, f"{bundle.path} has no graph in int8; to make one takes")
        quantized = quantize_int8(reference.content, images)

    quantized = with_metadata(quantized, bundle.spec)

    def make(kept: tuple[str, ...]) -> GraphProgram:
        content = leave_in_f32(quantized, reference, kept) if kept else quantized
        return GraphProgram(content, names=reference.names)

    return reference, make


def _calibrate(bundle: Bundle, data: Path | None, why: str) -> list[np.ndarray]:
    """Images that training has seen, as network inputs.

    Raises:
        UsageError: If no data set is named.
    """
    if data is None:
        raise UsageError(f"{why} images that training has seen; name the data set with --data.")
    seen = list_part(bundle, data, "train")
    return draw_calibration(seen, bundle.spec, count=_CALIBRATION_IMAGES)


def _of_torch(
    bundle: Bundle, precision: str, data: Path | None
) -> tuple[TorchProgram, ProgramMaker]:
    """The bundle's network as a torch program, and a function that makes the one to export."""
    module = to_inference(rebuild_network(bundle).create())
    shape = (1, bundle.spec.input.channels, *bundle.spec.input.size_px)
    example = torch.from_numpy(make_inputs(shape, count=1)[-1])
    reference = TorchProgram.trace(module, example)
    if precision == "f32":
        return reference, lambda kept: reference
    if precision == "int8":
        images = _calibrate(bundle, data, "to convert to 8 bits takes")
        rounded = TorchProgram(reference.exported, example, images)
        return reference, lambda kept: rounded
    return reference, lambda kept: TorchProgram.trace(in_bf16(module, kept=kept), example)
