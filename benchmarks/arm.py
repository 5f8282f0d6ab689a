"""Exports on ARM: the same files on the same images, on x86 and in an emulated Cortex-A76.

    python benchmarks/arm.py prepare ROOT --executorch
    python benchmarks/arm.py run ROOT acdc-sax=DATA vocal-folds=DATA --litert-python PYTHON

`prepare` fills a folder (`arm_root.py`). `run` compares labels pixel by pixel and writes `arm.md`;
files of a bundle that have a row of as many images are left out: a run that was stopped goes on.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from arm_images import Frame, Scan, read_images, record, replay
from arm_root import prepare_root, run_emulated
from bedside.bundle import Bundle, find_bundle, read_bundle
from bedside.compression.quantize import quantize_int8
from bedside.evaluation.parts import list_part
from bedside.export.formats.format import Options
from bedside.export.formats.table import find_format
from bedside.export.metadata import with_metadata
from bedside.export.parity import make_inputs
from bedside.export.programs import GraphProgram, Program, TorchProgram, to_inference
from bedside.export.rebuild import rebuild_network
from bedside.runtime import open_graph
from bedside.runtime.machine import describe_processor
from bedside.system.atomic import write_text
from bedside.training.calibration import draw_calibration

PAGE, DATA = Path(__file__).with_suffix(".md"), Path(__file__).with_suffix(".json")
KINDS = (
    ("onnx", "f32"), ("onnx", "int8"), ("litert", "f32"), ("litert", "int8"), ("executorch", "f32"),
)  # fmt: skip
CALIBRATION_IMAGES = 100
FLOORS = {"f32": 0.9999, "int8": 0.999}
"""Part of the pixels whose labels must be equal."""


@dataclass(frozen=True)
class Row:
    """One file on two processors.

    Attributes:
        bundle: Name of the bundle.
        file: Format and precision.
        runtime: Name and version on ARM.
        frames: How many frames, or scans of a network of three axes.
        equal: Part of all pixels whose labels are equal on both.
        equal_inside: The same of pixels that either labels as a structure.
        logit: Largest difference of a logit, as a part of the largest.
        bundle_equal: Part of the pixels whose labels are those of the bundle's f32 on x86.
        ships: Whether the bundle has a graph of this precision.
        machine: The x86 processor.
        axes: Of the network: 2 where images are frames, 3 where they are scans.
        sha256: Of the bundle.
    """

    bundle: str
    file: str
    runtime: str
    frames: int
    equal: float
    equal_inside: float
    logit: float
    bundle_equal: float
    ships: bool = True
    machine: str = ""
    axes: int = 2
    sha256: str = ""

    @property
    def holds(self) -> bool:
        """Whether as many pixels are equal as must be."""
        return self.equal >= FLOORS[self.file.split()[-1]]


def make_program(bundle: Bundle, data: Path, to: str, precision: str) -> Program:
    """What a converter takes; in int8 by the ranges of training images, if none ships."""
    images = []
    if precision == "int8" and not (to == "onnx" and precision in bundle.precisions):
        seen = list_part(bundle, data, "train")
        images = draw_calibration(seen, bundle.spec, count=CALIBRATION_IMAGES)
    if find_format(to).kind == "graph":
        if images:
            return GraphProgram(quantize_int8(bundle.read_graph("f32"), images))
        return GraphProgram(with_metadata(bundle.read_graph(precision), bundle.spec))
    module = to_inference(rebuild_network(bundle).create())
    shape = (1, bundle.spec.input.channels, *bundle.spec.input.size_px)
    traced = TorchProgram.trace(module, torch.from_numpy(make_inputs(shape, count=1)[-1]))
    return TorchProgram(traced.exported, traced.example, images) if images else traced


def compare(
    bundle: Bundle, images: list[Frame | Scan], program: Program, root: Path, options: Options,
    *, to: str,
) -> Row:  # fmt: skip
    """Export a bundle, and run the file on both processors."""
    converter = find_format(to).make_converter(options)
    plain = open_graph(bundle.read_graph("f32"), backend="onnxruntime", threads=1)
    tensors, expected = record(images, plain.predict)
    with tempfile.TemporaryDirectory() as folder:
        converter.convert(program, Path(folder))
        model = next(Path(folder).glob("model.*"))
        if converter.open is None:
            raise RuntimeError(f"{to} does not run here: {converter.not_here}")
        session = converter.open(Path(folder))
        here = np.concatenate([session.predict(tensor[None]) for tensor in tensors])
        there, runtime = run_emulated(root, model, tensors)
    first, second = replay(images, here), replay(images, there)
    inside = (first > 0) | (second > 0)
    return Row(
        bundle.spec.name,
        f"{to} {options.precision}",
        runtime,
        len(images),
        float((first == second).mean()),
        float((first == second)[inside].mean()),
        float(np.abs(there - here).max() / np.abs(here).max()),
        float((second == expected).mean()),
        ships=to != "onnx" or options.precision in bundle.precisions,
        machine=describe_processor(),
        axes=bundle.spec.model.spatial_dims,
        sha256=bundle.sha256,
    )


def write_page(rows: Sequence[Row], page: Path = PAGE) -> None:
    """Write the table."""
    lines = [
        "# Exports on ARM",
        "",
        "`benchmarks/arm.py run` converts a bundle, and runs the same file on the same images, of",
        "validation patients, on x86 and in an emulated Cortex-A76 (`qemu-aarch64`, the runtimes'",
        "aarch64 wheels, one thread): the middle frame of each case, more of them where there are",
        "fewer cases, or whole scans of dozens of slices where the network has three axes. Labels",
        "are compared on the images' own grids. Kernels differ between processors, above all in",
        "int8, so **an export is certified per architecture**: a certificate of x86 shows nothing",
        "of ARM. Nothing is said of milliseconds, which an emulator does not have.",
        "",
        "x86: " + "; ".join(sorted({row.machine or "one not noted" for row in rows})) + ".",
        "",
        "| bundle | file | runtime on ARM | images | labels equal to x86 | within structures | "
        "largest difference of a logit | labels equal to the bundle's f32 on x86 | required | |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| `{row.bundle}` | {row.file}{'' if row.ships else ' *'} | {row.runtime} | "
        f"{row.frames} {'frames' if row.axes == 2 else 'scans'} | {100 * row.equal:.4f} % | "
        f"{100 * row.equal_inside:.3f} % | {row.logit:.2g} of the largest | "
        f"{100 * row.bundle_equal:.3f} % | {100 * FLOORS[row.file.split()[-1]]:g} % | "
        f"{'holds' if row.holds else '**fails**'} |"
        for row in sorted(rows, key=lambda row: (row.bundle, KINDS.index(tuple(row.file.split()))))
    ]
    if not all(row.ships for row in rows):
        lines += [
            "",
            "\\* The bundle ships no graph in int8; this one is by the ranges of "
            f"{CALIBRATION_IMAGES} training",
            "images, as of `bedside export`, and no certificate says that its labels are good.",
        ]
    if missing := list_missing(rows):
        lines += ["", f"Not run yet: {', '.join(missing)}."]
    write_text(page, "\n".join(lines) + "\n")


def list_missing(rows: Sequence[Row]) -> list[str]:
    """Files of the bundles that have rows, which their formats hold, and which were not run."""
    done = {(row.bundle, row.file) for row in rows}
    return [
        f"`{bundle}` in {to} {precision}"
        for bundle, axes in sorted({(row.bundle, row.axes) for row in rows})
        for to, precision in KINDS
        if axes in find_format(to).spatial_dims and (bundle, f"{to} {precision}") not in done
    ]


def read_rows(path: Path = DATA) -> list[Row]:
    """Rows of earlier runs."""
    return [Row(**row) for row in json.loads(path.read_text("utf-8"))] if path.is_file() else []


def add_row(row: Row) -> None:
    """Write a row in the place of an earlier one of the same file, and the page of all."""
    rows = {(each.bundle, each.file): each for each in [*read_rows(), row]}
    write_text(DATA, json.dumps([asdict(each) for each in rows.values()], indent=1) + "\n")
    write_page(list(rows.values()))


def run(arguments: argparse.Namespace) -> None:
    """Compare all; the page is written after each file, so that nothing is lost."""
    done = {(row.sha256, row.file): row.frames for row in read_rows()}
    for pair in arguments.bundles:
        name, _, data = pair.partition("=")
        bundle = read_bundle(find_bundle(name))
        images = read_images(bundle, Path(data), arguments.frames)
        dims = bundle.spec.model.spatial_dims
        for to, precision in KINDS:
            if f"{to}-{precision}" not in arguments.kinds:
                continue
            if dims not in find_format(to).spatial_dims:
                continue
            if done.get((bundle.sha256, f"{to} {precision}"), 0) >= len(images):
                continue
            options = Options(precision, litert_python=arguments.litert_python)
            program = make_program(bundle, Path(data), to, precision)
            row = compare(bundle, images, program, arguments.root, options, to=to)
            sys.stderr.write(f"{row}\n")
            add_row(row)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    prepared = commands.add_parser("prepare")
    prepared.add_argument("root", type=Path)
    prepared.add_argument("--executorch", action="store_true", help="with torch beside it")
    running = commands.add_parser("run")
    running.add_argument("root", type=Path)
    running.add_argument("bundles", nargs="+", metavar="BUNDLE=DATA")
    running.add_argument("--kinds", nargs="+", default=["-".join(kind) for kind in KINDS])
    running.add_argument("--frames", type=int, default=20)
    running.add_argument("--litert-python", type=Path)
    given = parser.parse_args()
    given.root = given.root.resolve()
    if given.command == "prepare":
        prepare_root(given.root, executorch=given.executorch)
    else:
        run(given)
